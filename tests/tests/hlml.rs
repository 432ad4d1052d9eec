//! HLML through the real binary and the fake library: what it adds to the facts of the kernel, and that its failures affect none of
//! those.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "hlml/evidence.rs"]
mod evidence;

use std::{fs, process::Stdio, time::Duration};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_model::{HandleKind, HealthState, Inventory, Known, Missing};
use afd_tests::{
    agent::Agent,
    driver_root::FakeDriverRoot,
    fixture::{Fixture, FixtureHost},
    library_faults::LibraryFaults,
    stdout,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const GAUDI2: &str = "gaudi2-x8";
const GAUDI3: &str = "gaudi3-x8";
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";
const LIMIT: &str = "accelerator_device_power_limit_watts{";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"gaudi\"}";

const FAULTS: LibraryFaults = LibraryFaults {
    fixture: GAUDI2,
    arguments: &RUN,
    call: "hlml_device_get_power_usage",
    sampled: (8, UTILIZATION),
    restarts: RESTARTS,
    assert_facts,
};

fn utilizations(agent: &Agent) -> usize {
    agent.count(UTILIZATION)
}

fn restarts(agent: &Agent) -> f64 {
    agent.value(RESTARTS).expect("restarts are counted")
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

fn labels(host: &FixtureHost) -> String {
    stdout(&mut host.afd(["show", "--output", "labels"]))
}

/// Everything that the kernel reports is there, and the static facts of the library.
fn assert_facts(agent: &Agent) {
    let devices = agent.inventory().devices;
    assert_eq!(devices.len(), 8);
    for device in &devices {
        assert_eq!(device.product_name(), Some("Intel Gaudi 2"));
        assert!(device.uuid.is_known() && device.memory_bytes.is_known(), "{device:?}");
        assert_eq!(device.health.state, HealthState::Healthy, "{:?}", device.health);
    }
    assert_eq!(agent.count(LIMIT), 8);
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
}

#[test]
fn a_missing_library_is_no_problem_and_affects_no_fact_of_the_kernel() {
    let host = Fixture::named(GAUDI2).lay_out();
    let root = host.root().to_str().expect("temporary paths are UTF-8");
    let json = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
    let without: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert!(without.problems.is_empty(), "{:?}", without.problems);
    for (with, without) in shown(&host).devices.iter().zip(&without.devices) {
        assert!(with.serial.is_known() && !without.serial.is_known());
        assert_eq!((&with.product, &with.health), (&without.product, &without.health));
        assert_eq!(with.firmware_version, without.firmware_version);
    }
    let labels = labels(&host);
    let of_library = |line: &&str| line.starts_with("accelerator.llm-d.ai/interconnect=");
    let others: Vec<&str> = labels.lines().filter(|line| !of_library(line)).collect();
    let without = stdout(&mut host.afd(["show", "--output", "labels", "--no-libraries"]));
    assert_eq!(others, without.lines().collect::<Vec<_>>());
}

#[test]
fn structs_are_read_in_the_layouts_of_all_releases_and_in_no_other() {
    let host = Fixture::named(GAUDI2).lay_out();
    let newest = shown(&host);
    assert!(newest.devices.iter().all(|device| device.serial.is_known()));
    for size in [80, 76, 52] {
        host.driver_root().update(|recording| recording["layout"] = json!(size));
        assert_eq!(shown(&host), newest, "{size}");
    }
    host.driver_root().update(|recording| recording["layout"] = json!(99));
    let unknown = shown(&host);
    assert!(unknown.devices.iter().all(|device| !device.serial.is_known()), "no device is guessed");
    assert_eq!(unknown.devices.len(), 8);
}

#[test]
fn a_device_in_reset_has_no_problem_and_the_others_are_complete() {
    let inventory = shown(&Fixture::named(GAUDI3).lay_out());
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let known = inventory.devices.iter().filter(|device| device.serial.is_known()).count();
    assert_eq!(known, 7);
    let failed: Vec<_> =
        inventory.devices.iter().filter(|device| device.health.state == HealthState::Failed).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].health.reasons[0].code, "InReset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_known_by_the_serial_number_of_its_device_also_on_the_page_of_dcgm_exporter() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let host = Fixture::named(GAUDI2).lay_out();
    // The second device of the library; its utilization is 10 %.
    let serial = "AFD00000002";
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("decode-0", "habana.ai/gaudi", &[serial])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let mut command = host.afd(RUN);
    command.arg("--pod-resources").arg(folder.path());
    let agent = Agent::start(command);
    agent.until("the pod is known", |agent| agent.count("accelerator_device_allocation{") == 1);
    let page = agent.get("/compat/dcgm").text().to_owned();
    let of_pod = |line: &&str| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\"");
    let lines: Vec<&str> = page.lines().filter(of_pod).collect();
    assert_eq!(lines.len(), 1, "{page}");
    assert!(lines[0].ends_with("} 10"), "{lines:?}");
    let metrics = agent.get("/metrics").text().to_owned();
    let held = metrics.lines().find(|line| line.starts_with("accelerator_device_allocation{"));
    let held = held.expect("the allocation is published");
    assert!(held.contains("device=\"0000:4d:00.0\"") && held.contains("pod=\"decode-0\""), "{held}");
}

#[test]
fn a_file_that_is_not_hlml_is_a_problem_and_affects_no_fact_of_the_kernel() {
    for content in [b"no ELF".to_vec(), fs::read(afd_tests::fake_nvml()).expect("the library is built")] {
        let host = Fixture::named(GAUDI2).lay_out();
        fs::write(host.driver_root().library(), content).expect("a file can be written");
        let inventory = shown(&host);
        assert_eq!(inventory.devices.len(), 8);
        assert!(inventory.devices.iter().all(|device| device.health.state == HealthState::Healthy));
        assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
        assert!(inventory.problems[0].message.contains("ended (exit status: 1)"), "{:?}", inventory.problems);
    }
}

