//! The drivers xe and i915: `DRM_IOCTL_VERSION` and the queries of memory regions on a render node, and counters.

use afd_intel::drm::ERRNOS;
use rustix::io::Errno;
use serde_json::Value;

use crate::{DriverKind, call::DriverCall, counters, structs::FilledStruct};

pub(crate) const DRM: DriverKind = DriverKind {
    recording: "intel-drm.json",
    requests: [VERSION, XE_QUERY, I915_QUERY],
    errors: ERRNOS,
    carry_out,
    open_counter: Some(counters::open),
};

const VERSION: u32 = 0xc040_6400;
const XE_QUERY: u32 = 0xc028_6440;
const I915_QUERY: u32 = 0xc010_6479;

const XE_REGIONS: &str = "DRM_XE_DEVICE_QUERY_MEM_REGIONS";
const I915_REGIONS: &str = "DRM_I915_QUERY_MEMORY_REGIONS";

fn carry_out(call: &DriverCall<'_>) -> Result<bool, Errno> {
    let node = call.node()?;
    let name = node.file_name().and_then(|name| name.to_str()).ok_or(Errno::NOTTY)?;
    let address = call.device_with(&format!("drm/{name}"))?;
    let driver = call.answer(&address, "DRM_IOCTL_VERSION");
    let driver = driver.as_ref().map_err(|error| *error)?.as_str().unwrap_or_default();
    let query = match call.request() {
        VERSION => "DRM_IOCTL_VERSION",
        XE_QUERY if driver == "xe" => XE_REGIONS,
        I915_QUERY if driver == "i915" => I915_REGIONS,
        _ => return Err(Errno::INVAL),
    };
    if call.hangs(query) {
        return Ok(false);
    }
    match query {
        XE_REGIONS => xe_regions(call, &call.answer(&address, query)?)?,
        I915_REGIONS => i915_regions(call, &call.answer(&address, query)?)?,
        _ => version(call, driver)?,
    }
    Ok(true)
}

/// `struct drm_version`: the driver copies no more of the name than there is room for, and writes how long it is.
fn version(call: &DriverCall<'_>, driver: &str) -> Result<(), Errno> {
    let arguments: [u8; 64] = call.read(call.argument())?;
    let room = usize::try_from(wide(&arguments, 16)).unwrap_or(usize::MAX);
    call.write(wide(&arguments, 24), &driver.as_bytes()[..driver.len().min(room)])?;
    call.write(call.argument() + 16, &(driver.len() as u64).to_ne_bytes())
}

/// `struct drm_xe_device_query`: a size of 0 is filled in, any other one must be that of the data.
fn xe_regions(call: &DriverCall<'_>, regions: &Value) -> Result<(), Errno> {
    let arguments: [u8; 40] = call.read(call.argument())?;
    if number(&arguments, 8) != 1 {
        return Err(Errno::INVAL);
    }
    let data = filled(8, regions, ["mem_class", "total_size", "used"]);
    match number(&arguments, 12) as usize {
        0 => call.write(call.argument() + 12, &(data.len() as u32).to_ne_bytes()),
        size if size == data.len() => call.write(wide(&arguments, 16), &data),
        _ => Err(Errno::INVAL),
    }
}

/// `struct drm_i915_query` with one item, whose length is filled in where it is 0, and negative where the item is refused.
fn i915_regions(call: &DriverCall<'_>, regions: &Value) -> Result<(), Errno> {
    let arguments: [u8; 16] = call.read(call.argument())?;
    let at = wide(&arguments, 8);
    let item: [u8; 24] = call.read(at)?;
    if number(&arguments, 0) != 1 || number(&arguments, 4) != 0 {
        return Err(Errno::INVAL);
    }
    let data = filled(16, regions, ["memory_class", "probed_size", "unallocated_size"]);
    let refused = |errno: Errno| call.write(at + 8, &(-errno.raw_os_error()).to_ne_bytes());
    match number(&item, 8) as usize {
        _ if wide(&item, 0) != 4 => refused(Errno::INVAL),
        0 => call.write(at + 8, &(data.len() as i32).to_ne_bytes()),
        length if length < data.len() => refused(Errno::INVAL),
        _ => {
            let target = wide(&item, 16);
            // What is reserved must be zero.
            let header: [u8; 16] = call.read(target)?;
            if header == [0; 16] { call.write(target, &data) } else { refused(Errno::INVAL) }
        }
    }
}

/// The header with the number of regions, and the regions.
fn filled(header: usize, regions: &Value, [class, size, rest]: [&str; 3]) -> Vec<u8> {
    let regions = regions.as_array().map_or(&[][..], Vec::as_slice);
    let mut data = FilledStruct::default();
    data.put(0, &(regions.len() as u32).to_ne_bytes()).put(header, &[]);
    for (index, region) in regions.iter().enumerate() {
        let field = |name: &str| region[name].as_u64().unwrap_or_default();
        let at = header + index * 88;
        data.put(at, &(field(class) as u16).to_ne_bytes())
            .put(at + 2, &(field("instance") as u16).to_ne_bytes())
            .put(at + 8, &field(size).to_ne_bytes())
            .put(at + 16, &field(rest).to_ne_bytes())
            .put(at + 88, &[]);
    }
    data.0
}

fn number(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(*bytes[offset..].first_chunk().expect("the struct is longer"))
}

fn wide(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(*bytes[offset..].first_chunk().expect("the struct is longer"))
}
