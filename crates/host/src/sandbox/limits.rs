//! Resource limits of the process that loads a library.
//!
//! The number of processes is not limited: the kernel counts those of the user on the whole machine, other pods included.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, setrlimit};

/// Libraries open a few files for each device.
const MAX_OPEN_FILES: u64 = 1024;
/// A library shares a few locks with other processes. Files in memory would not count as private memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Sets the limits. `max_data_bytes` counts memory that is private and writable, which leaves out the registers and the memory of
/// devices that a library maps.
///
/// # Errors
/// When a limit is lower already and cannot be raised.
pub(super) fn set(max_data_bytes: u64) -> io::Result<()> {
    // Raising it needs no privilege. The kernel chooses this process before the agent, with which it shares a limit. Where the control
    // group has `memory.oom.group`, as the kubelet sets it, the kernel ends the agent all the same.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    lower(Resource::Data, max_data_bytes)?;
    lower(Resource::Fsize, MAX_FILE_BYTES)?;
    lower(Resource::Nofile, MAX_OPEN_FILES)?;
    // A dump would hold what the library knows, and fill the disk of the node.
    lower(Resource::Core, 0)
}

fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Some(limit.min(inherited));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}
