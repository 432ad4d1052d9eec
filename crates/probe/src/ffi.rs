//! Vendor libraries that are loaded at run time: symbols are looked up one by one, since no release has all, and an absent
//! one is an answer. The only unsafe code of this crate.
//!
//! A vendor's `ffi.rs` states a signature once, in the call itself:
//!
//! ```text
//! fn init(&self) -> Result<(), AcmeStatus> { call!(self.0, STATUSES, INIT(0 => u64)) }
//! fn power(&self, device: Handle) -> Result<Value, AcmeStatus> { call_number!(self.0, STATUSES, POWER(device.0 => *mut c_void), u32) }
//! ```
//!
//! `INIT` and `POWER` are constants of type [`LibraryCall`](crate::answers::LibraryCall), `STATUSES` the table of the library.
//! The C types are those of the header; a wrong one is undefined behaviour, so only files named `ffi.rs` use these macros.
#![allow(unsafe_code, reason = "the libraries are C; every block below states why it is sound")]

use std::ffi::{CStr, OsStr, c_char};

use crate::library::load_error::{explained, newest_version};

/// The size of [`StructBuffer`]: greater than that of any struct that a call fills, in every release that has the call.
const BUFFER_BYTES: usize = 16 << 10;

/// A loaded library.
#[derive(Debug)]
pub struct LoadedLibrary(libloading::Library);

impl LoadedLibrary {
    /// Loads a library. Its initialisers run, as they do for every program that uses it.
    ///
    /// # Errors
    /// The message of the loader, and what to do if the image of the agent lacks something.
    pub fn open(path: &OsStr) -> Result<LoadedLibrary, String> {
        // SAFETY: loading a library runs its code; this process exists to run it.
        let loaded = unsafe { libloading::Library::new(path) };
        loaded.map(LoadedLibrary).map_err(|error| explained(&error.to_string(), available))
    }

    /// Whether the library has a symbol.
    pub fn has(&self, symbol: &str) -> bool {
        // SAFETY: the symbol is only looked up, not used.
        unsafe { self.0.get::<*const ()>(symbol.as_bytes()) }.is_ok()
    }

    /// A function of the library. For [`call!`](crate::call).
    ///
    /// # Safety
    /// `F` is the function pointer type of the symbol, and is not called after the library was dropped.
    #[doc(hidden)]
    pub unsafe fn function<F: Copy>(&self, symbol: &str) -> Option<F> {
        // SAFETY: the caller's obligation.
        unsafe { self.0.get::<F>(symbol.as_bytes()) }.ok().map(|function| *function)
    }
}

/// The newest version of a set of symbols that this process has: of the C library itself, or of a file.
fn available(set: &str, file: &str) -> Option<String> {
    if set == "GLIBC" {
        return c_library();
    }
    #[expect(clippy::disallowed_methods, reason = "a library of our own image, not of the host")]
    let content = std::fs::read(file).ok()?;
    newest_version(set, &content)
}

/// The version of the C library.
fn c_library() -> Option<String> {
    type GnuGetLibcVersion = unsafe extern "C" fn() -> *const c_char;
    let this = libloading::os::unix::Library::this();
    // SAFETY: the signature is that of `gnu/libc-version.h`; the symbol is called at once, and the text is constant.
    let text = unsafe {
        let version = this.get::<GnuGetLibcVersion>(b"gnu_get_libc_version").ok()?;
        CStr::from_ptr(version())
    };
    text.to_str().ok().map(str::to_owned)
}

/// Calls a function of a library: `call!(loaded, STATUSES, CALL(argument => C type, ...))`, a `Result<(), StatusCode<_>>`. A symbol
/// that the library lacks is [`StatusCode::NO_SYMBOL`](crate::status::StatusCode::NO_SYMBOL).
#[macro_export]
macro_rules! call {
    ($loaded:expr, $statuses:expr, $call:ident($($argument:expr => $kind:ty),* $(,)?)) => {{
        type CFunction = unsafe extern "C" fn($($kind),*) -> u32;
        // SAFETY: the signature is that of the header, in every release that has a symbol of this name; the function is called
        // at once, while the library is borrowed.
        match unsafe { $loaded.function::<CFunction>($call.symbol) } {
            None => Err($crate::status::StatusCode::NO_SYMBOL),
            // SAFETY: handles come from this library, and every pointer is to a local that outlives the call, of the size that
            // is passed or of a buffer that is longer than what the call fills.
            Some(function) => $crate::status::StatusCode::result(unsafe { function($($argument),*) }, $statuses),
        }
    }};
}

