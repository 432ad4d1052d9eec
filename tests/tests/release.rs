//! NVIDIA's driver is let go and taken back, through the real binary and the fake library.
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

use afd_model::Inventory;
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, LaidOut},
    output,
};
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const POWER: &str = "accelerator_device_power_watts{";
const RELEASED: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"released\"}";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"nvidia\"}";

/// An agent of a host with eight GPUs, and its control socket.
struct Scene {
    host: LaidOut,
    folder: TempDir,
    agent: Agent,
}

impl Scene {
    fn new() -> Scene {
        let host = Fixture::named("nvidia-h100x8-nvml").copy();
        let folder = TempDir::new().expect("a temporary folder can be made");
        let agent = start(&host, &socket(&folder));
        Scene { host, folder, agent }
    }

    fn release(&self, more: &[&str]) -> Output {
        release(&socket(&self.folder), more)
    }

    fn inventory(&self) -> Inventory {
        serde_json::from_slice(&self.agent.get("/inventory").body).expect("the inventory is JSON")
    }

    /// Whether the agent or a process of it has a file of the driver open or mapped.
    fn holds_the_driver(&self) -> bool {
        let root = self.host.driver_root().path().to_str().expect("our paths are UTF-8").to_owned();
        let holds = |pid: u32| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            maps.contains(&root) || links.any(|link| link.starts_with(&root) && link.is_file())
        };
        holds(self.agent.pid()) || self.agent.child().is_some_and(holds)
    }
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("control.sock")
}

fn start(host: &LaidOut, socket: &Path) -> Agent {
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(socket);
    let agent = Agent::start(command);
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    agent
}

fn release(socket: &Path, more: &[&str]) -> Output {
    output(afd_tests::afd(["release", "nvidia", "--control-socket"]).arg(socket).args(more))
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_driver_that_was_let_go_is_held_by_nobody_until_it_is_taken_back() {
    let scene = Scene::new();
    let agent = &scene.agent;
    assert!(scene.holds_the_driver());
    let before = scene.inventory();

    let told = scene.release(&[]);
    assert!(told.status.success(), "{told:?}");
    assert!(!scene.holds_the_driver(), "the command ends when nothing is held any more");
    assert_eq!(agent.child(), None);
    agent.until("what moves is absent", |agent| agent.count(POWER) == 0);
    agent.until("the reason is counted", |agent| agent.value(RELEASED) == Some(1.0));
    assert_eq!(scene.inventory().devices, before.devices, "what does not move stays");
    assert_eq!(agent.count("accelerator_device_pcie_link_width{"), 16, "the kernel's word goes on");
    assert_eq!(agent.get("/readyz").status, 200);
    assert!(scene.release(&[]).status.success(), "it is let go already");

    assert!(scene.release(&["--end"]).status.success());
    agent.until("it is sampled again", |agent| agent.count(POWER) == 8);
    assert!(scene.holds_the_driver());
    assert_eq!(agent.value(RELEASED), None);
    assert_eq!(agent.value(RESTARTS), Some(0.0), "nothing went wrong");
    assert_eq!(scene.inventory().devices, before.devices);
}

#[test]
fn another_version_of_the_driver_is_taken_back_by_itself() {
    let scene = Scene::new();
    let version = scene.host.root().join("sys/module/nvidia/version");
    assert!(scene.release(&[]).status.success());
    // The old one is unloaded, and its library goes with it.
    fs::remove_file(&version).expect("the driver has a version");
    let library = scene.host.driver_root().library();
    let away = scene.folder.path().join("away");
    fs::rename(&library, &away).expect("a file can be moved");
    scene.agent.until("the agent has looked", |agent| agent.value(RELEASED) == Some(1.0));
    assert_eq!(scene.inventory().devices.len(), 8);
    assert!(scene.inventory().devices[0].memory_bytes.is_known(), "what does not move stays");
    fs::copy(&away, &library).expect("a file can be copied");
    fs::write(&version, "999.1.2\n").expect("a file can be written");
    scene.agent.until("it is sampled again", |agent| agent.count(POWER) == 8);
    assert_eq!(scene.inventory().devices[0].driver_version.value().map(String::as_str), Some("999.1.2"));
}

#[test]
fn a_process_that_hangs_within_the_library_is_ended_all_the_same() {
    let scene = Scene::new();
    scene.host.driver_root().fault("hang", &["nvmlDeviceGetPowerUsage"]);
    scene.agent.until("it hangs", |agent| agent.count(POWER) == 0);
    let told = scene.release(&[]);
    assert!(told.status.success(), "{told:?}");
    assert!(!scene.holds_the_driver());
}

#[test]
fn a_socket_without_an_agent_is_told_and_one_that_was_left_behind_is_replaced() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = socket(&folder);
    assert!(error(&release(&socket, &[])).contains("no agent is to be reached"));

    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let first = start(&host, &socket);
    let mut second = host.afd(RUN);
    second.args(["--listen", "127.0.0.1:0", "--control-socket"]).arg(&socket);
    assert!(error(&output(&mut second)).contains("another agent listens"));

    // Killed, so that it cannot put anything away.
    drop(first);
    assert!(error(&release(&socket, &[])).contains("no agent is to be reached"));
    let _third = start(&host, &socket);
    assert!(release(&socket, &[]).status.success());
}
