//! The recording, and its handles.

use std::{ffi::c_void, sync::OnceLock};

use afd_amd::smi::{AmdReport, amdsmi::STATUSES};
use afd_fake_recorded::{FakeLibraryState, RecordedAnswers, StatusNumbers, WriteError};
use serde::Deserialize;
use serde_json::Value;

/// `amdsmi_status_t`.
pub(crate) type AmdSmiStatus = u32;

pub(crate) const SUCCESS: AmdSmiStatus = 0;
const INVAL: AmdSmiStatus = 1;

/// The content of `amdsmi.json`.
#[derive(Debug)]
pub(crate) struct AmdSmiRecording {
    pub(crate) report: AmdReport,
    /// The release of amdsmi.h whose structs the library fills. For an unknown release it fills unknown structs.
    pub(crate) header: u32,
}

impl RecordedAnswers for AmdSmiRecording {
    fn parse(text: &[u8]) -> serde_json::Result<AmdSmiRecording> {
        #[derive(Deserialize)]
        struct Others {
            #[serde(default = "newest")]
            header: u32,
        }
        let Others { header } = serde_json::from_slice(text)?;
        Ok(AmdSmiRecording { report: RecordedAnswers::parse(text)?, header })
    }
}

fn newest() -> u32 {
    26
}

impl std::ops::Deref for AmdSmiRecording {
    type Target = AmdReport;

    fn deref(&self) -> &AmdReport {
        &self.report
    }
}

pub(crate) fn state() -> &'static FakeLibraryState<AmdSmiRecording> {
    static STATE: OnceLock<FakeLibraryState<AmdSmiRecording>> = OnceLock::new();
    STATE.get_or_init(|| {
        let statuses = StatusNumbers {
            rows: STATUSES,
            not_initialised: 32,
            invalid_argument: INVAL,
            insufficient_size: 41,
            not_supported: 2,
        };
        FakeLibraryState::beside_library("amdsmi.json", "amdsmi_init", statuses)
    })
}

/// Starts a call.
pub(crate) fn enter(symbol: &str) -> Result<(), AmdSmiStatus> {
    state().enter(symbol)
}

pub(crate) fn write_failed(error: WriteError) -> AmdSmiStatus {
    state().write_failed(error)
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
    if let Some(lost) = state().error(&device.answers, "amdsmi_get_processor_handles") {
        return Err(lost);
    }
    state().value(&device.answers, &call)
}
