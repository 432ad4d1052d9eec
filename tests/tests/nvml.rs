//! NVML through the real binary and the fake library: what the library reports and how it fails.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "nvml/health.rs"]
mod health;
#[path = "nvml/pages.rs"]
mod pages;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use afd_model::{HealthState, Inventory, Missing};
use afd_tests::{
    agent::{Agent, TIMEOUT, without_marks},
    fixture::{Fixture, FixtureHost},
    stdout,
};
use serde_json::json;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const H100: &str = "nvidia-h100x8-nvml";
const POWER: &str = "accelerator_device_power_watts{";

fn start(host: &FixtureHost) -> Agent {
    start_with(host, &[])
}

fn start_with(host: &FixtureHost, options: &[&str]) -> Agent {
    let mut command = host.afd(RUN);
    command.args(options);
    let agent = Agent::start(command);
    agent.until("NVML is sampled", |agent| agent.count(POWER) > 0);
    agent
}

fn metrics(agent: &Agent) -> String {
    agent.get("/metrics").text().to_owned()
}

fn states(agent: &Agent) -> Vec<HealthState> {
    agent.inventory().devices.iter().map(|device| device.health.state).collect()
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

/// Scrapes are fast, whatever the library does.
fn assert_fast_scrapes(agent: &Agent) {
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
}

#[test]
fn a_missing_library_is_no_problem() {
    let host = Fixture::named(H100).lay_out();
    let root = host.root().to_str().expect("temporary paths are UTF-8");
    let json = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
    let inventory: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert_eq!(inventory.devices.len(), 8);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    assert_eq!(inventory.devices[0].memory_bytes.missing(), Some(Missing::NotExposed));
}

#[test]
fn a_file_that_is_not_a_library_is_a_problem_and_affects_no_fact_of_the_kernel() {
    let host = Fixture::named(H100).lay_out();
    fs::write(host.driver_root().library(), "no ELF").expect("a file can be written");
    let inventory = shown(&host);
    assert_eq!(inventory.devices.len(), 8);
    assert_eq!(inventory.devices[0].product_name(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
    assert!(inventory.problems[0].message.contains("ended (exit status: 1)"), "{:?}", inventory.problems);
}

#[test]
fn a_library_without_some_symbols_reports_everything_else() {
    let host = Fixture::named("nvidia-gb200x4-clique").lay_out();
    for symbol in ["nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetAddressingMode"]
    {
        host.driver_root().remove_symbol(symbol);
    }
    let device = &shown(&host).devices[0];
    assert_eq!(device.fabric_domain.missing(), Some(Missing::NotAvailable), "the older call is used instead");
    assert_eq!(device.product_name(), Some("NVIDIA GB200"));
    let facts = device.nvidia().expect("NVML reports the device");
    assert_eq!(facts.addressing_mode.missing(), Some(Missing::NotExposed));
    assert_eq!(device.health.state, HealthState::Healthy);
}

#[test]
fn refused_calls_are_problems_and_unsupported_ones_are_not() {
    let host = Fixture::named("nvidia-l40sx2").lay_out();
    host.driver_root().update(|recording| {
        let answers = recording["devices"][0]["answers"].as_object_mut().expect("answers are an object");
        for (call, answer) in answers.iter_mut() {
            if call != "nvmlDeviceGetPciInfo_v3" {
                *answer = json!({ "error": "NOT_SUPPORTED" });
            }
        }
        recording["devices"][1]["answers"]["nvmlDeviceGetSerial"] = json!({ "error": "NO_PERMISSION" });
    });
    let inventory = shown(&host);
    let [unsupported, refused] = &inventory.devices[..] else { panic!("there are two devices") };
    assert_eq!(unsupported.product_name(), Some("NVIDIA L40S"), "from the product table");
    assert_eq!(refused.serial.missing(), Some(Missing::NotPermitted));
    let problems: Vec<_> =
        inventory.problems.iter().map(|problem| (problem.device, problem.reason)).collect();
    assert_eq!(problems, [(Some(refused.id), Missing::NotPermitted)]);
    let metrics = stdout(&mut host.afd(["show", "--output", "metrics"]));
    assert_eq!(metrics.matches(POWER).count(), 1, "a value that is not reported has no series");
}

#[test]
fn values_change_and_the_library_is_initialised_once() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let first = agent.library_process().expect("there is a library process");
    host.driver_root().answer(0, "nvmlDeviceGetPowerUsage", json!({ "value": 654_321 }));
    agent.until("the new value is published", |agent| metrics(agent).contains("} 654.321\n"));
    agent
        .until("GPM has two samples", |agent| agent.count("accelerator_device_memory_bandwidth_ratio{") == 8);
    assert_eq!(agent.library_process(), Some(first));
    assert_eq!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}"), Some(0.0));
}

#[test]
fn a_gpu_that_falls_off_the_bus_affects_no_other_gpu() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    assert_eq!(agent.count(POWER), 8);
    host.driver_root().answer(5, "nvmlDeviceGetHandleByIndex_v2", json!({ "error": "GPU_IS_LOST" }));
    agent.until("the GPU has failed", |agent| states(agent)[5] == HealthState::Failed);
    agent.until("its series are gone", |agent| agent.count(POWER) == 7);
    let others = states(&agent);
    assert_eq!(others.iter().filter(|state| **state == HealthState::Healthy).count(), 7);
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let first = agent.library_process();
    host.driver_root().fault("hang", &["nvmlDeviceGetPowerUsage"]);
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    assert_fast_scrapes(&agent);
    let devices = agent.inventory().devices;
    assert_eq!(devices.len(), 8);
    assert!(devices.iter().all(|device| device.memory_bytes.is_known()), "static facts stay");
    host.driver_root().fault("hang", &[]);
    agent.until("the library process has restarted", |agent| agent.count(POWER) == 8);
    assert_ne!(agent.library_process(), first);
    assert!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}") >= Some(1.0));
}

