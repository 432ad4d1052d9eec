//! NVIDIA's driver is released and reacquired, through the real binary and the fake library.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use afd_model::{Device, FactSet, Health, HealthState, Inventory};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
    output,
};
use serde_json::json;
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const POWER: &str = "accelerator_device_power_watts{";
const RELEASED: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"released\"}";
const SAMPLED: &str = "afd_last_sample_timestamp_seconds{probe=\"nvidia\",source=\"library\"}";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"nvidia\"}";

/// An agent of a host with eight GPUs, and its control socket.
struct ReleaseSetup {
    host: FixtureHost,
    folder: TempDir,
    agent: Agent,
}

impl ReleaseSetup {
    fn new() -> ReleaseSetup {
        let host = Fixture::named("nvidia-h100x8-nvml").copy();
        let folder = TempDir::new().expect("a temporary folder can be made");
        let agent = start(&host, &socket(&folder));
        ReleaseSetup { host, folder, agent }
    }

    fn release(&self, more: &[&str]) -> Output {
        release(&socket(&self.folder), more)
    }

    fn inventory(&self) -> Inventory {
        self.agent.inventory()
    }

    /// Whether the agent or its library process has a file of the driver open or mapped.
    fn holds_the_driver(&self) -> bool {
        let root = self.host.driver_root().path().to_str().expect("temporary paths are UTF-8").to_owned();
        let holds = |pid: u32| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            maps.contains(&root) || links.any(|link| link.starts_with(&root) && link.is_file())
        };
        holds(self.agent.pid()) || self.agent.library_process().is_some_and(holds)
    }
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("control.sock")
}

fn start(host: &FixtureHost, socket: &Path) -> Agent {
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(socket);
    let agent = Agent::start(command);
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    agent
}

fn release(socket: &Path, more: &[&str]) -> Output {
    output(afd_tests::afd(["release", "nvidia", "--control-socket"]).arg(socket).args(more))
}

