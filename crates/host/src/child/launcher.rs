//! How processes are started: what all processes of a library have in common.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::ChildRegistry;

/// Starts children: what all of them have in common.
#[derive(Clone)]
pub struct Launcher {
    /// The path of this program.
    pub program: PathBuf,
    /// The environment of the process. It inherits nothing.
    pub environment: &'static [(&'static str, &'static str)],
    /// Resident memory above which the process is killed.
    pub max_resident_bytes: u64,
    /// How long a request waits for its response before it returns [`RequestError::Pending`](super::RequestError::Pending).
    pub timeout: Duration,
    /// Called when a late response arrives, and when the process ends.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// Called when an event arrives.
    pub wake_for_event: Arc<dyn Fn() + Send + Sync>,
    /// Called for what the process writes to the log: bounded, made UTF-8, but not yet safe for a terminal.
    pub log: Arc<dyn Fn(ChildNote<'_>) + Send + Sync>,
    /// All processes that this program has started.
    pub registry: ChildRegistry,
}

/// Something about a process for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChildNote<'a> {
    /// What confines it, once after its start.
    Confined(&'a str),
    /// A line that it or the library has printed.
    Printed(&'a str),
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher")
            .field("program", &self.program)
            .field("environment", &self.environment)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Launcher {
    /// For processes without environment and without a limit of memory, which wake no one and whose log is dropped.
    pub fn new(program: PathBuf, timeout: Duration, registry: ChildRegistry) -> Launcher {
        Launcher {
            program,
            environment: &[],
            max_resident_bytes: u64::MAX,
            timeout,
            wake: Arc::new(|| ()),
            wake_for_event: Arc::new(|| ()),
            log: Arc::new(|_| ()),
            registry,
        }
    }
}
