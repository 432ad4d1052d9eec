//! The recording, and the handles by which a caller refers to its devices.

use std::sync::OnceLock;

use afd_fake_recorded::{FakeLibraryState, RecordedAnswers, StatusNumbers};
use afd_nvidia::nvml::report::{NvmlReport, STATUSES};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use serde::Deserialize;
use serde_json::Value;

use crate::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_SUPPORTED, UNINITIALIZED};

/// The content of `nvml.json`.
#[derive(Debug, Default)]
pub(crate) struct NvmlRecording {
    pub(crate) report: NvmlReport,
    pub(crate) events: Vec<RecordedEvent>,
}

impl RecordedAnswers for NvmlRecording {
    fn parse(text: &[u8]) -> serde_json::Result<NvmlRecording> {
        #[derive(Deserialize)]
        struct Others {
            #[serde(default)]
            events: Vec<RecordedEvent>,
        }
        let Others { events } = serde_json::from_slice(text)?;
        Ok(NvmlRecording { report: RecordedAnswers::parse(text)?, events })
    }
}

impl std::ops::Deref for NvmlRecording {
    type Target = NvmlReport;

    fn deref(&self) -> &NvmlReport {
        &self.report
    }
}

/// An event for the library to deliver.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedEvent {
    pub(crate) device: usize,
    pub(crate) event_type: u64,
    pub(crate) event_data: u64,
    #[serde(default = "whole_gpu")]
    pub(crate) gpu_instance_id: u32,
    #[serde(default = "whole_gpu")]
    pub(crate) compute_instance_id: u32,
}

fn whole_gpu() -> u32 {
    u32::MAX
}

pub(crate) fn library() -> &'static FakeLibraryState<NvmlRecording> {
    static LIBRARY: OnceLock<FakeLibraryState<NvmlRecording>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let statuses = StatusNumbers {
            rows: STATUSES,
            not_initialised: UNINITIALIZED,
            invalid_argument: INVALID_ARGUMENT,
            insufficient_size: INSUFFICIENT_SIZE,
            not_supported: NOT_SUPPORTED,
        };
        FakeLibraryState::beside_library("nvml.json", "nvmlInit_v2", statuses)
    })
}

/// Begins a call: faults of the recording happen here.
pub(crate) fn enter(symbol: &str) -> Result<(), nvmlReturn_t> {
    library().enter(symbol)
}

/// The value of a call that concerns no device.
pub(crate) fn system(symbol: &str) -> Result<Value, nvmlReturn_t> {
    enter(symbol)?;
    library().value(&library().recording().system, symbol)
}

/// A device, or one of its MIG devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FakeHandle {
    pub(crate) device: usize,
    pub(crate) mig: Option<usize>,
}

/// A handle is a number cast to a pointer: the device times this, plus the MIG device.
const DEVICE_STRIDE: usize = 0x1000;

impl FakeHandle {
    pub(crate) fn pointer(self) -> nvmlDevice_t {
        ((self.device + 1) * DEVICE_STRIDE + self.mig.map_or(0, |mig| mig + 1)) as nvmlDevice_t
    }

    pub(crate) fn from_pointer(pointer: nvmlDevice_t) -> Result<FakeHandle, nvmlReturn_t> {
        let number = pointer as usize;
        let device = (number / DEVICE_STRIDE).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        Ok(FakeHandle { device, mig: (number % DEVICE_STRIDE).checked_sub(1) })
    }

    /// The value of a call on it.
    pub(crate) fn value(self, call: &str) -> Result<Value, nvmlReturn_t> {
        let recording = library().recording();
        let device = recording.devices.get(self.device).ok_or(INVALID_ARGUMENT)?;
        // A lost GPU refuses all calls, also on handles that were obtained earlier.
        if let Some(lost) = library().error(&device.answers, "nvmlDeviceGetHandleByIndex_v2") {
            return Err(lost);
        }
        let answers = match self.mig {
            None => &device.answers,
            Some(index) => device.partitions.get(index).and_then(Option::as_ref).ok_or(INVALID_ARGUMENT)?,
        };
        library().value(answers, call)
    }
}

/// Begins a call on a device; its value, by the symbol and the arguments that select.
pub(crate) fn call_on(symbol: &str, pointer: nvmlDevice_t, arguments: &[u32]) -> Result<Value, nvmlReturn_t> {
    enter(symbol)?;
    let arguments: Vec<String> = arguments.iter().map(u32::to_string).collect();
    let call =
        if arguments.is_empty() { symbol.to_owned() } else { format!("{symbol}({})", arguments.join(",")) };
    FakeHandle::from_pointer(pointer)?.value(&call)
}
