//! `cargo xtask bench`: what the agent costs, compared with its budgets.
//!
//! First the micro-benchmarks of afd-tests, then whole processes: the release binary over fixture hosts, with the fake NVML
//! as well, Debian's prometheus-node-exporter as a peer in the same run, and the attacks of the hostile tests. The result is a
//! table; no measured figure fails the command.

mod agents;
mod attacks;
mod budgets;
mod dcgm_listener;
mod figures;
pub(crate) mod http;
mod large_host;
pub(crate) mod levelzero;
pub(crate) mod nvml;
pub(crate) mod process;
mod sample_times;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use object::{Object, ObjectSection};

pub(crate) use self::agents::{agents, nodes};
use self::{
    figures::{Figure, Spread, kibibytes, mebibytes, milliseconds, percent, share},
    http::KeptConnection,
    process::ServingProcess,
};
use crate::{
    setup,
    steps::Steps,
    workspace::{Workspace, on_path},
};

/// Starts of `afd show`.
const STARTS: usize = 20;
/// How long a process runs before its memory is read.
const SETTLE: Duration = Duration::from_secs(15);
/// How long the idle process is observed.
const IDLE: Duration = Duration::from_secs(60);
/// Three samples: what differs from one to the next is seen.
const CYCLE: Duration = Duration::from_secs(15);
/// The scrapes of agent and peer alternate in this many rounds, so that noise of the machine affects both.
const ROUNDS: usize = 10;
/// Scrapes of the agent in a round.
const AGENT_SCRAPES: usize = 200;
/// Scrapes of the peer in a round.
const PEER_SCRAPES: usize = 20;

/// Measures everything and prints the table.
pub(crate) fn bench(
    steps: &Steps<'_>,
    workspace: &Workspace,
    whole_process_only: bool,
) -> anyhow::Result<()> {
    setup::install_missing(steps, &setup::BENCH)?;
    if !whole_process_only {
        steps.run("micro-benchmarks", &mut workspace.cargo("bench --package afd-tests"))?;
    }
    steps.run("binary", &mut workspace.cargo("build --release --package afd-agent --bin afd"))?;
    let fakes = "build --release --package afd-fake-nvml --package afd-fake-amdsmi --package afd-fake-levelzero \
                 --package afd-fake-hostile";
    steps.run("fake libraries", &mut workspace.cargo(fakes))?;
    let afd = workspace.target.join("release/afd");
    let nvml = workspace.target.join("release/libafd_fake_nvml.so");
    let hosts = workspace.root.join("fixtures/hosts");

    let mut figures = vec![binary(&afd)?, code_at_rest(&afd)?];
    eprintln!("\n==> {STARTS} starts on a host with {} PCI functions", large_host::FUNCTIONS);
    figures.push(start(&afd, &hosts.join("nvidia-h100x8/root"))?);
    eprintln!("==> a running agent, for some minutes");
    // Eight devices whose drivers expose enough for the budgets of scrapes.
    figures.extend(agent(&afd, &hosts.join("amd-mi210x8-two-hives/root"))?);
    eprintln!("==> the same with NVML, for {} s and some events", (SETTLE + IDLE).as_secs());
    figures.extend(nvml::measure(&afd, &nvml, &hosts.join("nvidia-h100x8-nvml"))?);
    eprintln!("==> eight GPUs of two tiles with Level Zero, for {} s", (SETTLE + IDLE).as_secs());
    let library = workspace.target.join("release/libafd_fake_levelzero.so");
    figures.extend(levelzero::measure(&afd, &library, &hosts.join("intel-max1550-x2"))?);
    eprintln!(
        "==> the listener for endpoint pickers, for {} s",
        (dcgm_listener::WARM_UP + dcgm_listener::LOAD).as_secs()
    );
    figures.extend(dcgm_listener::measure(&afd, &hosts.join("amd-mi300x8-spx/root"))?);
    eprintln!("==> attacks, for three minutes");
    figures.extend(attacks::measure(workspace, &workspace.target.join("release"))?);
    println!("\n{}", figures::table(&figures));
    Ok(())
}

fn binary(afd: &Path) -> anyhow::Result<Figure> {
    let bytes = afd.metadata().with_context(|| format!("{} was not built", afd.display()))?.len();
    Ok(Figure::at_most("binary, stripped", bytes, budgets::BINARY_BYTES, mebibytes))
}

/// The code that the list of functions at rest selects: none where the list is of another program.
fn code_at_rest(afd: &Path) -> anyhow::Result<Figure> {
    let data = fs::read(afd).with_context(|| format!("reading {}", afd.display()))?;
    let file = object::File::parse(&*data).context("reading the program")?;
    let bytes = file.section_by_name(".text.at_rest").map_or(0, |section| section.size());
    Ok(Figure::unbudgeted("code that the list of functions at rest selects", mebibytes(bytes)))
}

