//! NVML over time, through the real binary and the fake library: one that is slow, silent or refuses, GPUs that it loses, and what
//! stays published meanwhile.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, path::Path, time::Duration};

use afd_model::{HealthState, Inventory};
use afd_tests::{
    agent::{Agent, without_marks},
    fixture::{Fixture, FixtureHost},
    output, stdout,
};
use serde_json::{Value, json};

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const SLOW: [&str; 6] =
    ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "3600"];
const H100: &str = "nvidia-h100x8-nvml";
const POWER: &str = "accelerator_device_power_watts{";
const PENDING: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"pending\"}";
const DISCOVERIES: &str = "afd_probe_duration_seconds_count{probe=\"nvidia\",step=\"discover\"}";
const SAMPLES: &str = "afd_probe_duration_seconds_count{probe=\"nvidia\",step=\"sample\"}";

fn start(host: &FixtureHost) -> Agent {
    let agent = Agent::start(host.afd(RUN));
    agent.until("NVML is sampled", |agent| agent.count(POWER) > 0);
    agent
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

/// State and first reason of each GPU.
fn verdicts(inventory: &Inventory) -> Vec<(HealthState, String)> {
    let health = inventory.devices.iter().map(|device| &device.health);
    health
        .map(|health| {
            (health.state, health.reasons.first().map(|reason| reason.code.clone()).unwrap_or_default())
        })
        .collect()
}

/// The lines of a page that start with a prefix.
fn series(agent: &Agent, page: &str, prefix: &str) -> Vec<String> {
    let response = agent.get(page);
    response.text().lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

/// Lets the agent discover this often.
fn after_discoveries(agent: &Agent, number: f64) {
    let before = agent.value(DISCOVERIES).expect("discoveries are counted");
    agent.until("it has discovered", |agent| agent.value(DISCOVERIES) >= Some(before + number));
}

fn unknown() -> Value {
    json!({ "error": "UNKNOWN" })
}

#[test]
fn a_library_that_starts_slowly_is_a_pending_problem_until_it_answers() {
    let host = Fixture::named(H100).lay_out();
    host.driver_root().update(|recording| {
        recording["faults"] = json!({ "delay_milliseconds": { "nvmlInit_v2": 6000 } });
    });
    let agent = Agent::start(host.afd(SLOW));
    agent.until("the reason is counted", |agent| agent.value(PENDING) == Some(1.0));
    let message =
        |agent: &Agent| agent.inventory().problems.into_iter().map(|problem| problem.message).collect();
    let first: Vec<String> = message(&agent);
    assert_eq!(first, ["no response yet"], "nothing in it moves");
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    agent.until("it is no problem any more", |agent| agent.value(PENDING).is_none());
    assert_eq!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}"), Some(0.0));
}

#[test]
fn an_answer_that_stays_pending_is_a_problem_before_its_deadline() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let before = agent.inventory().devices;
    host.driver_root().fault("hang", &["nvmlDeviceGetPowerUsage"]);
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    agent.until("the reason is counted", |agent| agent.value(PENDING) == Some(1.0));
    assert_eq!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}"), Some(0.0), "the deadline is later");
    let now = agent.inventory().devices;
    assert!(now.iter().zip(&before).all(|(now, before)| now.memory_bytes == before.memory_bytes));
}

#[test]
fn facts_survive_calls_that_fail_and_a_count_that_fails() {
    let host = Fixture::named("nvidia-a100x8-mig-mixed").lay_out();
    let agent = start(&host);
    let before = agent.inventory().devices;
    host.driver_root().update(|recording| {
        recording["system"]["nvmlSystemGetCudaDriverVersion_v2"] = unknown();
        for device in recording["devices"].as_array_mut().expect("devices are a list") {
            for call in ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetNvLinkState(0)"]
            {
                device["answers"][call] = unknown();
            }
        }
    });
    after_discoveries(&agent, 3.0);
    let problems = agent.inventory().problems;
    assert!(problems.iter().any(|problem| problem.message.contains("MigMode UNKNOWN")), "{problems:?}");
    assert_eq!(without_marks(agent.inventory()), before);

    host.driver_root().update(|recording| recording["system"]["nvmlDeviceGetCount_v2"] = unknown());
    agent.until("the count is refused", |agent| {
        let problems = agent.inventory().problems;
        problems.iter().any(|problem| problem.message.contains("nvmlDeviceGetCount_v2 UNKNOWN"))
    });
    assert_eq!(without_marks(agent.inventory()), before, "that is not: no devices");
    assert!(agent.count(POWER) > 0);
}

