//! Shared by the fake libraries: the recording beside the library's own file, which is read again whenever it changes, the
//! faults that it requests, the status numbers that calls return, and writing to the memory of a C caller.
//!
//! A recording is what `afd record` writes, with additional `faults` for tests:
//! `{ "hang": [SYMBOL, ...], "crash": [...], "abort": [...], "delay_milliseconds": { SYMBOL: 0 }, "leak_bytes": 0 }`.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "parts of C libraries, loaded into a process of a test, whose callers pass the pointers that the header requires"
)]

mod memory;
mod watch;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use afd_probe::{
    answers::{Answer, Answers},
    report::{LibraryAnswers, LibraryReport},
    status::{StatusCode, StatusRow, StatusTable},
};
use serde::Deserialize;
use serde_json::Value;

pub use self::{
    memory::{WriteError, field_text, number, write, write_text},
    watch::ChangeWatch,
};

/// The content of the file: the answers of the library, and the faults.
#[derive(Debug)]
pub struct FakeRecording<R> {
    answers: R,
    faults: Faults,
}

/// The part of the file that a library does not write.
#[derive(Deserialize)]
struct RecordedFaults {
    #[serde(default)]
    faults: Faults,
}

/// What is read from one file: a report keeps the text of its answers, which is lost where it is a flattened field.
pub trait RecordedAnswers: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// When the file is no recording.
    fn parse(text: &[u8]) -> serde_json::Result<Self>;
}

impl<T: StatusTable> RecordedAnswers for LibraryReport<T> {
    fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }
}

impl<R: RecordedAnswers> FakeRecording<R> {
    fn parse(text: &[u8]) -> serde_json::Result<FakeRecording<R>> {
        let RecordedFaults { faults } = serde_json::from_slice(text)?;
        Ok(FakeRecording { answers: R::parse(text)?, faults })
    }
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
    delay_milliseconds: BTreeMap<String, u64>,
    leak_bytes: usize,
}

/// The status numbers of a library.
#[derive(Debug)]
pub struct StatusNumbers {
    /// The table of the library.
    pub rows: &'static [StatusRow],
    /// The library is not initialised.
    pub not_initialised: u32,
    /// A handle or pointer is invalid.
    pub invalid_argument: u32,
    /// The caller's buffer is too short.
    pub insufficient_size: u32,
    /// The recording lacks the call, or has a status that the library does not have.
    pub not_supported: u32,
}

/// The state of a fake library.
#[derive(Debug)]
pub struct FakeLibraryState<R> {
    file: PathBuf,
    init: &'static str,
    statuses: StatusNumbers,
    cache: Mutex<Option<CachedRecording<R>>>,
    initialised: Mutex<bool>,
}

#[derive(Debug)]
struct CachedRecording<R> {
    version: FileVersion,
    /// When the file had this version.
    checked_at: Option<Instant>,
    recording: Arc<FakeRecording<R>>,
}

/// How long the recording is used before its file is checked again: a sample has hundreds of calls, which a check for each would
/// make slower than those of a real library.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Modification time and length.
type FileVersion = (SystemTime, u64);

impl<R: RecordedAnswers> FakeLibraryState<R> {
    /// The state of the library that this code is linked into, answering from a file with this name beside it. `init` is the
    /// symbol that initialises it.
    pub fn beside_library(
        recording: &str,
        init: &'static str,
        statuses: StatusNumbers,
    ) -> FakeLibraryState<R> {
        let file = own_file().with_file_name(recording);
        FakeLibraryState { file, init, statuses, cache: Mutex::new(None), initialised: Mutex::default() }
    }

