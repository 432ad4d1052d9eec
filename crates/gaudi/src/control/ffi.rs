//! The one call of the driver's interface: `HL_IOCTL_INFO` on a control node. It reads and never changes a device.
//!
//! The number of the request is that of DRM accel drivers, or the one before Linux 6.2; the kernel's version does not say which,
//! since the driver is also built out of tree. One that a driver does not have returns `ENOTTY`.
#![allow(unsafe_code, reason = "an ioctl passes the address of a buffer; each block states why it is sound")]

use std::{ffi::c_void, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl},
};

/// `DRM_IOCTL_HL_INFO`, and `HL_IOCTL_INFO` of type `H`.
pub(super) const REQUESTS: [Opcode; 2] = [0xc018_6440, 0xc018_4801];

/// Longer than what any operation returns that is used here. The driver copies no more than the length that is passed.
const BUFFER_BYTES: usize = 1024;

/// What an operation returned; zeros behind it.
pub(super) type InfoBuffer = [u8; BUFFER_BYTES];

/// `struct hl_info_args`.
#[repr(C)]
struct InfoArguments {
    return_pointer: u64,
    return_size: u32,
    operation: u32,
    /// The number of a port, or a period in milliseconds.
    argument: u32,
    padding: u32,
}

struct InfoRequest {
    request: Opcode,
    arguments: InfoArguments,
}

// SAFETY: both requests read and write a `struct hl_info_args`, which `as_ptr` points at; the buffer that it points at outlives
// the call in `info`, and has the length that is passed.
unsafe impl Ioctl for InfoRequest {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.request
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.arguments).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Opens a control node. Unlike a compute node it can be open more than once, and does not claim the device.
#[expect(clippy::disallowed_methods, reason = "a device file, which the confined process opens by itself")]
pub(super) fn open(node: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(node, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// What an operation returns.
pub(super) fn info(
    node: &OwnedFd,
    request: Opcode,
    operation: u32,
    argument: u32,
) -> Result<InfoBuffer, Errno> {
    let mut buffer = [0; BUFFER_BYTES];
    let arguments = InfoArguments {
        return_pointer: buffer.as_mut_ptr() as u64,
        return_size: BUFFER_BYTES as u32,
        operation,
        argument,
        padding: 0,
    };
    // SAFETY: the arguments are those of the request, and the buffer is alive until the call has returned.
    unsafe { ioctl(node, InfoRequest { request, arguments }) }?;
    Ok(buffer)
}