#[test]
fn mig_that_is_switched_off_is_an_answer() {
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    let agent = start(&host);
    assert!(!agent.inventory().devices[0].partitions.is_empty());
    host.driver_root().update(|recording| {
        let mode = json!({ "value": { "currentMode": 0, "pendingMode": 0 } });
        recording["devices"][0]["answers"]["nvmlDeviceGetMigMode"] = mode;
        recording["devices"][0]["mig"] = json!([]);
    });
    agent.until("the MIG devices are gone", |agent| agent.inventory().devices[0].partitions.is_empty());
}

#[test]
fn a_device_that_the_kernel_lost_does_not_live_in_a_report() {
    let host = Fixture::named(H100).copy();
    let agent = start(&host);
    let (library, away) = (host.driver_root().library(), host.driver_root().path().join("away"));
    fs::rename(&library, &away).expect("a file can be moved");
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    let gone = agent.inventory().devices[7].id.to_string();
    let link = host.root().join("sys/bus/pci/devices").join(&gone);
    fs::remove_file(link).expect("a link can be removed");
    agent.until("it is gone", |agent| agent.inventory().devices.len() == 7);
    let left = agent.inventory();
    assert!(
        left.devices.iter().all(|device| device.memory_bytes.is_known()),
        "static facts of the others stay"
    );
    assert!(left.links.iter().all(|link| ![link.a, link.b].iter().any(|end| end.to_string() == gone)));
}

#[test]
fn the_xid_of_a_lost_gpu_is_counted_and_its_series_keep_their_labels() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let device = agent.inventory().devices[5].clone();
    let uuid = device.uuid.value().expect("its UUID is known").clone();
    let labels = format!("vendor=\"nvidia\",device=\"{}\",uuid=\"{uuid}\",partition=\"\"", device.id);
    let errors = |detail: &str| {
        format!("accelerator_device_errors_total{{{labels},kind=\"xid\",detail=\"{detail}\"}}")
    };
    let (xid_31, xid_79) = (errors("31"), errors("79"));
    agent.until("the counters exist", |agent| agent.value(&xid_79) == Some(0.0));
    assert_eq!(agent.value(&errors("other")), Some(0.0));
    host.driver_root().raise(json!({ "device": 5, "eventType": 8, "eventData": 31 }));
    agent.until("it is counted", |agent| agent.value(&xid_31) == Some(1.0));
    host.driver_root().update(|recording| {
        let lost = json!({ "error": "GPU_IS_LOST" });
        recording["devices"][5]["answers"]["nvmlDeviceGetHandleByIndex_v2"] = lost;
        let event = json!({ "device": 5, "eventType": 8, "eventData": 79 });
        recording["events"].as_array_mut().expect("events are a list").push(event);
    });
    agent.until("it is counted", |agent| agent.value(&xid_79) == Some(1.0));
    agent.until("its samples are absent", |agent| agent.count(POWER) == 7);
    assert_eq!(agent.value(&xid_31), Some(1.0));
    assert_eq!(agent.value(&format!("accelerator_device_last_xid{{{labels}}}")), Some(79.0));
    let dcgm = series(&agent, "/compat/dcgm", "DCGM_FI_DEV_XID_ERRORS{");
    let lost: Vec<_> = dcgm.iter().filter(|line| line.contains(&uuid)).collect();
    assert!(lost.len() == 1 && lost[0].ends_with(" 79"), "{dcgm:?}");
    agent.until("both are reasons of its health", |agent| {
        let now = &agent.inventory().devices[5];
        let reasons: Vec<&str> = now.health.reasons.iter().map(|reason| reason.code.as_str()).collect();
        now.uuid == device.uuid && now.health.state == HealthState::Failed && reasons == ["GpuLost", "Xid79"]
    });
}

#[test]
fn the_counts_of_xids_survive_a_restart_of_the_container() {
    let host = Fixture::named(H100).copy();
    let folder = tempfile::tempdir().expect("a folder can be created");
    let start = || {
        let mut command = host.afd(RUN);
        command.arg("--state-dir").arg(folder.path());
        let agent = Agent::start(command);
        agent.until("NVML is sampled", |agent| agent.count(POWER) > 0);
        agent
    };
    let agent = start();
    let device = agent.inventory().devices[5].clone();
    let uuid = device.uuid.value().expect("its UUID is known");
    let xid_31 = format!(
        "accelerator_device_errors_total{{vendor=\"nvidia\",device=\"{}\",uuid=\"{uuid}\",partition=\"\",kind=\"xid\",detail=\"31\"}}",
        device.id
    );
    host.driver_root().raise(json!({ "device": 5, "eventType": 8, "eventData": 31 }));
    agent.until("it is counted", |agent| agent.value(&xid_31) == Some(1.0));
    let saved = folder.path().join("state.json");
    agent.until("it is saved", |_| {
        fs::read_to_string(&saved).is_ok_and(|text| text.contains("\"counts\":{\"31\":1}"))
    });
    drop(agent);
    host.driver_root().update(|recording| recording["events"] = json!([]));
    let agent = start();
    agent.until("the count goes on", |agent| agent.value(&xid_31) == Some(1.0));
    drop(agent);
    fs::write(host.root().join("sys/module/nvidia/version"), "590.48.01\n").expect("a file can be written");
    let agent = start();
    agent.until("another driver counts from 0", |agent| agent.value(&xid_31) == Some(0.0));
}

