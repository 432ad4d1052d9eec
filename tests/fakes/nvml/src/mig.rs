//! Calls on MIG devices and GPU instances.

use std::ffi::c_uint;

use afd_fake_recorded::field_text as text;
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlReturn_t,
};

use crate::{
    INVALID_ARGUMENT, NOT_FOUND, code, number,
    recording::{FakeHandle, call_on, enter, library},
    structs::{check, version_of},
    write,
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    parent: nvmlDevice_t,
    index: c_uint,
    target: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    code(enter("nvmlDeviceGetMigDeviceHandleByIndex").and_then(|()| {
        let parent = FakeHandle::from_pointer(parent)?;
        let recording = library().recording();
        let device = recording.devices.get(parent.device).ok_or(INVALID_ARGUMENT)?;
        if !device.partitions.get(index as usize).is_some_and(Option::is_some) {
            return Err(NOT_FOUND);
        }
        write(target, FakeHandle { mig: Some(index as usize), ..parent }.pointer())
    }))
}

/// Whether a handle is that of a MIG device.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceIsMigDeviceHandle(pointer: nvmlDevice_t, target: *mut c_uint) -> nvmlReturn_t {
    code(
        FakeHandle::from_pointer(pointer)
            .and_then(|handle| write(target, c_uint::from(handle.mig.is_some()))),
    )
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
    let recording = library().recording();
    let device = recording.devices.get(parent.device).ok_or(INVALID_ARGUMENT)?;
    let found =
        (0..device.partitions.len()).map(|mig| FakeHandle { mig: Some(mig), ..parent }).find(|handle| {
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