/// A call whose last argument points at the number that it fills: `call_number!(loaded, STATUSES, CALL(...), u64)`, a
/// `Result<Value, StatusCode<_>>`.
#[macro_export]
macro_rules! call_number {
    ($loaded:expr, $statuses:expr, $call:ident($($argument:expr => $kind:ty),* $(,)?), $filled:ty) => {{
        let mut number: $filled = 0;
        $crate::call!($loaded, $statuses, $call($($argument => $kind,)* &mut number => *mut $filled))
            .map(|()| ::serde_json::Value::from(number))
    }};
}

/// A call whose last arguments are a buffer for a string and its length: `call_text!(loaded, STATUSES, CALL(...), SIZE as u32)`, a
/// `Result<Value, StatusCode<_>>`.
#[macro_export]
macro_rules! call_text {
    ($loaded:expr, $statuses:expr, $call:ident($($argument:expr => $kind:ty),* $(,)?), $length:ident as $length_kind:ty) => {{
        let mut buffer = [0_u8; $length];
        $crate::call!($loaded, $statuses, $call(
            $($argument => $kind,)*
            buffer.as_mut_ptr().cast() => *mut ::std::ffi::c_char,
            $length as $length_kind => $length_kind,
        ))
        .map(|()| ::serde_json::Value::from($crate::ffi::text(&buffer)))
    }};
}

/// A call whose last argument points at the struct that it fills: `call_struct!(loaded, STATUSES, CALL(...), layout)`, where
/// `layout: fn(&[u8]) -> Option<Value>` reads the bytes. Bytes in no known layout are
/// [`StatusCode::UNEXPECTED_DATA`](crate::status::StatusCode::UNEXPECTED_DATA).
#[macro_export]
macro_rules! call_struct {
    ($loaded:expr, $statuses:expr, $call:ident($($argument:expr => $kind:ty),* $(,)?), $layout:expr) => {{
        let mut buffer = $crate::ffi::StructBuffer::new();
        $crate::call!($loaded, $statuses, $call(
            $($argument => $kind,)*
            buffer.pointer() => *mut $crate::ffi::StructBuffer,
        ))
        .and_then(|()| $layout(buffer.bytes()).ok_or($crate::status::StatusCode::UNEXPECTED_DATA))
    }};
}

/// A call whose last arguments are the number of handles, in and out, and an array for them: `call_handles!(loaded, STATUSES,
/// CALL(...))`, a `Result<Vec<*mut c_void>, StatusCode<_>>`.
#[macro_export]
macro_rules! call_handles {
    ($loaded:expr, $statuses:expr, $call:ident($($argument:expr => $kind:ty),* $(,)?)) => {{
        let mut handles = [::std::ptr::null_mut(); $crate::ffi::MAX_HANDLES];
        let mut count = $crate::ffi::MAX_HANDLES as u32;
        $crate::call!($loaded, $statuses, $call(
            $($argument => $kind,)*
            &mut count => *mut u32,
            handles.as_mut_ptr() => *mut *mut ::std::ffi::c_void,
        ))
        .map(|()| handles.into_iter().take(count as usize).collect::<Vec<_>>())
    }};
}

/// More handles than a library has of anything: devices of a node, partitions of a device, sensors.
pub const MAX_HANDLES: usize = 256;

/// Memory for a struct whose size depends on the release, zeroed, so that what the library does not fill is 0.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct StructBuffer([u8; BUFFER_BYTES]);

impl StructBuffer {
    /// Zeros.
    pub fn new() -> Box<StructBuffer> {
        Box::new(StructBuffer([0; BUFFER_BYTES]))
    }

    /// Where the library writes.
    pub fn pointer(&mut self) -> *mut StructBuffer {
        self
    }

    /// Sets bytes that the library reads, such as the type of the struct.
    ///
    /// # Panics
    /// When they are not within the buffer.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// What the library wrote.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The string that a pointer at an offset leads to; none for a null pointer.
    ///
    /// # Safety
    /// The library has filled a struct that has a `const char *` at the offset, to a string that it keeps.
    pub unsafe fn pointed_text(&self, offset: usize) -> Option<String> {
        let bytes: [u8; size_of::<usize>()] = self.0.get(offset..)?.first_chunk().copied()?;
        let pointer = usize::from_ne_bytes(bytes) as *const c_char;
        // SAFETY: the caller's obligation.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
    }
}

/// The string at the beginning of bytes, up to the first NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