/// What is known of devices but their health, which no source confirms while the driver is released.
fn without_health(devices: &[Device]) -> Vec<Device> {
    let mut devices = devices.to_vec();
    for device in &mut devices {
        (device.health, device.undecided) = (Health::unknown(), FactSet::default());
    }
    devices
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_released_driver_is_not_held_until_it_is_reacquired() {
    let setup = ReleaseSetup::new();
    let agent = &setup.agent;
    assert!(setup.holds_the_driver());
    assert_eq!(agent.count(SAMPLED), 1);
    let before = setup.inventory();

    let output = setup.release(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(!setup.holds_the_driver(), "the command ends when the driver is not held any more");
    assert_eq!(agent.library_process(), None);
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    agent.until("no time of them grows old", |agent| agent.count(SAMPLED) == 0);
    agent.until("the reason is counted", |agent| agent.value(RELEASED) == Some(1.0));
    let now = setup.inventory().devices;
    assert_eq!(without_health(&now), without_health(&before.devices), "static facts stay");
    let reasons = now.iter().flat_map(|device| &device.health.reasons).map(|reason| reason.code.as_str());
    assert_eq!(reasons.collect::<Vec<_>>(), ["DriverUpgrade"; 8]);
    assert!(now.iter().all(|device| device.health.state == HealthState::Unknown));
    assert_eq!(agent.count("accelerator_device_pcie_link_width{"), 16, "samples of the kernel stay");
    assert_eq!(agent.get("/readyz").status, 200);
    assert!(setup.release(&[]).status.success(), "it is released already");

    assert!(setup.release(&["--end"]).status.success());
    agent.until("it is sampled again", |agent| agent.count(POWER) == 8);
    assert_eq!(agent.count(SAMPLED), 1);
    assert!(setup.holds_the_driver());
    agent.until("the reason is not counted any more", |agent| agent.value(RELEASED).is_none());
    assert_eq!(agent.value(RESTARTS), Some(0.0), "nothing failed");
    agent.until("all is as before", |_| setup.inventory().devices == before.devices);
}

#[test]
fn another_version_of_the_driver_is_acquired_automatically() {
    let setup = ReleaseSetup::new();
    let version = setup.host.root().join("sys/module/nvidia/version");
    assert!(setup.release(&[]).status.success());
    // The old one is unloaded and its library removed.
    fs::remove_file(&version).expect("the driver has a version");
    let library = setup.host.driver_root().library();
    let away = setup.folder.path().join("away");
    fs::rename(&library, &away).expect("a file can be moved");
    setup.agent.until("the reason is counted", |agent| agent.value(RELEASED) == Some(1.0));
    assert_eq!(setup.inventory().devices.len(), 8);
    assert!(setup.inventory().devices[0].memory_bytes.is_known(), "static facts stay");
    fs::copy(&away, &library).expect("a file can be copied");
    fs::write(&version, "999.1.2\n").expect("a file can be written");
    setup.agent.until("it is sampled again", |agent| agent.count(POWER) == 8);
    assert_eq!(setup.inventory().devices[0].driver_version.value().map(String::as_str), Some("999.1.2"));
}

#[test]
fn a_driver_is_released_also_when_its_library_hangs() {
    let setup = ReleaseSetup::new();
    setup.host.driver_root().fault("hang", &["nvmlDeviceGetPowerUsage"]);
    setup.agent.until("the library hangs", |agent| agent.count(POWER) == 0);
    let output = setup.release(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(!setup.holds_the_driver());
}

#[test]
fn the_release_of_one_vendors_driver_leaves_another_ones_as_it_is() {
    const NVML_POWER: &str = "accelerator_device_power_watts{vendor=\"nvidia\"";
    const AMD_RELEASED: &str = "afd_probe_problems{probe=\"amd\",reason=\"released\"}";
    let host = Fixture::named("nvidia-h100x8-nvml").copy();
    let amd = Fixture::named("amd-mi300x8-spx").lay_out();
    host.add(&amd);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = socket(&folder);
    let mut command = host.afd(RUN);
    command.arg(amd.driver_root().option()).arg(amd.driver_root().path());
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    let release = |arguments: &[&str]| {
        let mut command = afd_tests::afd(["release", "--control-socket"]);
        let output = output(command.arg(&socket).args(arguments));
        assert!(output.status.success(), "{output:?}");
    };
    agent.until("NVML is sampled", |agent| agent.count(NVML_POWER) == 8);

    release(&["nvidia"]);
    agent.until("NVIDIA's driver is released", |agent| agent.value(RELEASED) == Some(1.0));
    assert_eq!(agent.value(AMD_RELEASED), None);
    release(&["amd"]);
    agent.until("AMD's driver is released, too", |agent| agent.value(AMD_RELEASED) == Some(1.0));
    assert_eq!(agent.value(RELEASED), Some(1.0));
    assert_eq!(agent.count(NVML_POWER), 0);
    assert_eq!(agent.library_process(), None);

    release(&["amd", "--end"]);
    agent.until("AMD's driver is reacquired", |agent| agent.value(AMD_RELEASED).is_none());
    assert_eq!(agent.value(RELEASED), Some(1.0));
    assert_eq!(agent.count(NVML_POWER), 0);
    release(&["nvidia", "--end"]);
    agent.until("NVML is sampled again", |agent| agent.count(NVML_POWER) == 8);
}

#[test]
fn a_socket_without_an_agent_is_an_error_and_a_stale_one_is_replaced() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = socket(&folder);
    assert!(error(&release(&socket, &[])).contains("no agent is reachable"));

    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let first = start(&host, &socket);
    let mut second = host.afd(RUN);
    second.args(["--listen", "127.0.0.1:0", "--control-socket"]).arg(&socket);
    assert!(error(&output(&mut second)).contains("another agent listens"));

    // Killed, so that it cannot clean up.
    drop(first);
    assert!(error(&release(&socket, &[])).contains("no agent is reachable"));
    let _third = start(&host, &socket);
    assert!(release(&socket, &[]).status.success());
}

/// A container gets its copy of the library when it is created: after an upgrade of the driver the copy of one that goes on
/// running is stale.
#[test]
fn a_stale_library_in_the_container_ends_the_agent_once_per_driver() {
    let host = Fixture::named("nvidia-l40sx2").copy();
    host.driver_root().update(|recording| {
        recording["system"]["nvmlInit_v2"] = json!({ "error": "LIB_RM_VERSION_MISMATCH" });
    });
    let folder = TempDir::new().expect("a temporary folder can be made");
    let command = || {
        let mut command = host.afd(RUN);
        command.arg("--state-dir").arg(folder.path());
        command
    };
    let ended = output(command().args(["--listen", "127.0.0.1:0"]));
    assert!(ended.status.success(), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("LibraryStale"), "{ended:?}");

    let agent = Agent::start(command());
    let has_failed = |agent: &Agent| {
        agent.inventory().devices.iter().all(|device| {
            device.health.reasons.first().is_some_and(|reason| reason.code == "DriverLibraryMismatch")
        })
    };
    agent.until("a library that is stale in a new container as well is a fault", has_failed);
    fs::write(host.root().join("sys/module/nvidia/version"), "590.48.01\n").expect("a file can be written");
    assert!(agent.wait(), "another driver may have another library");
}
