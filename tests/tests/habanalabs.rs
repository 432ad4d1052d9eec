//! Gaudi accelerators without HLML, through the real binary: the driver is asked by its ioctl. The system call is the real one, on a
//! file that stands for the control node; its answer is that of a recording.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, process::Stdio, time::Duration};

use afd_kubelet::testing::{FakeKubelet, claiming_pod};
use afd_model::{HandleKind, HealthState, Inventory, LinkKind};
use afd_tests::{
    agent::{Agent, without_marks},
    fixture::{Fixture, FixtureHost},
    stdout,
};
use serde_json::json;
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const HOST: &str = "gaudi2-x8-no-hlml";
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";
const LIMIT: &str = "accelerator_device_power_limit_watts{";
/// One that is not reset.
const WORKING: &str = "0000:33:00.0";

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

fn metrics(host: &FixtureHost) -> String {
    stdout(&mut host.afd(["show", "--output", "metrics"]))
}

fn utilizations(agent: &Agent) -> usize {
    agent.count(UTILIZATION)
}

/// The answers of a device, by its address.
fn answer(host: &FixtureHost, address: &str, operation: &str, answer: serde_json::Value) {
    host.update_driver(|recording| {
        let devices = recording["devices"].as_array_mut().expect("a list");
        let of = |device: &&mut serde_json::Value| device["answers"]["pci_address"]["value"] == address;
        devices.iter_mut().find(of).expect("the recording has the device")["answers"][operation] = answer;
    });
}

#[test]
fn the_driver_reports_what_hlml_would() {
    let host = Fixture::named(HOST).lay_out();
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "EBUSY of a device in reset is none: {:?}", inventory.problems);
    assert!(inventory.devices.iter().all(|device| !device.serial.is_known()));
    let of_state = |state| inventory.devices.iter().filter(|device| device.health.state == state).count();
    assert_eq!((of_state(HealthState::Healthy), of_state(HealthState::Unknown)), (7, 1));
    let device = inventory.devices.iter().find(|device| device.id.to_string() == WORKING);
    let device = device.expect("it is there");
    assert_eq!(device.interconnect.value(), Some(&LinkKind::Roce), "its internal ports are up");
    let text = metrics(&host);
    let series = |family: &str| text.lines().filter(|line| line.starts_with(&format!("{family}{{"))).count();
    assert_eq!(series("accelerator_device_utilization_ratio"), 7, "{text}");
    assert_eq!(series("accelerator_device_memory_used_bytes"), 8, "the driver answers it in any state");
    assert_eq!(series("accelerator_device_energy_joules_total"), 7);
    assert_eq!(series("accelerator_device_throttle_seconds_total"), 16);
}

#[test]
fn both_requests_that_drivers_have_had_are_known() {
    let host = Fixture::named(HOST).lay_out();
    let text = metrics(&host);
    assert!(text.contains(UTILIZATION), "{text}");
    host.update_driver(|recording| recording["request"] = json!(0xc018_4801_u32));
    assert_eq!(metrics(&host), text);
    host.update_driver(|recording| recording["request"] = json!(1));
    let problems = shown(&host).problems;
    assert!(!problems.is_empty(), "a driver with neither is not understood");
    assert!(problems.iter().all(|problem| problem.message.contains("ENOTTY")), "{problems:?}");
}

#[test]
fn nodes_that_may_not_be_opened_are_one_problem_and_cost_no_fact_of_sysfs() {
    let nodes: Vec<String> = (0..8).map(|number| format!("dev/accel/accel_controlD{number}")).collect();
    let closed = shown(&Fixture::named(HOST).with_unreadable(nodes).lay_out());
    let open = shown(&Fixture::named(HOST).lay_out());
    assert_eq!(closed.problems.len(), 1, "{:?}", closed.problems);
    assert!(closed.problems[0].message.contains("EACCES"), "{:?}", closed.problems);
    for (closed, open) in closed.devices.iter().zip(&open.devices) {
        assert_eq!((&closed.product, &closed.health), (&open.product, &open.health));
    }
}

#[test]
fn an_operation_that_hangs_ends_the_process_and_delays_no_scrape() {
    let host = Fixture::named(HOST).copy();
    let agent = Agent::start(host.afd(RUN));
    agent.until("the driver is sampled", |agent| utilizations(agent) == 7);
    host.update_driver(|recording| recording["hang"] = json!(["HL_INFO_TOTAL_ENERGY"]));
    agent.until("what the driver reports is absent", |agent| utilizations(agent) == 0);
    assert_eq!(agent.count(LIMIT), 8, "what sysfs reports is there");
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
    host.update_driver(|recording| recording["hang"] = json!([]));
    agent.until("another process has been started", |agent| utilizations(agent) == 7);
}

