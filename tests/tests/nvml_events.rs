//! Events of NVML that repeat, through the real binary and the fake library.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::time::{Duration, Instant};

use afd_model::HealthState;
use afd_tests::{agent::Agent, fixture::Fixture};
use serde_json::json;

const RUN: [&str; 6] =
    ["run", "--no-kubernetes", "--sample-interval", "3600", "--discovery-interval", "3600"];
const POWER: &str = "accelerator_device_power_watts{";

fn counted(agent: &Agent) -> f64 {
    let page = agent.get("/metrics");
    let counters = page.text().lines().filter(|line| line.contains("kind=\"xid\""));
    counters.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Discoveries that find nothing become rare, which must delay neither a count nor the next fault.
#[test]
fn errors_that_repeat_delay_neither_their_counts_nor_a_fault() {
    let host = Fixture::named("nvidia-h100x8-nvml").copy();
    let agent = Agent::start(host.afd(RUN));
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    let started = Instant::now();
    for number in 1..=12_u32 {
        host.driver_root().raise(json!({ "device": number % 8, "eventType": 8, "eventData": 31 }));
        agent.until("the XID is counted", |agent| counted(agent) >= f64::from(number));
    }
    host.driver_root().raise(json!({ "device": 2, "eventType": 8, "eventData": 48 }));
    agent.until("the GPU has failed", |agent| {
        agent.inventory().devices[2].health.state == HealthState::Failed
    });
    // With a back-off it would be minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
