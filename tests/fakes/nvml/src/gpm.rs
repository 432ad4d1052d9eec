//! GPM: a sample holds the handle that it was taken of, and when. Metrics are those of the recording for that handle.

use std::{
    ffi::c_uint,
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlReturn_t,
};

use crate::{
    INVALID_ARGUMENT, SUCCESS, VERSION_MISMATCH, code,
    mig::mig_device_of_instance,
    number,
    recording::{FakeHandle, call_on, enter},
    write,
};

/// A sample in this library's memory.
type SampledHandle = Option<(FakeHandle, Instant)>;

/// The shortest time between two samples for which nvml.h promises metrics.
const MIN_WINDOW: Duration = Duration::from_millis(100);

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmQueryDeviceSupport(
    pointer: nvmlDevice_t,
    target: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    code(call_on("nvmlGpmQueryDeviceSupport", pointer, &[]).and_then(|value| {
        let supported = number(&value["isSupportedDevice"]) as c_uint;
        write(target, nvmlGpmSupport_t { version: 1, isSupportedDevice: supported })
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleAlloc(target: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    code(enter("nvmlGpmSampleAlloc").and_then(|()| {
        let sample: Box<SampledHandle> = Box::default();
        write(target, Box::into_raw(sample).cast())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    if !sample.is_null() {
        // SAFETY: the caller frees what nvmlGpmSampleAlloc returned, once.
        drop(unsafe { Box::from_raw(sample.cast::<SampledHandle>()) });
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleGet(pointer: nvmlDevice_t, sample: nvmlGpmSample_t) -> nvmlReturn_t {
    code(enter("nvmlGpmSampleGet").and_then(|()| {
        write(sample.cast::<SampledHandle>(), Some((FakeHandle::from_pointer(pointer)?, Instant::now())))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMigSampleGet(
    pointer: nvmlDevice_t,
    instance: c_uint,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    code(enter("nvmlGpmMigSampleGet").and_then(|()| {
        write(
            sample.cast::<SampledHandle>(),
            Some((mig_device_of_instance(FakeHandle::from_pointer(pointer)?, instance)?, Instant::now())),
        )
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMetricsGet(request: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    code(enter("nvmlGpmMetricsGet").and_then(|()| {
        // SAFETY: the caller passes the struct, as nvml.h requires.
        let request = unsafe { request.as_mut() }.ok_or(INVALID_ARGUMENT)?;
        if request.version != 1 {
            return Err(VERSION_MISMATCH);
        }
        let sampled = |sample: nvmlGpmSample_t| {
            // SAFETY: samples come from nvmlGpmSampleAlloc and are not freed yet.
            unsafe { sample.cast::<SampledHandle>().as_ref() }.copied().flatten().ok_or(INVALID_ARGUMENT)
        };
        let (first, second) = (sampled(request.sample1)?, sampled(request.sample2)?);
        if second.1.duration_since(first.1) < MIN_WINDOW || first.0 != second.0 {
            return Err(INVALID_ARGUMENT);
        }
        let sampled = second.0;
        for metric in request.metrics.iter_mut().take(request.numMetrics as usize) {
            let value = sampled.value(&format!("nvmlGpmMetricsGet({})", metric.metricId));
            metric.nvmlReturn = match value {
                Ok(value) => {
                    metric.value = value.as_f64().unwrap_or(0.0);
                    SUCCESS
                }
                Err(code) => code,
            };
        }
        Ok(())
    }))
}
