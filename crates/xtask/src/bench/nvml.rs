//! What asking a library costs: the agent with the fake NVML and its recording of eight H100.

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
    REST, SETTLE, budgets,
    figures::{Figure, Spread, kibibytes, milliseconds, percent, share},
    http::Connection,
    process::Running,
};

/// Events of the driver.
const EVENTS: u32 = 30;
/// Numbers of XIDs that no driver has, so that each event is told by a series of its own.
const FIRST_XID: u32 = 1000;
/// How often the page is asked for the event.
const LOOK: Duration = Duration::from_millis(2);
/// An event that is not told by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// A temporary driver root with the fake library, which reads its recording again whenever that changes.
struct DriverRoot {
    folder: TempDir,
    recording: Value,
}

impl DriverRoot {
    fn new(library: &Path, recording: &Path) -> anyhow::Result<DriverRoot> {
        let text = fs::read(recording).with_context(|| format!("reading {}", recording.display()))?;
        let recording = serde_json::from_slice(&text).context("reading the recording of NVML")?;
        let root = DriverRoot { folder: TempDir::new().context("making a temporary folder")?, recording };
        fs::create_dir_all(root.directory())?;
        fs::copy(library, root.directory().join("libnvidia-ml.so.1"))
            .with_context(|| format!("{} was not built", library.display()))?;
        root.write()?;
        Ok(root)
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("usr/lib64")
    }

    fn write(&self) -> anyhow::Result<()> {
        let new = self.directory().join("nvml.json.new");
        fs::write(&new, serde_json::to_vec(&self.recording)?)?;
        Ok(fs::rename(new, self.directory().join("nvml.json"))?)
    }

    /// Has the library tell of an XID of one of its eight GPUs.
    fn raise(&mut self, xid: u32) -> anyhow::Result<()> {
        let event = json!({ "device": xid % 8, "eventType": 8, "eventData": xid });
        match &mut self.recording["events"] {
            Value::Array(events) => events.push(event),
            events => *events = json!([event]),
        }
        self.write()
    }
}

/// Memory, CPU at rest, sampling and events of an agent that asks the library.
pub(super) fn measure(afd: &Path, library: &Path, host: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut root = DriverRoot::new(library, &host.join("libraries/nvml.json"))?;
    let run = || {
        let mut command = Command::new(afd);
        command.args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--host-root"]);
        command.arg(host.join("root"));
        command
    };
    let mut command = run();
    command.arg("--no-libraries");
    let without = Running::agent(command)?;
    let mut command = run();
    command.arg("--nvidia-driver-root").arg(root.folder.path());
    let with = Running::agent(command)?;
    thread::sleep(SETTLE);
    let memory_without = without.process().memory()?;
    drop(without);

    let (agent, child) = (with.process(), with.process().child()?);
    let before = (agent.cpu_time()?, child.cpu_time()?, Sampled::read(&with)?);
    thread::sleep(REST);
    let rest_agent = agent.cpu_time()?.saturating_sub(before.0);
    let rest_child = child.cpu_time()?.saturating_sub(before.1);
    let sampled = Sampled::read(&with)?.since(before.2)?;
    let (memory, child_memory) = (agent.memory()?, child.memory()?);

    let mut connection = Connection::open(with.address())?;
    let events = Spread::of(
        (0..EVENTS)
            .map(|number| event(&mut root, &mut connection, FIRST_XID + number))
            .collect::<anyhow::Result<_>>()?,
    );
    let spread = format!(
        "(min {}, median {}, max {} of {EVENTS} XIDs)",
        milliseconds(events.min),
        milliseconds(events.p50),
        milliseconds(events.max)
    );
    let both = |memory: super::process::Memory| {
        format!("{}, {} anonymous", kibibytes(memory.resident), kibibytes(memory.anonymous))
    };
    Ok(vec![
        Figure::unbudgeted("8 H100 without NVML: resident memory", both(memory_without)),
        Figure::unbudgeted("8 H100 with NVML: resident memory of the agent", both(memory)),
        Figure::unbudgeted("and of the process that asks NVML", both(child_memory)),
        Figure::at_most(
            "CPU of the agent at rest, of one core",
            share(rest_agent, REST),
            budgets::REST_PERCENT,
            percent,
        ),
        // Most of it is the fake's, which looks for events fifty times a second where NVML sleeps.
        Figure::unbudgeted("CPU of the other process, of one core", percent(share(rest_child, REST))),
        Figure::unbudgeted("a sample of 8 H100 by NVML, mean", milliseconds(sampled)),
        Figure::at_most("XID to metric, 99th percentile", events.p99, budgets::EVENT, milliseconds)
            .with(&spread),
    ])
}

/// From an event until `/metrics` tells of it.
fn event(root: &mut DriverRoot, connection: &mut Connection, xid: u32) -> anyhow::Result<Duration> {
    let series = format!("kind=\"xid\",detail=\"{xid}\"");
    let begun = Instant::now();
    root.raise(xid)?;
    loop {
        let page = connection.get("/metrics")?;
        if String::from_utf8_lossy(&page).contains(&series) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < PATIENCE, "XID {xid} is not told");
        thread::sleep(LOOK);
    }
}

/// How long samples took, as the agent counts them.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    seconds: f64,
    samples: f64,
}

impl Sampled {
    /// By a connection of its own: one at rest is closed by the agent.
    fn read(agent: &Running) -> anyhow::Result<Sampled> {
        let page = Connection::open(agent.address())?.get("/metrics")?;
        let text = String::from_utf8_lossy(&page);
        let value = |name: &str| {
            let begin = format!("afd_probe_duration_seconds_{name}{{probe=\"nvidia\",step=\"sample\"}}");
            text.lines().find_map(|line| line.strip_prefix(&begin)?.trim().parse().ok())
        };
        let told = value("sum").zip(value("count"));
        let (seconds, samples) = told.context("the agent does not tell how long its samples take")?;
        Ok(Sampled { seconds, samples })
    }

    /// The mean of the samples since another time.
    fn since(self, before: Sampled) -> anyhow::Result<Duration> {
        let samples = self.samples - before.samples;
        ensure!(samples > 0.0, "nothing was sampled");
        Ok(Duration::from_secs_f64((self.seconds - before.seconds) / samples))
    }
}
