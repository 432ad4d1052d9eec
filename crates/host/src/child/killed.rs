//! A process that was killed, until it and all that it started have ended.

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::registry::{ChildRegistry, kill_group};

/// How long to wait for the exit of a process that closed its output, before it is killed: one that crashed exits at once.
const EXIT_GRACE: Duration = Duration::from_millis(100);
/// How long to wait for the exit of a killed process. One that hangs within the driver may take far longer.
const KILL_GRACE: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A process that was killed. It is not reaped before all that it started has ended: its number stays that of its group.
#[derive(Debug)]
pub(super) struct KilledProcess {
    process: Child,
    registry: ChildRegistry,
    /// Its exit status, once all have ended.
    status: Option<String>,
}

impl KilledProcess {
    /// Kills a process and its group, and waits a short time for the end of all.
    pub(super) fn new(mut process: Child, registry: ChildRegistry, closed_output: bool) -> KilledProcess {
        // A process that works exits once its input is closed.
        drop(process.stdin.take());
        let mut killed = KilledProcess { process, registry, status: None };
        if closed_output {
            killed.wait(EXIT_GRACE, KilledProcess::leader_has_ended);
        }
        kill_group(killed.process.id());
        killed.wait(KILL_GRACE, |killed| killed.living().is_empty());
        killed
    }

    /// Its exit status; none while it or something that it started lives.
    pub(super) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// The processes that have not ended. Those that a library started meanwhile are killed as well.
    pub(super) fn living(&mut self) -> Vec<u32> {
        if self.status.is_some() {
            return Vec::new();
        }
        let leader = self.process.id();
        if !self.leader_has_ended() {
            return vec![leader];
        }
        let living = self.registry.kill_left_behind(leader);
        if living.is_empty() {
            let status = self.process.wait();
            self.status = Some(status.map_or_else(|_| "unknown".to_owned(), |status| status.to_string()));
            self.registry.forget(leader);
        }
        living
    }

    /// Whether the process itself has ended, without reaping it.
    fn leader_has_ended(&mut self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(&self.process);
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    }

    fn wait(&mut self, timeout: Duration, is_over: impl Fn(&mut KilledProcess) -> bool) {
        let begun = Instant::now();
        while !is_over(self) && begun.elapsed() < timeout {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
impl KilledProcess {
    /// A process that was killed and lives until the process with this number, which another owner waits for, has ended.
    pub(super) fn for_test(process: Child, registry: ChildRegistry) -> KilledProcess {
        KilledProcess { process, registry, status: None }
    }
}
