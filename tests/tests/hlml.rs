//! HLML through the real binary and the fake library: what it adds to the facts of the kernel, and that its failures affect none of
//! those.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, path::Path, process::Stdio, time::Duration};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_model::{HandleKind, HealthState, Inventory, Known, Missing};
use afd_tests::{
    agent::Agent,
    driver_root::FakeDriverRoot,
    fixture::{Fixture, FixtureHost},
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

fn start(host: &FixtureHost) -> Agent {
    let agent = Agent::start(host.afd(RUN));
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    agent
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

/// The answers of one device, by its PCI address.
fn index_of(host: &FixtureHost, address: &str) -> usize {
    let mut index = None;
    host.driver_root().update(|recording| {
        let devices = recording["devices"].as_array().expect("a list");
        let is_it =
            |device: &Value| device["answers"]["hlml_device_get_pci_info"]["value"]["bus_id"] == address;
        index = devices.iter().position(is_it);
    });
    index.expect("the recording has the device")
}

/// Sets the attribute `status` of a device.
fn set_status(root: &Path, address: &str, status: &str) {
    let function =
        fs::canonicalize(root.join("sys/bus/pci/devices").join(address)).expect("the device is there");
    fs::write(function.join("status"), format!("{status}\n")).expect("a file can be written");
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
async fn a_pod_is_known_by_the_serial_number_of_its_device_also_at_the_door() {
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
    let door = agent.get("/compat/dcgm").text().to_owned();
    let of_pod = |line: &&str| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\"");
    let lines: Vec<&str> = door.lines().filter(of_pod).collect();
    assert_eq!(lines.len(), 1, "{door}");
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
fn a_device_that_the_library_loses_has_failed_unless_the_driver_resets_it() {
    const ADDRESS: &str = "0000:99:00.0";
    let host = Fixture::named(GAUDI2).copy();
    let agent = start(&host);
    let device = || {
        let devices = agent.inventory().devices;
        devices.into_iter().find(|device| device.id.to_string() == ADDRESS).expect("the device is there")
    };
    let index = index_of(&host, ADDRESS);
    let before = device();
    let info = json!({ "value": { "bus_id": ADDRESS, "pci_device_id": 0x1020_1da3 } });

    set_status(host.root(), ADDRESS, "In reset after device release");
    host.driver_root().answer(index, "hlml_device_get_pci_info", json!({ "error": "AIP_IS_LOST" }));
    agent.until("its samples are absent", |agent| utilizations(agent) == 7);
    std::thread::sleep(Duration::from_secs(2));
    let now = device();
    assert_eq!((&now.serial, &now.uuid, &now.health), (&before.serial, &before.uuid, &before.health));
    assert!(agent.inventory().problems.is_empty());

    set_status(host.root(), ADDRESS, "Operational");
    agent.until("it has failed", |_| device().health.state == HealthState::Failed);
    assert_eq!(device().health.reasons[0].code, "DeviceLost");
    assert_eq!(device().uuid, before.uuid, "static facts stay");
    host.driver_root().answer(index, "hlml_device_get_pci_info", info);
    agent.until("it has recovered", |_| device().health.state == HealthState::Healthy);
    agent.until("it is sampled", |agent| utilizations(agent) == 8);
    assert_eq!(restarts(&agent), 0.0, "nothing was restarted");
}

#[test]
fn a_device_that_the_library_does_not_list_has_failed_unless_the_driver_resets_it() {
    const ADDRESS: &str = "0000:99:00.0";
    let host = Fixture::named(GAUDI2).copy();
    let agent = start(&host);
    let device = || {
        let devices = agent.inventory().devices;
        devices.into_iter().find(|device| device.id.to_string() == ADDRESS).expect("the device is there")
    };
    let index = index_of(&host, ADDRESS);
    assert_eq!(index, 7, "the last one can be left out");
    let before = device();
    let refuse = || {
        let refused = json!({ "error": "AIP_IS_LOST" });
        host.driver_root().answer(index, "hlml_device_get_handle_by_index", refused);
    };
    let answer = || {
        let handle = json!({ "value": Value::Null });
        host.driver_root().answer(index, "hlml_device_get_handle_by_index", handle);
    };

    set_status(host.root(), ADDRESS, "In reset after device release");
    refuse();
    agent.until("its samples are absent", |agent| utilizations(agent) == 7);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((&device().serial, &device().health), (&before.serial, &before.health));

    set_status(host.root(), ADDRESS, "Operational");
    agent.until("it has failed", |_| device().health.state == HealthState::Failed);
    assert_eq!(device().health.reasons[0].code, "DeviceLost");
    assert_eq!(device().uuid, before.uuid, "static facts stay");
    answer();
    agent.until("it has recovered", |_| device().health.state == HealthState::Healthy);

    let mut left_out = Value::Null;
    host.driver_root().update(|recording| {
        left_out = recording["devices"].as_array_mut().and_then(Vec::pop).expect("it is there");
    });
    agent.until("it has failed again", |_| device().health.state == HealthState::Failed);
    assert_eq!(device().health.reasons[0].code, "DeviceLost");
    host.driver_root()
        .update(|recording| recording["devices"].as_array_mut().expect("a list").push(left_out.clone()));
    agent.until("it is sampled", |agent| utilizations(agent) == 8);
    agent.until("it has recovered", |_| device().health.state == HealthState::Healthy);
    assert_eq!(restarts(&agent), 0.0, "no process failed");
}

#[test]
fn what_a_library_reported_that_was_removed_is_no_evidence() {
    let host = Fixture::named(GAUDI2).copy();
    host.driver_root().answer(2, "hlml_device_get_replaced_rows_pending_status", json!({ "value": 1 }));
    let agent = start(&host);
    let degraded = |agent: &Agent| {
        let devices = agent.inventory().devices;
        devices.iter().filter(|device| device.health.state == HealthState::Degraded).count()
    };
    agent.until("a row is pending", |agent| degraded(agent) == 1);
    fs::remove_file(host.driver_root().library()).expect("it can be removed");
    agent.until("nothing says so any more", |agent| degraded(agent) == 0);
    let devices = agent.inventory().devices;
    assert!(devices.iter().all(|device| device.serial.is_known()), "static facts stay");
}

#[test]
fn a_critical_event_is_counted_and_fails_its_device_until_it_works_after_a_reset() {
    const ADDRESS: &str = "0000:99:00.0";
    let host = Fixture::named(GAUDI2).copy();
    let agent = start(&host);
    let series = |agent: &Agent| {
        let text = agent.get("/metrics").text().to_owned();
        let is_it = |line: &&str| {
            line.starts_with("accelerator_device_errors_total{")
                && line.contains(ADDRESS)
                && line.contains("kind=\"critical\"")
        };
        text.lines().find(is_it)?.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    let health = |agent: &Agent| {
        let devices = agent.inventory().devices;
        let device = devices.into_iter().find(|device| device.id.to_string() == ADDRESS);
        device.expect("the device is there").health
    };
    agent.until("the events are registered", |agent| series(agent) == Some(0.0));
    let event = json!({ "device": index_of(&host, ADDRESS), "eventType": 2 });
    host.driver_root().raise(event.clone());
    agent.until("it has failed", |agent| health(agent).state == HealthState::Failed);
    assert_eq!(health(&agent).reasons[0].code, "CriticalEvent");
    assert_eq!(series(&agent), Some(1.0));
    let failed =
        agent.inventory().devices.iter().filter(|device| device.health.state == HealthState::Failed).count();
    assert_eq!(failed, 1, "the others work");

    let counter = host.root().join("sys/bus/pci/devices").join(ADDRESS).join("hard_reset_cnt");
    let resets: u64 = fs::read_to_string(&counter).expect("it is a file").trim().parse().expect("a number");
    fs::write(&counter, format!("{}\n", resets + 1)).expect("it can be written");
    agent.until("it has recovered", |agent| health(agent).state == HealthState::Healthy);
    host.driver_root().raise(event);
    agent.until("the second one is counted", |agent| series(agent) == Some(2.0));
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = Fixture::named(GAUDI2).copy();
    let before = labels(&host);
    let agent = start(&host);
    host.driver_root().fault("hang", &["hlml_device_get_power_usage"]);
    agent.until("what the library reports is absent", |agent| utilizations(agent) == 0);
    assert_facts(&agent);
    host.driver_root().fault("hang", &[]);
    agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    assert!(restarts(&agent) >= 1.0);
    assert_eq!(labels(&host), before);
}

#[test]
fn the_agent_survives_a_crash_and_an_abort_in_the_library() {
    for kind in ["crash", "abort"] {
        let host = Fixture::named(GAUDI2).copy();
        let agent = start(&host);
        host.driver_root().fault(kind, &["hlml_device_get_power_usage"]);
        agent.until("what the library reports is absent", |agent| utilizations(agent) == 0);
        assert_facts(&agent);
        host.driver_root().fault(kind, &[]);
        agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    }
}

#[test]
fn a_library_that_leaks_memory_is_restarted() {
    let host = Fixture::named(GAUDI2).copy();
    let agent = start(&host);
    host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
    agent.until("the library process was restarted", |agent| restarts(agent) >= 1.0);
    host.driver_root().update(|recording| recording["faults"] = json!({}));
    agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    assert_facts(&agent);
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
