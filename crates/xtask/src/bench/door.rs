//! The door for llm-d's endpoint pickers under its full load: two pickers that ask for each of eight pods twenty times a second.

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
    http::Connection,
    process::Running,
};

/// Each picker holds a connection to each pod's address.
const CONNECTIONS: u32 = 16;
/// Between two requests on a connection.
const PERIOD: Duration = Duration::from_millis(50);
/// How long the load lasts.
pub(super) const LOAD: Duration = Duration::from_secs(60);
/// Load before anything is measured, after which the agent has all the memory that it needs.
const WARM: Duration = Duration::from_secs(5);
/// The path of the listener, and a family that it must have.
const PATH: &str = "/metrics";
const FAMILY: &[u8] = b"DCGM_FI_DEV_GPU_UTIL{";

/// Times, CPU and growth of an agent of 8 devices whose second listener bears the load.
pub(super) fn door(afd: &Path, fixture: &Path) -> anyhow::Result<Vec<Figure>> {
    let door = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = Command::new(afd);
    command
        .args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--dcgm-listen", &door, "--host-root"])
        .arg(fixture);
    let agent = Running::agent(command)?;
    load(&door, WARM)?;
    let (memory, cpu) = (agent.process().memory()?, agent.process().cpu_time()?);
    let times = load(&door, LOAD)?;
    let (grown, spent) = (agent.process().memory()?, agent.process().cpu_time()?.saturating_sub(cpu));
    let requests = times.len();
    let spread = Spread::of(times);
    let growth = grown.resident.saturating_sub(memory.resident);
    let rate = (requests as f64 / LOAD.as_secs_f64()).round();
    let others = format!("(p50 {}, max {})", milliseconds(spread.p50), milliseconds(spread.max));
    Ok(vec![
        Figure::at_least("door: requests a second", rate, f64::from(budgets::DOOR_RATE), |rate| {
            rate.to_string()
        }),
        Figure::at_most("door: p99", spread.p99, budgets::DOOR_P99, milliseconds).with(&others),
        Figure::at_most("door: CPU, of one core", share(spent, LOAD), budgets::DOOR_PERCENT, percent),
        Figure::at_most("door: growth of resident memory", growth, budgets::DOOR_GROWTH_KIBIBYTES, kibibytes),
        Figure::unbudgeted("door: resident memory after it", kibibytes(grown.resident)),
    ])
}

/// Asks on all connections for a time, evenly spread; how long each answer took.
fn load(address: &str, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let ask = |number: u32| {
        let address = address.to_owned();
        thread::spawn(move || ask(&address, begun + PERIOD * number / CONNECTIONS, begun + time))
    };
    let asking: Vec<_> = (0..CONNECTIONS).map(ask).collect();
    let mut times = Vec::new();
    for asked in asking {
        times.extend(asked.join().ok().context("a thread of the load panicked")??);
    }
    Ok(times)
}

/// Asks once a period, whether or not the answer before came in time.
fn ask(address: &str, first: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(address)?;
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
