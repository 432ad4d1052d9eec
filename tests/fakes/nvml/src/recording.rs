//! The recording, and what a handle of it is.

use std::sync::OnceLock;

use afd_fake_recorded::State;
use afd_nvidia::nvml::answers::{Answers, Code, Report};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use serde::Deserialize;
use serde_json::Value;

use crate::{INVALID_ARGUMENT, NOT_SUPPORTED, UNINITIALIZED};

/// What is in `nvml.json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

impl std::ops::Deref for Told {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.report
    }
}

/// An event that the library is to give, once.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) device: usize,
    pub(crate) event_type: u64,
    pub(crate) event_data: u64,
    #[serde(default = "whole")]
    pub(crate) gpu_instance_id: u32,
    #[serde(default = "whole")]
    pub(crate) compute_instance_id: u32,
}

fn whole() -> u32 {
    u32::MAX
}

pub(crate) fn state() -> &'static State<Told> {
    static STATE: OnceLock<State<Told>> = OnceLock::new();
    STATE.get_or_init(|| State::beside_library("nvml.json"))
}

/// Begins a call: the faults that the recording asks for happen here.
pub(crate) fn enter(symbol: &str) -> Result<(), nvmlReturn_t> {
    state().fault(symbol);
    if symbol != "nvmlInit_v2" && !state().is_initialised() {
        return Err(UNINITIALIZED);
    }
    Ok(())
}

/// The value of a call that concerns no device.
pub(crate) fn system(symbol: &str) -> Result<Value, nvmlReturn_t> {
    enter(symbol)?;
    value(&state().recording().system, symbol)
}

fn value(answers: &Answers, call: &str) -> Result<Value, nvmlReturn_t> {
    afd_fake_recorded::answer(answers, call).unwrap_or(Err(Code(NOT_SUPPORTED))).map_err(|code| code.0)
}

/// What a device handle stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Handle {
    pub(crate) device: usize,
    pub(crate) mig: Option<usize>,
}

/// Handles are numbers in the place of pointers: the device in units of this, the MIG device in the rest.
const UNIT: usize = 0x1000;

impl Handle {
    pub(crate) fn pointer(self) -> nvmlDevice_t {
        ((self.device + 1) * UNIT + self.mig.map_or(0, |mig| mig + 1)) as nvmlDevice_t
    }

    pub(crate) fn of(pointer: nvmlDevice_t) -> Result<Handle, nvmlReturn_t> {
        let number = pointer as usize;
        let device = (number / UNIT).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        Ok(Handle { device, mig: (number % UNIT).checked_sub(1) })
    }

    /// The value of a call on it.
    pub(crate) fn value(self, call: &str) -> Result<Value, nvmlReturn_t> {
        let recording = state().recording();
        let device = recording.devices.get(self.device).ok_or(INVALID_ARGUMENT)?;
        // A GPU that was lost answers nothing, also to those who have its handle from before.
        if let Some(code) = device.answers.error("nvmlDeviceGetHandleByIndex_v2") {
            return Err(code.0);
        }
        match self.mig {
            None => value(&device.answers, call),
            Some(index) => {
                let mig = device.mig.get(index).and_then(Option::as_ref).ok_or(INVALID_ARGUMENT)?;
                value(mig, call)
            }
        }
    }
}

/// Begins a call on a device; its value under the name of the symbol and the arguments that choose.
pub(crate) fn device(symbol: &str, pointer: nvmlDevice_t, arguments: &[u32]) -> Result<Value, nvmlReturn_t> {
    enter(symbol)?;
    let arguments: Vec<String> = arguments.iter().map(u32::to_string).collect();
    let call =
        if arguments.is_empty() { symbol.to_owned() } else { format!("{symbol}({})", arguments.join(",")) };
    Handle::of(pointer)?.value(&call)
}
