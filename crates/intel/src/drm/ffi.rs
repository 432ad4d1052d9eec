//! The queries of DRM drivers that are made here: the name of the driver, and the regions of memory of a device of xe or i915
//! (`drm.h`, `xe_drm.h`, `i915_drm.h`). They read and never change a device.
#![allow(unsafe_code, reason = "an ioctl passes the addresses of buffers; each block states why it is sound")]

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{Opcode, Updater, ioctl},
};

/// `DRM_IOCTL_VERSION`.
const VERSION: Opcode = 0xc040_6400;
/// `DRM_IOCTL_XE_DEVICE_QUERY`.
const XE_QUERY: Opcode = 0xc028_6440;
/// `DRM_IOCTL_I915_QUERY`.
const I915_QUERY: Opcode = 0xc010_6479;
/// `DRM_XE_DEVICE_QUERY_MEM_REGIONS`.
const XE_MEMORY_REGIONS: u32 = 1;
/// `DRM_I915_QUERY_MEMORY_REGIONS`.
const I915_MEMORY_REGIONS: u64 = 4;

/// More than the regions of any device: a driver that asks for more is not understood.
const MAX_BYTES: usize = 16 << 10;
/// Longer than the name of any driver.
const NAME_BYTES: usize = 32;

/// `struct drm_version`. Date and description are not asked for.
#[repr(C)]
#[derive(Default)]
struct DrmVersion {
    version: [i32; 3],
    padding: u32,
    name_length: u64,
    name: u64,
    date_and_description: [u64; 4],
}

/// `struct drm_xe_device_query`.
#[repr(C)]
#[derive(Default)]
struct XeDeviceQuery {
    extensions: u64,
    query: u32,
    size: u32,
    data: u64,
    reserved: [u64; 2],
}

/// `struct drm_i915_query`.
#[repr(C)]
struct I915Query {
    items: u32,
    flags: u32,
    item: u64,
}

/// `struct drm_i915_query_item`.
#[repr(C)]
struct I915QueryItem {
    query: u64,
    /// Of the data; or a negative error.
    length: i32,
    flags: u32,
    data: u64,
}

/// Opens a render node.
#[expect(clippy::disallowed_methods, reason = "a device file, which the confined process opens by itself")]
pub(super) fn open(node: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(node, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// The name of the driver of a node.
pub(super) fn driver(node: &OwnedFd) -> Result<String, Errno> {
    let mut name = [0_u8; NAME_BYTES];
    let mut arguments = DrmVersion {
        name_length: NAME_BYTES as u64,
        name: name.as_mut_ptr() as u64,
        ..DrmVersion::default()
    };
    // SAFETY: the request reads and writes a `struct drm_version`, and no more of the name than its length, which is alive.
    unsafe { ioctl(node, Updater::<VERSION, DrmVersion>::new(&mut arguments)) }?;
    let length = usize::try_from(arguments.name_length).unwrap_or(NAME_BYTES).min(NAME_BYTES);
    Ok(String::from_utf8_lossy(&name[..length]).into_owned())
}

/// `struct drm_xe_query_mem_regions` of a node of xe.
pub(super) fn xe_regions(node: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    // The first query returns the size, which the second one must have.
    for _ in 0..2 {
        let mut query = XeDeviceQuery {
            query: XE_MEMORY_REGIONS,
            size: data.len() as u32,
            data: data.as_mut_ptr() as u64,
            ..XeDeviceQuery::default()
        };
        // SAFETY: the request reads and writes a `struct drm_xe_device_query`; the driver fills no more than `size` bytes of the
        // data, which is alive, and none where the size is 0.
        unsafe { ioctl(node, Updater::<XE_QUERY, XeDeviceQuery>::new(&mut query)) }?;
        resize(&mut data, query.size as usize)?;
    }
    Ok(data)
}

/// `struct drm_i915_query_memory_regions` of a node of i915.
pub(super) fn i915_regions(node: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    for _ in 0..2 {
        let mut item = I915QueryItem {
            query: I915_MEMORY_REGIONS,
            length: data.len() as i32,
            flags: 0,
            data: data.as_mut_ptr() as u64,
        };
        let mut query = I915Query { items: 1, flags: 0, item: (&raw mut item) as u64 };
        // SAFETY: the request reads a `struct drm_i915_query` with one item, which is alive and which it writes; the driver fills
        // no more than `length` bytes of the data, which is alive, and none where the length is 0.
        unsafe { ioctl(node, Updater::<I915_QUERY, I915Query>::new(&mut query)) }?;
        let length = usize::try_from(item.length).map_err(|_| Errno::from_raw_os_error(-item.length))?;
        resize(&mut data, length)?;
    }
    Ok(data)
}

/// Makes room for what a driver will fill; nothing changes where it has filled it.
fn resize(data: &mut Vec<u8>, bytes: usize) -> Result<(), Errno> {
    if bytes > MAX_BYTES {
        return Err(Errno::OVERFLOW);
    }
    data.resize(bytes, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn structs_have_the_size_that_the_number_of_their_request_contains() {
        let size = |request: Opcode| request as usize >> 16 & 0x3fff;
        assert_eq!(size(VERSION), size_of::<DrmVersion>());
        assert_eq!(size(XE_QUERY), size_of::<XeDeviceQuery>());
        assert_eq!(size(I915_QUERY), size_of::<I915Query>());
        assert_eq!(size_of::<I915QueryItem>(), 24);
    }
}
