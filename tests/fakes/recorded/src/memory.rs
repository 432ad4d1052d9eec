//! Writing to the memory of a C caller.

use std::ffi::c_char;

use serde_json::Value;

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
