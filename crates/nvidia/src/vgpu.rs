//! vGPUs: the PCI configuration space of a GPU to what it reports to a guest about its host.
//!
//! A vGPU has a vendor-specific PCI capability (id 0x09, PCI Local Bus Specification 3.0, appendix H) with the signature
//! `VF` after its length byte, followed by records of an id, a length and content. Record 0 holds ten bytes of the host's
//! driver version and ten of its branch, padded with NUL (source: GPU Feature Discovery's labels `vgpu.*`). Only the
//! superuser may read the configuration space beyond its first 64 bytes, so a shorter one is not known to be a vGPU's.

use afd_model::{Known, Missing, VgpuGuest};

const CAPABILITIES: usize = 0x34;
const VENDOR_SPECIFIC: u8 = 0x09;
const SIGNATURE: &[u8] = b"VF";
const STRING_BYTES: usize = 10;

/// The host of a vGPU; none if the configuration space is not that of a vGPU.
pub(crate) fn guest(configuration: &[u8]) -> Option<VgpuGuest> {
    let capability = vendor_specific(configuration)?;
    let mut records = capability.get(3..)?.strip_prefix(SIGNATURE)?;
    let mut guest = VgpuGuest {
        host_driver_version: Missing::NotAvailable.into(),
        host_driver_branch: Missing::NotAvailable.into(),
    };
    while let [id, length, ..] = *records {
        if id == 0 {
            guest.host_driver_version = text(records.get(2..2 + STRING_BYTES));
            guest.host_driver_branch = text(records.get(2 + STRING_BYTES..2 + 2 * STRING_BYTES));
            break;
        }
        // The length includes id and length itself; a shorter one would loop forever.
        records = records.get(usize::from(length).max(2)..)?;
    }
    Some(guest)
}

/// The first vendor-specific capability, from its id to its length.
fn vendor_specific(configuration: &[u8]) -> Option<&[u8]> {
    let mut offset = usize::from(*configuration.get(CAPABILITIES)?);
    // The space holds at most 48 capabilities; the limit ends a circular list.
    for _ in 0..48 {
        let [id, next, length] = *configuration.get(offset..offset + 3)? else { return None };
        if offset < 0x40 {
            return None;
        }
        if id == VENDOR_SPECIFIC {
            return configuration.get(offset..offset + usize::from(length));
        }
        offset = usize::from(next);
    }
    None
}

fn text(bytes: Option<&[u8]>) -> Known<String> {
    let text = bytes.and_then(|bytes| bytes.split(|byte| *byte == 0).next());
    let text = text.and_then(|text| str::from_utf8(text).ok()).map(str::trim).filter(|text| !text.is_empty());
    Known::from_option(text.map(str::to_owned), Missing::NotAvailable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn configuration(capability: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[CAPABILITIES] = 0x40;
        bytes[0x40..0x40 + capability.len()].copy_from_slice(capability);
        bytes
    }

    #[test]
    fn a_vgpu_reports_its_host() {
        let record = b"\x09\x00\x1e\x56\x46\x01\x03\xff\x00\x16550.127.06r550_00\0\0\0";
        let guest = guest(&configuration(record)).expect("it is a vGPU");
        assert_eq!(guest.host_driver_version, Known::Value("550.127.06".to_owned()));
        assert_eq!(guest.host_driver_branch, Known::Value("r550_00".to_owned()));
    }

    #[test]
    fn other_functions_are_not_vgpus() {
        assert_eq!(guest(&[]), None);
        assert_eq!(guest(&[0; 64]), None);
        assert_eq!(guest(&configuration(b"\x01\x40\x00")), None, "a circular list ends");
        assert_eq!(guest(&configuration(b"\x09\x00\x08VIRTI")), None);
        let endless = guest(&configuration(b"\x09\x00\x09VF\x01\x00\x00\x00"));
        assert!(
            endless.is_some_and(|guest| !guest.host_driver_version.is_known()),
            "a record without length ends"
        );
    }

    proptest! {
        #[test]
        fn no_configuration_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = guest(&bytes);
        }
    }
}
