//! Events: each of the recording is given once to each set, also those that are added while a caller waits.

use std::{
    ffi::c_uint,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlReturn_t};

use crate::{
    INVALID_ARGUMENT, SUCCESS, TIMEOUT, code,
    recording::{Handle, enter, state},
    write,
};

/// How often a waiting caller looks for new events.
const LOOK: Duration = Duration::from_millis(20);

/// What a set is in our memory: how many events it has given.
type Given = Mutex<usize>;

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(target: *mut nvmlEventSet_t) -> nvmlReturn_t {
    code(enter("nvmlEventSetCreate").and_then(|()| {
        let set: Box<Given> = Box::default();
        write(target, Box::into_raw(set).cast())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    if !set.is_null() {
        // SAFETY: the caller gives back what nvmlEventSetCreate gave it, once.
        drop(unsafe { Box::from_raw(set.cast::<Given>()) });
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    pointer: nvmlDevice_t,
    _kinds: u64,
    _set: nvmlEventSet_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceRegisterEvents").and_then(|()| Handle::of(pointer).map(drop)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    target: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    code(enter("nvmlEventSetWait_v2").and_then(|()| {
        // SAFETY: the set comes from nvmlEventSetCreate and was not given back yet.
        let given = unsafe { set.cast::<Given>().as_ref() }.ok_or(INVALID_ARGUMENT)?;
        let begun = Instant::now();
        loop {
            let recording = state().recording();
            let mut given = given.lock().map_err(|_| INVALID_ARGUMENT)?;
            if let Some(event) = recording.events.get(*given) {
                *given += 1;
                let data = nvmlEventData_t {
                    device: Handle { device: event.device, mig: None }.pointer(),
                    eventType: event.event_type,
                    eventData: event.event_data,
                    gpuInstanceId: event.gpu_instance_id,
                    computeInstanceId: event.compute_instance_id,
                };
                return write(target, data);
            }
            drop(given);
            if begun.elapsed() >= Duration::from_millis(milliseconds.into()) {
                return Err(TIMEOUT);
            }
            thread::sleep(LOOK);
        }
    }))
}
