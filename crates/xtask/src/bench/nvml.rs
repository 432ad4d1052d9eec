//! What a vendor library costs: the agent with the fake NVML and its recording of eight H100.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    CYCLE, IDLE, SETTLE, budgets,
    figures::{Figure, Spread, kibibytes, milliseconds, percent, share},
    http::KeptConnection,
    process::{ProcessMemory, ServingProcess},
    sample_times::SampleTimes,
};

/// Events of the driver.
const EVENTS: u32 = 30;
/// The XID of every event: a page fault, which comes from the workload and repeats.
const XID: u32 = 31;
/// How often the page is read until it contains the event.
const INTERVAL: Duration = Duration::from_millis(2);
/// An event that is not reported within this time is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A temporary driver root with the fake library, which reads its recording again whenever that changes.
pub(crate) struct NvmlRoot {
    folder: TempDir,
    recording: Value,
}

impl NvmlRoot {
    /// With a recording.
    pub(crate) fn new(library: &Path, recording: &Path) -> anyhow::Result<NvmlRoot> {
        let text = fs::read(recording).with_context(|| format!("reading {}", recording.display()))?;
        let recording = serde_json::from_slice(&text).context("reading the recording of NVML")?;
        let root = NvmlRoot { folder: TempDir::new().context("making a temporary folder")?, recording };
        fs::create_dir_all(root.directory())?;
        fs::copy(library, root.directory().join("libnvidia-ml.so.1"))
            .with_context(|| format!("{} was not built", library.display()))?;
        root.write()?;
        Ok(root)
    }

    /// Where the agent finds it.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("usr/lib64")
    }

    fn write(&self) -> anyhow::Result<()> {
        let new = self.directory().join("nvml.json.new");
        fs::write(&new, serde_json::to_vec(&self.recording)?)?;
        Ok(fs::rename(new, self.directory().join("nvml.json"))?)
    }

    /// Lets the library report an XID of one of its GPUs.
    fn raise(&mut self, device: u32) -> anyhow::Result<()> {
        let event = json!({ "device": device, "eventType": 8, "eventData": XID });
        match &mut self.recording["events"] {
            Value::Array(events) => events.push(event),
            events => *events = json!([event]),
        }
        self.write()
    }
}

/// Memory, CPU while idle, sampling and events of an agent that uses the library.
pub(super) fn measure(afd: &Path, library: &Path, host: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut root = NvmlRoot::new(library, &host.join("libraries/nvml.json"))?;
    let run = || {
        let mut command = Command::new(afd);
        command.args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--host-root"]);
        command.arg(host.join("root"));
        command
    };
    let mut command = run();
    command.arg("--no-libraries");
    let without = ServingProcess::agent(command)?;
    let mut command = run();
    command.arg("--nvidia-driver-root").arg(root.path());
    let with = ServingProcess::agent(command)?;
    thread::sleep(SETTLE);
    let memory_without = without.process().most_memory(CYCLE)?;
    drop(without);

    let (agent, child) = (with.process(), with.process().child()?);
    let before = (agent.cpu_time()?, child.cpu_time()?, SampleTimes::read(&with, "nvidia")?);
    thread::sleep(IDLE);
    let idle_agent = agent.cpu_time()?.saturating_sub(before.0);
    let idle_child = child.cpu_time()?.saturating_sub(before.1);
    let sampled = SampleTimes::read(&with, "nvidia")?.since(before.2)?;
    let (memory, child_memory) = (agent.most_memory(CYCLE)?, child.memory()?);

    let mut connection = KeptConnection::open(with.address())?;
    let events = Spread::new(
        (0..EVENTS)
            .map(|number| event(&mut root, &mut connection, number % 8))
            .collect::<anyhow::Result<_>>()?,
    );
    let spread = format!(
        "(min {}, median {}, max {} of {EVENTS} XIDs)",
        milliseconds(events.min),
        milliseconds(events.p50),
        milliseconds(events.max)
    );
    let both = |memory: ProcessMemory| {
        format!("{}, {} anonymous", kibibytes(memory.resident), kibibytes(memory.anonymous))
    };
    Ok(vec![
        Figure::unbudgeted("8 H100 without NVML: resident memory", both(memory_without)),
        Figure::at_most(
            "8 H100 with NVML: resident memory of the agent",
            memory.resident,
            budgets::RESIDENT_WITH_LIBRARY_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&format!("({} anonymous)", kibibytes(memory.anonymous))),
        Figure::at_most(
            "8 H100 with NVML: resident memory of the child process",
            child_memory.resident,
            budgets::CHILD_RESIDENT_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&format!("({} anonymous)", kibibytes(child_memory.anonymous))),
        Figure::at_most(
            "CPU of the agent while idle, of one core",
            share(idle_agent, IDLE),
            budgets::IDLE_PERCENT,
            percent,
        ),
        Figure::at_most(
            "CPU of the child process, of one core",
            share(idle_child, IDLE),
            budgets::CHILD_PERCENT,
            percent,
        ),
        Figure::at_most("a sample of 8 H100 by NVML, mean", sampled, budgets::SAMPLE, milliseconds),
        Figure::at_most("XID to metric, 99th percentile", events.p99, budgets::EVENT, milliseconds)
            .with_detail(&spread),
    ])
}

/// The time from an event of a GPU until `/metrics` counts it.
fn event(root: &mut NvmlRoot, connection: &mut KeptConnection, device: u32) -> anyhow::Result<Duration> {
    let before = counted_xids(connection)?;
    let begun = Instant::now();
    root.raise(device)?;
    while counted_xids(connection)? == before {
        ensure!(begun.elapsed() < TIMEOUT, "the XID of GPU {device} is not counted");
        thread::sleep(INTERVAL);
    }
    Ok(begun.elapsed())
}

/// The XIDs that `/metrics` counts, of all GPUs.
fn counted_xids(connection: &mut KeptConnection) -> anyhow::Result<f64> {
    let page = connection.get("/metrics")?;
    let text = String::from_utf8_lossy(&page);
    let counters = text.lines().filter(|line| line.contains("kind=\"xid\""));
    counters.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
}
