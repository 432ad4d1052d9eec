//! Level Zero through the real binary and the fake library. Its failures affect no fact of the kernel.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "levelzero/driver.rs"]
mod driver;

use std::{fs, process::Stdio, time::Duration};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_model::{HealthState, Inventory, Known, LinkKind, Missing};
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
const MAX: &str = "intel-max1550-x2";
const B60: &str = "intel-arc-pro-b60-x4";
const UNPRIVILEGED: &str = "intel-max1100-unprivileged";
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";
const SAMPLED: usize = 4; // Two devices, compute and copy.
const LIMIT: &str = "accelerator_device_power_limit_watts{";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"intel\"}";

const FAULTS: LibraryFaults = LibraryFaults {
    fixture: MAX,
    arguments: &RUN,
    call: "zesMemoryGetState",
    sampled: (SAMPLED, UTILIZATION),
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

fn metrics(host: &FixtureHost) -> String {
    stdout(&mut host.afd(["show", "--output", "metrics"]))
}

/// The series of a family for the device at an address.
fn series<'t>(text: &'t str, family: &str, address: &str) -> Vec<&'t str> {
    let of_device = format!("device=\"{address}\"");
    text.lines()
        .filter(|line| line.starts_with(&format!("{family}{{")) && line.contains(&of_device))
        .collect()
}

/// Everything that the kernel reports is there, and the static facts of the library.
fn assert_facts(agent: &Agent) {
    let devices = agent.inventory().devices;
    assert_eq!(devices.len(), 2);
    for device in &devices {
        assert_eq!(device.product_name(), Some("Intel Data Center GPU Max 1550"));
        assert!(device.serial.is_known() && device.memory_bytes.is_known(), "{device:?}");
        assert_eq!(device.health.state, HealthState::Healthy, "{:?}", device.health);
    }
    assert_eq!(agent.count(LIMIT), 2);
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
}

#[test]
fn a_missing_library_is_no_problem_and_affects_no_fact_of_the_kernel() {
    let host = Fixture::named(MAX).lay_out();
    let root = host.root().to_str().expect("temporary paths are UTF-8");
    let json = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
    let without: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert!(without.problems.is_empty(), "{:?}", without.problems);
    let with = shown(&host);
    for (with, without) in with.devices.iter().zip(&without.devices) {
        assert!(with.serial.is_known() && !without.serial.is_known());
        assert_eq!((&with.product, &with.memory_bytes), (&without.product, &without.memory_bytes));
        assert_eq!((&with.handles, &with.uuid), (&without.handles, &without.uuid));
        assert_eq!(without.health.state, HealthState::Unknown);
        assert_eq!(with.health.state, HealthState::Healthy);
    }
    assert_eq!(with.links.len(), 1);
    assert_eq!(with.devices[0].interconnect, Known::Value(LinkKind::Xelink));
}

#[test]
fn facts_are_of_the_device_at_their_address_whatever_the_library_lists_first() {
    let host = Fixture::named(B60).lay_out();
    let (inventory, metrics) = (shown(&host), metrics(&host));
    assert_eq!(inventory.devices.len(), 5);
    let integrated = inventory.devices.iter().find(|device| device.integrated).expect("it is there");
    assert!(!integrated.memory_bytes.is_known(), "the memory of the system is not its own");
    assert!(series(&metrics, "accelerator_device_memory_used_bytes", "0000:00:02.0").is_empty());
    for (bus, used, busy) in [(0x03, 2_u64, "0"), (0x13, 4, "0.25"), (0x23, 6, "0.5"), (0x33, 8, "0.75")] {
        let address = format!("0000:{bus:02x}:00.0");
        let bytes = format!("}} {}", used << 30);
        let memory = series(&metrics, "accelerator_device_memory_used_bytes", &address);
        assert!(memory.len() == 1 && memory[0].ends_with(&bytes), "{memory:?}");
        let utilization = series(&metrics, "accelerator_device_utilization_ratio", &address);
        let compute = utilization.iter().find(|line| line.contains("engine=\"compute\""));
        assert!(compute.is_some_and(|line| line.ends_with(&format!("}} {busy}"))), "{utilization:?}");
        let device = inventory.devices.iter().find(|device| device.id.to_string() == address);
        let device = device.expect("it is there");
        assert_eq!(device.firmware_version, Known::Value("BMG_21.1058".to_owned()));
    }
}

