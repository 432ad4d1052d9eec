//! What HLML says of the health of a device, and when that is no evidence.

use std::{fs, path::Path, time::Duration};

use afd_model::HealthState;
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
};
use serde_json::{Value, json};

use super::{FAULTS, GAUDI2, restarts, utilizations};

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
fn a_device_that_the_library_loses_has_failed_unless_the_driver_resets_it() {
    const ADDRESS: &str = "0000:99:00.0";
    let host = Fixture::named(GAUDI2).copy();
    let agent = FAULTS.start(&host);
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
    let agent = FAULTS.start(&host);
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
    // Nor can the driver be asked.
    let _ = fs::remove_dir_all(host.root().join("dev/accel"));
    host.driver_root().answer(2, "hlml_device_get_replaced_rows_pending_status", json!({ "value": 1 }));
    let agent = FAULTS.start(&host);
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
    let agent = FAULTS.start(&host);
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
