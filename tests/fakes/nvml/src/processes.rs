//! Calls that list the processes of a GPU: the list, if the caller's buffer holds it, and its length.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_v2_t, nvmlReturn_t};
use serde_json::Value;

use crate::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, code, number, recording::call_on, write};

macro_rules! lists {
    ($($symbol:ident),* $(,)?) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(
            pointer: nvmlDevice_t,
            count: *mut c_uint,
            target: *mut nvmlProcessInfo_v2_t,
        ) -> nvmlReturn_t {
            code(call_on(stringify!($symbol), pointer, &[]).and_then(|value| list(&value, count, target)))
        })*
    };
}

lists!(
    nvmlDeviceGetComputeRunningProcesses_v3,
    nvmlDeviceGetGraphicsRunningProcesses_v3,
    nvmlDeviceGetMPSComputeRunningProcesses_v3,
);

fn list(value: &Value, count: *mut c_uint, target: *mut nvmlProcessInfo_v2_t) -> Result<(), nvmlReturn_t> {
    let processes = value.as_array().ok_or(INVALID_ARGUMENT)?;
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller passes the length of its buffer, as nvml.h requires, and the pointer is not null.
    let capacity = unsafe { count.read() } as usize;
    write(count, processes.len() as c_uint)?;
    if processes.len() > capacity {
        return Err(INSUFFICIENT_SIZE);
    }
    for (index, process) in processes.iter().enumerate() {
        let entry = nvmlProcessInfo_v2_t {
            pid: number(&process["pid"]) as c_uint,
            usedGpuMemory: number(&process["usedGpuMemory"]),
            gpuInstanceId: number(&process["gpuInstanceId"]) as c_uint,
            computeInstanceId: number(&process["computeInstanceId"]) as c_uint,
        };
        // SAFETY: the caller's buffer holds `capacity` processes, and there are no more.
        write(unsafe { target.add(index) }, entry)?;
    }
    Ok(())
}
