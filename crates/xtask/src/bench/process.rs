//! A process that serves metrics, and its memory and CPU time.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::http::KeptConnection;
use crate::{containerfile::ImageStage, cpu_time::CpuTime, workspace::Workspace};

/// How long a process may take until it serves.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two readings of a process's memory.
const READING: Duration = Duration::from_millis(100);

/// A process that serves metrics; it is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct ServingProcess {
    child: Child,
    address: String,
}

/// Memory in KiB (`Documentation/filesystems/proc.rst`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProcessMemory {
    /// `VmRSS`.
    pub(crate) resident: u64,
    /// `RssAnon`.
    pub(crate) anonymous: u64,
    /// `Private_Clean` and `Private_Dirty`.
    pub(crate) private: u64,
}

/// A process, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasuredProcess(u32);

/// The environment that the image sets.
pub(super) fn image_environment() -> anyhow::Result<Vec<(String, String)>> {
    ImageStage::read(&Workspace::find()?.root)?.environment()
}

impl ServingProcess {
    /// Starts the agent with the environment that its image sets. It chooses a port and logs it.
    pub(crate) fn agent(mut command: Command) -> anyhow::Result<ServingProcess> {
        let mut child = command
            .envs(image_environment()?)
            .env("NO_COLOR", "1")
            .env("AFD_LOG", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the agent")?;
        let mut log = BufReader::new(child.stderr.take().context("the agent's log is ours")?);
        let mut running = ServingProcess { child, address: String::new() };
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
    pub(crate) fn peer(command: &mut Command) -> anyhow::Result<ServingProcess> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = command
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .spawn()
            .context("starting node_exporter")?;
        ServingProcess { child, address }.ready()
    }

    /// Waits until metrics are served.
    fn ready(self) -> anyhow::Result<ServingProcess> {
        let begun = Instant::now();
        while let Err(error) =
            KeptConnection::open(&self.address).and_then(|mut server| server.get("/metrics"))
        {
            if begun.elapsed() > TIMEOUT {
                return Err(error.context("waiting for metrics"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// The address that it serves at, `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process itself.
    pub(crate) fn process(&self) -> MeasuredProcess {
        MeasuredProcess(self.child.id())
    }
}

impl MeasuredProcess {
    /// The first process that it has started.
    pub(crate) fn child(self) -> anyhow::Result<MeasuredProcess> {
        let tasks = format!("/proc/{}/task", self.0);
        for task in fs::read_dir(&tasks).with_context(|| format!("listing {tasks}"))? {
            // The thread may have ended in the meantime.
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next() {
                return Ok(MeasuredProcess(child.parse().context("reading the id of a process")?));
            }
        }
        bail!("process {} has no child", self.0)
    }

    /// Its memory now.
    pub(crate) fn memory(self) -> anyhow::Result<ProcessMemory> {
        let (status, smaps) = (self.proc("status")?, self.proc("smaps_rollup")?);
        let read = || {
            Some(ProcessMemory {
                resident: field(&status, "VmRSS:")?,
                anonymous: field(&status, "RssAnon:")?,
                private: field(&smaps, "Private_Clean:")? + field(&smaps, "Private_Dirty:")?,
            })
        };
        read().context("reading the memory of a process")
    }

    /// The most of each kind of memory over a time. The agent maps files for a sample, and unmaps them once a
    /// minute.
    pub(crate) fn most_memory(self, time: Duration) -> anyhow::Result<ProcessMemory> {
        let begun = Instant::now();
        let mut most = self.memory()?;
        while begun.elapsed() < time {
            thread::sleep(READING);
            let now = self.memory()?;
            most = ProcessMemory {
                resident: most.resident.max(now.resident),
                anonymous: most.anonymous.max(now.anonymous),
                private: most.private.max(now.private),
            };
        }
        Ok(most)
    }

    /// The least anonymous memory over a time, in KiB: what it cannot return.
    pub(crate) fn least_anonymous(self, time: Duration) -> anyhow::Result<u64> {
        let begun = Instant::now();
        let mut least = self.memory()?.anonymous;
        while begun.elapsed() < time {
            thread::sleep(READING);
            least = least.min(self.memory()?.anonymous);
        }
        Ok(least)
    }

    /// CPU time so far, without that of its children.
    pub(crate) fn cpu_time(self) -> anyhow::Result<Duration> {
        Ok(CpuTime::of(self.0)?.own)
    }

    fn proc(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

impl Drop for ServingProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of a line such as `VmRSS:      8123 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
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
}
