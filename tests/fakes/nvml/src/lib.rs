//! NVML's C symbols, answering from `nvml.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/nvml.json` of a recorded host), with events and faults that only
//! tests add; the README describes it. It is read again whenever its file changes, so that a test can change a value, lose a
//! GPU, raise an XID, or make a call hang or crash while a program uses the library. Types are those of nvml.h, from the
//! crate `nvml-wrapper-sys`.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    non_snake_case,
    unreachable_pub,
    clippy::missing_safety_doc,
    missing_docs,
    reason = "these are C's symbols, documented in nvml.h"
)]

mod devices;
mod events;
mod gpm;
mod mig;
mod processes;
mod recording;
mod structs;
mod vgpu;

use std::ffi::{c_char, c_int, c_uint};

pub(crate) use afd_fake_recorded::{code, number};
use nvml_wrapper_sys::bindings::{nvmlConfComputeSystemState_t, nvmlReturn_t};
use serde_json::Value;

use crate::recording::{library, system};

pub(crate) const SUCCESS: nvmlReturn_t = 0;
pub(crate) const UNINITIALIZED: nvmlReturn_t = 1;
pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
pub(crate) const TIMEOUT: nvmlReturn_t = 10;
pub(crate) const VERSION_MISMATCH: nvmlReturn_t = 25;

/// Writes a number or struct to the caller's memory.
pub(crate) fn write<T>(target: *mut T, value: T) -> Result<(), nvmlReturn_t> {
    afd_fake_recorded::write(target, value).map_err(|error| library().write_failed(error))
}

/// Writes a string with its NUL.
pub(crate) fn write_text(target: *mut c_char, length: c_uint, value: &Value) -> Result<(), nvmlReturn_t> {
    afd_fake_recorded::write_text(target, length as usize, value)
        .map_err(|error| library().write_failed(error))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    code(library().initialise(&library().recording().system))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    SUCCESS
}

macro_rules! system_texts {
    ($($symbol:ident),*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(text: *mut c_char, length: c_uint) -> nvmlReturn_t {
            code(system(stringify!($symbol)).and_then(|value| write_text(text, length, &value)))
        })*
    };
}

system_texts!(nvmlSystemGetDriverVersion, nvmlSystemGetNVMLVersion);

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    code(
        system("nvmlSystemGetCudaDriverVersion_v2").and_then(|value| write(version, number(&value) as c_int)),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetConfComputeState(target: *mut nvmlConfComputeSystemState_t) -> nvmlReturn_t {
    code(system("nvmlSystemGetConfComputeState").and_then(|value| {
        let state = nvmlConfComputeSystemState_t {
            environment: number(&value["environment"]) as c_uint,
            ccFeature: number(&value["ccFeature"]) as c_uint,
            devToolsMode: number(&value["devToolsMode"]) as c_uint,
        };
        write(target, state)
    }))
}
