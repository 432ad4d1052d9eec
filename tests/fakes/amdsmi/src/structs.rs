//! Calls that fill a struct in the layout of amdsmi.h 26, or 24 where the recording says so.

use std::ffi::{CString, c_char, c_void};

use afd_fake_recorded::{code, field_text, number, write};
use serde_json::Value;

use crate::recording::{AmdSmiStatus, enter, processor, state, write_failed};

#[repr(C)]
struct AmdSmiVersion {
    major: u32,
    minor: u32,
    release: u32,
    build: *const c_char,
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_lib_version(target: *mut c_void) -> AmdSmiStatus {
    code(enter("amdsmi_get_lib_version").and_then(|()| {
        let value = state().value(&state().recording().system, "amdsmi_get_lib_version")?;
        let build = CString::new(value["build"].as_str().unwrap_or_default()).unwrap_or_default();
        // The string belongs to the library and is never freed.
        let version = AmdSmiVersion { major: 0, minor: 0, release: 0, build: build.into_raw() };
        write(target.cast(), version).map_err(write_failed)
    }))
}

#[repr(C)]
struct Asic26 {
    market_name: [c_char; 256],
    vendor_id: u32,
    vendor_name: [c_char; 256],
    subvendor_id: u32,
    device_id: u64,
    rev_id: u32,
    asic_serial: [c_char; 256],
    oam_id: u32,
    num_of_compute_units: u32,
    target_graphics_version: u64,
    subsystem_id: u32,
    reserved: [u32; 21],
}

#[repr(C)]
struct Asic24 {
    market_name: [c_char; 256],
    vendor_id: u32,
    vendor_name: [c_char; 64],
    subvendor_id: u32,
    device_id: u64,
    rev_id: u32,
    asic_serial: [c_char; 32],
    oam_id: u32,
    reserved: [u32; 18],
}

#[repr(C)]
struct AsicUnknown {
    structure_version: u64,
    market_name: [c_char; 256],
    vendor_id: u32,
    device_id: u64,
}

const AMD: u32 = 0x1002;

fn vendor() -> Value {
    Value::from("Advanced Micro Devices Inc. [AMD/ATI]")
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_asic_info(handle: *mut c_void, target: *mut c_void) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_asic_info", handle, None).and_then(|value| {
        let (device_id, rev_id) = (number(&value["device_id"]), number(&value["rev_id"]) as u32);
        let market_name = field_text(&value["market_name"]);
        let written = match state().recording().header {
            26 => write(
                target.cast(),
                Asic26 {
                    market_name,
                    vendor_id: AMD,
                    vendor_name: field_text(&vendor()),
                    subvendor_id: AMD,
                    device_id,
                    rev_id,
                    asic_serial: field_text(&value["asic_serial"]),
                    oam_id: u32::MAX,
                    num_of_compute_units: u32::MAX,
                    target_graphics_version: u64::MAX,
                    subsystem_id: u32::MAX,
                    reserved: [0; 21],
                },
            ),
            24 => write(
                target.cast(),
                Asic24 {
                    market_name,
                    vendor_id: AMD,
                    vendor_name: field_text(&vendor()),
                    subvendor_id: AMD,
                    device_id,
                    rev_id,
                    asic_serial: field_text(&value["asic_serial"]),
                    oam_id: u32::MAX,
                    reserved: [0; 18],
                },
            ),
            _ => write(
                target.cast(),
                AsicUnknown { structure_version: 9, market_name, vendor_id: AMD, device_id },
            ),
        };
        written.map_err(write_failed)
    }))
}

#[repr(C)]
struct Vbios26 {
    name: [c_char; 256],
    build_date: [c_char; 256],
    part_number: [c_char; 256],
    version: [c_char; 256],
    boot_firmware: [c_char; 256],
    reserved: [u64; 36],
}

#[repr(C)]
struct Vbios24 {
    name: [c_char; 64],
    build_date: [c_char; 32],
    part_number: [c_char; 64],
    version: [c_char; 32],
    reserved: [u32; 16],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_vbios_info(handle: *mut c_void, target: *mut c_void) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_vbios_info", handle, None).and_then(|value| {
        let written = if state().recording().header == 24 {
            let vbios = Vbios24 {
                name: field_text(&value["name"]),
                build_date: field_text(&value["build_date"]),
                part_number: field_text(&value["part_number"]),
                version: field_text(&value["version"]),
                reserved: [0; 16],
            };
            write(target.cast(), vbios)
        } else {
            let vbios = Vbios26 {
                name: field_text(&value["name"]),
                build_date: field_text(&value["build_date"]),
                part_number: field_text(&value["part_number"]),
                version: field_text(&value["version"]),
                boot_firmware: [0; 256],
                reserved: [0; 36],
            };
            write(target.cast(), vbios)
        };
        written.map_err(write_failed)
    }))
}

#[repr(C)]
struct AmdSmiDriver {
    driver_version: [c_char; 256],
    driver_date: [c_char; 256],
    driver_name: [c_char; 256],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_driver_info(handle: *mut c_void, target: *mut c_void) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_driver_info", handle, None).and_then(|value| {
        let driver = AmdSmiDriver {
            driver_version: field_text(&value["driver_version"]),
            driver_date: field_text(&Value::from("2015/01/01 00:00")),
            driver_name: field_text(&Value::from("amdgpu")),
        };
        write(target.cast(), driver).map_err(write_failed)
    }))
}

#[repr(C)]
struct AmdSmiActivity {
    gfx_activity: u32,
    umc_activity: u32,
    mm_activity: u32,
    reserved: [u32; 13],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_activity(handle: *mut c_void, target: *mut c_void) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_activity", handle, None).and_then(|value| {
        let activity = AmdSmiActivity {
            gfx_activity: number(&value["gfx_activity"]) as u32,
            umc_activity: number(&value["umc_activity"]) as u32,
            mm_activity: number(&value["mm_activity"]) as u32,
            reserved: [0; 13],
        };
        write(target.cast(), activity).map_err(write_failed)
    }))
}

#[repr(C)]
struct AmdSmiProfile {
    profile_type: u32,
    num_partitions: u32,
    memory_caps: u32,
    profile_index: u32,
    num_resources: u32,
    resources: [[u32; 32]; 8],
    reserved: [u64; 13],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_accelerator_partition_profile(
    handle: *mut c_void,
    target: *mut c_void,
    partitions: *mut u32,
) -> AmdSmiStatus {
    code(processor("amdsmi_get_gpu_accelerator_partition_profile", handle, None).and_then(|value| {
        let profile = AmdSmiProfile {
            profile_type: number(&value["profile_type"]) as u32,
            num_partitions: number(&value["num_partitions"]) as u32,
            memory_caps: 0,
            profile_index: 0,
            num_resources: 0,
            resources: [[0; 32]; 8],
            reserved: [0; 13],
        };
        write(target.cast(), profile).and_then(|()| write(partitions, 0)).map_err(write_failed)
    }))
}