#[test]
fn refused_engines_are_one_problem_of_each_device_and_hidden_memory_is_another() {
    let host = Fixture::named(UNPRIVILEGED).lay_out();
    let (inventory, metrics) = (shown(&host), metrics(&host));
    for device in &inventory.devices {
        let problems: Vec<_> =
            inventory.problems.iter().filter(|problem| problem.device == Some(device.id)).collect();
        let refused: Vec<_> = problems.iter().filter(|problem| problem.fact == "levelzero").collect();
        assert_eq!(refused.len(), 1, "{problems:?}");
        assert_eq!(refused[0].reason, Missing::NotPermitted);
        assert!(
            refused[0].message.contains("zesDeviceEnumEngineGroups INSUFFICIENT_PERMISSIONS"),
            "{refused:?}"
        );
        let hidden: Vec<_> = problems.iter().filter(|problem| problem.fact == "memory_used").collect();
        assert_eq!((hidden.len(), hidden[0].reason), (1, Missing::NotPermitted));
        assert_eq!(problems.len(), 2);
        let address = device.id.to_string();
        for absent in ["accelerator_device_utilization_ratio", "accelerator_device_memory_used_bytes"] {
            assert!(series(&metrics, absent, &address).is_empty(), "{absent}");
        }
        assert_eq!(series(&metrics, "accelerator_device_temperature_celsius", &address).len(), 2);
        assert!(device.serial.is_known());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_known_by_the_card_of_its_device_also_on_the_page_of_dcgm_exporter() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let host = Fixture::named(MAX).lay_out();
    let kubelet = FakeKubelet::default();
    // Who monitors all devices holds none.
    let monitor = pod("monitor-0", "gpu.intel.com/monitoring", &["all"]);
    kubelet.set_pods(vec![pod("decode-0", "gpu.intel.com/i915", &["card2-0"]), monitor]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let mut command = host.afd(RUN);
    command.arg("--pod-resources").arg(folder.path()).args(["--compat-metrics", "intel"]);
    let agent = Agent::start(command);
    agent.until("the pod is known", |agent| agent.count("accelerator_device_allocation{") == 1);
    agent.until("the library is sampled", |agent| utilizations(agent) == SAMPLED);
    let page = agent.get("/compat/dcgm").text().to_owned();
    let of_pod = |line: &&str| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\"");
    let lines: Vec<&str> = page.lines().filter(of_pod).collect();
    assert_eq!(lines.len(), 1, "{page}");
    // The mean of its tiles.
    assert!(lines[0].ends_with("} 50"), "{lines:?}");
    let metrics = agent.get("/metrics").text().to_owned();
    let held = series(&metrics, "accelerator_device_allocation", "0000:99:00.0");
    assert!(held.len() == 1 && held[0].contains("pod=\"decode-0\""), "{held:?}");
    assert_eq!(agent.count("accelerator_device_allocation{"), 1, "{metrics}");
    for (path, name) in [("xpum", "xpum_engine_group_ratio{"), ("xpumd", "hw_gpu_utilization_ratio{")] {
        assert!(agent.get(&format!("/compat/{path}")).text().contains(name), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_known_by_the_card_of_a_virtual_function() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let host = Fixture::named("intel-flex170-vfs").lay_out();
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("decode-0", "gpu.intel.com/i915", &["card3-0"])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let mut command = host.afd(RUN);
    command.arg("--pod-resources").arg(folder.path());
    let agent = Agent::start(command);
    agent.until("the pod is known", |agent| agent.count("accelerator_device_allocation{") == 1);
    let metrics = agent.get("/metrics").text().to_owned();
    let held = series(&metrics, "accelerator_device_allocation", "0000:4d:00.0");
    let of_function = |line: &&str| line.contains("partition=\"vf1\"") && line.contains("pod=\"decode-0\"");
    assert!(held.len() == 1 && held.iter().all(of_function), "{held:?}");
    let of_pod = |line: &&str| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\"");
    agent.until("the page of dcgm-exporter has the function", |agent| {
        agent.get("/compat/dcgm").text().lines().find(of_pod).is_some_and(|line| line.ends_with("} 50"))
    });
}

#[test]
fn a_file_that_is_not_level_zero_is_a_problem_and_affects_no_fact_of_the_kernel() {
    for (content, message) in [
        (b"no ELF".to_vec(), "ended (exit status: 1)"),
        (
            fs::read(afd_tests::fake_nvml()).expect("the library is built"),
            "initialised: NO_SYMBOL; the loader is older",
        ),
    ] {
        let host = Fixture::named(MAX).lay_out();
        fs::write(host.driver_root().library(), content).expect("a file can be written");
        let inventory = shown(&host);
        assert_eq!(inventory.devices.len(), 2);
        assert!(inventory.devices.iter().all(|device| device.memory_bytes.is_known()));
        assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
        assert!(inventory.problems[0].message.contains(message), "{:?}", inventory.problems);
    }
}

#[test]
fn a_loader_without_sysman_is_not_restarted_in_a_loop() {
    let host = Fixture::named(MAX).lay_out();
    host.driver_root().remove_symbol("zesInit");
    let agent = Agent::start(host.afd(RUN));
    let message = |agent: &Agent| {
        agent
            .inventory()
            .problems
            .iter()
            .any(|problem| problem.message.contains("install a newer Level Zero"))
    };
    agent.until("the problem is reported", message);
    let process = agent.library_process();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((agent.library_process(), restarts(&agent)), (process, 0.0));
    assert!(process.is_some());
    assert_eq!((agent.count(LIMIT), agent.inventory().problems.len()), (2, 1));
}

#[test]
fn a_library_without_some_symbols_reports_everything_else() {
    let host = Fixture::named(MAX).lay_out();
    let removed = [
        "zesEngineGetActivity",
        "zesDeviceEnumTemperatureSensors",
        "zesDeviceGetEccState",
        "zesRasGetStateExp",
        "zesPowerGetLimitsExt",
    ];
    for symbol in removed {
        host.driver_root().remove_symbol(symbol);
    }
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let device = &inventory.devices[0];
    assert_eq!(device.intel().expect("it was reported").ecc_enabled.missing(), Some(Missing::NotExposed));
    assert!(device.serial.is_known());
    let metrics = metrics(&host);
    assert!(series(&metrics, "accelerator_device_utilization_ratio", "0000:29:00.0").is_empty());
    assert_eq!(series(&metrics, "accelerator_device_memory_used_bytes", "0000:29:00.0").len(), 1);
    host.driver_root().remove_symbol("zesDevicePciGetProperties");
    let without = shown(&host);
    assert!(without.devices.iter().all(|device| !device.serial.is_known()), "no device is guessed");
}

#[test]
fn a_library_that_cannot_be_initialised_is_a_problem_and_is_retried() {
    let host = Fixture::named(MAX).lay_out();
    host.driver_root()
        .update(|recording| recording["system"]["zesInit"] = json!({ "error": "UNINITIALIZED" }));
    let agent = Agent::start(host.afd(RUN));
    agent.until("the problem is reported", |agent| {
        let problems = agent.inventory().problems;
        problems.iter().any(|problem| problem.message.contains("initialised: UNINITIALIZED; the driver"))
    });
    assert_eq!((agent.inventory().devices.len(), agent.count(LIMIT)), (2, 2));
    assert_eq!(utilizations(&agent), 0);
    host.driver_root().update(|recording| recording["system"]["zesInit"] = json!({ "value": Value::Null }));
    agent.until("the library is sampled", |agent| utilizations(agent) == SAMPLED);
    assert!(agent.inventory().problems.is_empty());
}

#[test]
fn a_device_that_the_library_loses_has_failed_and_recovers() {
    let host = Fixture::named(MAX).copy();
    let agent = FAULTS.start(&host);
    // The first of the library is the second of the bus.
    let device = || agent.inventory().devices.remove(1);
    let before = device();
    let mut answers = Value::Null;
    host.driver_root().update(|recording| {
        answers = recording["devices"][0]["answers"].clone();
        for answer in recording["devices"][0]["answers"].as_object_mut().expect("an object").values_mut() {
            *answer = json!({ "error": "DEVICE_LOST" });
        }
    });
    agent.until("it has failed", |_| device().health.state == HealthState::Failed);
    let lost = device();
    assert_eq!(lost.health.reasons[0].code, "DeviceLost");
    assert_eq!(
        (&lost.serial, &lost.memory_bytes),
        (&before.serial, &before.memory_bytes),
        "static facts stay"
    );
    agent.until("its samples are absent", |agent| utilizations(agent) == SAMPLED / 2);
    assert_eq!(agent.inventory().devices[0].health.state, HealthState::Healthy);
    host.driver_root().update(|recording| recording["devices"][0]["answers"] = answers.clone());
    agent.until("it has recovered", |_| device().health.state == HealthState::Healthy);
    agent.until("it is sampled", |agent| utilizations(agent) == SAMPLED);
    assert_eq!(restarts(&agent), 0.0, "nothing was restarted");
}

#[test]
fn a_loss_is_forgotten_with_the_library() {
    let host = Fixture::named(MAX).copy();
    let mut command = host.afd(RUN);
    command.args(["--library-grace", "1"]);
    let agent = Agent::start(command);
    agent.until("the library is sampled", |agent| utilizations(agent) == SAMPLED);
    let device = || agent.inventory().devices.remove(1);
    host.driver_root().update(|recording| {
        for answer in recording["devices"][0]["answers"].as_object_mut().expect("an object").values_mut() {
            *answer = json!({ "error": "DEVICE_LOST" });
        }
    });
    agent.until("it has failed", |_| device().health.state == HealthState::Failed);
    fs::remove_dir_all(host.root().join("dev/dri")).expect("the nodes can be removed");
    fs::remove_file(host.driver_root().library()).expect("the library can be uninstalled");
    agent.until("nothing says that it has failed", |_| device().health.state == HealthState::Unknown);
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = Fixture::named(MAX).copy();
    FAULTS.hang(&host);
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
fn a_recording_answers_as_the_node_did_and_contains_no_secret() {
    let host = Fixture::named(MAX).lay_out();
    let live = shown(&host);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = folder.path().join("recorded");
    let target_text = target.to_str().expect("temporary paths are UTF-8");
    stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
    let replay = FakeDriverRoot::new(&target.join("libraries/levelzero.json"));
    let mut command = afd_tests::afd(["show", "--output", "json", "--host-root"]);
    let json = stdout(command.arg(target.join("root")).arg(replay.option()).arg(replay.path()));
    let recorded: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert_eq!(recorded, live);

    let redacted = folder.path().join("redacted");
    stdout(&mut host.afd(["record", redacted.to_str().expect("temporary paths are UTF-8")]));
    let text = fs::read_to_string(redacted.join("libraries/levelzero.json")).expect("answers were recorded");
    for device in &live.devices {
        let Known::Value(serial) = &device.serial else { panic!("the device has a serial number") };
        assert!(!text.contains(serial), "{serial} is recorded");
    }
}
