//! Intel GPUs without Level Zero, through the real binary: xe and i915 are asked for the memory on their render nodes, their counters are
//! opened, and the time of their clients is read of all processes. The system calls are the real ones, on files that stand for the nodes; their answers are
//! those of a table.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "intel_drm/counters.rs"]
mod counters;

use std::{
    cell::Cell,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_model::{HandleKind, HealthState, Inventory, MemorySource, Missing};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
    stdout,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
/// Four GPUs with xe, and one with i915 that is a part of the processor.
const B60: &str = "intel-arc-pro-b60-x4";
/// Two GPUs of two tiles with i915.
const MAX: &str = "intel-max1550-x2";
const RECORDING: &str = "intel-drm.json";
const USED: &str = "accelerator_device_memory_used_bytes{";
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";
const GIB: u64 = 1 << 30;

/// A GPU of xe with memory in use on one tile.
fn xe(address: &str, used: u64) -> Value {
    let region = |class: u64, instance: u64, size: u64, used: u64| json!({ "mem_class": class, "instance": instance, "total_size": size, "used": used });
    json!({ "answers": {
        "pci_address": { "value": address },
        "DRM_IOCTL_VERSION": { "value": "xe" },
        "DRM_XE_DEVICE_QUERY_MEM_REGIONS": { "value": [region(0, 0, 64 * GIB, 9 * GIB), region(1, 1, 24 * GIB, used)] },
    } })
}

/// A GPU of i915 with free memory on two tiles of 64 GiB.
fn i915(address: &str, free: [u64; 2]) -> Value {
    let region = |class: u64, instance: u64, free: u64| json!({ "memory_class": class, "memory_instance": instance, "probed_size": 64 * GIB, "unallocated_size": free });
    json!({ "answers": {
        "pci_address": { "value": address },
        "DRM_IOCTL_VERSION": { "value": "i915" },
        "DRM_I915_QUERY_MEMORY_REGIONS": { "value": [region(0, 0, GIB), region(1, 0, free[0]), region(1, 1, free[1])] },
    } })
}

fn recording(devices: &[Value]) -> Value {
    json!({ "system": { "DRM_IOCTL_VERSION": { "value": Value::Null } }, "devices": devices })
}

/// The four GPUs with 1, 2, 3 and 4 GiB in use.
fn b60() -> Fixture {
    let devices = [("03", 1), ("13", 2), ("23", 3), ("33", 4)];
    let devices = devices.map(|(bus, used)| xe(&format!("0000:{bus}:00.0"), used * GIB));
    Fixture::named(B60).without_library().with_driver(RECORDING, recording(&devices))
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

fn metrics(host: &FixtureHost) -> String {
    stdout(&mut host.afd(["show", "--output", "metrics"]))
}

/// The metrics of Intel's own exporters.
fn exported(host: &FixtureHost) -> String {
    stdout(&mut host.afd(["show", "--output", "metrics", "--compat-metrics", "intel"]))
}

/// The values of a family, in the order of the devices.
fn values(text: &str, family: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.starts_with(family));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect()
}

fn gib(numbers: &[u64]) -> Vec<f64> {
    numbers.iter().map(|number| (number * GIB) as f64).collect()
}

/// Writes the state of the runtime power management of a device.
fn set_power(root: &Path, address: &str, state: &str) {
    let function = fs::canonicalize(root.join("sys/bus/pci/devices").join(address)).expect("it is there");
    fs::create_dir_all(function.join("power")).expect("a folder can be made");
    fs::write(function.join("power/runtime_status"), format!("{state}\n")).expect("a file can be written");
}

#[test]
fn xe_reports_the_memory_in_use_of_each_device() {
    let host = b60().lay_out();
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let integrated = inventory.devices.iter().find(|device| device.integrated).expect("it is there");
    assert!(!integrated.memory_bytes.is_known());
    let text = metrics(&host);
    assert_eq!(values(&text, USED), gib(&[1, 2, 3, 4]), "{text}");
    assert_eq!(values(&exported(&host), "xpum_memory_used_bytes{"), gib(&[1, 2, 3, 4]));
}

#[test]
fn i915_reports_the_memory_of_all_tiles() {
    // Of a product that the table does not know, whose size the driver alone reports.
    let devices = [i915("0000:29:00.0", [60 * GIB, 62 * GIB]), i915("0000:99:00.0", [64 * GIB, 63 * GIB])];
    let host = Fixture::named(MAX).without_library().with_driver(RECORDING, recording(&devices)).copy();
    for address in ["0000:29:00.0", "0000:99:00.0"] {
        let function = host.root().join("sys/bus/pci/devices").join(address);
        let function = fs::canonicalize(function).expect("it is there");
        fs::write(function.join("device"), "0x0bff\n").expect("a file can be written");
        for card in ["card1", "card2"] {
            fs::remove_file(function.join("drm").join(card).join("lmem_total_bytes")).ok();
        }
    }
    for device in shown(&host).devices.iter().filter(|device| !device.integrated) {
        assert_eq!(device.memory_bytes.value(), Some(&(128 * GIB)));
        assert_eq!(device.memory_source.value(), Some(&MemorySource::Drm));
    }
    let text = metrics(&host);
    assert_eq!(values(&text, USED), gib(&[6, 1]), "{text}");
    assert_eq!(
        values(&exported(&host), "hw_memory_usage_bytes{"),
        gib(&[4, 2, 0, 1]),
        "each tile has its own"
    );
}

#[test]
fn what_a_reader_without_privilege_sees_is_no_value() {
    let devices = [i915("0000:29:00.0", [64 * GIB, 64 * GIB]), i915("0000:99:00.0", [64 * GIB, 64 * GIB])];
    let of_i915 = Fixture::named(MAX).without_library().with_driver(RECORDING, recording(&devices)).lay_out();
    let of_xe = b60().lay_out();
    of_xe.update_driver(|recording| {
        for device in recording["devices"].as_array_mut().expect("a list") {
            device["answers"]["DRM_XE_DEVICE_QUERY_MEM_REGIONS"]["value"][1]["used"] = json!(0);
        }
    });
    for (host, devices) in [(of_i915, 2), (of_xe, 4)] {
        let text = metrics(&host);
        assert_eq!(values(&text, USED), gib(&[]), "{text}");
        assert_eq!(values(&exported(&host), "xpum_memory_used_bytes{"), gib(&[]));
        let problems = shown(&host).problems;
        assert_eq!(problems.len(), devices, "{problems:?}");
        for problem in problems {
            assert_eq!((problem.fact.as_str(), problem.reason), ("memory_used", Missing::NotPermitted));
            assert!(problem.message.contains("CAP_PERFMON"), "{}", problem.message);
        }
    }
}

#[test]
fn a_sleeping_device_is_not_asked_and_costs_the_others_nothing() {
    let host = b60().copy();
    set_power(host.root(), "0000:13:00.0", "suspended");
    // That would be a problem.
    host.update_driver(|recording| {
        recording["devices"][1]["answers"]["DRM_IOCTL_VERSION"] = json!({ "error": "EIO" });
    });
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    assert_eq!(values(&metrics(&host), USED), gib(&[1, 3, 4]));

    let host = b60().copy();
    let agent = Agent::start(host.afd(RUN));
    let used = |agent: &Agent| agent.count(USED);
    agent.until("all are sampled", |agent| used(agent) == 4);
    set_power(host.root(), "0000:13:00.0", "suspended");
    agent.until("it is not sampled any more", |agent| used(agent) == 3);
    set_power(host.root(), "0000:13:00.0", "active");
    agent.until("it is sampled again", |agent| used(agent) == 4);
    assert!(agent.inventory().problems.is_empty(), "{:?}", agent.inventory().problems);
}

#[test]
fn a_query_that_hangs_delays_no_scrape() {
    let host = b60().copy();
    let agent = Agent::start(host.afd(RUN));
    agent.until("all are sampled", |agent| agent.count(USED) == 4);
    host.update_driver(|recording| recording["hang"] = json!(["DRM_XE_DEVICE_QUERY_MEM_REGIONS"]));
    agent.until("what the driver reports is absent", |agent| agent.count(USED) == 0);
    assert_eq!(agent.inventory().devices.len(), 5);
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
    host.update_driver(|recording| recording["hang"] = json!([]));
    agent.until("another process has been started", |agent| agent.count(USED) == 4);
}

#[test]
fn nodes_that_may_not_be_opened_are_one_problem_and_cost_no_fact_of_sysfs() {
    let nodes = (128..133).map(|number| format!("dev/dri/renderD{number}")).collect();
    let closed = shown(&b60().with_unreadable(nodes).lay_out());
    let open = shown(&b60().lay_out());
    assert_eq!(closed.problems.len(), 1, "{:?}", closed.problems);
    assert!(closed.problems[0].message.contains("EACCES; this process needs the render nodes"));
    for (closed, open) in closed.devices.iter().zip(&open.devices) {
        assert_eq!((&closed.product, &closed.health), (&open.product, &open.health));
    }
}

#[test]
fn where_level_zero_cannot_be_initialised_the_driver_is_asked_and_the_problem_stays() {
    let devices = [i915("0000:29:00.0", [60 * GIB, 62 * GIB]), i915("0000:99:00.0", [64 * GIB, 63 * GIB])];
    let host = Fixture::named(MAX).with_driver(RECORDING, recording(&devices)).lay_out();
    assert_eq!(values(&metrics(&host), USED).len(), 2);
    assert_ne!(values(&metrics(&host), USED), gib(&[6, 1]), "Level Zero has answered");
    host.driver_root()
        .update(|recording| recording["system"]["zesInit"] = json!({ "error": "UNINITIALIZED" }));
    let inventory = shown(&host);
    assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
    assert!(inventory.problems[0].message.contains("Level Zero cannot be initialised: UNINITIALIZED"));
    assert!(inventory.devices.iter().all(|device| device.health.state == HealthState::Unknown));
    assert_eq!(values(&metrics(&host), USED), gib(&[6, 1]));
}

#[test]
fn where_level_zero_reports_no_memory_the_driver_is_asked() {
    let devices = [i915("0000:29:00.0", [60 * GIB, 62 * GIB]), i915("0000:99:00.0", [64 * GIB, 63 * GIB])];
    let host = Fixture::named(MAX).with_driver(RECORDING, recording(&devices)).lay_out();
    host.driver_root().update(|recording| {
        for device in recording["devices"].as_array_mut().expect("a list") {
            device["answers"]["zesDeviceEnumMemoryModules"] = json!({ "error": "UNSUPPORTED_FEATURE" });
        }
    });
    assert!(shown(&host).devices.iter().all(|device| device.serial.is_known()), "it reports the rest");
    assert_eq!(values(&metrics(&host), USED), gib(&[6, 1]));
}

/// Adds a process with a client of xe on the node of a device, in place of what it was before.
fn write_client(root: &Path, process: u32, address: &str, client: u32, cycles: u64, clock: u64) {
    let folder = root.join("proc").join(process.to_string());
    for name in ["fd", "fdinfo"] {
        fs::create_dir_all(folder.join(name)).expect("a folder can be made");
    }
    let function = root.join("sys/bus/pci/devices").join(address).join("drm");
    let nodes = fs::read_dir(function).expect("it has nodes");
    let names = nodes.filter_map(|node| node.ok()?.file_name().into_string().ok());
    let node = names.into_iter().find(|name| name.starts_with("renderD")).expect("it has a render node");
    symlink(format!("/dev/dri/{node}"), folder.join("fd/7")).ok();
    let text = format!(
        "drm-driver:\txe\ndrm-client-id:\t{client}\ndrm-pdev:\t{address}\n\
         drm-cycles-ccs:\t{cycles}\ndrm-total-cycles-ccs:\t{clock}\n"
    );
    let file = folder.join("fdinfo/7");
    fs::write(file.with_extension("new"), text).expect("a file can be written");
    fs::rename(file.with_extension("new"), file).expect("a file can be replaced");
}

/// Makes the processes under `/proc` those of the whole node.
fn show_processes(root: &Path) {
    fs::create_dir_all(root.join("proc/1/ns")).expect("a folder can be made");
    symlink("pid:[4026531836]", root.join("proc/1/ns/pid")).expect("a link can be made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_clients_is_the_utilization_of_their_device_also_for_its_pod() {
    const BUSY: &str = "0000:23:00.0";
    let folder = TempDir::new().expect("a temporary folder can be made");
    let host = b60().copy();
    let device = shown(&host).devices.into_iter().find(|device| device.id.to_string() == BUSY);
    let device = device.expect("it is there");
    let card = device.handle(HandleKind::DrmCard).expect("it has one");
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("decode-0", "gpu.intel.com/xe", &[&format!("{card}-0")])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    show_processes(host.root());
    let ticks = Cell::new(0);
    let tick = || {
        ticks.set(ticks.get() + 1);
        // The second process has inherited the client of the first one.
        for process in [4711, 4712] {
            write_client(host.root(), process, BUSY, 3, 25 * ticks.get(), 100 * ticks.get());
        }
    };
    tick();
    let mut command = host.afd(RUN);
    command.arg("--pod-resources").arg(folder.path());
    let agent = Agent::start(command);
    let of_pod = |line: &&str| line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.contains("pod=\"decode-0\"");
    agent.until("the pod has the utilization of its device", |agent| {
        tick();
        agent.get("/compat/dcgm").text().lines().find(of_pod).is_some_and(|line| line.ends_with("} 25"))
    });
    agent.until("no other device has one", |agent| {
        tick();
        values(agent.get("/metrics").text(), UTILIZATION) == [0.25]
    });
    let problems = agent.inventory().problems;
    assert!(problems.is_empty(), "{problems:?}");
    for process in ["proc/4711", "proc/4712"] {
        fs::remove_dir_all(host.root().join(process)).expect("it is there");
    }
    agent.until("it has ended", |agent| agent.count(UTILIZATION) == 0);
}

#[test]
fn where_one_process_cannot_be_read_there_is_no_utilization_and_one_problem() {
    // As a user who may not read all files.
    let host = b60().with_unreadable(vec!["dev/dri/card0".to_owned()]).copy();
    show_processes(host.root());
    write_client(host.root(), 4711, "0000:23:00.0", 3, 0, 100);
    write_client(host.root(), 4712, "0000:23:00.0", 4, 0, 100);
    let closed = host.root().join("proc/4712/fd");
    fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).expect("it can be closed");
    let agent = Agent::start(host.afd(RUN));
    let refused = |agent: &Agent| agent.value("afd_probe_problems{probe=\"intel\",reason=\"not_permitted\"}");
    agent.until("the problem is counted", |agent| refused(agent) == Some(1.0));
    assert_eq!(agent.count(UTILIZATION), 0);
}

#[test]
fn nothing_holds_the_driver_after_a_release_and_a_recording_answers_as_the_driver_did() {
    let host = b60().copy();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = folder.path().join("control.sock");
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    agent.until("the driver is sampled", |agent| agent.count(USED) == 4);
    stdout(afd_tests::afd(["release", "intel", "--control-socket"]).arg(&socket));
    assert_eq!(agent.library_process(), None);
    drop(agent);

    let target = folder.path().join("recorded");
    stdout(&mut host.afd(["record", "--no-redact", target.to_str().expect("temporary paths are UTF-8")]));
    let text = fs::read(target.join("libraries").join(RECORDING)).expect("the answers were recorded");
    let recorded: Value = serde_json::from_slice(&text).expect("they are JSON");
    let before = metrics(&host);
    host.update_driver(|recording| *recording = recorded);
    assert_eq!(metrics(&host), before);
}
