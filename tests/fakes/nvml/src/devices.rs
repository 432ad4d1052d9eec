//! Calls on devices that return numbers or strings, and those that return a handle.

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::{
    INVALID_ARGUMENT, code, number,
    recording::{FakeHandle, call_on, enter, library},
    write, write_text,
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetCount_v2").and_then(|()| {
        let recording = library().recording();
        match library().error(&recording.system, "nvmlDeviceGetCount_v2") {
            Some(error) => Err(error),
            None => write(count, recording.devices.len() as c_uint),
        }
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, target: *mut nvmlDevice_t) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetHandleByIndex_v2").and_then(|()| {
        let recording = library().recording();
        let device = recording.devices.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        match library().error(&device.answers, "nvmlDeviceGetHandleByIndex_v2") {
            Some(error) => Err(error),
            None => write(target, FakeHandle { device: index as usize, mig: None }.pointer()),
        }
    }))
}

macro_rules! texts {
    ($($symbol:ident),* $(,)?) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, text: *mut c_char, length: c_uint) -> nvmlReturn_t {
            code(call_on(stringify!($symbol), pointer, &[]).and_then(|value| write_text(text, length, &value)))
        })*
    };
}

texts!(
    nvmlDeviceGetName,
    nvmlDeviceGetUUID,
    nvmlDeviceGetSerial,
    nvmlDeviceGetVbiosVersion,
    nvmlDeviceGetBoardPartNumber,
    nvmlDeviceGetInforomImageVersion,
);

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGspFirmwareVersion(pointer: nvmlDevice_t, text: *mut c_char) -> nvmlReturn_t {
    let value = call_on("nvmlDeviceGetGspFirmwareVersion", pointer, &[]);
    // nvml.h requires a buffer of 64 bytes.
    code(value.and_then(|value| write_text(text, 64, &value)))
}

macro_rules! numbers {
    ($($symbol:ident($($argument:ident),*): $kind:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, $($argument: c_uint,)* target: *mut $kind) -> nvmlReturn_t {
            let value = call_on(stringify!($symbol), pointer, &[$($argument),*]);
            code(value.and_then(|value| write(target, number(&value) as $kind)))
        })*
    };
}

numbers! {
    nvmlDeviceGetBrand(): c_uint;
    nvmlDeviceGetArchitecture(): c_uint;
    nvmlDeviceGetMinorNumber(): c_uint;
    nvmlDeviceGetModuleId(): c_uint;
    nvmlDeviceGetMaxMigDeviceCount(): c_uint;
    nvmlDeviceGetPersistenceMode(): c_uint;
    nvmlDeviceGetComputeMode(): c_uint;
    nvmlDeviceGetVirtualizationMode(): c_uint;
    nvmlDeviceGetPowerManagementDefaultLimit(): c_uint;
    nvmlDeviceGetEnforcedPowerLimit(): c_uint;
    nvmlDeviceGetPowerUsage(): c_uint;
    nvmlDeviceGetTotalEnergyConsumption(): c_ulonglong;
    nvmlDeviceGetPcieReplayCounter(): c_uint;
    nvmlDeviceGetRetiredPagesPendingStatus(): c_uint;
    nvmlDeviceGetCurrentClocksEventReasons(): c_ulonglong;
    nvmlDeviceGetCurrentClocksThrottleReasons(): c_ulonglong;
    nvmlDeviceGetSupportedEventTypes(): c_ulonglong;
    nvmlDeviceGetGpuInstanceId(): c_uint;
    nvmlDeviceGetComputeInstanceId(): c_uint;
    nvmlDeviceGetTemperature(sensor): c_uint;
    nvmlDeviceGetClockInfo(clock): c_uint;
    nvmlDeviceGetMaxClockInfo(clock): c_uint;
    nvmlDeviceGetTemperatureThreshold(threshold): c_uint;
    nvmlDeviceGetNvLinkState(link): c_uint;
    nvmlDeviceGetNvLinkVersion(link): c_uint;
    nvmlDeviceGetNvLinkRemoteDeviceType(link): c_uint;
    nvmlDeviceGetTotalEccErrors(kind, counter): c_ulonglong;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetP2PStatus(
    pointer: nvmlDevice_t,
    other: nvmlDevice_t,
    capability: c_uint,
    target: *mut c_uint,
) -> nvmlReturn_t {
    let value = FakeHandle::from_pointer(other)
        .and_then(|other| call_on("nvmlDeviceGetP2PStatus", pointer, &[other.device as c_uint, capability]));
    code(value.and_then(|value| write(target, number(&value) as c_uint)))
}

/// Calls that fill several numbers, each from the field of its name.
macro_rules! several {
    ($($symbol:ident: $($field:ident: $kind:ty),*;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, $($field: *mut $kind),*) -> nvmlReturn_t {
            code(call_on(stringify!($symbol), pointer, &[]).and_then(|value| {
                $(write($field, number(&value[stringify!($field)]) as $kind)?;)*
                Ok(())
            }))
        })*
    };
}

several! {
    nvmlDeviceGetCudaComputeCapability: major: i32, minor: i32;
    nvmlDeviceGetMigMode: currentMode: c_uint, pendingMode: c_uint;
    nvmlDeviceGetEccMode: current: c_uint, pending: c_uint;
    nvmlDeviceGetPowerManagementLimitConstraints: minLimit: c_uint, maxLimit: c_uint;
    nvmlDeviceGetEncoderUtilization: utilization: c_uint, samplingPeriodUs: c_uint;
    nvmlDeviceGetDecoderUtilization: utilization: c_uint, samplingPeriodUs: c_uint;
    nvmlDeviceGetJpgUtilization: utilization: c_uint, samplingPeriodUs: c_uint;
    nvmlDeviceGetOfaUtilization: utilization: c_uint, samplingPeriodUs: c_uint;
    nvmlDeviceGetRemappedRows: corrRows: c_uint, uncRows: c_uint, isPending: c_uint, failureOccurred: c_uint;
}
