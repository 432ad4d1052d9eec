//! The listener for llm-d's endpoint pickers under its full load: two pickers that scrape it for each of eight pods, twenty
//! times a second.

use std::{
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    budgets,
    figures::{Figure, Spread, kibibytes, milliseconds, percent, share},
    http::KeptConnection,
    process::{MeasuredProcess, ServingProcess},
};

/// Each picker keeps a connection to each pod's address.
const CONNECTIONS: u32 = 16;
/// Between two requests on a connection.
const PERIOD: Duration = Duration::from_millis(50);
/// How long the load lasts, of which the first and the last window are compared.
pub(super) const LOAD: Duration = Duration::from_secs(180);
/// A few cycles in which the agent returns memory: the least that it holds in them is what it cannot return.
const WINDOW: Duration = Duration::from_secs(60);
/// Load before the measurement, in which connections and pages get their memory and the heap is fragmented.
pub(super) const WARM_UP: Duration = Duration::from_secs(120);
/// A path of the listener, and a family that it must contain.
const PATH: &str = "/metrics";
const FAMILY: &[u8] = b"DCGM_FI_DEV_GPU_UTIL{";

/// Response times, CPU and growth of an agent of 8 devices under that load.
pub(super) fn measure(afd: &Path, fixture: &Path) -> anyhow::Result<Vec<Figure>> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = Command::new(afd);
    command
        .args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--dcgm-listen", &address, "--host-root"])
        .arg(fixture);
    let agent = ServingProcess::agent(command)?;
    load(&address, WARM_UP)?;
    let cpu = agent.process().cpu_time()?;
    let (memory, times) = thread::scope(|scope| {
        let memory = scope.spawn(|| held(agent.process()));
        let times = load(&address, LOAD);
        (memory.join(), times)
    });
    let spent = agent.process().cpu_time()?.saturating_sub(cpu);
    let HeldMemory { first, last } = memory.ok().context("the thread that reads the memory panicked")??;
    let times = times?;
    let requests = times.len();
    let spread = Spread::new(times);
    let rate = (requests as f64 / LOAD.as_secs_f64()).round();
    let others = format!("(p50 {}, max {})", milliseconds(spread.p50), milliseconds(spread.max));
    Ok(vec![
        Figure::at_least(
            "picker listener: requests a second",
            rate,
            f64::from(budgets::LISTENER_RATE),
            |rate| rate.to_string(),
        ),
        Figure::at_most("picker listener: p99", spread.p99, budgets::LISTENER_P99, milliseconds)
            .with_detail(&others),
        Figure::at_most(
            "picker listener: CPU, of one core",
            share(spent, LOAD),
            budgets::LISTENER_PERCENT,
            percent,
        ),
        Figure::at_most(
            "picker listener: growth of anonymous memory",
            last.saturating_sub(first),
            budgets::LISTENER_GROWTH_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&format!("(from {} to {})", kibibytes(first), kibibytes(last))),
        Figure::unbudgeted(
            "picker listener: resident memory afterwards",
            kibibytes(agent.process().memory()?.resident),
        ),
    ])
}

/// The anonymous memory that an agent holds, in KiB.
struct HeldMemory {
    /// The least in the first window of the load.
    first: u64,
    /// The least in its last window.
    last: u64,
}

/// What an agent holds under the load that begins now. Pages of its code come and go: only anonymous memory counts.
fn held(agent: MeasuredProcess) -> anyhow::Result<HeldMemory> {
    let first = agent.least_anonymous(WINDOW)?;
    thread::sleep(LOAD - 2 * WINDOW);
    Ok(HeldMemory { first, last: agent.least_anonymous(WINDOW)? })
}

/// Scrapes on all connections for a time, evenly spread; how long each response took.
fn load(address: &str, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let start = |number: u32| {
        let address = address.to_owned();
        thread::spawn(move || scrape(&address, begun + PERIOD * number / CONNECTIONS, begun + time))
    };
    let threads: Vec<_> = (0..CONNECTIONS).map(start).collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().ok().context("a thread of the load panicked")??);
    }
    Ok(times)
}

/// Scrapes once a period, even if the response before took longer.
fn scrape(address: &str, first: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut connection = KeptConnection::open(address)?;
    let mut times = Vec::new();
    let mut next = first;
    while next < end {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        let page = connection.get(PATH)?;
        times.push(begun.elapsed());
        ensure!(
            page.windows(FAMILY.len()).any(|bytes| bytes == FAMILY),
            "the page lacks the load of the devices"
        );
        next += PERIOD;
    }
    Ok(times)
}
