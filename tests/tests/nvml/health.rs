//! What changes the health of GPUs and MIG devices, and their number.

use std::fs;

use afd_model::HealthState;
use afd_tests::{agent::Agent, fixture::Fixture};
use serde_json::{Value, json};

use crate::{H100, POWER, metrics, start, start_with, states};

#[test]
fn an_xid_event_fails_its_gpu_at_once_until_the_driver_recommends_no_action() {
    let host = Fixture::named(H100).lay_out();
    // Neither a sample nor a discovery is due: only the event itself makes the agent discover.
    let intervals = ["--sample-interval", "3600", "--discovery-interval", "3600"];
    let agent = Agent::start(host.afd(["run", "--no-kubernetes"].into_iter().chain(intervals)));
    agent.until("NVML is sampled", |agent| states(agent).first() == Some(&HealthState::Healthy));
    host.driver_root().answer(2, "nvmlDeviceGetFieldValues(230)", json!({ "value": 1 }));
    host.driver_root().raise(json!({ "device": 2, "eventType": 8, "eventData": 119 }));
    agent.until("the reason is published", |agent| metrics(agent).contains("reason=\"Xid119\"} 1"));
    assert_eq!(states(&agent)[2], HealthState::Failed);
    assert!(metrics(&agent).contains("kind=\"xid\",detail=\"119\"} 1\n"), "{}", metrics(&agent));

    drop(agent);
    let agent = start(&host);
    agent.until("the earlier event is delivered again", |agent| states(agent)[2] == HealthState::Failed);
    host.driver_root().answer(2, "nvmlDeviceGetFieldValues(230)", json!({ "value": 0 }));
    agent.until("the GPU is healthy again", |agent| states(agent)[2] == HealthState::Healthy);
}

#[test]
fn an_xid_of_an_application_error_is_counted_and_changes_no_health() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    host.driver_root().raise(json!({ "device": 0, "eventType": 8, "eventData": 31 }));
    agent.until("the XID is counted", |agent| metrics(agent).contains("detail=\"31\""));
    assert!(states(&agent).iter().all(|state| *state == HealthState::Healthy));
}

#[test]
fn an_xid_of_a_mig_instance_fails_only_that_instance() {
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    let agent = start(&host);
    host.driver_root().raise(
        json!({ "device": 0, "eventType": 8, "eventData": 95, "gpuInstanceId": 1, "computeInstanceId": 0 }),
    );
    agent.until("the GPU is degraded", |agent| states(agent)[0] == HealthState::Degraded);
    let devices = agent.inventory().devices;
    let states: Vec<_> = devices[0].partitions.iter().map(|partition| partition.health.state).collect();
    assert_eq!(states, [HealthState::Failed, HealthState::Healthy]);
    assert_eq!(devices[1].health.state, HealthState::Healthy);
}

#[test]
fn a_row_remap_failure_is_detected_by_the_next_sample() {
    let host = Fixture::named(H100).lay_out();
    let agent = Agent::start(host.afd([
        "run",
        "--no-kubernetes",
        "--sample-interval",
        "0.2",
        "--discovery-interval",
        "3600",
    ]));
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    let rows = json!({ "corrRows": 0, "uncRows": 2, "isPending": 0, "failureOccurred": 1 });
    host.driver_root().answer(4, "nvmlDeviceGetRemappedRows", json!({ "value": rows }));
    agent.until("the GPU has failed", |agent| states(agent)[4] == HealthState::Failed);
    assert!(metrics(&agent).contains("reason=\"RowRemapFailure\"} 1"));
}

#[test]
fn mig_devices_that_are_created_at_run_time_appear() {
    let host = Fixture::named("nvidia-a100x8-mig-mixed").lay_out();
    let agent = start(&host);
    let partitions = |agent: &Agent| agent.inventory().devices[3].partitions.len();
    assert_eq!(partitions(&agent), 0);
    host.driver_root().update(|recording| {
        let mig = recording["devices"][1]["mig"].clone();
        recording["devices"][3]["mig"] = mig;
    });
    agent.until("the MIG devices are published", |agent| partitions(agent) == 4);
}

#[test]
fn a_driver_of_another_version_than_the_library_is_a_reason() {
    let host = Fixture::named("nvidia-l40sx2").copy();
    let agent = start_with(&host, &["--driver-grace", "1"]);
    host.driver_root().fault("abort", &["nvmlDeviceGetName"]);
    host.driver_root().update(|recording| {
        recording["system"]["nvmlInit_v2"] = json!({ "error": "LIB_RM_VERSION_MISMATCH" });
    });
    agent.until("the mismatch is published", |agent| {
        agent.inventory().devices[0]
            .health
            .reasons
            .first()
            .is_some_and(|reason| reason.code == "DriverLibraryMismatch")
    });
    // What the kernel reports of a GPU takes precedence.
    let inventory = agent.inventory();
    let address = inventory.devices[1].id;
    fs::remove_file(host.root().join(format!("sys/bus/pci/devices/{address}/driver"))).expect("it is bound");
    agent.until("the GPU without a driver is published", |agent| {
        let devices = agent.inventory().devices;
        let code = |number: usize| devices[number].health.reasons.first().map(|reason| reason.code.clone());
        code(0).as_deref() == Some("DriverLibraryMismatch") && code(1).as_deref() == Some("DriverMissing")
    });
    host.driver_root().update(|recording| {
        recording["system"]["nvmlInit_v2"] = json!({ "value": Value::Null });
        recording["faults"] = json!({});
    });
    fs::write(host.root().join("sys/module/nvidia/version"), "590.48.01\n").expect("a file can be written");
    agent.until("the new version is published", |agent| {
        agent.inventory().devices[0].driver_version.value().map(String::as_str) == Some("590.48.01")
    });
}
