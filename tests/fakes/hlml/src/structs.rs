//! Structs of hlml.h in the layouts of several releases, and the canary behind each.

use std::ffi::c_char;

use afd_fake_recorded::{number, write_text};
use serde_json::Value;

use crate::recording::{HlmlReturn, write_failed};

/// Up to here the caller's buffer is overwritten: no struct of a later release is longer.
const BUFFER_BYTES: usize = 1024;
const CANARY: u8 = 0xa5;
/// The size of `hlml_pci_info_t` from 1.19 on.
const NEWEST: usize = 84;
const INVALID_ARGUMENT: HlmlReturn = 2;

/// Writes a struct, and the canary behind it.
pub(crate) fn write_struct(target: *mut u8, bytes: &[u8]) -> Result<(), HlmlReturn> {
    if target.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let filled = bytes.iter().copied().chain(std::iter::repeat(CANARY)).take(BUFFER_BYTES);
    for (index, byte) in filled.enumerate() {
        // SAFETY: the caller passes a buffer that is longer than the struct of any release, or a test is to fail.
        unsafe { target.add(index).write(byte) };
    }
    Ok(())
}

/// Writes a string, and the canary up to the end of the buffer.
pub(crate) fn write_text_with_canary(
    target: *mut c_char,
    length: u32,
    value: &Value,
) -> Result<(), HlmlReturn> {
    let length = length as usize;
    write_text(target, length, value).map_err(write_failed)?;
    for index in value.as_str().map_or(0, str::len) + 1..length {
        // SAFETY: the caller's buffer has `length` bytes.
        unsafe { target.add(index).write(CANARY as c_char) };
    }
    Ok(())
}

/// `hlml_pci_info_t` of a size. For an unknown size the ids are where no release has them.
pub(crate) fn pci_info(info: &Value, size: usize) -> Vec<u8> {
    let ids = match size {
        52..=80 => 28,
        NEWEST => 32,
        _ => 40,
    };
    let mut bytes = vec![0; size.max(ids + 4)];
    let address = info["bus_id"].as_str().unwrap_or_default();
    bytes[4..4 + address.len()].copy_from_slice(address.as_bytes());
    let domain = address.split(':').next().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    bytes[ids - 4..ids].copy_from_slice(&domain.unwrap_or(0).to_ne_bytes());
    bytes[ids..ids + 4].copy_from_slice(&(number(&info["pci_device_id"]) as u32).to_ne_bytes());
    if size >= 76 && ids < 40 {
        let speed = b"32.0 GT/s";
        bytes[ids + 4..ids + 4 + speed.len()].copy_from_slice(speed);
    }
    bytes
}

/// `hlml_utilization_t`: one number, two from 1.19 on.
pub(crate) fn utilization(value: &Value, layout: usize) -> Vec<u8> {
    let mut bytes = (number(&value["aip"]) as u32).to_ne_bytes().to_vec();
    if layout >= NEWEST {
        bytes.extend(0_u32.to_ne_bytes());
    }
    bytes
}

/// `hlml_memory_t`.
pub(crate) fn memory(value: &Value) -> Vec<u8> {
    ["free", "total", "used"].into_iter().flat_map(|field| number(&value[field]).to_ne_bytes()).collect()
}
