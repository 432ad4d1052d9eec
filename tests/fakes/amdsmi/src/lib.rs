//! The C symbols of AMD SMI, answering from `amdsmi.json` beside the library's own file.
//!
//! The recording is what `afd record` writes (`libraries/amdsmi.json` of a recorded host), with faults and a release of the
//! header for tests; the README describes its format. It is read again whenever its file changes.
#![allow(
    unsafe_code,
    unreachable_pub,
    clippy::missing_safety_doc,
    clippy::not_unsafe_ptr_arg_deref,
    missing_docs,
    reason = "these are C symbols, documented in amdsmi.h"
)]

mod recording;
mod structs;

use std::ffi::{c_char, c_void};

use afd_fake_recorded::{code, number, write, write_text};

use crate::recording::{
    AmdSmiStatus, SUCCESS, enter, index_of, processor, processor_handle, socket_handle, socket_of, state,
    write_failed,
};

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_init(_flags: u64) -> AmdSmiStatus {
    code(state().initialise(&state().recording().system))
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_shut_down() -> AmdSmiStatus {
    SUCCESS
}

/// Writes handles and their number; with a null pointer only the number.
fn write_handles(
    count: *mut u32,
    target: *mut *mut c_void,
    handles: &[*mut c_void],
) -> Result<(), AmdSmiStatus> {
    if !target.is_null() {
        // SAFETY: the caller passes at `count` the number of handles for which it has memory.
        let capacity = unsafe { count.as_ref() }.copied().unwrap_or(0) as usize;
        for (index, handle) in handles.iter().take(capacity).enumerate() {
            // SAFETY: `index` is below the capacity of the caller's memory.
            write(unsafe { target.add(index) }, *handle).map_err(write_failed)?;
        }
    }
    write(count, handles.len() as u32).map_err(write_failed)
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_socket_handles(count: *mut u32, target: *mut *mut c_void) -> AmdSmiStatus {
    code(enter("amdsmi_get_socket_handles").and_then(|()| {
        let recording = state().recording();
        if let Some(status) = state().error(&recording.system, "amdsmi_get_socket_handles") {
            return Err(status);
        }
        let mut sockets: Vec<u32> = recording.devices.iter().filter_map(|device| device.socket).collect();
        sockets.dedup();
        let handles: Vec<_> = sockets.into_iter().map(socket_handle).collect();
        write_handles(count, target, &handles)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_processor_handles(
    socket: *mut c_void,
    count: *mut u32,
    target: *mut *mut c_void,
) -> AmdSmiStatus {
    code(enter("amdsmi_get_processor_handles").and_then(|()| {
        let (recording, socket) = (state().recording(), socket_of(socket)?);
        let devices = recording.devices.iter().enumerate();
        let of_socket: Vec<_> = devices.filter(|(_, device)| device.socket == Some(socket)).collect();
        let refusal = of_socket
            .iter()
            .find_map(|(_, device)| state().error(&device.answers, "amdsmi_get_processor_handles"));
        if let Some(status) = refusal {
            return Err(status);
        }
        let handles: Vec<_> = of_socket.into_iter().map(|(index, _)| processor_handle(index)).collect();
        write_handles(count, target, &handles)
    }))
}

/// Every processor of a recording is a GPU.
#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_processor_type(handle: *mut c_void, target: *mut u32) -> AmdSmiStatus {
    code(
        enter("amdsmi_get_processor_type")
            .and_then(|()| index_of(handle))
            .and_then(|_| write(target, 1).map_err(write_failed)),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_device_uuid(
    handle: *mut c_void,
    length: *mut u32,
    text: *mut c_char,
) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_device_uuid", handle, None).and_then(|value| {
        // SAFETY: the caller passes a pointer to the length of its buffer.
        let capacity = unsafe { length.as_ref() }.copied().unwrap_or(0) as usize;
        write_text(text, capacity, &value).map_err(write_failed)
    }))
}

macro_rules! numbers {
    ($($symbol:ident($($argument:ident)?): $kind:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(handle: *mut c_void, $($argument: u32,)? target: *mut $kind) -> AmdSmiStatus {
            let argument = [$($argument)?].first().copied();
            let value = processor(stringify!($symbol), handle, argument);
            code(value.and_then(|value| write(target, number(&value) as $kind).map_err(write_failed)))
        })*
    };
}

numbers! {
    amdsmi_get_gpu_device_bdf(): u64;
    amdsmi_get_gpu_virtualization_mode(): u32;
    amdsmi_get_gpu_bad_page_threshold(): u32;
    amdsmi_get_gpu_memory_total(kind): u64;
    amdsmi_get_gpu_memory_usage(kind): u64;
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_topo_get_link_type(
    from: *mut c_void,
    to: *mut c_void,
    hops: *mut u64,
    kind: *mut u32,
) -> AmdSmiStatus {
    let value = index_of(to).and_then(|to| processor("amdsmi_topo_get_link_type", from, Some(to as u32)));
    code(value.and_then(|value| {
        write(hops, number(&value["hops"]))
            .and_then(|()| write(kind, number(&value["type"]) as u32))
            .map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_topo_get_link_weight(
    from: *mut c_void,
    to: *mut c_void,
    target: *mut u64,
) -> AmdSmiStatus {
    let value = index_of(to).and_then(|to| processor("amdsmi_topo_get_link_weight", from, Some(to as u32)));
    code(value.and_then(|value| write(target, number(&value)).map_err(write_failed)))
}
