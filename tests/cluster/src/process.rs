//! Programs that run in a bed, with their logs; they can be killed and started again.

use std::{
    fs,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// How long [`until`] waits: many times what it takes on an idle machine.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// The number of lines of each log that a failed test prints.
const TAIL_LINES: usize = 15;

/// A running program; it is killed when the value is dropped.
#[derive(Debug)]
pub struct BedProcess {
    name: String,
    command: Command,
    child: Child,
    log: PathBuf,
}

impl BedProcess {
    /// Starts a program; its output is appended to `logs/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> anyhow::Result<BedProcess> {
        let log = logs.join(format!("{name}.log"));
        let child = spawn(name, &mut command, &log)?;
        Ok(BedProcess { name: name.to_owned(), command, child, log })
    }

    /// Ends the program with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} ended before it was killed: {status}\n{}", self.name, self.tail());
        }
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Starts the program again with the same command, once it has ended.
    ///
    /// # Errors
    /// When it is running, or cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            bail!("{} is still running", self.name);
        }
        self.child = spawn(&self.name, &mut self.command, &self.log)?;
        Ok(())
    }

    /// The exit status of the program, once it has ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Its process id in the bed.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for BedProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("opening {}", log.display()))?;
    let copy = file.try_clone().context("sharing a log")?;
    command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .with_context(|| format!("starting {name} ({})", command.get_program().display()))
}

/// The standard output of a command that must succeed.
///
/// # Errors
/// When it cannot be started or fails; the error contains its standard error.
pub fn succeed(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {error}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The ends of all logs of a folder.
pub(crate) fn tails(logs: &Path) -> String {
    let Ok(entries) = fs::read_dir(logs) else { return String::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|log| tail(log)).collect()
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    format!("--- the end of {}:\n{last}\n", log.file_name().unwrap_or_default().display())
}

/// Repeats an attempt every 50 ms until it succeeds.
///
/// # Errors
/// When it has not succeeded after [`TIMEOUT`]; the error contains that of the last attempt that ended.
pub async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + TIMEOUT;
    let mut last = anyhow::anyhow!("no attempt has ended");
    loop {
        match tokio::time::timeout_at(end.into(), attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            // The last one that ended says more.
            Err(_) => {}
        }
        if Instant::now() >= end {
            return Err(last.context(format!("timed out waiting until {what}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
