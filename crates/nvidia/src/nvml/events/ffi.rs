//! The C calls of events.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t};

use crate::nvml::{
    ffi::{NvmlApi, NvmlHandle, call, fill},
    report::{FUNCTION_NOT_FOUND, NvmlCode, code},
};

/// A set of events.
pub(super) struct NvmlEventSet(nvmlEventSet_t);

// SAFETY: NVML is thread-safe by its manual, and handles are names, not pointers into our memory.
unsafe impl Send for NvmlEventSet {}
// SAFETY: as above; the set is only passed to NVML.
unsafe impl Sync for NvmlEventSet {}

/// An event as the library returned it.
pub(super) struct RawNvmlEvent {
    pub(super) gpu: NvmlHandle,
    pub(super) kind: u64,
    pub(super) value: u64,
    pub(super) gpu_instance: u32,
    pub(super) compute_instance: u32,
}

impl NvmlApi {
    pub(super) fn event_set(&self) -> Result<NvmlEventSet, NvmlCode> {
        fill!(self, nvmlEventSetCreate(), nvmlEventSet_t).map(NvmlEventSet)
    }

    /// Adds all events that a GPU supports to a set; their bits.
    pub(super) fn register_events(&self, gpu: NvmlHandle, set: &NvmlEventSet) -> Result<u64, NvmlCode> {
        let kinds = fill!(self, nvmlDeviceGetSupportedEventTypes(gpu.0), u64)?;
        call!(self, nvmlDeviceRegisterEvents(gpu.0, kinds, set.0)).map(|()| kinds)
    }

    /// Waits for an event; the error is TIMEOUT where there was none.
    pub(super) fn wait(&self, set: &NvmlEventSet, milliseconds: u32) -> Result<RawNvmlEvent, NvmlCode> {
        // SAFETY: a C struct of numbers and a handle, for which zeros are a value.
        let mut event: nvmlEventData_t = unsafe { std::mem::zeroed() };
        call!(self, nvmlEventSetWait_v2(set.0, &mut event, milliseconds))?;
        Ok(RawNvmlEvent {
            gpu: NvmlHandle(event.device),
            kind: event.eventType,
            value: event.eventData,
            gpu_instance: event.gpuInstanceId,
            compute_instance: event.computeInstanceId,
        })
    }
}
