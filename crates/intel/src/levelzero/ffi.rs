//! The raw calls of Sysman: each returns a JSON value with the fields, units and enums of zes_api.h, or the status.
//!
//! Signatures are those of zes_api.h up to specification 1.17; a call has the same one in every release that has it. Every struct
//! is filled into a buffer of 16 KiB, since structs grow by chains only, and a driver may be newer than this program.
#![allow(unsafe_code, reason = "the library is C; afd_probe::ffi explains why the calls are sound")]

use std::{
    ffi::{OsStr, c_void},
    ptr,
};

use afd_probe::{
    answers::LibraryCall,
    call,
    ffi::{LoadedLibrary, StructBuffer},
    status::StatusCode,
};
use serde_json::{Value, json};

use super::{
    SysmanResult, SysmanStatus,
    calls::{DEVICES, DRIVERS, INIT, STATUSES, SysmanSource},
    layout::{self, StructLayout},
};

/// More structs than a call returns of anything: levels of power limits, categories of errors.
const MAX_STRUCTS: usize = 64;

pub(crate) struct SysmanApi(pub(super) LoadedLibrary);

/// A driver, a device, or a component of one.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct SysmanHandle(*mut c_void);

/// Sets a variable of the environment of this process, from which the library takes it.
#[expect(clippy::disallowed_methods, reason = "it is set for the library, not read")]
pub(super) fn set_variable(name: &str, value: &OsStr) {
    // SAFETY: this process has one thread: it has just confined itself, and starts to serve requests after it has loaded the
    // library.
    unsafe { std::env::set_var(name, value) };
}

impl SysmanApi {
    pub(super) fn init(&self) -> Result<(), SysmanStatus> {
        call!(self.0, STATUSES, INIT(0 => u32))
    }

    pub(super) fn drivers(&self) -> Result<Vec<SysmanHandle>, SysmanStatus> {
        handles(|count, array| call!(self.0, STATUSES, DRIVERS(count => *mut u32, array => *mut *mut c_void)))
    }

    pub(super) fn devices(&self, driver: SysmanHandle) -> Result<Vec<SysmanHandle>, SysmanStatus> {
        self.enumerate(DEVICES, driver)
    }

    /// `zesDeviceEnum...`: what a device has of one kind.
    pub(super) fn enumerate(
        &self,
        call: LibraryCall,
        parent: SysmanHandle,
    ) -> Result<Vec<SysmanHandle>, SysmanStatus> {
        handles(
            |count, array| call!(self.0, STATUSES, call(parent.0 => *mut c_void, count => *mut u32, array => *mut *mut c_void)),
        )
    }

    /// The answer of a call on a handle.
    pub(super) fn query(
        &self,
        handle: SysmanHandle,
        call: LibraryCall,
        source: SysmanSource,
    ) -> SysmanResult {
        match source {
            SysmanSource::Struct(layout) => self.structure(handle, call, layout),
            SysmanSource::Chain(layout, next) => self.chain(handle, call, layout, next),
            SysmanSource::List(layout) => self.list(handle, call, layout),
            SysmanSource::Uncleared(layout) => self.uncleared(handle, call, layout),
            SysmanSource::Double => self.double(handle, call),
        }
    }

    fn structure(&self, handle: SysmanHandle, call: LibraryCall, layout: &StructLayout) -> SysmanResult {
        let mut buffer = prepared(layout);
        call!(self.0, STATUSES, call(handle.0 => *mut c_void, buffer.pointer() => *mut StructBuffer))?;
        read(layout, &buffer)
    }