/// From the start of `afd show` to its end, when the complete inventory is written.
fn start(afd: &Path, fixture: &Path) -> anyhow::Result<Figure> {
    let host = large_host::lay_out(fixture)?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let output = Command::new(afd)
            .args(["show", "--output", "json", "--host-root"])
            .arg(host.path())
            .output()
            .context("starting afd show")?;
        times.push(begun.elapsed());
        ensure!(output.status.success(), "afd show failed: {}", String::from_utf8_lossy(&output.stderr));
        let inventory: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("reading the inventory")?;
        let devices = inventory["devices"].as_array().map_or(0, Vec::len);
        ensure!(devices == 8, "the inventory has {devices} devices instead of 8");
    }
    let spread = Spread::new(times);
    let others = format!("(min {}, max {})", milliseconds(spread.min), milliseconds(spread.max));
    let name = "start to complete inventory, median";
    Ok(Figure::at_most(name, spread.p50, budgets::START, milliseconds).with_detail(&others))
}

/// Memory, scrapes and CPU of the agent, and scrapes of the peer.
fn agent(afd: &Path, fixture: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(afd);
    command.args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--host-root"]).arg(fixture);
    let agent = ServingProcess::agent(command)?;
    thread::sleep(SETTLE);
    let process = agent.process();
    let memory = process.most_memory(CYCLE)?;
    let cpu_before = process.cpu_time()?;
    thread::sleep(IDLE);
    let idle = process.cpu_time()?.saturating_sub(cpu_before);

    let (agent_times, peer_times, series, peer_series) = scrapes(&agent)?;
    let ratio = peer_times.p50.as_secs_f64() / agent_times.p50.as_secs_f64();
    let memory_after = process.memory()?;
    Ok(vec![
        Figure::at_most("resident memory, at most", memory.resident, budgets::RESIDENT_KIBIBYTES, kibibytes),
        Figure::at_most("anonymous memory", memory.anonymous, budgets::ANONYMOUS_KIBIBYTES, kibibytes),
        Figure::unbudgeted("private memory (smaps_rollup)", kibibytes(memory.private)),
        Figure::unbudgeted("resident memory after the scrapes", kibibytes(memory_after.resident)),
        Figure::at_most("CPU while idle, of one core", share(idle, IDLE), budgets::IDLE_PERCENT, percent),
        Figure::at_least("series in /metrics", series, budgets::SERIES, |series| series.to_string()),
        Figure::at_most("/metrics p50", agent_times.p50, budgets::SCRAPE_P50, milliseconds),
        Figure::at_most("/metrics p99", agent_times.p99, budgets::SCRAPE_P99, milliseconds),
        Figure::unbudgeted(
            "node_exporter p50, p99, series",
            format!("{}, {}, {peer_series}", milliseconds(peer_times.p50), milliseconds(peer_times.p99)),
        ),
        Figure::at_least("node_exporter p50 / p50 of the agent", ratio, budgets::PEER_RATIO, |times| {
            format!("{times:.1} x")
        }),
    ])
}

/// Times of scrapes of the agent and of the peer over keep-alive, and the number of series of each.
fn scrapes(agent: &ServingProcess) -> anyhow::Result<(Spread, Spread, usize, usize)> {
    let peer = ServingProcess::peer(Command::new(peer_program()?).stderr(Stdio::null()))?;
    let mut to_agent = KeptConnection::open(agent.address())?;
    let mut to_peer = KeptConnection::open(peer.address())?;
    // The first responses are not timed: they count the series.
    let series = series(&to_agent.get("/metrics")?);
    let peer_series = self::series(&to_peer.get("/metrics")?);
    let (mut agent_times, mut peer_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        agent_times.extend(timed(&mut to_agent, AGENT_SCRAPES)?);
        peer_times.extend(timed(&mut to_peer, PEER_SCRAPES)?);
    }
    Ok((Spread::new(agent_times), Spread::new(peer_times), series, peer_series))
}

fn timed(connection: &mut KeptConnection, times: usize) -> anyhow::Result<Vec<Duration>> {
    (0..times)
        .map(|_| {
            let begun = Instant::now();
            connection.get("/metrics")?;
            Ok(begun.elapsed())
        })
        .collect()
}

/// Lines of a scrape that are not comments.
fn series(scrape: &[u8]) -> usize {
    scrape.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count()
}

fn peer_program() -> anyhow::Result<PathBuf> {
    match on_path("prometheus-node-exporter") {
        Some(program) => Ok(program),
        None => bail!("prometheus-node-exporter is not on PATH"),
    }
}
