//! Calls on devices that fill a struct. The version of a versioned struct must be one that this library knows.

use std::{
    ffi::{c_int, c_uint},
    mem::size_of,
};

use afd_fake_recorded::field_text as text;
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAddressingMode_t, nvmlDeviceAttributes_t, nvmlFieldValue_t, nvmlGpuFabricInfo_t,
    nvmlGpuFabricInfo_v2_t, nvmlGpuFabricInfo_v3_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
    nvmlUtilization_t, nvmlViolationTime_t,
};
use serde_json::Value;

use crate::{
    INVALID_ARGUMENT, NOT_FOUND, SUCCESS, VERSION_MISMATCH, code, number,
    recording::{FakeHandle, call_on, enter, state},
    write,
};

fn bytes(value: &Value) -> [u8; 16] {
    let digits = value.as_str().unwrap_or_default();
    std::array::from_fn(|index| {
        digits.get(index * 2..index * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0)
    })
}

/// Reads the version word with which a struct begins.
fn version(target: *const c_uint) -> Result<c_uint, nvmlReturn_t> {
    if target.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller passes a struct that begins with its version, as nvml.h requires, and it is not null.
    Ok(unsafe { target.read() })
}

const fn version_of<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | (number << 24)
}

fn check<T>(target: *const T, wanted: u32) -> Result<(), nvmlReturn_t> {
    if version(target.cast())? == wanted { Ok(()) } else { Err(VERSION_MISMATCH) }
}

fn pci(value: &Value) -> nvmlPciInfo_t {
    nvmlPciInfo_t {
        busIdLegacy: text(
            &value["busId"].as_str().map(|id| id.trim_start_matches("0000")).unwrap_or_default().into(),
        ),
        domain: number(&value["domain"]) as c_uint,
        bus: number(&value["bus"]) as c_uint,
        device: number(&value["device"]) as c_uint,
        pciDeviceId: number(&value["pciDeviceId"]) as c_uint,
        pciSubSystemId: number(&value["pciSubSystemId"]) as c_uint,
        busId: text(&value["busId"]),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(pointer: nvmlDevice_t, target: *mut nvmlPciInfo_t) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetPciInfo_v3", pointer, &[]).and_then(|value| write(target, pci(&value))))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    pointer: nvmlDevice_t,
    link: c_uint,
    target: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    code(
        call_on("nvmlDeviceGetNvLinkRemotePciInfo_v2", pointer, &[link])
            .and_then(|value| write(target, pci(&value))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo(pointer: nvmlDevice_t, target: *mut nvmlMemory_t) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetMemoryInfo", pointer, &[]).and_then(|value| {
        let memory = nvmlMemory_t {
            total: number(&value["total"]),
            free: number(&value["free"]),
            used: number(&value["used"]),
        };
        write(target, memory)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    pointer: nvmlDevice_t,
    target: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetMemoryInfo_v2", pointer, &[]).and_then(|value| {
        let known = version_of::<nvmlMemory_v2_t>(2);
        check(target, known)?;
        let memory = nvmlMemory_v2_t {
            version: known,
            total: number(&value["total"]),
            reserved: number(&value["reserved"]),
            free: number(&value["free"]),
            used: number(&value["used"]),
        };
        write(target, memory)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAddressingMode(
    pointer: nvmlDevice_t,
    target: *mut nvmlDeviceAddressingMode_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetAddressingMode", pointer, &[]).and_then(|value| {
        let known = version_of::<nvmlDeviceAddressingMode_t>(1);
        check(target, known)?;
        write(target, nvmlDeviceAddressingMode_t { version: known, value: number(&value["value"]) as c_uint })
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuFabricInfo(
    pointer: nvmlDevice_t,
    target: *mut nvmlGpuFabricInfo_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetGpuFabricInfo", pointer, &[]).and_then(|value| {
        let fabric = nvmlGpuFabricInfo_t {
            clusterUuid: bytes(&value["clusterUuid"]),
            status: number(&value["status"]) as nvmlReturn_t,
            cliqueId: number(&value["cliqueId"]) as c_uint,
            state: number(&value["state"]) as _,
        };
        write(target, fabric)
    }))
}

/// A recording without a health summary comes from a driver that knows struct version 2 only.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuFabricInfoV(
    pointer: nvmlDevice_t,
    target: *mut nvmlGpuFabricInfo_v3_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetGpuFabricInfoV", pointer, &[]).and_then(|value| {
        let fabric = nvmlGpuFabricInfo_v2_t {
            version: version_of::<nvmlGpuFabricInfo_v2_t>(2),
            clusterUuid: bytes(&value["clusterUuid"]),
            status: number(&value["status"]) as nvmlReturn_t,
            cliqueId: number(&value["cliqueId"]) as c_uint,
            state: number(&value["state"]) as _,
            healthMask: number(&value["healthMask"]) as c_uint,
        };
        let newest = version_of::<nvmlGpuFabricInfo_v3_t>(3);
        let asked = version(target.cast())?;
        if asked == fabric.version {
            write(target.cast(), fabric)
        } else if asked == newest && value["healthSummary"].is_u64() {
            let newest = nvmlGpuFabricInfo_v3_t {
                version: newest,
                clusterUuid: fabric.clusterUuid,
                status: fabric.status,
                cliqueId: fabric.cliqueId,
                state: fabric.state,
                healthMask: fabric.healthMask,
                healthSummary: number(&value["healthSummary"]) as u8,
            };
            write(target, newest)
        } else {
            Err(VERSION_MISMATCH)
        }
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(
    pointer: nvmlDevice_t,
    target: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetUtilizationRates", pointer, &[]).and_then(|value| {
        let rates = nvmlUtilization_t {
            gpu: number(&value["gpu"]) as c_uint,
            memory: number(&value["memory"]) as c_uint,
        };
        write(target, rates)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetViolationStatus(
    pointer: nvmlDevice_t,
    policy: c_uint,
    target: *mut nvmlViolationTime_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetViolationStatus", pointer, &[policy]).and_then(|value| {
        let time = nvmlViolationTime_t {
            referenceTime: number(&value["referenceTime"]),
            violationTime: number(&value["violationTime"]),
        };
        write(target, time)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAttributes_v2(
    pointer: nvmlDevice_t,
    target: *mut nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetAttributes_v2", pointer, &[]).and_then(|value| {
        let field = |name: &str| number(&value[name]) as c_uint;
        let attributes = nvmlDeviceAttributes_t {
            multiprocessorCount: field("multiprocessorCount"),
            sharedCopyEngineCount: field("sharedCopyEngineCount"),
            sharedDecoderCount: field("sharedDecoderCount"),
            sharedEncoderCount: field("sharedEncoderCount"),
            sharedJpegCount: field("sharedJpegCount"),
            sharedOfaCount: field("sharedOfaCount"),
            gpuInstanceSliceCount: field("gpuInstanceSliceCount"),
            computeInstanceSliceCount: field("computeInstanceSliceCount"),
            memorySizeMB: number(&value["memorySizeMB"]),
        };
        write(target, attributes)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    pointer: nvmlDevice_t,
    profile: c_uint,
    target: *mut nvmlGpuInstanceProfileInfo_v2_t,
) -> nvmlReturn_t {
    code(call_on("nvmlDeviceGetGpuInstanceProfileInfoV", pointer, &[profile]).and_then(|value| {
        let known = version_of::<nvmlGpuInstanceProfileInfo_v2_t>(2);
        check(target, known)?;
        let field = |name: &str| number(&value[name]) as c_uint;
        let info = nvmlGpuInstanceProfileInfo_v2_t {
            version: known,
            id: field("id"),
            isP2pSupported: 0,
            sliceCount: field("sliceCount"),
            instanceCount: field("instanceCount"),
            multiprocessorCount: field("multiprocessorCount"),
            copyEngineCount: 0,
            decoderCount: 0,
            encoderCount: 0,
            jpegCount: 0,
            ofaCount: 0,
            memorySizeMB: number(&value["memorySizeMB"]),
            name: text(&value["name"]),
        };
        write(target, info)
    }))
}

/// The handle of a GPU instance is that of one of its MIG devices.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceById(
    pointer: nvmlDevice_t,
    id: c_uint,
    target: *mut nvmlGpuInstance_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetGpuInstanceById").and_then(|()| {
        let handle = mig_device_of_instance(FakeHandle::from_pointer(pointer)?, id)?;
        write(target, handle.pointer() as nvmlGpuInstance_t)
    }))
}

