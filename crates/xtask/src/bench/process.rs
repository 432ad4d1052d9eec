//! A process that serves, and what the kernel counts of it.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::http::Connection;

/// How long a process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that serves; it is ended when the value goes.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    address: String,
}

/// Memory in KiB (`Documentation/filesystems/proc.rst`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Memory {
    /// `VmRSS`.
    pub(super) resident: u64,
    /// `RssAnon`.
    pub(super) anonymous: u64,
    /// `Private_Clean` and `Private_Dirty`.
    pub(super) private: u64,
}

/// A process, by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(u32);

impl Running {
    /// Starts the agent with a port of its own choice, which it tells in its log.
    pub(super) fn agent(mut command: Command) -> anyhow::Result<Running> {
        let mut child = command
            .env("NO_COLOR", "1")
            .env("AFD_LOG", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the agent")?;
        let mut log = BufReader::new(child.stderr.take().context("the agent's log is ours")?);
        let mut running = Running { child, address: String::new() };
        let mut line = String::new();
        while running.address.is_empty() {
            line.clear();
            ensure!(log.read_line(&mut line)? > 0, "the agent ended before it served");
            if let Some((_, address)) = line.trim_end().split_once("serving address=") {
                running.address = address.to_owned();
            }
        }
        // A full pipe would stop the agent.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        running.ready()
    }

    /// Starts node_exporter on a free port.
    pub(super) fn peer(command: &mut Command) -> anyhow::Result<Running> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = command
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .spawn()
            .context("starting node_exporter")?;
        Running { child, address }.ready()
    }

    /// Waits until metrics are served.
    fn ready(self) -> anyhow::Result<Running> {
        let begun = Instant::now();
        while let Err(error) = Connection::open(&self.address).and_then(|mut server| server.get("/metrics")) {
            if begun.elapsed() > PATIENCE {
                return Err(error.context("waiting for metrics"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Where it serves, `127.0.0.1:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The process itself.
    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Process {
    /// The first process that it has started.
    pub(super) fn child(self) -> anyhow::Result<Process> {
        let tasks = format!("/proc/{}/task", self.0);
        for task in fs::read_dir(&tasks).with_context(|| format!("listing {tasks}"))? {
            // A thread may have ended since.
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next() {
                return Ok(Process(child.parse().context("reading the id of a process")?));
            }
        }
        bail!("process {} has started no other", self.0)
    }

    /// What it holds now.
    pub(super) fn memory(self) -> anyhow::Result<Memory> {
        let (status, smaps) = (self.proc("status")?, self.proc("smaps_rollup")?);
        let read = || {
            Some(Memory {
                resident: field(&status, "VmRSS:")?,
                anonymous: field(&status, "RssAnon:")?,
                private: field(&smaps, "Private_Clean:")? + field(&smaps, "Private_Dirty:")?,
            })
        };
        read().context("the kernel does not tell the memory of a process")
    }

    /// CPU time so far, of the program and of the kernel on its behalf.
    pub(super) fn cpu_time(self) -> anyhow::Result<Duration> {
        let ticks =
            cpu_ticks(&self.proc("stat")?).context("the kernel does not tell the CPU time of a process")?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    fn proc(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of a line such as `VmRSS:      8123 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
}

/// `utime` and `stime` of `/proc/PID/stat`, the fields 14 and 15. The second field is a name in brackets, which may
/// hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_name() {
        let status = "Name:\tafd\nVmRSS:\t    8124 kB\nRssAnon:\t    1900 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(8124));
        assert_eq!(field(status, "RssAnon:"), Some(1900));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn cpu_time_is_read_past_a_strange_name() {
        let stat = "42 (a ) 9) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 3 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(22));
        assert_eq!(cpu_ticks("42 (afd"), None);
    }
}
