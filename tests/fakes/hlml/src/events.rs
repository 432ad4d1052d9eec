//! Events: each event of the recording is delivered once to each set, including those that are added while a caller waits.

use std::{
    ffi::c_void,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use afd_fake_recorded::{code, write};

use crate::recording::{HlmlReturn, INVALID_ARGUMENT, device, enter, handle_of, state, write_failed};

/// Interval at which a waiting call checks for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const TIMEOUT: HlmlReturn = 10;

/// A set in this library's memory.
#[derive(Default)]
struct FakeEventSet {
    /// The number of events that it has delivered.
    delivered: Mutex<usize>,
}

/// `hlml_event_data_t`.
#[repr(C)]
pub struct FakeEventData {
    device: *mut c_void,
    event_type: u64,
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_event_set_create(target: *mut *mut c_void) -> HlmlReturn {
    code(enter("hlml_event_set_create").and_then(|()| {
        let set: Box<FakeEventSet> = Box::default();
        write(target, Box::into_raw(set).cast()).map_err(write_failed)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_device_register_events(
    handle: *mut c_void,
    _kinds: u64,
    _set: *mut c_void,
) -> HlmlReturn {
    // Whether the device answers at all.
    code(device("hlml_device_get_pci_info", handle, &[]).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn hlml_event_set_wait(
    set: *mut c_void,
    target: *mut FakeEventData,
    milliseconds: u32,
) -> HlmlReturn {
    code(enter("hlml_event_set_wait").and_then(|()| {
        // SAFETY: the set comes from hlml_event_set_create, and is never freed.
        let set = unsafe { set.cast::<FakeEventSet>().as_ref() }.ok_or(INVALID_ARGUMENT)?;
        let start = Instant::now();
        loop {
            let recording = state().recording();
            let mut delivered = set.delivered.lock().map_err(|_| INVALID_ARGUMENT)?;
            if let Some(event) = recording.events.get(*delivered) {
                *delivered += 1;
                let data = FakeEventData { device: handle_of(event.device), event_type: event.event_type };
                return write(target, data).map_err(write_failed);
            }
            drop(delivered);
            if start.elapsed() >= Duration::from_millis(milliseconds.into()) {
                return Err(TIMEOUT);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }))
}