    /// The current recording. It is read again when the version of its file has changed.
    ///
    /// # Panics
    /// When the file is missing, or not a recording.
    pub fn recording(&self) -> Arc<FakeRecording<R>> {
        let mut cache = lock(&self.cache);
        if let Some(cached) = &*cache
            && cached.checked_at.is_some_and(|checked_at| checked_at.elapsed() < CHECK_INTERVAL)
        {
            return Arc::clone(&cached.recording);
        }
        let version =
            fs::metadata(&self.file).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if let Some(cached) = cache.as_mut().filter(|cached| version == Some(cached.version)) {
            cached.checked_at = Some(Instant::now());
            return Arc::clone(&cached.recording);
        }
        let text = fs::read(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        let recording = FakeRecording::parse(&text);
        let recording =
            Arc::new(recording.unwrap_or_else(|error| panic!("{}: {error}", self.file.display())));
        *cache = version.map(|version| CachedRecording {
            version,
            checked_at: Some(Instant::now()),
            recording: Arc::clone(&recording),
        });
        recording
    }

    /// Has the next call check the file of the recording: it may just have changed.
    pub fn invalidate(&self) {
        if let Some(cached) = &mut *lock(&self.cache) {
            cached.checked_at = None;
        }
    }

    /// Watches for changes of the recording, from now on.
    pub fn watch(&self) -> ChangeWatch {
        ChangeWatch::of(&self.file)
    }

    /// Starts a call: executes the faults that the recording requests.
    ///
    /// # Errors
    /// When the library is not initialised.
    pub fn enter(&self, symbol: &str) -> Result<(), u32> {
        self.fault(symbol);
        let is_initialised = symbol == self.init || *lock(&self.initialised);
        if is_initialised { Ok(()) } else { Err(self.statuses.not_initialised) }
    }

    /// The call that initialises the library.
    ///
    /// # Errors
    /// The status of the recording.
    pub fn initialise<T: StatusTable>(&self, system: &LibraryAnswers<T>) -> Result<(), u32> {
        self.enter(self.init)?;
        self.error(system, self.init).map_or(Ok(()), Err)?;
        self.set_initialised();
        Ok(())
    }

    /// Marks the library as initialised.
    pub fn set_initialised(&self) {
        *lock(&self.initialised) = true;
    }

    /// The value of a call.
    ///
    /// # Errors
    /// The status of the recording.
    pub fn value<T: StatusTable>(&self, answers: &LibraryAnswers<T>, call: &str) -> Result<Value, u32> {
        match answer(answers, call) {
            Some(answer) => answer.map_err(|code| self.number(code)),
            None => Err(self.statuses.not_supported),
        }
    }

    /// The error of a call in the recording, if there is one.
    pub fn error<T: StatusTable>(&self, answers: &LibraryAnswers<T>, call: &str) -> Option<u32> {
        answers.error(call).map(|code| self.number(code))
    }

    /// The status of a call that could not write its result.
    pub fn write_failed(&self, error: WriteError) -> u32 {
        match error {
            WriteError::InvalidArgument => self.statuses.invalid_argument,
            WriteError::TooShort => self.statuses.insufficient_size,
        }
    }

    fn number<T: StatusTable>(&self, code: StatusCode<T>) -> u32 {
        code.number(self.statuses.rows).unwrap_or(self.statuses.not_supported)
    }

    /// Executes the fault that the recording requests for a symbol.
    fn fault(&self, symbol: &str) {
        let recording = self.recording();
        let faults = &recording.faults;
        let named = |symbols: &[String]| symbols.iter().any(|name| name == symbol);
        if named(&faults.hang) {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        if let Some(delay) = faults.delay_milliseconds.get(symbol) {
            std::thread::sleep(Duration::from_millis(*delay));
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

/// The status of a call.
pub fn code(result: Result<(), u32>) -> u32 {
    result.err().unwrap_or(0)
}

/// The answer of a call; none if the recording has none.
pub fn answer<C: Clone>(answers: &Answers<C>, call: &str) -> Option<Result<Value, C>> {
    Some(match answers.get(call)? {
        Answer::Value(value) => Ok(value.parse().expect("any JSON is a value")),
        Answer::Error(code) => Err(code.clone()),
    })
}
