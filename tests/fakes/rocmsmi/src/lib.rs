//! ROCm SMI's C symbols, answering from `rocmsmi.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/rocmsmi.json` of a recorded host), with faults that only a test asks
//! for; the README of the fake AMD SMI says how it is made. It is read again whenever its file changes.
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::missing_safety_doc,
    missing_docs,
    reason = "these are C's symbols, documented in rocm_smi.h"
)]

use std::{ffi::c_char, sync::OnceLock};

use afd_amd::smi::{
    answers::{Answers, Code, Report},
    rocmsmi::STATUSES,
};
use afd_fake_recorded::{Refused, State, answer, number, write, write_text};
use serde_json::Value;

/// `rsmi_status_t`.
type Status = u32;

const SUCCESS: Status = 0;
const INVALID_ARGS: Status = 1;
const NOT_SUPPORTED: Status = 2;
const INIT_ERROR: Status = 8;
const INSUFFICIENT_SIZE: Status = 11;

fn state() -> &'static State<Report> {
    static STATE: OnceLock<State<Report>> = OnceLock::new();
    STATE.get_or_init(|| State::beside_library("rocmsmi.json"))
}

fn enter(symbol: &str) -> Result<(), Status> {
    state().fault(symbol);
    if symbol != "rsmi_init" && !state().is_initialised() {
        return Err(INIT_ERROR);
    }
    Ok(())
}

fn code(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(SUCCESS)
}

fn refused(why: Refused) -> Status {
    match why {
        Refused::Nothing => INVALID_ARGS,
        Refused::TooShort => INSUFFICIENT_SIZE,
    }
}

fn status(code: &Code) -> Status {
    code.number(STATUSES).unwrap_or(NOT_SUPPORTED)
}

fn value(answers: &Answers, call: &str) -> Result<Value, Status> {
    answer(answers, call).unwrap_or(Err(Code::named("NOT_SUPPORTED"))).map_err(|code| status(&code))
}

/// Begins a call on a device; its value under the name of the symbol and the argument that chooses.
fn device(symbol: &str, index: u32, argument: Option<u32>) -> Result<Value, Status> {
    enter(symbol)?;
    let call = argument.map_or_else(|| symbol.to_owned(), |argument| format!("{symbol}({argument})"));
    let recording = state().recording();
    let told = recording.devices.get(index as usize).ok_or(INVALID_ARGS)?;
    value(&told.answers, &call)
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_init(_flags: u64) -> Status {
    code(enter("rsmi_init").and_then(|()| {
        if let Some(error) = state().recording().system.error("rsmi_init") {
            return Err(status(&error));
        }
        state().initialise();
        Ok(())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_shut_down() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_num_monitor_devices(count: *mut u32) -> Status {
    code(enter("rsmi_num_monitor_devices").and_then(|()| {
        let recording = state().recording();
        if let Some(error) = recording.system.error("rsmi_num_monitor_devices") {
            return Err(status(&error));
        }
        write(count, recording.devices.len() as u32).map_err(refused)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn rsmi_version_str_get(component: u32, text: *mut c_char, length: u32) -> Status {
    code(enter("rsmi_version_str_get").and_then(|()| {
        let told = value(&state().recording().system, &format!("rsmi_version_str_get({component})"))?;
        write_text(text, length as usize, &told).map_err(refused)
    }))
}

macro_rules! texts {
    ($($symbol:ident: $length:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(index: u32, text: *mut c_char, length: $length) -> Status {
            let told = device(stringify!($symbol), index, None);
            code(told.and_then(|told| write_text(text, length as usize, &told).map_err(refused)))
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
        pub extern "C" fn $symbol(index: u32, $($argument: u32,)? target: *mut $kind) -> Status {
            let argument = [$($argument)?].first().copied();
            let told = device(stringify!($symbol), index, argument);
            code(told.and_then(|told| write(target, number(&told) as $kind).map_err(refused)))
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
pub extern "C" fn rsmi_topo_get_link_type(from: u32, to: u32, hops: *mut u64, kind: *mut u32) -> Status {
    code(device("rsmi_topo_get_link_type", from, Some(to)).and_then(|told| {
        write(hops, number(&told["hops"]))
            .and_then(|()| write(kind, number(&told["type"]) as u32))
            .map_err(refused)
    }))
}
