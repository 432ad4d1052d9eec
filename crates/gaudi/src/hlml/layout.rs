//! The struct of hlml.h whose layout changes from release to release.
//!
//! The library does not report the layout, and its version says nothing reliable. So the struct is filled into a buffer that
//! is larger than any of its layouts, and the layout is the one in which Habana's vendor id is in place. Sources: hlml.h of
//! HabanaAI/gohlml, and the generated types of habana-pyhlml 1.16 to 1.24.

use afd_probe::ffi::text;
use serde_json::{Value, json};

use crate::VENDOR_ID;

/// The offset of the text of the address, in every layout.
const BUS_ID: usize = 4;
/// Where the PCI ids are: at 32 since 1.19, when the text of the address grew from 15 to 19 bytes, and at 28 before.
const PCI_IDS: [usize; 2] = [32, 28];

/// `hlml_pci_info_t`: the address as text, and the PCI device id.
///
/// At most one layout matches: in the older one the text of the link speed is at 32, and in the newer one the PCI domain at 28.
pub(super) fn pci_info(bytes: &[u8]) -> Option<Value> {
    let (offset, ids) = PCI_IDS.iter().find_map(|offset| Some((*offset, ids(bytes, *offset)?)))?;
    // The bus number is followed by the text, which ends before the device number.
    let end = if offset == PCI_IDS[0] { 23 } else { 19 };
    Some(json!({ "bus_id": text(bytes.get(BUS_ID..end)?), "pci_device_id": ids }))
}

/// The packed vendor and device id, if one half of them is Habana's vendor id.
fn ids(bytes: &[u8], offset: usize) -> Option<u32> {
    let ids = u32::from_ne_bytes(bytes.get(offset..)?.first_chunk().copied()?);
    [ids & 0xffff, ids >> 16].contains(&u32::from(VENDOR_ID)).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct in one of the layouts, followed by a canary: its size, the length of the text, and where the ids are.
    fn filled(size: usize, text_bytes: usize, ids: usize, domain: u32) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&0x19_u32.to_ne_bytes());
        let address = format!("{domain:04x}:19:00.0");
        bytes[4..4 + address.len()].copy_from_slice(address.as_bytes());
        assert!(address.len() < text_bytes);
        bytes[ids - 4..ids].copy_from_slice(&domain.to_ne_bytes());
        bytes[ids..ids + 4].copy_from_slice(&0x1060_1da3_u32.to_ne_bytes());
        bytes[ids + 4..ids + 13].copy_from_slice(b"32.0 GT/s");
        bytes.resize(1024, 0xa5);
        bytes
    }

    #[test]
    fn every_layout_is_recognised_by_its_content() {
        for (size, text_bytes, ids) in [(52, 15, 28), (76, 15, 28), (80, 15, 28), (84, 19, 32)] {
            let info = pci_info(&filled(size, text_bytes, ids, 0)).expect("the layout is known");
            assert_eq!(info, json!({ "bus_id": "0000:19:00.0", "pci_device_id": 0x1060_1da3 }), "{size}");
        }
        let wide = pci_info(&filled(84, 19, 32, 0x10_0001)).expect("the layout is known");
        assert_eq!(wide["bus_id"], "100001:19:00.0");
        let domain_like_a_vendor = pci_info(&filled(84, 19, 32, 0x1da3)).expect("the layout is known");
        assert_eq!(domain_like_a_vendor["pci_device_id"], 0x1060_1da3);
    }

    #[test]
    fn what_is_in_no_known_layout_is_not_guessed() {
        assert_eq!(pci_info(&[0; 1024]), None);
        assert_eq!(pci_info(&[0xa5; 1024]), None);
        assert_eq!(pci_info(&[]), None);
        assert_eq!(pci_info(&filled(88, 19, 36, 0)), None);
    }
}
