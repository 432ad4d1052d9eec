//! The recording, and what a handle of it is.

use std::{ffi::c_void, sync::OnceLock};

use afd_amd::smi::{
    amdsmi::STATUSES,
    answers::{Answers, Code, Report},
};
use afd_fake_recorded::{Refused, State, answer};
use serde::Deserialize;
use serde_json::Value;

/// `amdsmi_status_t`.
pub(crate) type Status = u32;

pub(crate) const SUCCESS: Status = 0;
const INVAL: Status = 1;
const NOT_SUPPORTED: Status = 2;
const NOT_INIT: Status = 32;
const INSUFFICIENT_SIZE: Status = 41;

/// What is in `amdsmi.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) report: Report,
    /// The release of amdsmi.h whose structs the library fills; of one that is not known it fills other structs.
    #[serde(default = "newest")]
    pub(crate) header: u32,
}

fn newest() -> u32 {
    26
}

impl std::ops::Deref for Told {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.report
    }
}

pub(crate) fn state() -> &'static State<Told> {
    static STATE: OnceLock<State<Told>> = OnceLock::new();
    STATE.get_or_init(|| State::beside_library("amdsmi.json"))
}

/// Begins a call: the faults that the recording asks for happen here.
pub(crate) fn enter(symbol: &str) -> Result<(), Status> {
    state().fault(symbol);
    if symbol != "amdsmi_init" && !state().is_initialised() {
        return Err(NOT_INIT);
    }
    Ok(())
}

/// The result of a call as C has it.
pub(crate) fn code(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(SUCCESS)
}

pub(crate) fn refused(why: Refused) -> Status {
    match why {
        Refused::Nothing => INVAL,
        Refused::TooShort => INSUFFICIENT_SIZE,
    }
}

fn status(code: &Code) -> Status {
    code.number(STATUSES).unwrap_or(NOT_SUPPORTED)
}

/// The value of a call.
pub(crate) fn value(answers: &Answers, call: &str) -> Result<Value, Status> {
    answer(answers, call).unwrap_or(Err(Code::named("NOT_SUPPORTED"))).map_err(|code| status(&code))
}

/// The error that the recording has for a call, if it has one.
pub(crate) fn error(answers: &Answers, call: &str) -> Option<Status> {
    answers.error(call).map(|code| status(&code))
}

/// Handles are numbers in the place of pointers: sockets in units of this, processors in units above those.
const UNIT: usize = 0x1000;
const PROCESSORS: usize = 0x10_0000;

pub(crate) fn socket_handle(number: u32) -> *mut c_void {
    ((number as usize + 1) * UNIT) as *mut c_void
}

pub(crate) fn socket_of(handle: *mut c_void) -> Result<u32, Status> {
    (handle as usize / UNIT).checked_sub(1).map(|number| number as u32).ok_or(INVAL)
}

pub(crate) fn processor_handle(index: usize) -> *mut c_void {
    (PROCESSORS + index * UNIT) as *mut c_void
}

pub(crate) fn index_of(handle: *mut c_void) -> Result<usize, Status> {
    (handle as usize).checked_sub(PROCESSORS).map(|rest| rest / UNIT).ok_or(INVAL)
}

/// Begins a call on a processor; its value under the name of the symbol and the arguments that choose.
pub(crate) fn processor(symbol: &str, handle: *mut c_void, argument: Option<u32>) -> Result<Value, Status> {
    enter(symbol)?;
    let call = argument.map_or_else(|| symbol.to_owned(), |argument| format!("{symbol}({argument})"));
    let recording = state().recording();
    let told = recording.devices.get(index_of(handle)?).ok_or(INVAL)?;
    // A GPU that was lost answers nothing, also to those who have its handle from before.
    if let Some(lost) = error(&told.answers, "amdsmi_get_processor_handles") {
        return Err(lost);
    }
    value(&told.answers, &call)
}
