//! Shared by the fake libraries: the recording beside the library's own file, which is read again whenever it changes, the
//! faults that it requests, and writing to the memory of a C caller.
//!
//! A recording is what `afd record` writes, with additional `faults` for tests:
//! `{ "hang": [SYMBOL, ...], "crash": [...], "abort": [...], "leak_bytes": 0 }`.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "parts of C libraries, loaded into a process of a test, whose callers pass the pointers that the header requires"
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

/// The content of the file: the answers of the library, and the faults.
#[derive(Debug, Deserialize)]
pub struct FakeRecording<R> {
    #[serde(flatten)]
    answers: R,
    #[serde(default)]
    faults: Faults,
}

impl<R> std::ops::Deref for FakeRecording<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.answers
    }
}

/// The symbols that fail in a certain way.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Faults {
    hang: Vec<String>,
    crash: Vec<String>,
    abort: Vec<String>,
    leak_bytes: usize,
}

/// The state of a fake library.
#[derive(Debug)]
pub struct FakeLibraryState<R> {
    file: PathBuf,
    cache: Mutex<Option<CachedRecording<R>>>,
    initialised: Mutex<bool>,
}

type CachedRecording<R> = (FileVersion, Arc<FakeRecording<R>>);
/// Modification time and length.
type FileVersion = (SystemTime, u64);

impl<R: DeserializeOwned> FakeLibraryState<R> {
    /// The state of the library that this code is linked into, answering from a file with this name beside it.
    pub fn beside_library(recording: &str) -> FakeLibraryState<R> {
        let file = own_file().with_file_name(recording);
        FakeLibraryState { file, cache: Mutex::new(None), initialised: Mutex::default() }
    }

    /// The current recording. It is read again when the version of its file has changed.
    ///
    /// # Panics
    /// When the file is missing, or not a recording.
    pub fn recording(&self) -> Arc<FakeRecording<R>> {
        let mut cache = lock(&self.cache);
        let version =
            fs::metadata(&self.file).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if let (Some(version), Some((cached, recording))) = (version, &*cache)
            && version == *cached
        {
            return Arc::clone(recording);
        }
        let text = fs::read(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording: FakeRecording<R> =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording = Arc::new(recording);
        *cache = version.map(|version| (version, Arc::clone(&recording)));
        recording
    }

    /// Marks the library as initialised.
    pub fn initialise(&self) {
        *lock(&self.initialised) = true;
    }

    /// Whether the library is initialised.
    pub fn is_initialised(&self) -> bool {
        *lock(&self.initialised)
    }

    /// Executes the fault that the recording requests for a symbol.
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
            // SAFETY: not sound on purpose: the test requests a crash.
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

/// The file that this library was loaded from: that of the mapping that contains this function.
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

/// The answer of a call; none if the recording has none.
pub fn answer<C: Clone>(answers: &Answers<C>, call: &str) -> Option<Result<Value, C>> {
    Some(match answers.get(call)? {
        Answer::Value(value) => Ok(value.clone()),
        Answer::Error(code) => Err(code.clone()),
    })
}

/// Why a value could not be written to the memory of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteError {
    /// The pointer is null, or the value has another type.
    InvalidArgument,
    /// The buffer is too short.
    TooShort,
}

/// Writes a number or struct to the memory of the caller.
///
/// # Errors
/// When the pointer is null.
pub fn write<T>(target: *mut T, value: T) -> Result<(), WriteError> {
    if target.is_null() {
        return Err(WriteError::InvalidArgument);
    }
    // SAFETY: the caller of the library passes a pointer to a T, as its header requires, and it is not null.
    unsafe { target.write(value) };
    Ok(())
}

/// Writes a NUL-terminated string.
///
/// # Errors
/// When the value is not a string, there is no buffer, or the buffer is too short.
pub fn write_text(target: *mut c_char, length: usize, value: &Value) -> Result<(), WriteError> {
    let text = value.as_str().ok_or(WriteError::InvalidArgument)?;
    if target.is_null() {
        return Err(WriteError::InvalidArgument);
    }
    if text.len() >= length {
        return Err(WriteError::TooShort);
    }
    // SAFETY: the caller's buffer has `length` bytes, enough for the string and its NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), target, text.len());
        target.add(text.len()).write(0);
    }
    Ok(())
}

/// A string for a field of a struct, truncated to the length of the field.
pub fn field_text<const N: usize>(value: &Value) -> [c_char; N] {
    let mut buffer = [0; N];
    for (target, byte) in buffer[..N - 1].iter_mut().zip(value.as_str().unwrap_or_default().bytes()) {
        *target = byte as c_char;
    }
    buffer
}

/// The number in a JSON value; 0 where there is none.
pub fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_i64().map(|number| number as u64)).unwrap_or(0)
}
