//! The recording, and its handles.

use std::{ffi::c_void, sync::OnceLock};

use afd_amd::smi::{
    amdsmi::STATUSES,
    answers::{Answers, Code, Report},
};
use afd_fake_recorded::{FakeLibraryState, WriteError, answer};
use serde::Deserialize;
use serde_json::Value;

/// `amdsmi_status_t`.
pub(crate) type AmdSmiStatus = u32;

pub(crate) const SUCCESS: AmdSmiStatus = 0;
const INVAL: AmdSmiStatus = 1;
const NOT_SUPPORTED: AmdSmiStatus = 2;
const NOT_INIT: AmdSmiStatus = 32;
const INSUFFICIENT_SIZE: AmdSmiStatus = 41;

/// The content of `amdsmi.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct AmdSmiRecording {
    #[serde(flatten)]
    pub(crate) report: Report,
    /// The release of amdsmi.h whose structs the library fills. For an unknown release it fills unknown structs.
    #[serde(default = "newest")]
    pub(crate) header: u32,
}

fn newest() -> u32 {
    26
}

impl std::ops::Deref for AmdSmiRecording {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.report
    }
}

pub(crate) fn state() -> &'static FakeLibraryState<AmdSmiRecording> {
    static STATE: OnceLock<FakeLibraryState<AmdSmiRecording>> = OnceLock::new();
    STATE.get_or_init(|| FakeLibraryState::beside_library("amdsmi.json"))
}

/// Starts a call: executes the faults that the recording requests.
pub(crate) fn enter(symbol: &str) -> Result<(), AmdSmiStatus> {
    state().fault(symbol);
    if symbol != "amdsmi_init" && !state().is_initialised() {
        return Err(NOT_INIT);
    }
    Ok(())
}

/// The status of a call.
pub(crate) fn code(result: Result<(), AmdSmiStatus>) -> AmdSmiStatus {
    result.err().unwrap_or(SUCCESS)
}

pub(crate) fn write_failed(error: WriteError) -> AmdSmiStatus {
    match error {
        WriteError::InvalidArgument => INVAL,
        WriteError::TooShort => INSUFFICIENT_SIZE,
    }
}

fn status(code: &Code) -> AmdSmiStatus {
    code.number(STATUSES).unwrap_or(NOT_SUPPORTED)
}

/// The value of a call.
pub(crate) fn value(answers: &Answers, call: &str) -> Result<Value, AmdSmiStatus> {
    answer(answers, call).unwrap_or(Err(Code::named("NOT_SUPPORTED"))).map_err(|code| status(&code))
}

/// The error of a call in the recording, if there is one.
pub(crate) fn error(answers: &Answers, call: &str) -> Option<AmdSmiStatus> {
    answers.error(call).map(|code| status(&code))
}

/// Handles are numbers instead of pointers: multiples of this stride, sockets first, processors from an offset.
const STRIDE: usize = 0x1000;
const PROCESSORS: usize = 0x10_0000;

pub(crate) fn socket_handle(number: u32) -> *mut c_void {
    ((number as usize + 1) * STRIDE) as *mut c_void
}

pub(crate) fn socket_of(handle: *mut c_void) -> Result<u32, AmdSmiStatus> {
    (handle as usize / STRIDE).checked_sub(1).map(|number| number as u32).ok_or(INVAL)
}

pub(crate) fn processor_handle(index: usize) -> *mut c_void {
    (PROCESSORS + index * STRIDE) as *mut c_void
}

pub(crate) fn index_of(handle: *mut c_void) -> Result<usize, AmdSmiStatus> {
    (handle as usize).checked_sub(PROCESSORS).map(|offset| offset / STRIDE).ok_or(INVAL)
}

/// Starts a call on a processor. The recording has its value under the name of the symbol and the selecting argument.
pub(crate) fn processor(
    symbol: &str,
    handle: *mut c_void,
    argument: Option<u32>,
) -> Result<Value, AmdSmiStatus> {
    enter(symbol)?;
    let call = argument.map_or_else(|| symbol.to_owned(), |argument| format!("{symbol}({argument})"));
    let recording = state().recording();
    let device = recording.devices.get(index_of(handle)?).ok_or(INVAL)?;
    // A lost GPU answers no call, also on a handle from before.
    if let Some(lost) = error(&device.answers, "amdsmi_get_processor_handles") {
        return Err(lost);
    }
    value(&device.answers, &call)
}
