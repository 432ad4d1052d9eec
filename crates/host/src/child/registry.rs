//! All child processes of this program: those that it started, and those that they left behind.
//!
//! A library may fork. Its process is the leader of a process group, which is killed as a whole, and this program adopts
//! orphans: as process 1 of a container, else as a child subreaper. What a library forked is then found in the group of its
//! process or, where it left that, as a child of this program that this program did not start.

use std::{
    collections::BTreeSet,
    fmt, io,
    process::{Child, Command},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use procfs::process::{Process, Stat, all_processes};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

/// The child processes of this program. There is one: a child that is not in it is taken for an orphan. Clones share it.
#[derive(Clone)]
pub struct ChildRegistry(Arc<Mutex<RegisteredProcesses>>);

#[derive(Debug, Default)]
struct RegisteredProcesses {
    /// Processes that were started here and are not reaped yet. Each leads a process group.
    leaders: BTreeSet<u32>,
    /// Children that were there before this program: `sh -c 'something & exec afd run'`.
    inherited: BTreeSet<u32>,
}

impl fmt::Debug for ChildRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

impl ChildRegistry {
    /// Adopts the orphans of all child processes from now on.
    pub fn adopting_orphans() -> ChildRegistry {
        // Process 1 adopts them anyway; without this their new parent is process 1.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let inherited = own_children().collect();
        ChildRegistry(Arc::new(Mutex::new(RegisteredProcesses { leaders: BTreeSet::new(), inherited })))
    }

    /// Starts a process. Registered under the same lock, so that it is never taken for an orphan.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut registered = self.lock();
        let child = command.spawn()?;
        registered.leaders.insert(child.id());
        Ok(child)
    }

    /// The processes that a killed one has left behind, each killed again: the living members of its group, and orphans that
    /// belong to no group of a process that was started here. Those that have ended are reaped.
    pub(super) fn kill_left_behind(&self, leader: u32) -> Vec<u32> {
        let registered = self.lock();
        let mut living = Vec::new();
        for process in processes() {
            let (pid, group) = (process.pid as u32, process.pgrp as u32);
            let is_orphan = registered.is_orphan(&process) && !registered.leaders.contains(&group);
            if pid == leader || !(group == leader || is_orphan) {
                continue;
            }
            if has_ended(&process) {
                reap(&process);
            } else {
                kill(&process);
                living.push(pid);
            }
        }
        living
    }

    /// The orphans in the group of a process that was started here, as far as a number of them.
    pub(super) fn orphans_of(&self, leader: u32, max: usize) -> Vec<u32> {
        let registered = self.lock();
        let orphans = own_children().filter(|pid| {
            let process = Process::new(*pid as i32).and_then(|process| process.stat());
            process.is_ok_and(|process| process.pgrp as u32 == leader && registered.is_orphan(&process))
        });
        orphans.take(max).collect()
    }

    /// Reaps orphans that have ended: as process 1, this program is the only one that can.
    pub(super) fn reap_orphans(&self) {
        let registered = self.lock();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Nothing is scanned while no child is waiting to be reaped.
        if !matches!(rustix::process::waitid(WaitId::All, options), Ok(Some(_))) {
            return;
        }
        for process in processes().filter(|process| registered.is_orphan(process) && has_ended(process)) {
            reap(&process);
        }
    }

    /// A process that was started here is reaped.
    pub(super) fn forget(&self, leader: u32) {
        self.lock().leaders.remove(&leader);
    }

    /// Kills every process that was started here, and all that they started, without waiting for their end: this program ends.
    pub fn kill_all(&self) {
        let leaders = self.lock().leaders.clone();
        for leader in leaders {
            kill_group(leader);
            self.kill_left_behind(leader);
        }
    }

    fn lock(&self) -> MutexGuard<'_, RegisteredProcesses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegisteredProcesses {
    /// Whether a process is a child of this program that it did not start.
    fn is_orphan(&self, process: &Stat) -> bool {
        let pid = process.pid as u32;
        process.ppid as u32 == std::process::id()
            && !self.leaders.contains(&pid)
            && !self.inherited.contains(&pid)
    }
}

/// Kills a process group. While its leader is not reaped, no other group can have its number.
pub(super) fn kill_group(leader: u32) {
    if let Some(group) = Pid::from_raw(leader as i32) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

fn processes() -> impl Iterator<Item = Stat> {
    all_processes().into_iter().flatten().filter_map(|process| process.ok()?.stat().ok())
}

fn own_children() -> impl Iterator<Item = u32> {
    Process::myself().into_iter().flat_map(|own| children(&own))
}

/// The children of a process; none where the kernel has no lists of them (`CONFIG_PROC_CHILDREN`).
pub(super) fn children(process: &Process) -> Vec<u32> {
    let tasks = process.tasks().into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.children().ok()).flatten().collect()
}

/// Whether a process is a zombie, or being removed.
fn has_ended(process: &Stat) -> bool {
    matches!(process.state, 'Z' | 'X' | 'x')
}

fn kill(process: &Stat) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Reaps a process, if it is a child of this one.
fn reap(process: &Stat) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}
