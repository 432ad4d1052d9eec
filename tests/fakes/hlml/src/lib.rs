//! The C symbols of HLML, answering from `hlml.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/hlml.json` of a recorded host), with faults and the size of a struct for
//! tests; the README describes its format. It is read again whenever its file changes.
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::missing_safety_doc,
    clippy::not_unsafe_ptr_arg_deref,
    missing_docs,
    reason = "these are C symbols, documented in hlml.h"
)]

mod events;
mod recording;
mod structs;

use std::ffi::{c_char, c_void};

use afd_fake_recorded::{code, number, write};

use crate::{
    recording::{HlmlReturn, SUCCESS, device, enter, handle, state, write_failed},
    structs::{memory, pci_info, utilization, write_struct, write_text_with_canary},
};

#[unsafe(no_mangle)]
pub extern "C" fn hlml_init() -> HlmlReturn {
    code(state().initialise(&state().recording().system))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_shutdown() -> HlmlReturn {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_count(count: *mut u32) -> HlmlReturn {
    code(enter("hlml_device_get_count").and_then(|()| {
        let recording = state().recording();
        if let Some(status) = state().error(&recording.system, "hlml_device_get_count") {
            return Err(status);
        }
        write(count, recording.devices.len() as u32).map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_handle_by_index(index: u32, target: *mut *mut c_void) -> HlmlReturn {
    code(handle(index).and_then(|handle| write(target, handle).map_err(write_failed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_pci_info(handle: *mut c_void, target: *mut u8) -> HlmlReturn {
    let info = device("hlml_device_get_pci_info", handle, &[]);
    code(info.and_then(|info| write_struct(target, &pci_info(&info, state().recording().layout))))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_utilization_rates(handle: *mut c_void, target: *mut u8) -> HlmlReturn {
    let value = device("hlml_device_get_utilization_rates", handle, &[]);
    code(value.and_then(|value| write_struct(target, &utilization(&value, state().recording().layout))))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_memory_info(handle: *mut c_void, target: *mut u8) -> HlmlReturn {
    let value = device("hlml_device_get_memory_info", handle, &[]);
    code(value.and_then(|value| write_struct(target, &memory(&value))))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_ecc_mode(
    handle: *mut c_void,
    current: *mut u32,
    pending: *mut u32,
) -> HlmlReturn {
    code(device("hlml_device_get_ecc_mode", handle, &[]).and_then(|value| {
        write(current, number(&value["current"]) as u32)
            .and_then(|()| write(pending, number(&value["pending"]) as u32))
            .map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_replaced_rows(
    handle: *mut c_void,
    cause: u32,
    count: *mut u32,
    rows: *mut u8,
) -> HlmlReturn {
    code(device("hlml_device_get_replaced_rows", handle, &[cause]).and_then(|value| {
        // SAFETY: the caller passes at `count` the number of rows for which it has memory.
        let capacity = unsafe { count.as_ref() }.copied().unwrap_or(0);
        let found = number(&value) as u32;
        for byte in 0..found.min(capacity) as usize * 6 {
            // SAFETY: a row has six bytes, and `byte` is within the rows of the caller's memory.
            unsafe { rows.add(byte).write(0xa5) };
        }
        write(count, found).map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_get_mac_addr_info(
    handle: *mut c_void,
    mask: *mut [u64; 2],
    external: *mut [u64; 2],
) -> HlmlReturn {
    code(device("hlml_get_mac_addr_info", handle, &[]).and_then(|value| {
        let masks = |field: &str| [0, 1].map(|word| number(&value[field][word]));
        write(mask, masks("mask")).and_then(|()| write(external, masks("ext_mask"))).map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_nic_get_link(handle: *mut c_void, port: u32, up: *mut bool) -> HlmlReturn {
    let value = device("hlml_nic_get_link", handle, &[port]);
    code(value.and_then(|value| write(up, value == true).map_err(write_failed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_get_total_ecc_errors(
    handle: *mut c_void,
    kind: u32,
    counter: u32,
    target: *mut u64,
) -> HlmlReturn {
    let value = device("hlml_device_get_total_ecc_errors", handle, &[kind, counter]);
    code(value.and_then(|value| write(target, number(&value)).map_err(write_failed)))
}

macro_rules! system_texts {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(text: *mut c_char, length: u32) -> HlmlReturn {
            const SYMBOL: &str = stringify!($symbol);
            code(enter(SYMBOL).and_then(|()| {
                let value = state().value(&state().recording().system, SYMBOL)?;
                write_text_with_canary(text, length, &value)
            }))
        })*
    };
}

system_texts! { hlml_get_hlml_version hlml_get_driver_version }

macro_rules! texts {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(handle: *mut c_void, text: *mut c_char, length: u32) -> HlmlReturn {
            let value = device(stringify!($symbol), handle, &[]);
            code(value.and_then(|value| write_text_with_canary(text, length, &value)))
        })*
    };
}

texts! {
    hlml_device_get_serial hlml_device_get_uuid hlml_get_fw_os_version hlml_get_firmware_fit_version
    hlml_get_firmware_spi_version hlml_device_get_oper_status
}

macro_rules! numbers {
    ($($symbol:ident($($argument:ident)?): $kind:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(handle: *mut c_void, $($argument: u32,)? target: *mut $kind) -> HlmlReturn {
            let value = device(stringify!($symbol), handle, &[$($argument)?]);
            code(value.and_then(|value| write(target, number(&value) as $kind).map_err(write_failed)))
        })*
    };
}

numbers! {
    hlml_device_get_module_id(): u32;
    hlml_device_get_power_usage(): u32;
    hlml_device_get_power_management_default_limit(): u32;
    hlml_device_get_total_energy_consumption(): u64;
    hlml_device_get_temperature(sensor): u32;
    hlml_device_get_temperature_threshold(threshold): u32;
    hlml_device_get_clock_info(clock): u32;
    hlml_device_get_max_clock_info(clock): u32;
    hlml_device_get_current_clocks_throttle_reasons(): u64;
    hlml_device_get_replaced_rows_pending_status(): u32;
    hlml_device_get_pcie_throughput(counter): u32;
    hlml_device_get_pcie_replay_counter(): u32;
}