    fn chain(
        &self,
        handle: SysmanHandle,
        call: LibraryCall,
        layout: &StructLayout,
        next: &StructLayout,
    ) -> SysmanResult {
        let (mut buffer, mut chained) = (prepared(layout), prepared(next));
        let mut limit = prepared(&layout::POWER_LIMIT);
        if ptr::eq(next, &raw const layout::POWER_EXT_PROPERTIES) {
            // A driver may write the default limit without looking whether there is memory for it.
            chained.put(layout::DEFAULT_LIMIT, &address(&mut limit));
        }
        buffer.put(layout::NEXT, &address(&mut chained));
        call!(self.0, STATUSES, call(handle.0 => *mut c_void, buffer.pointer() => *mut StructBuffer))?;
        let (Value::Object(mut value), Value::Object(added)) =
            (read(layout, &buffer)?, read(next, &chained)?)
        else {
            return Err(StatusCode::UNEXPECTED_DATA);
        };
        value.extend(added);
        Ok(Value::Object(value))
    }

    fn list(&self, handle: SysmanHandle, call: LibraryCall, layout: &StructLayout) -> SysmanResult {
        let mut count = 0;
        call!(self.0, STATUSES, call(
            handle.0 => *mut c_void,
            &mut count => *mut u32,
            ptr::null_mut() => *mut StructBuffer,
        ))?;
        let passed = count.min(MAX_STRUCTS as u32);
        if passed == 0 {
            return Ok(json!([]));
        }
        let mut count = passed;
        let mut buffer = StructBuffer::new();
        for index in 0..passed as usize {
            if let Some(stype) = layout.stype {
                buffer.put(index * layout.bytes, &stype.to_ne_bytes());
            }
        }
        call!(self.0, STATUSES, call(
            handle.0 => *mut c_void,
            &mut count => *mut u32,
            buffer.pointer() => *mut StructBuffer,
        ))?;
        layout.read_list(buffer.bytes(), passed, count).ok_or(StatusCode::UNEXPECTED_DATA)
    }

    /// `zesRasGetState`. Its second argument clears the counters, which this program never does.
    fn uncleared(&self, handle: SysmanHandle, call: LibraryCall, layout: &StructLayout) -> SysmanResult {
        let mut buffer = prepared(layout);
        call!(self.0, STATUSES, call(
            handle.0 => *mut c_void,
            0 => u8,
            buffer.pointer() => *mut StructBuffer,
        ))?;
        read(layout, &buffer)
    }

    fn double(&self, handle: SysmanHandle, call: LibraryCall) -> SysmanResult {
        let mut number = 0.0;
        call!(self.0, STATUSES, call(handle.0 => *mut c_void, &mut number => *mut f64))?;
        Ok(json!(number))
    }
}

/// Calls with a count of zero and without an array, then with an array of that many elements.
fn handles(
    enumerate: impl Fn(*mut u32, *mut *mut c_void) -> Result<(), SysmanStatus>,
) -> Result<Vec<SysmanHandle>, SysmanStatus> {
    let mut count = 0;
    enumerate(&raw mut count, ptr::null_mut())?;
    let mut array = vec![ptr::null_mut(); count.min(afd_probe::ffi::MAX_HANDLES as u32) as usize];
    let mut filled = array.len() as u32;
    if filled > 0 {
        enumerate(&raw mut filled, array.as_mut_ptr())?;
    }
    array.truncate(filled as usize);
    Ok(array.into_iter().filter(|handle| !handle.is_null()).map(SysmanHandle).collect())
}

/// Memory for a struct, with its type number.
fn prepared(layout: &StructLayout) -> Box<StructBuffer> {
    let mut buffer = StructBuffer::new();
    if let Some(stype) = layout.stype {
        buffer.put(0, &stype.to_ne_bytes());
    }
    if ptr::eq(layout, &raw const layout::DEVICE_PROPERTIES) {
        buffer.put(layout::CORE_PROPERTIES, &layout::CORE_PROPERTIES_STYPE.to_ne_bytes());
    }
    buffer
}

fn address(buffer: &mut StructBuffer) -> [u8; size_of::<usize>()] {
    buffer.pointer().expose_provenance().to_ne_bytes()
}

fn read(layout: &StructLayout, buffer: &StructBuffer) -> SysmanResult {
    layout.read(buffer.bytes()).ok_or(StatusCode::UNEXPECTED_DATA)
}