#[test]
fn a_library_without_some_symbols_reports_everything_else() {
    let host = Fixture::named(GAUDI2).lay_out();
    let removed = [
        "hlml_device_get_uuid",
        "hlml_device_get_oper_status",
        "hlml_get_mac_addr_info",
        "hlml_device_get_replaced_rows",
        "hlml_device_get_utilization_rates",
    ];
    for symbol in removed {
        host.driver_root().remove_symbol(symbol);
    }
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let device = &inventory.devices[0];
    assert_eq!(device.uuid.missing(), Some(Missing::NotExposed));
    assert!(device.serial.is_known());
    host.driver_root().remove_symbol("hlml_device_get_pci_info");
    assert_eq!(shown(&host).problems.len(), 1, "without addresses no device can be recognised");
}

#[test]
fn refused_calls_are_a_problem_of_their_device_only() {
    let host = Fixture::named(GAUDI2).lay_out();
    host.driver_root().answer(3, "hlml_device_get_serial", json!({ "error": "UNKNOWN" }));
    host.driver_root().answer(4, "hlml_device_get_serial", json!({ "error": "NOT_SUPPORTED" }));
    let inventory = shown(&host);
    let device = |address: &str| {
        inventory.devices.iter().find(|device| device.id.to_string() == address).expect("it is there")
    };
    let problems: Vec<_> =
        inventory.problems.iter().map(|problem| (problem.device, problem.reason)).collect();
    assert_eq!(problems, [(Some(device("0000:19:00.0").id), Missing::Unreadable)]);
    assert_eq!(device("0000:b3:00.0").serial.missing(), Some(Missing::NotExposed));
    assert_eq!(inventory.devices.iter().filter(|device| device.serial.is_known()).count(), 6);
}

#[test]
fn a_library_that_cannot_be_initialised_is_a_problem_and_is_retried() {
    let host = Fixture::named(GAUDI2).lay_out();
    host.driver_root()
        .update(|recording| recording["system"]["hlml_init"] = json!({ "error": "DRIVER_NOT_LOADED" }));
    let agent = Agent::start(host.afd(RUN));
    agent.until("the problem is reported", |agent| {
        let problems = agent.inventory().problems;
        problems.iter().any(|problem| problem.message.contains("initialised: DRIVER_NOT_LOADED"))
    });
    // Series wait for the UUIDs; the kernel's facts do not.
    let devices = agent.inventory().devices;
    assert_eq!(devices.len(), 8);
    assert!(devices.iter().all(|device| device.health.state == HealthState::Healthy), "{devices:?}");
    assert_eq!(utilizations(&agent), 0);
    host.driver_root().update(|recording| recording["system"]["hlml_init"] = json!({ "value": Value::Null }));
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    assert!(agent.inventory().problems.is_empty());
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = Fixture::named(GAUDI2).copy();
    let before = labels(&host);
    FAULTS.hang(&host);
    assert_eq!(labels(&host), before);
}

#[test]
fn the_agent_survives_a_crash_and_an_abort_in_the_library() {
    FAULTS.crash_and_abort();
}

#[test]
fn a_library_that_leaks_memory_is_restarted() {
    FAULTS.leak();
}

#[test]
fn a_released_driver_is_not_held_until_it_is_reacquired() {
    let host = Fixture::named(GAUDI2).copy();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = folder.path().join("control.sock");
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    let before = agent.inventory().devices;
    let release = |more: &[&str]| {
        stdout(afd_tests::afd(["release", "gaudi", "--control-socket"]).arg(&socket).args(more))
    };
    release(&[]);
    assert_eq!(agent.library_process(), None, "no process has the control nodes open");
    agent.until("the samples are absent", |agent| utilizations(agent) == 0);
    for (now, before) in agent.inventory().devices.iter().zip(&before) {
        assert_eq!((&now.uuid, &now.memory_bytes), (&before.uuid, &before.memory_bytes), "static facts stay");
    }
    release(&["--end"]);
    agent.until("the library is sampled again", |agent| utilizations(agent) == 8);
    assert_eq!(restarts(&agent), 0.0, "nothing failed");
}

#[test]
fn a_recording_answers_as_the_node_did_and_contains_no_secret() {
    let host = Fixture::named(GAUDI2).lay_out();
    let live = shown(&host);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = folder.path().join("recorded");
    let target_text = target.to_str().expect("temporary paths are UTF-8");
    stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
    let replay = FakeDriverRoot::new(&target.join("libraries/hlml.json"));
    let mut command = afd_tests::afd(["show", "--output", "json", "--host-root"]);
    let json = stdout(command.arg(target.join("root")).arg(replay.option()).arg(replay.path()));
    let recorded: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert_eq!(recorded, live);

    let redacted = folder.path().join("redacted");
    stdout(&mut host.afd(["record", redacted.to_str().expect("temporary paths are UTF-8")]));
    let text = fs::read_to_string(redacted.join("libraries/hlml.json")).expect("answers were recorded");
    for device in &live.devices {
        let Known::Value(serial) = &device.serial else { panic!("the device has a serial number") };
        let uuid = device.handle(HandleKind::Uuid).expect("the device has a UUID");
        for secret in [serial.as_str(), uuid] {
            assert!(!text.contains(secret), "{secret} is recorded");
        }
    }
}
