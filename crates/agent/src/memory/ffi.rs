//! The calls that return memory. The only unsafe code of this crate.
#![allow(
    unsafe_code,
    reason = "the compiler cannot know what else uses the memory; each block states why nothing does"
)]

use std::ffi::c_void;

use procfs::process::MemoryMap;
use rustix::mm::{Advice, madvise};

/// A mapping of a file that nothing has written.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct FileMapping {
    start: u64,
    bytes: usize,
}

impl FileMapping {
    /// The caller guarantees that it is a private mapping of a file, without write permission and without a page of its own.
    pub(super) fn of(map: &MemoryMap) -> FileMapping {
        let (start, end) = map.address;
        FileMapping { start, bytes: (end - start) as usize }
    }

    /// Its first address.
    #[cfg(test)]
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Unmaps its pages. Each is mapped again when it is used. A failure leaves them mapped, which is no fault.
    pub(super) fn unmap_pages(&self) {
        // SAFETY: the range is a mapping of the program or of a library that it was started with, for as long as the process lives.
        // Nothing has written it and nothing can, so that each page has the content of the file, which an access maps again.
        let _ = unsafe { madvise(self.start as *mut c_void, self.bytes, Advice::LinuxDontNeed) };
    }
}

/// Sets from which size on the C library maps a buffer of its own, and returns the free end of its arena, of which all threads share
/// one.
#[cfg(target_env = "gnu")]
pub(super) fn set_thresholds(bytes: i32) {
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, bytes), (libc::M_TRIM_THRESHOLD, bytes), (libc::M_ARENA_MAX, 1)]
    {
        // SAFETY: it takes two numbers, refuses those that are not valid, and changes no allocation.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Returns the free pages of all arenas to the system.
#[cfg(target_env = "gnu")]
pub(super) fn trim_heap() {
    // SAFETY: it takes the lock of each arena, and only returns what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Nothing: other C libraries have no such setting.
#[cfg(not(target_env = "gnu"))]
pub(super) fn set_thresholds(_: i32) {}

/// Nothing: other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub(super) fn trim_heap() {}
