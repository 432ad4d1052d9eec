//! The C symbols of ROCm SMI, answering from `rocmsmi.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/rocmsmi.json` of a recorded host), with faults for tests; the README
//! of the fake AMD SMI describes its format. It is read again whenever its file changes.
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::missing_safety_doc,
    missing_docs,
    reason = "these are C symbols, documented in rocm_smi.h"
)]

use std::{ffi::c_char, sync::OnceLock};

use afd_amd::smi::{AmdReport, rocmsmi::STATUSES};
use afd_fake_recorded::{FakeLibraryState, StatusNumbers, WriteError, code, number, write, write_text};
use serde_json::Value;

/// `rsmi_status_t`.
type RocmSmiStatus = u32;

const SUCCESS: RocmSmiStatus = 0;
const INVALID_ARGS: RocmSmiStatus = 1;

fn state() -> &'static FakeLibraryState<AmdReport> {
    static STATE: OnceLock<FakeLibraryState<AmdReport>> = OnceLock::new();
    STATE.get_or_init(|| {
        let statuses = StatusNumbers {
            rows: STATUSES,
            not_initialised: 8,
            invalid_argument: INVALID_ARGS,
            insufficient_size: 11,
            not_supported: 2,
        };
        FakeLibraryState::beside_library("rocmsmi.json", "rsmi_init", statuses)
    })
}

fn write_failed(error: WriteError) -> RocmSmiStatus {
    state().write_failed(error)
}

/// Starts a call on a device. The recording has its value under the name of the symbol and the selecting argument.
fn device(symbol: &str, index: u32, argument: Option<u32>) -> Result<Value, RocmSmiStatus> {
    state().enter(symbol)?;
    let call = argument.map_or_else(|| symbol.to_owned(), |argument| format!("{symbol}({argument})"));
    let recording = state().recording();
    let device = recording.devices.get(index as usize).ok_or(INVALID_ARGS)?;
    state().value(&device.answers, &call)
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_init(_flags: u64) -> RocmSmiStatus {
    code(state().initialise(&state().recording().system))
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_shut_down() -> RocmSmiStatus {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_num_monitor_devices(count: *mut u32) -> RocmSmiStatus {
    code(state().enter("rsmi_num_monitor_devices").and_then(|()| {
        let recording = state().recording();
        if let Some(status) = state().error(&recording.system, "rsmi_num_monitor_devices") {
            return Err(status);
        }
        write(count, recording.devices.len() as u32).map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_version_str_get(component: u32, text: *mut c_char, length: u32) -> RocmSmiStatus {
    code(state().enter("rsmi_version_str_get").and_then(|()| {
        let version =
            state().value(&state().recording().system, &format!("rsmi_version_str_get({component})"))?;
        write_text(text, length as usize, &version).map_err(write_failed)
    }))
}

macro_rules! texts {
    ($($symbol:ident: $length:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(index: u32, text: *mut c_char, length: $length) -> RocmSmiStatus {
            let value = device(stringify!($symbol), index, None);
            code(value.and_then(|value| write_text(text, length as usize, &value).map_err(write_failed)))
        })*
    };
}

texts! {
    rsmi_dev_name_get: usize;
    rsmi_dev_vbios_version_get: u32;
}

macro_rules! numbers {
    ($($symbol:ident($($argument:ident)?): $kind:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(index: u32, $($argument: u32,)? target: *mut $kind) -> RocmSmiStatus {
            let argument = [$($argument)?].first().copied();
            let value = device(stringify!($symbol), index, argument);
            code(value.and_then(|value| write(target, number(&value) as $kind).map_err(write_failed)))
        })*
    };
}

numbers! {
    rsmi_dev_pci_id_get(): u64;
    rsmi_dev_unique_id_get(): u64;
    rsmi_dev_busy_percent_get(): u32;
    rsmi_dev_memory_total_get(kind): u64;
    rsmi_dev_memory_usage_get(kind): u64;
    rsmi_topo_get_link_weight(other): u64;
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_topo_get_link_type(
    from: u32,
    to: u32,
    hops: *mut u64,
    kind: *mut u32,
) -> RocmSmiStatus {
    code(device("rsmi_topo_get_link_type", from, Some(to)).and_then(|value| {
        write(hops, number(&value["hops"]))
            .and_then(|()| write(kind, number(&value["type"]) as u32))
            .map_err(write_failed)
    }))
}
