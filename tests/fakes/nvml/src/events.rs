//! Events: each event of the recording is delivered once to each set, including those that are added while a caller waits.

use std::{
    ffi::c_uint,
    sync::Mutex,
    time::{Duration, Instant},
};

use afd_fake_recorded::ChangeWatch;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlReturn_t};

use crate::{
    INVALID_ARGUMENT, SUCCESS, TIMEOUT, code,
    recording::{FakeHandle, enter, library},
    write,
};

/// A set in this library's memory.
struct EventSet {
    /// The number of events that it has delivered.
    delivered: Mutex<usize>,
    recording: ChangeWatch,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(target: *mut nvmlEventSet_t) -> nvmlReturn_t {
    code(enter("nvmlEventSetCreate").and_then(|()| {
        let set = EventSet { delivered: Mutex::default(), recording: library().watch() };
        write(target, Box::into_raw(Box::new(set)).cast())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    if !set.is_null() {
        // SAFETY: the caller frees what nvmlEventSetCreate returned, once.
        drop(unsafe { Box::from_raw(set.cast::<EventSet>()) });
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    pointer: nvmlDevice_t,
    _kinds: u64,
    _set: nvmlEventSet_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceRegisterEvents").and_then(|()| FakeHandle::from_pointer(pointer).map(drop)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    target: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    code(enter("nvmlEventSetWait_v2").and_then(|()| {
        // SAFETY: the set comes from nvmlEventSetCreate and is not freed yet.
        let set = unsafe { set.cast::<EventSet>().as_ref() }.ok_or(INVALID_ARGUMENT)?;
        let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
        loop {
            let recording = library().recording();
            let mut delivered = set.delivered.lock().map_err(|_| INVALID_ARGUMENT)?;
            if let Some(event) = recording.events.get(*delivered) {
                *delivered += 1;
                let data = nvmlEventData_t {
                    device: FakeHandle { device: event.device, mig: None }.pointer(),
                    eventType: event.event_type,
                    eventData: event.event_data,
                    gpuInstanceId: event.gpu_instance_id,
                    computeInstanceId: event.compute_instance_id,
                };
                return write(target, data);
            }
            drop(delivered);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TIMEOUT);
            }
            set.recording.wait(left);
            library().invalidate();
        }
    }))
}