/// A MIG device of a GPU instance.
pub(crate) fn mig_device_of_instance(parent: FakeHandle, id: c_uint) -> Result<FakeHandle, nvmlReturn_t> {
    let recording = state().recording();
    let device = recording.devices.get(parent.device).ok_or(INVALID_ARGUMENT)?;
    let found = (0..device.mig.len()).map(|mig| FakeHandle { mig: Some(mig), ..parent }).find(|handle| {
        handle.value("nvmlDeviceGetGpuInstanceId").is_ok_and(|value| number(&value) as c_uint == id)
    });
    found.ok_or(NOT_FOUND)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetInfo(
    instance: nvmlGpuInstance_t,
    target: *mut nvmlGpuInstanceInfo_t,
) -> nvmlReturn_t {
    let pointer = instance as nvmlDevice_t;
    code(call_on("nvmlGpuInstanceGetInfo", pointer, &[]).and_then(|value| {
        // SAFETY: a C struct of numbers and a handle, for which zeros are a value.
        let mut info: nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
        info.device = FakeHandle { mig: None, ..FakeHandle::from_pointer(pointer)? }.pointer();
        info.id = number(&value["id"]) as c_uint;
        info.profileId = number(&value["profileId"]) as c_uint;
        info.placement.start = number(&value["placement"]["start"]) as c_uint;
        info.placement.size = number(&value["placement"]["size"]) as c_uint;
        write(target, info)
    }))
}

/// Each field has its own return code; all integers are returned as 64 bits, unlike in the real library.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(
    pointer: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetFieldValues").and_then(|()| {
        if values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: the caller passes `count` values, as nvml.h requires, and the pointer is not null.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count as usize) };
        for value in values {
            let arguments = [value.fieldId, value.scopeId];
            let selecting = if value.scopeId == 0 { &arguments[..1] } else { &arguments[..] };
            value.nvmlReturn = match call_on("nvmlDeviceGetFieldValues", pointer, selecting) {
                Ok(number_of_field) => {
                    (value.valueType, value.value.ullVal) = (3, number(&number_of_field));
                    SUCCESS
                }
                Err(code) => code,
            };
        }
        Ok(())
    }))
}
