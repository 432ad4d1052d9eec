//! The two calls that return memory. The only unsafe code of this crate.
#![allow(
    unsafe_code,
    reason = "the compiler cannot know what else uses the memory; each block states why nothing does"
)]

use std::ffi::c_void;

use procfs::process::MemoryMap;
use rustix::mm::{Advice, madvise};

/// A mapping of the program's file that cannot be written.
#[derive(Debug)]
pub(super) struct CodeMapping {
    start: u64,
    bytes: usize,
}

impl CodeMapping {
    /// The caller guarantees that it is a private mapping of a file, without write permission.
    pub(super) fn of(map: &MemoryMap) -> CodeMapping {
        let (start, end) = map.address;
        CodeMapping { start, bytes: (end - start) as usize }
    }

    /// Its first address.
    #[cfg(test)]
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Unmaps its pages. Each is mapped again when it is used. A failure leaves them mapped, which is no fault.
    pub(super) fn unmap_pages(&self) {
        // SAFETY: the range is a mapping of this program's file for as long as the process lives. It was never writable, so
        // that each page has the content of the file, which an access maps again.
        let _ = unsafe { madvise(self.start as *mut c_void, self.bytes, Advice::LinuxDontNeed) };
    }
}

/// Returns the free pages of the allocator to the system.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer and locks what it changes; it may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
