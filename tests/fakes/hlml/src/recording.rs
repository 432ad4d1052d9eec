//! The recording, and its handles.

use std::{ffi::c_void, sync::OnceLock};

use afd_fake_recorded::{FakeLibraryState, RecordedAnswers, StatusNumbers, WriteError};
use afd_gaudi::hlml::{HlmlReport, STATUSES};
use serde::Deserialize;
use serde_json::Value;

/// `hlml_return_t`.
pub(crate) type HlmlReturn = u32;

pub(crate) const SUCCESS: HlmlReturn = 0;
pub(crate) const INVALID_ARGUMENT: HlmlReturn = 2;

/// The content of `hlml.json`.
#[derive(Debug)]
pub(crate) struct HlmlRecording {
    report: HlmlReport,
    /// The size of `hlml_pci_info_t`.
    pub(crate) layout: usize,
    /// Events to deliver.
    pub(crate) events: Vec<RecordedHlmlEvent>,
}

impl RecordedAnswers for HlmlRecording {
    fn parse(text: &[u8]) -> serde_json::Result<HlmlRecording> {
        #[derive(Deserialize)]
        struct Others {
            #[serde(default = "newest")]
            layout: usize,
            #[serde(default)]
            events: Vec<RecordedHlmlEvent>,
        }
        let Others { layout, events } = serde_json::from_slice(text)?;
        Ok(HlmlRecording { report: RecordedAnswers::parse(text)?, layout, events })
    }
}

/// An event for the library to deliver.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedHlmlEvent {
    pub(crate) device: usize,
    pub(crate) event_type: u64,
}

fn newest() -> usize {
    84
}

impl std::ops::Deref for HlmlRecording {
    type Target = HlmlReport;

    fn deref(&self) -> &HlmlReport {
        &self.report
    }
}

pub(crate) fn state() -> &'static FakeLibraryState<HlmlRecording> {
    static STATE: OnceLock<FakeLibraryState<HlmlRecording>> = OnceLock::new();
    STATE.get_or_init(|| {
        let statuses = StatusNumbers {
            rows: STATUSES,
            not_initialised: 1,
            invalid_argument: INVALID_ARGUMENT,
            insufficient_size: 7,
            not_supported: 3,
        };
        FakeLibraryState::beside_library("hlml.json", "hlml_init", statuses)
    })
}

/// Starts a call.
pub(crate) fn enter(symbol: &str) -> Result<(), HlmlReturn> {
    state().enter(symbol)
}

pub(crate) fn write_failed(error: WriteError) -> HlmlReturn {
    state().write_failed(error)
}

/// Handles are numbers instead of pointers: multiples of this stride.
const STRIDE: usize = 0x1000;

/// The handle of a device.
pub(crate) fn handle(index: u32) -> Result<*mut c_void, HlmlReturn> {
    const SYMBOL: &str = "hlml_device_get_handle_by_index";
    enter(SYMBOL)?;
    let recording = state().recording();
    let device = recording.devices.get(index as usize).ok_or(INVALID_ARGUMENT)?;
    match state().error(&device.answers, SYMBOL) {
        Some(status) => Err(status),
        None => Ok(handle_of(index as usize)),
    }
}

/// The handle of the device with an index.
pub(crate) fn handle_of(index: usize) -> *mut c_void {
    ((index + 1) * STRIDE) as *mut c_void
}

/// Starts a call on a device. The recording has its value under the name of the symbol and the selecting arguments.
pub(crate) fn device(symbol: &str, handle: *mut c_void, arguments: &[u32]) -> Result<Value, HlmlReturn> {
    enter(symbol)?;
    let index = (handle as usize / STRIDE).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    let recording = state().recording();
    let device = recording.devices.get(index).ok_or(INVALID_ARGUMENT)?;
    // A device in reset answers no call.
    if let Some(lost) = state().error(&device.answers, "hlml_device_get_pci_info") {
        return Err(lost);
    }
    let arguments: Vec<String> = arguments.iter().map(u32::to_string).collect();
    let call =
        if arguments.is_empty() { symbol.to_owned() } else { format!("{symbol}({})", arguments.join(",")) };
    state().value(&device.answers, &call)
}
