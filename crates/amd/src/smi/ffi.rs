//! A loaded library: symbols are looked up one by one, since no release has all, and one that is absent is an answer.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use std::ffi::{CStr, OsStr, c_char};

use libloading::Library;
use serde_json::Value;

use super::answers::Code;

pub(super) type Reply = Result<Value, Code>;

/// Longer than any struct that a call of ours fills, in every release that has the call: the longest is 2 KiB.
const BUFFER_BYTES: usize = 16 << 10;

pub(super) struct Loaded(pub(super) Library);

impl Loaded {
    /// Opens the library. Its initialisers run, as they do for every program that uses it.
    pub(super) fn open(path: &OsStr) -> Result<Loaded, String> {
        // SAFETY: loading a library runs its code; this process exists to run it.
        unsafe { Library::new(path) }.map(Loaded).map_err(|error| error.to_string())
    }

    pub(super) fn has(&self, symbol: &str) -> bool {
        // SAFETY: the symbol is only looked up, not used.
        unsafe { self.0.get::<*const ()>(symbol.as_bytes()) }.is_ok()
    }
}

/// Calls a symbol, if the library has it: `call!(loaded, STATUSES, symbol(argument => C type, ...))`.
macro_rules! call {
    ($loaded:expr, $statuses:expr, $symbol:ident($($argument:expr => $kind:ty),* $(,)?)) => {{
        type Function = unsafe extern "C" fn($($kind),*) -> u32;
        // SAFETY: the signature is that of the header, in every release that has a symbol of this name.
        match unsafe { $loaded.0.get::<Function>(stringify!($symbol).as_bytes()) } {
            Err(_) => Err(Code::named(Code::NO_SYMBOL)),
            Ok(function) => {
                // SAFETY: handles come from this library, and every pointer is to a local that outlives the call, of
                // the size that is passed or of a buffer that is longer than what the call fills.
                match unsafe { function($($argument),*) } {
                    0 => Ok(()),
                    status => Err(Code::numbered(status, $statuses)),
                }
            }
        }
    }};
}
pub(super) use call;

/// Memory for a struct whose length depends on the release, zeroed, so that what was not filled reads as 0.
#[repr(C, align(16))]
pub(super) struct Buffer([u8; BUFFER_BYTES]);

impl Buffer {
    pub(super) fn new() -> Box<Buffer> {
        Box::new(Buffer([0; BUFFER_BYTES]))
    }

    /// Where the library writes.
    pub(super) fn pointer(&mut self) -> *mut Buffer {
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that a pointer at an offset leads to; none of a null pointer.
    pub(super) fn text_behind(&self, offset: usize) -> Option<String> {
        let bytes: [u8; size_of::<usize>()] = self.0[offset..].first_chunk().copied()?;
        let pointer = usize::from_ne_bytes(bytes) as *const c_char;
        // SAFETY: the header says that there is a pointer to a text of the library's own, which lives as long as it.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
    }
}

/// The text at the beginning of bytes, up to the first NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let bytes: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
