//! Calls on devices whose answer is a number or a text, and the way to a device.

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use serde_json::json;

use crate::{
    INVALID_ARGUMENT, NOT_FOUND, code, number,
    recording::{Handle, device, enter, state},
    write, write_text,
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    code(
        enter("nvmlDeviceGetCount_v2")
            .and_then(|()| write(count, state().recording().devices.len() as c_uint)),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, target: *mut nvmlDevice_t) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetHandleByIndex_v2").and_then(|()| {
        let recording = state().recording();
        let told = recording.devices.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        match told.answers.error("nvmlDeviceGetHandleByIndex_v2") {
            Some(error) => Err(error.0),
            None => write(target, Handle { device: index as usize, mig: None }.pointer()),
        }
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    parent: nvmlDevice_t,
    index: c_uint,
    target: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetMigDeviceHandleByIndex").and_then(|()| {
        let parent = Handle::of(parent)?;
        let recording = state().recording();
        let told = recording.devices.get(parent.device).ok_or(INVALID_ARGUMENT)?;
        let there = told.mig.get(index as usize).is_some_and(Option::is_some);
        if !there {
            return Err(NOT_FOUND);
        }
        write(target, Handle { mig: Some(index as usize), ..parent }.pointer())
    }))
}

macro_rules! texts {
    ($($symbol:ident),* $(,)?) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, text: *mut c_char, length: c_uint) -> nvmlReturn_t {
            code(device(stringify!($symbol), pointer, &[]).and_then(|value| write_text(text, length, &value)))
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
    let told = device("nvmlDeviceGetGspFirmwareVersion", pointer, &[]);
    // nvml.h asks the caller for a buffer of 64 bytes.
    code(told.and_then(|value| write_text(text, 64, &value)))
}

macro_rules! numbers {
    ($($symbol:ident($($argument:ident),*): $kind:ty;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, $($argument: c_uint,)* target: *mut $kind) -> nvmlReturn_t {
            let told = device(stringify!($symbol), pointer, &[$($argument),*]);
            code(told.and_then(|value| write(target, number(&value) as $kind)))
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
    let told = Handle::of(other)
        .and_then(|other| device("nvmlDeviceGetP2PStatus", pointer, &[other.device as c_uint, capability]));
    code(told.and_then(|value| write(target, number(&value) as c_uint)))
}

/// Calls that fill several numbers, by the fields of their value.
macro_rules! several {
    ($($symbol:ident: $($field:ident: $kind:ty),*;)*) => {
        $(#[unsafe(no_mangle)]
        pub extern "C" fn $symbol(pointer: nvmlDevice_t, $($field: *mut $kind),*) -> nvmlReturn_t {
            code(device(stringify!($symbol), pointer, &[]).and_then(|value| {
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

/// Whether a handle is a MIG device's.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceIsMigDeviceHandle(pointer: nvmlDevice_t, target: *mut c_uint) -> nvmlReturn_t {
    code(
        Handle::of(pointer)
            .and_then(|handle| write(target, number(&json!(u8::from(handle.mig.is_some()))) as c_uint)),
    )
}
