//! GPM: samples remember what they were taken of, and metrics are what the recording says of that.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlReturn_t,
};

use crate::{
    INVALID_ARGUMENT, SUCCESS, VERSION_MISMATCH, code, number,
    recording::{Handle, device, enter},
    structs::of_instance,
    write,
};

/// What a sample is in our memory.
type Taken = Option<Handle>;

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmQueryDeviceSupport(
    pointer: nvmlDevice_t,
    target: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    code(device("nvmlGpmQueryDeviceSupport", pointer, &[]).and_then(|value| {
        let supported = number(&value["isSupportedDevice"]) as c_uint;
        write(target, nvmlGpmSupport_t { version: 1, isSupportedDevice: supported })
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleAlloc(target: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    code(enter("nvmlGpmSampleAlloc").and_then(|()| {
        let sample: Box<Taken> = Box::default();
        write(target, Box::into_raw(sample).cast())
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    if !sample.is_null() {
        // SAFETY: the caller gives back what nvmlGpmSampleAlloc gave it, once.
        drop(unsafe { Box::from_raw(sample.cast::<Taken>()) });
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleGet(pointer: nvmlDevice_t, sample: nvmlGpmSample_t) -> nvmlReturn_t {
    code(enter("nvmlGpmSampleGet").and_then(|()| write(sample.cast::<Taken>(), Some(Handle::of(pointer)?))))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMigSampleGet(
    pointer: nvmlDevice_t,
    instance: c_uint,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    code(
        enter("nvmlGpmMigSampleGet")
            .and_then(|()| write(sample.cast::<Taken>(), Some(of_instance(Handle::of(pointer)?, instance)?))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMetricsGet(asked: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    code(enter("nvmlGpmMetricsGet").and_then(|()| {
        // SAFETY: the caller passes the struct, as nvml.h asks it to.
        let asked = unsafe { asked.as_mut() }.ok_or(INVALID_ARGUMENT)?;
        if asked.version != 1 {
            return Err(VERSION_MISMATCH);
        }
        // SAFETY: samples come from nvmlGpmSampleAlloc and were not given back yet.
        let taken =
            unsafe { asked.sample2.cast::<Taken>().as_ref() }.copied().flatten().ok_or(INVALID_ARGUMENT)?;
        for metric in asked.metrics.iter_mut().take(asked.numMetrics as usize) {
            let told = taken.value(&format!("nvmlGpmMetricsGet({})", metric.metricId));
            metric.nvmlReturn = match told {
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
