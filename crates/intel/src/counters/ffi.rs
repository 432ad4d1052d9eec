//! The one system call that opens a counter (`perf_event_open(2)`, `perf_event.h`). It counts and never changes a device.
#![allow(
    unsafe_code,
    reason = "a system call that passes the address of a struct; each block states why it is sound"
)]

use std::{
    ffi::c_long,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::io::Errno;

/// `PERF_FORMAT_TOTAL_TIME_ENABLED` and `PERF_FORMAT_GROUP`.
const READ_FORMAT: u64 = 1 << 0 | 1 << 3;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: c_long = 1 << 3;
/// The counter is not of a process, and of no group.
const NONE: c_long = -1;

/// `struct perf_event_attr` of its first version. What is 0 is of counters that sample.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 2],
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config_1: u64,
}

/// Opens a counter, which begins at 0. It is read with the others of its group, by the first one.
pub(super) fn open(
    kind: u32,
    cpu: u32,
    config: u64,
    group: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Errno> {
    let attributes = PerfEventAttributes {
        kind,
        size: size_of::<PerfEventAttributes>() as u32,
        config,
        read_format: READ_FORMAT,
        ..PerfEventAttributes::default()
    };
    let group = group.map_or(NONE, |group| c_long::from(group.as_raw_fd()));
    // SAFETY: the kernel reads as many bytes of the struct as it says that it has, during the call.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            NONE,
            c_long::from(cpu),
            group,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(opened) {
        // SAFETY: the call has returned a descriptor that is ours.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => {
            let error = std::io::Error::last_os_error().raw_os_error();
            Err(Errno::from_raw_os_error(error.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_struct_has_the_size_of_its_first_version() {
        assert_eq!(size_of::<PerfEventAttributes>(), 64);
    }

    #[test]
    fn a_counter_of_an_unknown_kind_is_refused() {
        // Refused because of the kind, or, by seccomp or the kernel, of the right.
        let refused = open(u32::MAX, 0, 0, None).err();
        assert!(
            matches!(refused, Some(Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::NOSYS)),
            "{refused:?}"
        );
    }
}
