//! Confines the process that loads a vendor's library, before it loads it.
//!
//! | what | by | where the kernel has it |
//! |---|---|---|
//! | memory, open files, core dumps, size of files | resource limits | always |
//! | the kernel chooses this process when memory runs out; with `memory.oom.group` it ends the agent as well | `oom_score_adj` | always |
//! | system calls that no library needs, owner, mode and times of files, other processes | seccomp | nearly always |
//! | files, programs, signals, sockets | Landlock | Linux 5.13 and later, by what its version supports |
//!
//! Each is applied as far as the kernel supports it, and reported. Everything here works without privileges. The process keeps its
//! user and capabilities: a library may need them for the device files.

mod files;
mod limits;
mod system_calls;

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use self::system_calls::AllowedCalls;

/// What the process of a library may use, from the vendor's record.
#[derive(Clone, Copy, Debug)]
pub struct SandboxPolicy<'a> {
    /// The library, if one is loaded. Its folder may be read.
    pub library: Option<&'a Path>,
    /// The TCP ports that may be connected to. Without any there is no socket at all.
    pub ports: &'a [u16],
    /// Whether counters of devices may be opened (`perf_event_open`); those of processes never.
    pub may_count: bool,
    /// Files and folders that may be read besides those that every library needs.
    pub read_paths: &'a [&'a str],
    /// Device files that may be opened. A name that ends in `*` stands for all that begin so, and in a folder below `/dev` for all
    /// of the folder.
    pub device_files: &'a [&'a str],
    /// Folders in which files may be made, read and written: for what processes with the library share. Where there are some, the mode
    /// of what is open may be set.
    pub shared_folders: &'a [&'a str],
    /// Programs that may be executed. They are confined as well, but may make device files, and set owner and mode by path. Without any
    /// no process may be started.
    pub programs: &'a [&'a str],
    /// Private memory that the process may have.
    pub max_data_bytes: u64,
}

/// The process cannot be confined, although the kernel supports it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A resource limit cannot be set.
    #[error("setting a resource limit")]
    Limit(#[source] io::Error),
    /// The filter of system calls cannot be installed.
    #[error("installing the filter of system calls")]
    SystemCalls(#[source] seccompiler::Error),
    /// The rules on files cannot be applied.
    #[error("applying the rules on files")]
    Files(#[source] landlock::RulesetError),
}

/// The confinement of this process.
#[derive(Debug)]
pub struct Sandbox {
    device_patterns: Vec<String>,
    /// The device files that may be opened.
    device_files: BTreeSet<PathBuf>,
    files: String,
    system_calls: &'static str,
}

impl Sandbox {
    /// Confines this process, which must have a single thread. It cannot be undone.
    ///
    /// # Errors
    /// When something that the kernel supports cannot be applied.
    pub fn enter(policy: &SandboxPolicy<'_>) -> Result<Sandbox, SandboxError> {
        limits::set(policy.max_data_bytes).map_err(SandboxError::Limit)?;
        let device_files = files::matching(policy.device_files);
        let files = files::restrict(policy, &device_files).map_err(SandboxError::Files)?;
        // Last: it forbids what the others need.
        let system_calls = system_calls::filter(allowed_calls(policy))?;
        let device_patterns = policy.device_files.iter().copied().map(str::to_owned).collect();
        Ok(Sandbox { device_patterns, device_files, files, system_calls })
    }

    /// Whether there are device files that were not there when the process was confined, and that it may not open.
    pub fn has_new_device_files(&self) -> bool {
        let patterns: Vec<&str> = self.device_patterns.iter().map(String::as_str).collect();
        !files::matching(&patterns).is_subset(&self.device_files)
    }
}

/// The system calls that a policy needs besides those of every library.
fn allowed_calls(policy: &SandboxPolicy<'_>) -> AllowedCalls {
    AllowedCalls {
        connecting: !policy.ports.is_empty(),
        counting: policy.may_count,
        executing: !policy.programs.is_empty(),
        sharing: !policy.shared_folders.is_empty(),
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {} device files", self.files, self.system_calls, self.device_files.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_policy_allows_its_own_system_calls() {
        let none = SandboxPolicy {
            library: None,
            ports: &[],
            may_count: false,
            read_paths: &["/proc/driver"],
            device_files: &["/dev/acme*"],
            shared_folders: &[],
            programs: &[],
            max_data_bytes: 0,
        };
        let allowed = |policy: SandboxPolicy<'_>| {
            let AllowedCalls { connecting, counting, executing, sharing } = allowed_calls(&policy);
            [connecting, counting, executing, sharing]
        };
        assert_eq!(allowed(none), [false; 4]);
        assert_eq!(allowed(SandboxPolicy { ports: &[80], ..none }), [true, false, false, false]);
        assert_eq!(allowed(SandboxPolicy { may_count: true, ..none }), [false, true, false, false]);
        let programs = SandboxPolicy { programs: &["/usr/bin/acme"], ..none };
        assert_eq!(allowed(programs), [false, false, true, false]);
        let shared = SandboxPolicy { shared_folders: &["/dev/shm"], ..none };
        assert_eq!(allowed(shared), [false, false, false, true]);
    }

    #[test]
    fn a_device_file_that_was_made_later_is_new() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let pattern = folder.path().join("*").to_str().expect("temporary paths are UTF-8").to_owned();
        let file = folder.path().join("acme0").to_str().expect("temporary paths are UTF-8").to_owned();
        let sandbox = |patterns: &[&str]| Sandbox {
            device_patterns: patterns.iter().copied().map(str::to_owned).collect(),
            device_files: files::matching(patterns),
            files: String::new(),
            system_calls: "",
        };
        let (of_file, of_folder) = (sandbox(&[&file]), sandbox(&[&pattern]));
        assert!(!of_file.has_new_device_files() && !of_folder.has_new_device_files());
        std::fs::write(&file, "").expect("a file can be written");
        assert!(of_file.has_new_device_files());
        assert!(!of_folder.has_new_device_files(), "a folder below /dev was allowed as a whole");
    }
}
