//! A program whose output is kept until it ends.

use std::{
    fs::File,
    io::{Read, Seek},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::cpu_time::CpuTime;

/// How often a running program is checked.
const INTERVAL: Duration = Duration::from_millis(50);

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Captured {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output and standard error, in the order in which they were written.
    pub(crate) text: String,
    /// How long it ran.
    pub(crate) duration: Duration,
    /// The CPU time that it and its descendants have used.
    pub(crate) cpu_time: Duration,
}

/// Runs a program to its end. It is killed after `timeout`, and when `is_stopped` becomes true; there is no result in
/// the latter case.
pub(crate) fn run(
    command: &mut Command,
    timeout: Option<Duration>,
    is_stopped: impl Fn() -> bool,
) -> anyhow::Result<Option<Captured>> {
    let mut output = tempfile::tempfile().context("making a file for the output")?;
    let copy = |file: &File| file.try_clone().context("sharing the file for the output");
    command.stdout(copy(&output)?).stderr(copy(&output)?);
    let begun = Instant::now();
    let mut child = command.spawn().context("starting it")?;
    let mut is_running = true;
    while is_running {
        if is_stopped() {
            child.kill().context("killing it")?;
            child.wait().context("waiting for its end")?;
            return Ok(None);
        }
        if timeout.is_some_and(|timeout| begun.elapsed() > timeout) {
            child.kill().context("killing it")?;
        }
        thread::sleep(INTERVAL);
        // The kernel keeps its CPU time until it is waited for.
        let without_waiting = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(Pid::from_child(&child)), without_waiting);
        is_running = ended.context("waiting for its end")?.is_none();
    }
    let duration = begun.elapsed();
    let CpuTime { own, descendants } = CpuTime::of(child.id())?;
    let status = child.wait().context("waiting for its end")?;
    let mut bytes = Vec::new();
    output.rewind().context("reading the output")?;
    output.read_to_end(&mut bytes).context("reading the output")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Captured { status, text, duration, cpu_time: own + descendants }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_kept_in_order() {
        let script = "echo one; echo two >&2; echo three";
        let captured = run(Command::new("sh").args(["-c", script]), None, || false);
        let captured = captured.expect("the program runs").expect("it is not stopped");
        assert!(captured.status.success());
        assert_eq!(captured.text, "one\ntwo\nthree\n");
    }

    #[test]
    fn a_program_is_killed_after_its_timeout() {
        let timeout = Duration::from_millis(10);
        let captured = run(Command::new("sleep").arg("1000"), Some(timeout), || false);
        assert!(!captured.expect("the program runs").expect("it is not stopped").status.success());
    }
}
