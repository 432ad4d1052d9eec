//! What the fake libraries share: the recording beside the library's own file, which is read again whenever it changes, the
//! faults that it asks for, and writing where C wants to have it.
//!
//! A recording is what `afd record` writes, with `faults` that only a test asks for:
//! `{ "hang": [SYMBOL, ...], "crash": [...], "abort": [...], "leak_bytes": 0 }`.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "parts of C libraries, loaded into a process of a test, whose callers pass the pointers that the header asks for"
)]

use std::{
    ffi::c_char,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use afd_probe::answers::{Answer, Answers};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// What is in the file: what the library tells, and what goes wrong.
#[derive(Debug, Deserialize)]
pub struct Recording<R> {
    #[serde(flatten)]
    told: R,
    #[serde(default)]
    faults: Faults,
}

impl<R> std::ops::Deref for Recording<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.told
    }
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

/// The state of a library.
#[derive(Debug)]
pub struct State<R> {
    file: PathBuf,
    read: Mutex<Option<Read<R>>>,
    initialised: Mutex<bool>,
}

type Read<R> = (Stamp, Arc<Recording<R>>);
/// What tells one version of a file from another.
type Stamp = (SystemTime, u64);

impl<R: DeserializeOwned> State<R> {
    /// Of the library that this code was linked into, answering from the file of this name beside it.
    pub fn beside_library(recording: &str) -> State<R> {
        let file = own_file().with_file_name(recording);
        State { file, read: Mutex::new(None), initialised: Mutex::default() }
    }

    /// The recording as its file is now. A file that is being replaced leaves the last one in force.
    ///
    /// # Panics
    /// When there is none, or it is no recording.
    pub fn recording(&self) -> Arc<Recording<R>> {
        let mut read = lock(&self.read);
        let stamp = fs::metadata(&self.file).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if let (Some(stamp), Some((known, recording))) = (stamp, &*read)
            && stamp == *known
        {
            return Arc::clone(recording);
        }
        let text = fs::read(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording: Recording<R> =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording = Arc::new(recording);
        *read = stamp.map(|stamp| (stamp, Arc::clone(&recording)));
        recording
    }

    /// Notes that the library was initialised.
    pub fn initialise(&self) {
        *lock(&self.initialised) = true;
    }

    /// Whether it was.
    pub fn is_initialised(&self) -> bool {
        *lock(&self.initialised)
    }

    /// Has the fault happen that the recording asks for in this call.
    pub fn fault(&self, symbol: &str) {
        let recording = self.recording();
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
    }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer of a call; none if the recording lacks it.
pub fn answer<C: Clone>(answers: &Answers<C>, call: &str) -> Option<Result<Value, C>> {
    Some(match answers.get(call)? {
        Answer::Value(value) => Ok(value.clone()),
        Answer::Error(code) => Err(code.clone()),
    })
}

/// Why something could not be written where C wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The pointer is null, or there is nothing of that kind to write.
    Nothing,
    /// The buffer is too short.
    TooShort,
}

/// Writes a number or struct where the caller wants it.
///
/// # Errors
/// When the pointer is null.
pub fn write<T>(target: *mut T, value: T) -> Result<(), Refused> {
    if target.is_null() {
        return Err(Refused::Nothing);
    }
    // SAFETY: the caller of the library passes a pointer to a T, as its header asks it to, and it is not null.
    unsafe { target.write(value) };
    Ok(())
}

/// Writes a text with its NUL.
///
/// # Errors
/// When there is no text or no buffer, or the buffer is too short.
pub fn write_text(target: *mut c_char, length: usize, value: &Value) -> Result<(), Refused> {
    let text = value.as_str().ok_or(Refused::Nothing)?;
    if target.is_null() {
        return Err(Refused::Nothing);
    }
    if text.len() >= length {
        return Err(Refused::TooShort);
    }
    // SAFETY: the caller's buffer has `length` bytes, which are more than the text and its NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), target, text.len());
        target.add(text.len()).write(0);
    }
    Ok(())
}

/// A text in a field of a struct, cut where the field ends.
pub fn field_text<const N: usize>(value: &Value) -> [c_char; N] {
    let mut buffer = [0; N];
    for (target, byte) in buffer[..N - 1].iter_mut().zip(value.as_str().unwrap_or_default().bytes()) {
        *target = byte as c_char;
    }
    buffer
}

/// A number of a JSON value, cut to the size of C's.
pub fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_i64().map(|number| number as u64)).unwrap_or(0)
}