#[test]
fn errors_that_are_not_watched_have_no_series_and_are_a_problem() {
    let host = Fixture::named(H100).lay_out();
    host.driver_root().remove_symbol("nvmlEventSetCreate");
    let agent = start(&host);
    assert!(series(&agent, "/compat/dcgm", "DCGM_FI_DEV_XID_ERRORS{").is_empty());
    assert_eq!(agent.count("accelerator_device_last_xid{"), 0);
    let metrics = agent.get("/metrics");
    assert!(!metrics.text().contains("kind=\"xid\""));
    assert!(!metrics.text().contains("No Error"));
    let problems = agent.inventory().problems;
    assert_eq!(problems.iter().filter(|problem| problem.fact == "events").count(), 8, "{problems:?}");
}

#[test]
fn a_call_that_requires_a_reset_fails_its_gpu_and_causes_no_loop() {
    let host = Fixture::named(H100).lay_out();
    let agent = Agent::start(host.afd(SLOW));
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    let reset = json!({ "error": "RESET_REQUIRED" });
    host.driver_root().answer(3, "nvmlDeviceGetUtilizationRates", reset.clone());
    agent.until("the GPU has failed", |agent| {
        verdicts(&agent.inventory())[3] == (HealthState::Failed, "GpuResetRequired".to_owned())
    });
    assert_unhurried(&agent);
    host.driver_root().answer(
        3,
        "nvmlDeviceGetUtilizationRates",
        json!({ "value": { "gpu": 1, "memory": 1 } }),
    );
    agent.until("the GPU is healthy", |agent| verdicts(&agent.inventory())[3].0 == HealthState::Healthy);

    // A call that only a discovery makes.
    host.driver_root().answer(3, "nvmlDeviceGetInforomImageVersion", reset);
    host.driver_root().answer(4, "nvmlDeviceGetFieldValues(230)", json!({ "value": 1 }));
    agent.until("it has failed", |agent| verdicts(&agent.inventory())[3].0 == HealthState::Failed);
    assert_unhurried(&agent);
}

/// While nothing changes, samples keep their interval and cause no discovery. Two that were requested before may still follow; a
/// loop that backs off would make four in this time.
fn assert_unhurried(agent: &Agent) {
    let counts = || (agent.value(DISCOVERIES).unwrap_or(0.0), agent.value(SAMPLES).unwrap_or(0.0));
    let (discoveries, samples) = counts();
    std::thread::sleep(Duration::from_secs(4));
    let (discoveries_now, samples_now) = counts();
    assert!(discoveries_now <= discoveries + 2.0, "{discoveries_now} after {discoveries}");
    assert!(samples_now <= samples + 21.0, "0.2 s apart");
}

#[test]
fn gpus_that_nvml_does_not_list_have_failed_and_stay() {
    let host = Fixture::named(H100).lay_out();
    host.driver_root().update(|recording| {
        let devices = recording["devices"].as_array_mut().expect("devices are a list");
        devices.remove(6);
        devices.remove(1);
    });
    let inventory = shown(&host);
    let failed: Vec<usize> = (0..inventory.devices.len())
        .filter(|index| verdicts(&inventory)[*index] == (HealthState::Failed, "GpuNotListed".to_owned()))
        .collect();
    assert_eq!((inventory.devices.len(), failed), (8, vec![1, 6]));
    let healthy = verdicts(&inventory).iter().filter(|(state, _)| *state == HealthState::Healthy).count();
    assert_eq!(healthy, 6);
}

#[test]
fn a_gpu_that_waits_for_its_fabric_cannot_take_work() {
    let host = Fixture::named("nvidia-gb200x4-clique").lay_out();
    host.driver_root().update(|recording| {
        recording["devices"][0]["answers"]["nvmlDeviceGetGpuFabricInfoV"]["value"]["state"] = json!(2);
    });
    let verdicts = verdicts(&shown(&host));
    assert_eq!(verdicts[0], (HealthState::Failed, "FabricNotReady".to_owned()));
    assert_eq!(verdicts[1].0, HealthState::Healthy);
}