#[test]
fn a_reset_after_a_job_changes_no_verdict_and_is_no_problem() {
    let host = Fixture::named(HOST).copy();
    let agent = Agent::start(host.afd(RUN));
    agent.until("the driver is sampled", |agent| utilizations(agent) == 7);
    let devices = || without_marks(agent.inventory());
    let before = devices();
    let function = fs::canonicalize(host.root().join("sys/bus/pci/devices").join(WORKING));
    let status = function.expect("the device is there").join("status");
    let busy = || json!({ "error": "EBUSY" });
    fs::write(&status, "In reset after device release\n").expect("a file can be written");
    answer(&host, WORKING, "HL_INFO_DEVICE_STATUS", json!({ "value": 5 }));
    for operation in [
        "HL_INFO_DEVICE_UTILIZATION",
        "HL_INFO_TOTAL_ENERGY",
        "HL_INFO_DRAM_PENDING_ROWS",
        "HL_INFO_PCI_COUNTERS",
    ] {
        answer(&host, WORKING, operation, busy());
    }
    for port in 0..24 {
        answer(&host, WORKING, &format!("HL_INFO_NIC_LINK_STATE({port})"), busy());
    }
    // Its links are those of the others as well.
    for device in agent.inventory().devices.iter().filter(|device| device.id.to_string() != WORKING) {
        let address = device.id.to_string();
        answer(&host, &address, "HL_INFO_NIC_LINK_STATE(0)", json!({ "value": false }));
    }
    agent.until("its samples are absent", |agent| utilizations(agent) == 6);
    std::thread::sleep(Duration::from_secs(3));
    let inventory = agent.inventory();
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    assert_eq!(without_marks(inventory), before);
}

#[test]
fn throttling_is_counted_in_seconds_while_it_is_observed() {
    let host = Fixture::named(HOST).copy();
    let agent = Agent::start(host.afd(RUN));
    let value = |agent: &Agent| {
        let text = agent.get("/metrics").text().to_owned();
        let is_it = |line: &&str| {
            line.starts_with("accelerator_device_throttle_seconds_total{")
                && line.contains(WORKING)
                && line.contains("cause=\"thermal\"")
        };
        let line = text.lines().find(is_it)?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    agent.until("the time is counted", |agent| value(agent) == Some(0.0));
    let throttled = |seconds: f64| {
        json!({ "value": {
            "reason": 2, "timestamp_us": [0, 90_000_000], "duration_ns": [0, (seconds * 1e9) as u64],
        } })
    };
    for seconds in [1.5, 4.0] {
        answer(&host, WORKING, "HL_INFO_CLK_THROTTLE_REASON", throttled(seconds));
        agent.until("the time has grown", |agent| value(agent) == Some(seconds));
    }
}

#[test]
fn with_hlml_the_driver_is_asked_for_how_long_clocks_were_lowered() {
    let hlml = Fixture::named("gaudi2-x8").lay_out();
    let without = metrics(&hlml);
    let answers = Fixture::named(HOST).lay_out();
    let mut command = hlml.afd(["show", "--output", "metrics"]);
    answers.driver().under(hlml.root()).serve(&mut command);
    let with = stdout(&mut command);
    let of_driver = |line: &&str| !line.contains("accelerator_device_throttle_seconds_total");
    assert_eq!(with.lines().filter(of_driver).collect::<Vec<_>>(), without.lines().collect::<Vec<_>>());
    let seconds = with.lines().filter(|line| line.starts_with("accelerator_device_throttle_seconds_total{"));
    assert_eq!(seconds.count(), 16);
}

#[test]
fn nothing_holds_the_driver_after_a_release() {
    let host = Fixture::named(HOST).copy();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = folder.path().join("control.sock");
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    agent.until("the driver is sampled", |agent| utilizations(agent) == 7);
    let release = |more: &[&str]| {
        stdout(afd_tests::afd(["release", "gaudi", "--control-socket"]).arg(&socket).args(more))
    };
    release(&[]);
    assert_eq!(agent.library_process(), None);
    release(&["--end"]);
    agent.until("the driver is sampled again", |agent| utilizations(agent) == 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_known_by_the_name_that_the_dra_driver_gave_its_device() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let host = Fixture::named(HOST).lay_out();
    let device = shown(&host).devices.remove(1);
    let name = device.handle(HandleKind::Dra).expect("it has one").to_owned();
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![claiming_pod("decode-0", "gaudi.intel.com", &[&name])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let mut command = host.afd(RUN);
    command.arg("--pod-resources").arg(folder.path());
    let agent = Agent::start(command);
    agent.until("the pod is known", |agent| agent.count("accelerator_device_allocation{") == 1);
    let text = agent.get("/metrics").text().to_owned();
    let held = text.lines().find(|line| line.starts_with("accelerator_device_allocation{"));
    let held = held.expect("the allocation is published");
    assert!(held.contains(&device.id.to_string()) && held.contains("pod=\"decode-0\""), "{held}");
    let page = agent.get("/compat/dcgm").text().to_owned();
    let of_pod = page
        .lines()
        .filter(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\""));
    assert_eq!(of_pod.count(), 1, "{page}");
}

#[test]
fn a_recording_answers_as_the_driver_did() {
    let host = Fixture::named(HOST).lay_out();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = folder.path().join("recorded");
    let target_text = target.to_str().expect("temporary paths are UTF-8");
    stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
    let text = fs::read(target.join("libraries/habanalabs.json")).expect("the answers were recorded");
    let recorded: serde_json::Value = serde_json::from_slice(&text).expect("they are JSON");
    let before = metrics(&host);
    host.update_driver(|recording| *recording = recorded);
    assert_eq!(metrics(&host), before);
}
