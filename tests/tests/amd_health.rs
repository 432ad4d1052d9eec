//! The health of AMD's GPUs over time, through the real binary: what ends a fault, and what sleep does not change.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use afd_model::{Device, HealthState, Inventory};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
    stdout,
};

const RUN: [&str; 7] =
    ["run", "--no-kubernetes", "--no-libraries", "--sample-interval", "0.2", "--discovery-interval", "0.2"];

/// An agent on a host whose GPUs report their health, and one of these GPUs.
struct Observed {
    host: FixtureHost,
    agent: Agent,
    /// The folder of the GPU's attributes.
    gpu: PathBuf,
    /// Its address.
    id: String,
}

impl Observed {
    /// `prepare` gets the copied host, and the folder and the first device of it.
    fn start(fixture: &str, prepare: impl FnOnce(&Path, &Device)) -> Observed {
        let host = Fixture::named(fixture).copy();
        let device = shown(&host).devices.swap_remove(0);
        let id = device.id.to_string();
        let gpu =
            fs::canonicalize(host.root().join("sys/bus/pci/devices").join(&id)).expect("it is on the bus");
        prepare(host.root(), &device);
        let agent = Agent::start(host.afd(RUN));
        let observed = Observed { host, agent, gpu, id };
        observed.agent.until("all GPUs are healthy", |agent| {
            let devices = agent.inventory().devices;
            !devices.is_empty() && devices.iter().all(|device| device.health.state == HealthState::Healthy)
        });
        observed
    }

    fn device(&self) -> Device {
        let devices = self.agent.inventory().devices;
        devices.into_iter().find(|device| device.id.to_string() == self.id).expect("the GPU is listed")
    }

    fn until(&self, state: HealthState) {
        self.agent.until(&format!("the GPU is {}", state.as_str()), |_| self.device().health.state == state);
    }

    /// Waits for as many discoveries from now on. Each is seen by the VBIOS version of another GPU, which changes.
    fn after_discoveries(&self, count: usize) {
        let others = self.agent.inventory().devices;
        let other =
            others.iter().find(|other| other.id.to_string() != self.id).expect("there is another GPU");
        let file = self.host.root().join(format!("sys/bus/pci/devices/{}/vbios_version", other.id));
        for number in 0..count {
            let version = format!("113-TEST-{number}");
            fs::write(&file, format!("{version}\n")).expect("a file can be written");
            self.agent.until("there was another discovery", |agent| {
                let devices = agent.inventory().devices;
                devices.iter().any(|device| device.firmware_version.value() == Some(&version))
            });
        }
    }
}

fn shown(host: &FixtureHost) -> Inventory {
    let json = stdout(&mut host.afd(["show", "--no-libraries", "--output", "json"]));
    serde_json::from_str(&json).expect("the inventory is JSON")
}

/// The content of `amdgpu_ring_cper` with records of fatal errors that have these numbers.
fn ring(numbers: &[u8]) -> Vec<u8> {
    let mut ring = vec![0; 12];
    for number in numbers {
        let mut record = vec![0; 200];
        record[..4].copy_from_slice(b"CPER");
        record[6..10].copy_from_slice(&[0xff; 4]);
        record[12] = 1;
        record[20] = 200;
        record[96] = *number;
        ring.extend(record);
    }
    ring
}

#[test]
fn a_fatal_record_fails_the_gpu_until_its_driver_was_loaded_again() {
    let mut file = PathBuf::new();
    let observed = Observed::start("amd-mi300x8-spx", |root, device| {
        let card = device.handle(afd_model::HandleKind::DrmCard).expect("it has a card");
        let folder = root.join(format!("sys/kernel/debug/dri/{}", card.trim_start_matches("card")));
        fs::create_dir_all(&folder).expect("a folder can be made");
        file = folder.join("amdgpu_ring_cper");
        fs::write(&file, ring(&[])).expect("a file can be written");
    });
    fs::write(&file, ring(&[1])).expect("a file can be written");
    observed.until(HealthState::Failed);
    assert_eq!(observed.device().health.reasons[0].code, "FatalErrorRecord");
    observed.after_discoveries(4);
    assert_eq!(observed.device().health.state, HealthState::Failed, "the record is still in the ring");
    fs::write(&file, ring(&[])).expect("a file can be written");
    observed.until(HealthState::Healthy);
    fs::write(&file, ring(&[2])).expect("a file can be written");
    observed.until(HealthState::Failed);
    // The same version of the driver is loaded again between two discoveries: only the link to it is another one.
    let (driver, again) = (observed.gpu.join("driver"), observed.gpu.join("driver-again"));
    let target = fs::read_link(&driver).expect("it has a driver");
    std::os::unix::fs::symlink(target, &again).expect("a link can be made");
    fs::rename(&again, &driver).expect("a link can be moved");
    observed.until(HealthState::Healthy);
}

#[test]
fn sleep_does_not_change_the_health_of_a_gpu() {
    let observed = Observed::start("amd-mi210x8-two-hives", |_, _| {});
    let (ras, asleep) = (observed.gpu.join("ras"), observed.gpu.join("ras-asleep"));
    let power = observed.gpu.join("power");
    fs::create_dir_all(&power).expect("a folder can be made");
    for _ in 0..2 {
        fs::rename(&ras, &asleep).expect("a folder can be renamed");
        fs::write(power.join("runtime_status"), "suspended\n").expect("a file can be written");
        observed.after_discoveries(2);
        assert_eq!(observed.device().health.state, HealthState::Healthy, "{:?}", observed.device().health);
        fs::write(power.join("runtime_status"), "active\n").expect("a file can be written");
        fs::rename(&asleep, &ras).expect("a folder can be renamed");
        observed.after_discoveries(2);
        assert_eq!(observed.device().health.state, HealthState::Healthy);
    }
    fs::write(power.join("runtime_status"), "suspended\n").expect("a file can be written");
    let seen_asleep = shown(&observed.host);
    let device = seen_asleep.devices.iter().find(|device| device.id.to_string() == observed.id);
    let health = &device.expect("the GPU is listed").health;
    assert_eq!(health.state, HealthState::Unknown, "this command has never seen it awake");
    assert_eq!(health.reasons[0].code, "Suspended");
}

#[test]
fn bad_pages_are_counted_in_a_list_of_any_length_and_none_that_was_not_read_is_a_sign_of_health() {
    let observed = Observed::start("amd-mi300x8-dpx", |_, _| {});
    let pages = observed.gpu.join("ras/gpu_vram_bad_pages");
    let retired = "0x00327f5d : 0x00001000 : R\n".repeat(5000);
    fs::write(&pages, &retired).expect("a file can be written");
    observed.after_discoveries(2);
    assert_eq!(observed.device().health.state, HealthState::Healthy, "all are retired");
    fs::write(&pages, retired + "0x00400000 : 0x00001000 : F\n").expect("a file can be written");
    observed.until(HealthState::Failed);
    assert_eq!(observed.device().health.reasons[0].code, "BadPagesInUse");
    fs::write(&pages, "").expect("a file can be written");
    observed.until(HealthState::Healthy);
    fs::remove_file(&pages).expect("a file can be removed");
    fs::create_dir(&pages).expect("a folder can be made");
    observed.after_discoveries(3);
    assert_eq!(observed.device().health.state, HealthState::Healthy, "the verdict holds for a minute");
    let devices = shown(&observed.host).devices;
    let device = devices.iter().find(|device| device.id.to_string() == observed.id).expect("it is listed");
    assert_eq!(device.health.state, HealthState::Unknown);
    assert_eq!(device.health.reasons[0].code, "EvidenceUnreadable");
}