#[test]
fn values_that_no_gpu_can_have_are_dropped_and_counted() {
    let host = Fixture::named(H100).lay_out();
    let spike = json!({ "value": { "gpu": 808_334_905, "memory": u32::MAX } });
    host.driver_root().answer(0, "nvmlDeviceGetUtilizationRates", spike);
    host.driver_root().answer(0, "nvmlDeviceGetPowerUsage", json!({ "value": u32::MAX }));
    host.driver_root().answer(0, "nvmlDeviceGetTemperature(0)", json!({ "value": u32::MAX }));
    let agent = start(&host);
    assert_eq!(agent.count(POWER), 7);
    let first = agent.inventory().devices[0].id.to_string();
    for family in ["accelerator_device_utilization_ratio{", "accelerator_device_temperature_celsius{"] {
        let lines = series(&agent, "/metrics", family);
        let of_first = |line: &&String| {
            line.contains(&first) && (line.contains("compute") || line.contains("sensor=\"gpu\""))
        };
        assert_eq!(lines.iter().filter(of_first).count(), 0, "{lines:?}");
    }
    let malformed = agent.value("afd_probe_problems{probe=\"nvidia\",reason=\"malformed\"}");
    assert_eq!(malformed, Some(3.0), "utilization, power and temperature");
}

#[test]
fn compute_instances_of_a_gpu_instance_share_one_measurement() {
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    host.driver_root().update(|recording| {
        let migs = recording["devices"][0]["mig"].as_array_mut().expect("MIG devices are a list");
        let first = migs.iter().find(|mig| !mig.is_null()).expect("there is a MIG device").clone();
        for compute_instance in 1..3 {
            let mut mig = first.clone();
            mig["nvmlDeviceGetComputeInstanceId"]["value"] = json!(compute_instance);
            mig["nvmlDeviceGetUUID"]["value"] = json!(format!("MIG-{compute_instance}"));
            let free = migs.iter().position(Value::is_null);
            match free {
                Some(index) => migs[index] = mig,
                None => migs.push(mig),
            }
        }
        recording["devices"][0]["answers"]["nvmlDeviceGetMaxMigDeviceCount"] = json!({ "value": 7 });
    });
    let agent = Agent::start(host.afd(RUN));
    let gpu = agent.inventory().devices[0].id.to_string();
    let shares = |agent: &Agent| {
        let lines = series(agent, "/metrics", "accelerator_device_utilization_ratio{");
        let of_instance = |line: &String| {
            [gpu.as_str(), "partition=\"gi1-ci", "engine=\"compute\""].iter().all(|part| line.contains(part))
        };
        let lines = lines.into_iter().filter(of_instance);
        lines.map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    agent.until("all of them are measured", |agent| shares(agent).len() == 3);
    let measured = shares(&agent);
    assert!(measured.iter().all(|share| *share == measured[0]), "{measured:?}");
    after_discoveries(&agent, 2.0);
    assert_eq!(shares(&agent).len(), 3, "a window that is too short would have no value");
}

#[test]
fn incidents_end_with_the_driver_that_reported_them() {
    let host = Fixture::named(H100).copy();
    host.driver_root().update(|recording| {
        for device in recording["devices"].as_array_mut().expect("devices are a list") {
            device["answers"]["nvmlDeviceGetFieldValues(230)"] = json!({ "error": "NOT_SUPPORTED" });
        }
    });
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let socket = folder.path().join("control.sock");
    let mut command = host.afd(RUN);
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    agent.until("NVML is sampled", |agent| agent.count(POWER) == 8);
    host.driver_root().raise(json!({ "device": 0, "eventType": 8, "eventData": 74 }));
    host.driver_root().raise(json!({ "device": 1, "eventType": 8, "eventData": 63 }));
    agent.until("both are unwell", |agent| {
        let verdicts = verdicts(&agent.inventory());
        verdicts[0].0 == HealthState::Failed && verdicts[1].0 == HealthState::Degraded
    });
    after_discoveries(&agent, 3.0);
    assert_eq!(verdicts(&agent.inventory())[0].1, "Xid74", "time alone ends nothing");

    release(&socket, &[]);
    let version = host.root().join("sys/module/nvidia/version");
    fs::create_dir_all(version.parent().expect("it is in a folder")).expect("a folder can be made");
    fs::write(version, "590.48.01\n").expect("a file can be written");
    host.driver_root().update(|recording| recording["events"] = json!([]));
    release(&socket, &["--end"]);
    agent.until("NVML is sampled again", |agent| agent.count(POWER) == 8);
    agent.until("all are healthy", |agent| {
        verdicts(&agent.inventory()).iter().all(|(state, _)| *state == HealthState::Healthy)
    });
    let counted = series(&agent, "/metrics", "accelerator_device_errors_total{");
    let xids = counted.iter().filter(|line| line.contains("kind=\"xid\""));
    assert!(xids.clone().count() > 0 && xids.clone().all(|line| line.ends_with(" 0")), "{counted:?}");
}

fn release(socket: &Path, more: &[&str]) {
    let output = output(afd_tests::afd(["release", "nvidia", "--control-socket"]).arg(socket).args(more));
    assert!(output.status.success(), "{output:?}");
}