#[test]
fn the_agent_survives_a_crash_and_an_abort_in_the_library() {
    for kind in ["crash", "abort"] {
        let host = Fixture::named(H100).lay_out();
        let agent = start(&host);
        host.driver_root().fault(kind, &["nvmlDeviceGetUtilizationRates"]);
        agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
        assert_fast_scrapes(&agent);
        assert_eq!(agent.inventory().devices[0].product_name(), Some("NVIDIA H100 80GB HBM3"));
        host.driver_root().fault(kind, &[]);
        agent.until("the library process has restarted", |agent| agent.count(POWER) == 8);
    }
}

#[test]
fn a_library_that_leaks_memory_is_restarted() {
    let host = Fixture::named("nvidia-t4").lay_out();
    let agent = start(&host);
    let first = agent.library_process();
    host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
    agent.until("the library process was restarted", |agent| {
        agent.value("afd_probe_restarts_total{probe=\"nvidia\"}").is_some_and(|restarts| restarts >= 1.0)
    });
    host.driver_root().update(|recording| recording["faults"] = json!({}));
    agent.until("the library process has restarted", |agent| agent.count(POWER) == 1);
    assert_ne!(agent.library_process(), first);
}

#[test]
fn static_facts_survive_the_removal_of_the_library() {
    let host = Fixture::named("nvidia-l40sx2").lay_out();
    let agent = start(&host);
    let before = agent.inventory().devices;
    let (library, away) = (host.driver_root().library(), host.driver_root().path().join("away"));
    fs::rename(&library, &away).expect("a file can be moved");
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    agent.until("the problem is reported", |agent| {
        agent.inventory().problems.iter().any(|problem| problem.message.contains("no longer there"))
    });
    assert_eq!(without_marks(agent.inventory()), before);
    fs::rename(&away, &library).expect("a file can be moved");
    agent.until("the library is sampled again", |agent| agent.count(POWER) == 2);
}

#[test]
fn the_library_process_ends_with_the_agent_also_when_it_hangs() {
    let host = Fixture::named("nvidia-t4").lay_out();
    let agent = start(&host);
    let pid = agent.library_process().expect("there is a library process");
    host.driver_root().fault("hang", &["nvmlDeviceGetUtilizationRates"]);
    agent.until("the library hangs", |agent| agent.count(POWER) == 0);
    let killed = Command::new("kill").args(["-KILL", &agent.pid().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let start = Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < TIMEOUT, "process {pid} outlived its agent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
