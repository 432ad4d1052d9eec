//! The load of llm-d's endpoint pickers on the door: eight pods, two pickers, twenty requests a second for each.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    budgets,
    figures::{Figure, Spread, kibibytes, milliseconds, percent, share},
    http::Connection,
    process::Running,
};

const CONNECTIONS: u32 = 16;
const REQUESTS_PER_SECOND: u32 = 320;
const TIME: Duration = Duration::from_secs(60);

/// Times of the answers, CPU and growth of an agent under that load.
pub(super) fn measure(agent: &Running) -> anyhow::Result<Vec<Figure>> {
    let mut connections =
        (0..CONNECTIONS).map(|_| Connection::open(agent.address())).collect::<anyhow::Result<Vec<_>>>()?;
    for connection in &mut connections {
        connection.get("/compat/dcgm")?;
    }
    let (memory, cpu) = (agent.process().memory()?, agent.process().cpu_time()?);
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0..REQUESTS_PER_SECOND * TIME.as_secs() as u32 {
        let due = TIME / (REQUESTS_PER_SECOND * TIME.as_secs() as u32) * number;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let sent = Instant::now();
        connections[(number % CONNECTIONS) as usize].get("/compat/dcgm")?;
        times.push(sent.elapsed());
    }
    let cpu = agent.process().cpu_time()?.saturating_sub(cpu);
    let after = agent.process().memory()?;
    let spread = Spread::of(times);
    let median = format!("(median {})", milliseconds(spread.p50));
    let growth = format!("{} to {}", kibibytes(memory.resident), kibibytes(after.resident));
    Ok(vec![
        Figure::at_most(
            "/compat/dcgm p99, 320 requests a second",
            spread.p99,
            budgets::DOOR_P99,
            milliseconds,
        )
        .with(&median),
        Figure::at_most(
            "CPU meanwhile, of one core",
            share(cpu, begun.elapsed()),
            budgets::DOOR_PERCENT,
            percent,
        ),
        Figure::unbudgeted("resident memory meanwhile", growth),
    ])
}
