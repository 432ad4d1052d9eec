//! Calls on devices that fill a struct. The version of a versioned struct must be one that this library knows.

use std::{
    ffi::{c_int, c_uint},
    mem::size_of,
};

use afd_fake_recorded::field_text as text;
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAddressingMode_t, nvmlFieldValue_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlGpuFabricInfo_v3_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t, nvmlUtilization_t,
    nvmlViolationTime_t,
};
use serde_json::Value;

use crate::{
    INVALID_ARGUMENT, SUCCESS, VERSION_MISMATCH, code, number,
    recording::{call_on, enter},
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

pub(crate) const fn version_of<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | (number << 24)
}

pub(crate) fn check<T>(target: *const T, wanted: u32) -> Result<(), nvmlReturn_t> {
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

/// Each field has its own return code; all integers are code as 64 bits, unlike in the real library.
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
            let ask = |arguments: &[u32]| call_on("nvmlDeviceGetFieldValues", pointer, arguments);
            let answer = if value.scopeId == 0 {
                // A field without a scope has scope 0.
                ask(&arguments[..1]).or_else(|_| ask(&arguments))
            } else {
                ask(&arguments)
            };
            value.nvmlReturn = match answer {
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
