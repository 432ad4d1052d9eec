//! Calls that fill a struct, as amdsmi.h 26 lays it out, or 24 where the recording says so.

use std::ffi::{CString, c_char, c_void};

use afd_fake_recorded::{field_text, number, write};
use serde_json::Value;

use crate::recording::{Status, code, enter, processor, refused, state, value};

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
    release: u32,
    build: *const c_char,
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_lib_version(target: *mut c_void) -> Status {
    code(enter("amdsmi_get_lib_version").and_then(|()| {
        let told = value(&state().recording().system, "amdsmi_get_lib_version")?;
        let build = CString::new(told["build"].as_str().unwrap_or_default()).unwrap_or_default();
        // The text is the library's own and lives as long as it.
        let version = Version { major: 0, minor: 0, release: 0, build: build.into_raw() };
        write(target.cast(), version).map_err(refused)
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
pub extern "C" fn amdsmi_get_gpu_asic_info(handle: *mut c_void, target: *mut c_void) -> Status {
    code(processor("amdsmi_get_gpu_asic_info", handle, None).and_then(|told| {
        let (device_id, rev_id) = (number(&told["device_id"]), number(&told["rev_id"]) as u32);
        let market_name = field_text(&told["market_name"]);
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
                    asic_serial: field_text(&told["asic_serial"]),
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
                    asic_serial: field_text(&told["asic_serial"]),
                    oam_id: u32::MAX,
                    reserved: [0; 18],
                },
            ),
            _ => write(
                target.cast(),
                AsicUnknown { structure_version: 9, market_name, vendor_id: AMD, device_id },
            ),
        };
        written.map_err(refused)
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
pub extern "C" fn amdsmi_get_gpu_vbios_info(handle: *mut c_void, target: *mut c_void) -> Status {
    code(processor("amdsmi_get_gpu_vbios_info", handle, None).and_then(|told| {
        let written = if state().recording().header == 24 {
            let vbios = Vbios24 {
                name: field_text(&told["name"]),
                build_date: field_text(&told["build_date"]),
                part_number: field_text(&told["part_number"]),
                version: field_text(&told["version"]),
                reserved: [0; 16],
            };
            write(target.cast(), vbios)
        } else {
            let vbios = Vbios26 {
                name: field_text(&told["name"]),
                build_date: field_text(&told["build_date"]),
                part_number: field_text(&told["part_number"]),
                version: field_text(&told["version"]),
                boot_firmware: [0; 256],
                reserved: [0; 36],
            };
            write(target.cast(), vbios)
        };
        written.map_err(refused)
    }))
}

#[repr(C)]
struct Driver {
    driver_version: [c_char; 256],
    driver_date: [c_char; 256],
    driver_name: [c_char; 256],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_driver_info(handle: *mut c_void, target: *mut c_void) -> Status {
    code(processor("amdsmi_get_gpu_driver_info", handle, None).and_then(|told| {
        let driver = Driver {
            driver_version: field_text(&told["driver_version"]),
            driver_date: field_text(&Value::from("2015/01/01 00:00")),
            driver_name: field_text(&Value::from("amdgpu")),
        };
        write(target.cast(), driver).map_err(refused)
    }))
}

#[repr(C)]
struct Usage {
    gfx_activity: u32,
    umc_activity: u32,
    mm_activity: u32,
    reserved: [u32; 13],
}

#[unsafe(no_mangle)]
pub extern "C" fn amdsmi_get_gpu_activity(handle: *mut c_void, target: *mut c_void) -> Status {
    code(processor("amdsmi_get_gpu_activity", handle, None).and_then(|told| {
        let usage = Usage {
            gfx_activity: number(&told["gfx_activity"]) as u32,
            umc_activity: number(&told["umc_activity"]) as u32,
            mm_activity: number(&told["mm_activity"]) as u32,
            reserved: [0; 13],
        };
        write(target.cast(), usage).map_err(refused)
    }))
}

#[repr(C)]
struct Profile {
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
) -> Status {
    code(processor("amdsmi_get_gpu_accelerator_partition_profile", handle, None).and_then(|told| {
        let profile = Profile {
            profile_type: number(&told["profile_type"]) as u32,
            num_partitions: number(&told["num_partitions"]) as u32,
            memory_caps: 0,
            profile_index: 0,
            num_resources: 0,
            resources: [[0; 32]; 8],
            reserved: [0; 13],
        };
        write(target.cast(), profile).and_then(|()| write(partitions, 0)).map_err(refused)
    }))
}
