//! Structs of amdsmi.h whose layout changes from release to release.
//!
//! The library does not report the layout of a struct, and its version has changed its meaning. So a struct is filled into a
//! buffer that is larger than any of its layouts, and the layout is the one in which known values are in place.
//! Sources: amdsmi.h of the releases 23.2 (ROCm 6.0), 24.6 (ROCm 6.2), 26.0 and 26.1 (ROCm 7.0 and 7.1).

use std::ops::Range;

use afd_probe::ffi::text;
use serde_json::{Value, json};

use crate::VENDOR_ID;

/// The offsets of the fields of `amdsmi_asic_info_t`. The market name is first.
struct AsicLayout {
    market_name: usize,
    vendor_id: usize,
    device_id: usize,
    rev_id: usize,
    asic_serial: Range<usize>,
}

/// The newest first.
const ASICS: [AsicLayout; 3] = [
    AsicLayout { market_name: 256, vendor_id: 256, device_id: 520, rev_id: 528, asic_serial: 532..788 },
    AsicLayout { market_name: 256, vendor_id: 256, device_id: 328, rev_id: 336, asic_serial: 340..372 },
    AsicLayout { market_name: 64, vendor_id: 64, device_id: 72, rev_id: 80, asic_serial: 84..116 },
];

/// `amdsmi_asic_info_t`, in the layout in which AMD's vendor id and a PCI device id are in place. Bytes that are not filled are 0,
/// so at most one layout matches.
pub(super) fn asic_info(bytes: &[u8]) -> Option<Value> {
    let layout = ASICS.iter().find(|layout| {
        u32_at(bytes, layout.vendor_id) == Some(u32::from(VENDOR_ID))
            && u64_at(bytes, layout.device_id).is_some_and(|id| (1..=0xffff).contains(&id))
    })?;
    Some(json!({
        "market_name": text(bytes.get(..layout.market_name)?),
        "device_id": u64_at(bytes, layout.device_id)?,
        "rev_id": u32_at(bytes, layout.rev_id)?,
        "asic_serial": text(bytes.get(layout.asic_serial.clone())?),
    }))
}

/// `amdsmi_vbios_info_t`: name, build date, part number and version, of 256 bytes each, or before ROCm 6.4 of 64, 32, 64
/// and 32 bytes and shorter than 256 with the reserved bytes.
pub(super) fn vbios_info(bytes: &[u8]) -> Option<Value> {
    const NEW: [Range<usize>; 4] = [0..256, 256..512, 512..768, 768..1024];
    const OLD: [Range<usize>; 4] = [0..64, 64..96, 96..160, 160..192];
    let is_new = bytes.get(256..1024)?.iter().any(|byte| *byte != 0);
    let [name, build_date, part_number, version] =
        (if is_new { NEW } else { OLD }).map(|range| bytes.get(range).map(text));
    Some(json!({
        "name": name?,
        "build_date": build_date?,
        "part_number": part_number?,
        "version": version?,
    }))
}

/// `amdsmi_driver_info_t`: the version is first, in at least 64 bytes.
pub(super) fn driver_info(bytes: &[u8]) -> Option<Value> {
    Some(json!({ "driver_version": text(bytes.get(..64)?) }))
}

/// `amdsmi_engine_usage_t`: three numbers are first.
pub(super) fn engine_usage(bytes: &[u8]) -> Option<Value> {
    Some(json!({
        "gfx_activity": u32_at(bytes, 0)?,
        "umc_activity": u32_at(bytes, 4)?,
        "mm_activity": u32_at(bytes, 8)?,
    }))
}

/// `amdsmi_accelerator_partition_profile_t`: the type and the number of partitions are first; the order of the other fields has
/// changed.
pub(super) fn partition_profile(bytes: &[u8]) -> Option<Value> {
    Some(json!({ "profile_type": u32_at(bytes, 0)?, "num_partitions": u32_at(bytes, 4)? }))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        for (offset, field) in fields {
            bytes[*offset..offset + field.len()].copy_from_slice(field);
        }
        bytes
    }

    #[test]
    fn a_struct_is_read_in_the_layout_in_which_its_ids_are_in_place() {
        let (vendor, device) = (0x1002_u32.to_ne_bytes(), 0x74a1_u64.to_ne_bytes());
        let name: (usize, &[u8]) = (0, b"AMD Instinct MI300X");
        for (vendor_at, device_at, serial_at) in [(256, 520, 532), (256, 328, 340), (64, 72, 84)] {
            let bytes = filled(&[name, (vendor_at, &vendor), (device_at, &device), (serial_at, b"0xE3A9")]);
            let info = asic_info(&bytes).expect("the layout is known");
            assert_eq!(info["market_name"], "AMD Instinct MI300X");
            assert_eq!(info["asic_serial"], "0xE3A9", "{device_at}");
            assert_eq!(info["device_id"], 0x74a1);
        }
    }

    #[test]
    fn a_struct_in_an_unknown_layout_has_no_value() {
        assert_eq!(
            asic_info(&filled(&[(0, b"AMD Instinct MI300X"), (300, &0x1002_u32.to_ne_bytes())])),
            None
        );
        assert_eq!(asic_info(&[0; 8]), None, "it is too short");
    }

    #[test]
    fn a_vbios_is_read_in_both_layouts() {
        let new =
            filled(&[(256, b"2023/11/09"), (512, b"113-M3000100-103"), (768, b"022.040.003.043.000001")]);
        let old = filled(&[(64, b"2023/11/09"), (96, b"113-M3000100-103"), (160, b"022.040.003.043.000001")]);
        assert_eq!(vbios_info(&new), vbios_info(&old));
        assert_eq!(vbios_info(&new).expect("the layout is known")["version"], "022.040.003.043.000001");
    }
}
