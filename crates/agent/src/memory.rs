//! Memory that the agent no longer uses, returned to the system.
//!
//! Most of the resident memory of a small program is its own code, and most of that runs once: options, credentials, rules,
//! the first discovery. The kernel keeps it mapped for as long as the process lives. The C library keeps what is freed: after
//! a large response of the kubelet, or many connections, an agent that runs for months would keep its
//! peak. Both are returned here; what is needed again is mapped again, code from the page cache.

mod ffi;

use std::time::{Duration, Instant};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use self::ffi::FileMapping;

/// The least time between two times that pages of files are unmapped without a request, a little less than twelve of the default
/// intervals of samples: it follows every twelfth one. It costs a millisecond of CPU time, most of it for the page faults that follow.
const INTERVAL: Duration = Duration::from_secs(59);

/// A larger buffer is a mapping of its own, and an arena keeps at most this much at its end: what the C library begins with. It
/// would raise both with the first large buffer.
const THRESHOLD_BYTES: i32 = 128 << 10;

/// Fixes the sizes from which on memory is returned at once, and lets all threads share it. Call it before threads are started.
pub(crate) fn keep_little() {
    ffi::set_thresholds(THRESHOLD_BYTES);
}

/// Returns unused memory after samples.
#[derive(Debug)]
pub(crate) struct UnusedMemory {
    files: Vec<FileMapping>,
    unmapped_at: Instant,
    is_requested: bool,
}

impl UnusedMemory {
    /// For this process.
    pub(crate) fn new() -> UnusedMemory {
        UnusedMemory { files: clean_mappings(), unmapped_at: Instant::now(), is_requested: false }
    }

    /// Has the next call of [`UnusedMemory::return_unused`] unmap pages of files, whatever the interval: after work that is rare and
    /// needs much code.
    pub(crate) fn request(&mut self) {
        self.is_requested = true;
    }

    /// Returns what the allocator has free, and unmaps pages of files if the interval has passed or it was requested.
    pub(crate) fn return_unused(&mut self) {
        ffi::trim_heap();
        if std::mem::take(&mut self.is_requested) || self.unmapped_at.elapsed() >= INTERVAL {
            self.unmapped_at = Instant::now();
            self.files.iter().for_each(FileMapping::unmap_pages);
        }
    }
}

/// The mappings of files, the program's and its libraries', that nothing has written and nothing can write: code and constants. What the
/// loader has relocated is not among them.
fn clean_mappings() -> Vec<FileMapping> {
    let maps = Process::myself().and_then(|process| process.smaps()).into_iter().flatten();
    maps.filter(is_clean).map(|map| FileMapping::of(&map)).collect()
}

fn is_clean(map: &MemoryMap) -> bool {
    matches!(map.pathname, MMapPath::Path(_))
        && map.perms.contains(MMPermissions::READ | MMPermissions::PRIVATE)
        && !map.perms.contains(MMPermissions::WRITE)
        && map.extension.map.get("Anonymous") == Some(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_on_after_its_code_was_unmapped() {
        let mut memory = UnusedMemory::new();
        let here = clean_mappings as fn() -> Vec<FileMapping> as usize as u64;
        let resident = || {
            let maps =
                Process::myself().and_then(|process| process.smaps()).expect("the kernel lists the mappings");
            let code = maps.iter().find(|map| (map.address.0..map.address.1).contains(&here));
            code.expect("this function is mapped").extension.map["Rss"]
        };
        let before = resident();
        memory.request();
        memory.return_unused();
        let after = resident();
        assert!(after < before, "{after} of {before} bytes are still mapped");
        let maps =
            Process::myself().and_then(|process| process.maps()).expect("the kernel lists the mappings");
        let writable = |file: &&FileMapping| {
            let map = maps.iter().find(|map| map.address.0 == file.start());
            map.is_none_or(|map| map.perms.contains(MMPermissions::WRITE))
        };
        assert_eq!(memory.files.iter().find(writable), None);
        assert!(memory.files.len() > 2, "code and constants of the program, and of the C library");
    }

    #[test]
    fn files_are_unmapped_once_for_a_request_and_after_the_interval() {
        let mut memory = UnusedMemory::new();
        let started = memory.unmapped_at;
        memory.return_unused();
        assert_eq!(memory.unmapped_at, started, "nothing is due");
        memory.request();
        memory.return_unused();
        let unmapped_at = memory.unmapped_at;
        assert!(unmapped_at > started);
        memory.return_unused();
        assert_eq!(memory.unmapped_at, unmapped_at, "a request is for one time");
        memory.unmapped_at = unmapped_at.checked_sub(INTERVAL).expect("the machine runs for longer");
        memory.return_unused();
        assert!(memory.unmapped_at > unmapped_at);
    }
}
