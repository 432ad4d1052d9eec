//! The recording, and what a handle of it is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use afd_nvidia::nvml::answers::{Answer, Answers, Report};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use serde::Deserialize;
use serde_json::Value;

use crate::{INVALID_ARGUMENT, NOT_SUPPORTED, UNINITIALIZED};

/// What is in `nvml.json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Recording {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
    #[serde(default)]
    faults: Faults,
}

impl std::ops::Deref for Recording {
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

/// What goes wrong, by the names of symbols.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Faults {
    hang: Vec<String>,
    crash: Vec<String>,
    abort: Vec<String>,
    leak_bytes: usize,
}

/// The library's state.
pub(crate) struct State {
    file: PathBuf,
    read: Mutex<Option<(Stamp, Arc<Recording>)>>,
    initialised: Mutex<bool>,
}

/// What tells one version of a file from another.
type Stamp = (SystemTime, u64);

pub(crate) fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| State {
        file: own_file().with_file_name("nvml.json"),
        read: Mutex::default(),
        initialised: Mutex::default(),
    })
}

/// Where this library was loaded from: the mapping that holds this very function.
fn own_file() -> PathBuf {
    let address = own_file as *const () as usize;
    let maps = fs::read_to_string("/proc/self/maps").expect("a process can read its own mappings");
    let line = maps.lines().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse =
            |text: &str| usize::from_str_radix(text, 16).expect("the kernel writes addresses in hexadecimal");
        range.is_some_and(|(begin, end)| (parse(begin)..parse(end)).contains(&address))
    });
    let path = line.and_then(|line| line.find('/').map(|start| &line[start..]));
    Path::new(path.expect("a loaded library has a file")).to_owned()
}

impl State {
    /// The recording as its file is now. A file that is being replaced leaves the last one in force.
    pub(crate) fn recording(&self) -> Arc<Recording> {
        let mut read = lock(&self.read);
        let stamp = fs::metadata(&self.file).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if let (Some(stamp), Some((known, recording))) = (stamp, &*read)
            && stamp == *known
        {
            return Arc::clone(recording);
        }
        let text = fs::read(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording: Recording =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording = Arc::new(recording);
        *read = stamp.map(|stamp| (stamp, Arc::clone(&recording)));
        recording
    }

    pub(crate) fn initialise(&self) {
        *lock(&self.initialised) = true;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a call: the faults that the recording asks for happen here.
pub(crate) fn enter(symbol: &str) -> Result<(), nvmlReturn_t> {
    let recording = state().recording();
    let faults = &recording.faults;
    let named = |symbols: &[String]| symbols.iter().any(|name| name == symbol);
    if named(&faults.hang) {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    if named(&faults.crash) {
        // SAFETY: it is not sound, and must not be: the test asks for a crash.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
    }
    if named(&faults.abort) {
        std::process::abort();
    }
    if faults.leak_bytes > 0 {
        // Touched, so that it is resident.
        std::mem::forget(vec![1_u8; faults.leak_bytes]);
    }
    if symbol != "nvmlInit_v2" && !*lock(&state().initialised) {
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
    match answers.get(call) {
        Some(Answer::Value(value)) => Ok(value.clone()),
        Some(Answer::Error(code)) => Err(code.0),
        None => Err(NOT_SUPPORTED),
    }
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
