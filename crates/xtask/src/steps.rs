//! Programs that run one after another, each announced and timed, until one fails.
//!
//! Steps of one lane write to the terminal. Where several lanes run side by side, the output of a step is printed at its
//! end, so that it stays in one piece.

use std::{
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::captured::{self, Captured};

/// The steps of one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    lane: Option<&'static str>,
    log: &'a StepLog,
}

/// All finished steps, with their times.
#[derive(Debug, Default)]
pub(crate) struct StepLog {
    finished: Mutex<Vec<FinishedStep>>,
    failed: AtomicBool,
    terminal: Mutex<()>,
}

#[derive(Clone, Debug)]
struct FinishedStep {
    lane: String,
    name: String,
    duration: Duration,
    /// Unknown for a step that writes to the terminal.
    cpu_time: Option<Duration>,
    is_failed: bool,
}

/// A program that ran and failed.
#[derive(Debug)]
pub(crate) struct StepError {
    step: String,
    code: Option<i32>,
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "`{}` failed with exit code {code}", self.step),
            None => write!(f, "`{}` was terminated by a signal", self.step),
        }
    }
}

impl std::error::Error for StepError {}

/// A step that did not run to its end, because another lane has failed.
#[derive(Debug)]
pub(crate) struct Stopped(String);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was stopped, because another lane has failed", self.0)
    }
}

impl std::error::Error for Stopped {}

impl StepError {
    /// The exit code of the program, 1 where it was terminated by a signal.
    pub(crate) fn exit_code(&self) -> ExitCode {
        self.code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl StepLog {
    /// Steps that write to the terminal.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps { lane: None, log: self }
    }

    /// Runs the steps of a lane beside those of others. When one lane fails, the steps of all lanes are stopped.
    pub(crate) fn lane<T>(
        &self,
        name: &'static str,
        run: impl FnOnce(Steps<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let outcome = run(Steps { lane: Some(name), log: self });
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome.with_context(|| format!("lane {name}"))
    }

    /// Adds a finished step whose output was captured.
    pub(crate) fn add(&self, lane: &str, name: &str, captured: &Captured, is_failed: bool) {
        let Captured { duration, cpu_time, .. } = *captured;
        let (lane, name) = (lane.to_owned(), name.to_owned());
        self.push(FinishedStep { lane, name, duration, cpu_time: Some(cpu_time), is_failed });
    }

    fn push(&self, step: FinishedStep) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Prints lines that stay together.
    pub(crate) fn print(&self, text: &str) {
        let _terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{text}");
    }

    /// The finished steps with their times, as a table.
    pub(crate) fn table(&self) -> String {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = format!("{:<10}{:>8}{:>8}  step\n", "lane", "seconds", "CPU");
        for step in finished.iter() {
            let FinishedStep { lane, name, duration, cpu_time, is_failed } = step;
            let cpu_time = cpu_time.map(|time| format!("{:.1}", time.as_secs_f64())).unwrap_or_default();
            let outcome = if *is_failed { " (failed)" } else { "" };
            table += &format!("{lane:<10}{:>8.1}{cpu_time:>8}  {name}{outcome}\n", duration.as_secs_f64());
        }
        table
    }
}

impl Steps<'_> {
    /// Runs a program. Its failure is an error.
    pub(crate) fn run(&self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let step = spelled(command);
        let status = match self.lane {
            None => self.run_on_terminal(name, &step, command)?,
            Some(lane) => self.run_captured(lane, name, &step, command)?,
        };
        if status.success() { Ok(()) } else { Err(StepError { step, code: status.code() }.into()) }
    }

    fn run_on_terminal(&self, name: &str, step: &str, command: &mut Command) -> anyhow::Result<ExitStatus> {
        self.log.print(&format!("\n==> {step}"));
        let begun = Instant::now();
        let status = command.status().with_context(|| format!("starting `{step}`"))?;
        self.log.push(FinishedStep {
            lane: String::new(),
            name: name.to_owned(),
            duration: begun.elapsed(),
            cpu_time: None,
            is_failed: !status.success(),
        });
        Ok(status)
    }

    fn run_captured(
        &self,
        lane: &str,
        name: &str,
        step: &str,
        command: &mut Command,
    ) -> anyhow::Result<ExitStatus> {
        let is_stopped = || self.log.failed.load(Ordering::Relaxed);
        if is_stopped() {
            return Err(Stopped(name.to_owned()).into());
        }
        self.log.print(&format!("[{lane}] {name} started"));
        let captured = captured::run(command.stdin(Stdio::null()), None, is_stopped)
            .with_context(|| format!("running `{step}`"))?;
        let Some(captured) = captured else { return Err(Stopped(name.to_owned()).into()) };
        let seconds = captured.duration.as_secs_f64();
        self.log.print(&format!("\n==> [{lane}] {name}, {seconds:.1} s: {step}\n{}", captured.text));
        self.log.add(lane, name, &captured, !captured.status.success());
        Ok(captured.status)
    }

    /// Prints a result of the steps.
    pub(crate) fn print(&self, text: &str) {
        self.log.print(text);
    }
}

/// The command as it would be typed.
fn spelled(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={:?}", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words =
        std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_reports_its_command_and_code() {
        let log = StepLog::default();
        let error = log
            .steps()
            .run("exit", Command::new("sh").args(["-c", "exit 7"]))
            .expect_err("the program fails");
        assert_eq!(error.to_string(), "`sh -c exit 7` failed with exit code 7");
        let step = error.downcast_ref::<StepError>().expect("the step failed, not its start");
        assert_eq!(step.code, Some(7));
        assert!(log.table().contains("  exit (failed)\n"), "{}", log.table());
    }

    #[test]
    fn a_failed_lane_is_named_and_stops_the_others() {
        let log = StepLog::default();
        let fails = |steps: Steps<'_>| steps.run("fails", &mut Command::new("false"));
        let waits = |steps: Steps<'_>| steps.run("waits", Command::new("sleep").arg("1000"));
        let (failed, stopped) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.lane("b", waits));
            (log.lane("a", fails), waiting.join().expect("a lane does not panic"))
        });
        assert_eq!(
            format!("{:#}", failed.expect_err("the lane fails")),
            "lane a: `false` failed with exit code 1"
        );
        let stopped = stopped.expect_err("the lane is stopped");
        assert!(stopped.is::<Stopped>(), "{stopped:#}");
    }

    #[test]
    fn a_step_is_spelled_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(spelled(&command), "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps");
    }
}
