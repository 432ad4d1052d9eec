//! How long a program runs, and how much memory it needs.

use std::{
    fs, io,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

/// Runs a command to its end; returns its output, the time, and the most memory in KiB that it had resident.
///
/// # Errors
/// When it cannot be started.
pub fn measured(command: &mut Command) -> io::Result<(Output, Duration, u64)> {
    let begin = Instant::now();
    let child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let sampler = thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            // A process that has ended has no memory.
            let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
            most = most.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
            thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let output = child.wait_with_output()?;
    let time = begin.elapsed();
    let memory = sampler.join().map_err(|_| io::Error::other("the sampler has panicked"))?;
    Ok((output, time, memory))
}
