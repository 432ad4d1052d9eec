//! The C symbols of Level Zero's Sysman, answering from `levelzero.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/levelzero.json` of a recorded host), with faults for tests; the README
//! describes its format. It is read again whenever its file changes.
#![allow(
    unsafe_code,
    unreachable_pub,
    non_snake_case,
    clippy::disallowed_methods,
    clippy::missing_safety_doc,
    clippy::not_unsafe_ptr_arg_deref,
    missing_docs,
    reason = "these are C symbols, documented in zes_api.h"
)]

mod recording;
mod structs;

use std::ffi::c_void;

use afd_fake_recorded::{code, write};
use afd_intel::levelzero::calls::SysmanSource;

use crate::{
    recording::{
        DEVICE_KINDS, DRIVER, INVALID_ARGUMENT, SysmanReturn, answer, component_handles, enter, source_of,
        state, write_failed,
    },
    structs::{write_chain, write_list, write_struct},
};

#[unsafe(no_mangle)]
pub extern "C" fn zesInit(_flags: u32) -> SysmanReturn {
    code(state().initialise(&state().recording().system))
}

#[unsafe(no_mangle)]
pub extern "C" fn zesDriverGet(count: *mut u32, handles: *mut *mut c_void) -> SysmanReturn {
    code(enter("zesDriverGet").and_then(
        |()| match state().error(&state().recording().system, "zesDriverGet") {
            Some(status) => Err(status),
            None => write_handles(count, handles, &[DRIVER as *mut c_void]),
        },
    ))
}

#[unsafe(no_mangle)]
pub extern "C" fn zesDeviceGet(
    driver: *mut c_void,
    count: *mut u32,
    handles: *mut *mut c_void,
) -> SysmanReturn {
    code(enter("zesDeviceGet").and_then(|()| {
        let recording = state().recording();
        if let Some(status) = state().error(&recording.system, "zesDeviceGet") {
            return Err(status);
        }
        if driver as usize != DRIVER {
            return Err(INVALID_ARGUMENT);
        }
        let devices: Vec<*mut c_void> = (0..recording.devices.len()).map(recording::device_handle).collect();
        write_handles(count, handles, &devices)
    }))
}

/// Writes handles as Level Zero does: their number where the caller has no array.
fn write_handles(
    count: *mut u32,
    target: *mut *mut c_void,
    handles: &[*mut c_void],
) -> Result<(), SysmanReturn> {
    // SAFETY: the caller passes the number of handles for which it has memory.
    let capacity = unsafe { count.as_ref() }.copied().ok_or(INVALID_ARGUMENT)? as usize;
    if target.is_null() || capacity == 0 {
        return write(count, handles.len() as u32).map_err(write_failed);
    }
    let filled = capacity.min(handles.len());
    for (index, handle) in handles.iter().take(filled).enumerate() {
        // SAFETY: `index` is below the capacity of the caller's array.
        unsafe { target.add(index).write(*handle) };
    }
    write(count, filled as u32).map_err(write_failed)
}

macro_rules! enumerations {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(device: *mut c_void, count: *mut u32, handles: *mut *mut c_void) -> SysmanReturn {
            code(component_handles(stringify!($symbol), device).and_then(|found| write_handles(count, handles, &found)))
        })*
    };
}

enumerations! {
    zesDeviceEnumMemoryModules zesDeviceEnumEngineGroups zesDeviceEnumPowerDomains zesDeviceEnumTemperatureSensors
    zesDeviceEnumFrequencyDomains zesDeviceEnumFabricPorts zesDeviceEnumRasErrorSets zesDeviceEnumFirmwares
}

macro_rules! structures {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(handle: *mut c_void, target: *mut u8) -> SysmanReturn {
            const SYMBOL: &str = stringify!($symbol);
            code(answer(SYMBOL, handle).and_then(|value| match source_of(SYMBOL) {
                Some(SysmanSource::Struct(layout)) => write_struct(target, layout, &value),
                Some(SysmanSource::Chain(layout, next)) => write_chain(target, layout, next, &value),
                _ => Err(INVALID_ARGUMENT),
            }))
        })*
    };
}

structures! {
    zesDevicePciGetProperties zesDeviceGetProperties zesDeviceGetEccState zesDeviceGetState zesDevicePciGetState
    zesDevicePciGetStats zesMemoryGetProperties zesMemoryGetState zesMemoryGetBandwidth zesEngineGetProperties
    zesEngineGetActivity zesPowerGetProperties zesPowerGetEnergyCounter zesTemperatureGetProperties
    zesFrequencyGetProperties zesFrequencyGetRange zesFrequencyGetState zesFrequencyGetThrottleTime
    zesFabricPortGetProperties zesFabricPortGetState zesFabricPortGetThroughput zesFabricPortGetFabricErrorCounters
    zesRasGetProperties zesFirmwareGetProperties
}

macro_rules! lists {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(handle: *mut c_void, count: *mut u32, target: *mut u8) -> SysmanReturn {
            const SYMBOL: &str = stringify!($symbol);
            code(answer(SYMBOL, handle).and_then(|value| match source_of(SYMBOL) {
                Some(SysmanSource::List(layout)) => write_list(count, target, layout, &value),
                _ => Err(INVALID_ARGUMENT),
            }))
        })*
    };
}

lists! { zesPowerGetLimitsExt zesRasGetStateExp }

#[unsafe(no_mangle)]
pub extern "C" fn zesRasGetState(handle: *mut c_void, clear: u8, target: *mut u8) -> SysmanReturn {
    const SYMBOL: &str = "zesRasGetState";
    code(answer(SYMBOL, handle).and_then(|value| match source_of(SYMBOL) {
        Some(SysmanSource::Uncleared(layout)) if clear == 0 => write_struct(target, layout, &value),
        _ => Err(INVALID_ARGUMENT),
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn zesTemperatureGetState(handle: *mut c_void, target: *mut f64) -> SysmanReturn {
    let value = answer("zesTemperatureGetState", handle);
    code(value.and_then(|value| write(target, value.as_f64().ok_or(INVALID_ARGUMENT)?).map_err(write_failed)))
}

macro_rules! forbidden {
    ($($symbol:ident)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol() -> SysmanReturn {
            eprintln!("{} changes a device", stringify!($symbol));
            std::process::abort()
        })*
    };
}

forbidden! { zesDeviceReset zesDeviceResetExt zesPowerSetLimitsExt zesFrequencySetRange zesDeviceSetEccState }

/// Each kind of component has a number in handles.
const _: () = assert!(DEVICE_KINDS < 0x100);
