//! NVML through the real binary and the fake library: what the library reports and how it fails.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use afd_model::{HealthState, Inventory, Missing};
use afd_tests::{
    agent::{Agent, TIMEOUT, without_marks},
    driver_root::FakeDriverRoot,
    fixture::{Fixture, FixtureHost},
    stdout,
};
use serde_json::{Value, json};

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const H100: &str = "nvidia-h100x8-nvml";
const POWER: &str = "accelerator_device_power_watts{";

fn start(host: &FixtureHost) -> Agent {
    let agent = Agent::start(host.afd(RUN));
    agent.until("NVML is sampled", |agent| agent.count(POWER) > 0);
    agent
}

fn metrics(agent: &Agent) -> String {
    agent.get("/metrics").text().to_owned()
}

fn inventory(agent: &Agent) -> Inventory {
    serde_json::from_slice(&agent.get("/inventory").body).expect("the inventory is JSON")
}

fn states(agent: &Agent) -> Vec<HealthState> {
    inventory(agent).devices.iter().map(|device| device.health.state).collect()
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

/// Scrapes are fast, whatever the library does.
fn assert_fast_scrapes(agent: &Agent) {
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
}

#[test]
fn a_missing_library_is_no_problem() {
    let host = Fixture::named(H100).lay_out();
    let root = host.root().to_str().expect("temporary paths are UTF-8");
    let json = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
    let inventory: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert_eq!(inventory.devices.len(), 8);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    assert_eq!(inventory.devices[0].memory_bytes.missing(), Some(Missing::NotExposed));
}

#[test]
fn a_file_that_is_not_a_library_is_a_problem_and_affects_no_fact_of_the_kernel() {
    let host = Fixture::named(H100).lay_out();
    fs::write(host.driver_root().library(), "no ELF").expect("a file can be written");
    let inventory = shown(&host);
    assert_eq!(inventory.devices.len(), 8);
    assert_eq!(inventory.devices[0].product_name(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
    assert!(inventory.problems[0].message.contains("ended (exit status: 1)"), "{:?}", inventory.problems);
}

#[test]
fn a_library_without_some_symbols_reports_everything_else() {
    let host = Fixture::named("nvidia-gb200x4-clique").lay_out();
    for symbol in ["nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetAddressingMode"]
    {
        host.driver_root().remove_symbol(symbol);
    }
    let device = &shown(&host).devices[0];
    assert_eq!(device.fabric_domain.missing(), Some(Missing::NotAvailable), "the older call is used instead");
    assert_eq!(device.product_name(), Some("NVIDIA GB200"));
    let facts = device.nvidia().expect("NVML reports the device");
    assert_eq!(facts.addressing_mode.missing(), Some(Missing::NotExposed));
    assert_eq!(device.health.state, HealthState::Healthy);
}

#[test]
fn refused_calls_are_problems_and_unsupported_ones_are_not() {
    let host = Fixture::named("nvidia-l40sx2").lay_out();
    host.driver_root().update(|recording| {
        let answers = recording["devices"][0]["answers"].as_object_mut().expect("answers are an object");
        for (call, answer) in answers.iter_mut() {
            if call != "nvmlDeviceGetPciInfo_v3" {
                *answer = json!({ "error": "NOT_SUPPORTED" });
            }
        }
        recording["devices"][1]["answers"]["nvmlDeviceGetSerial"] = json!({ "error": "NO_PERMISSION" });
    });
    let inventory = shown(&host);
    let [unsupported, refused] = &inventory.devices[..] else { panic!("there are two devices") };
    assert_eq!(unsupported.product_name(), Some("NVIDIA L40S"), "from the product table");
    assert_eq!(refused.serial.missing(), Some(Missing::NotPermitted));
    let problems: Vec<_> =
        inventory.problems.iter().map(|problem| (problem.device, problem.reason)).collect();
    assert_eq!(problems, [(Some(refused.id), Missing::NotPermitted)]);
    let metrics = stdout(&mut host.afd(["show", "--output", "metrics"]));
    assert_eq!(metrics.matches(POWER).count(), 1, "a value that is not reported has no series");
}

#[test]
fn values_change_and_the_library_is_initialised_once() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let first = agent.library_process().expect("there is a library process");
    host.driver_root().answer(0, "nvmlDeviceGetPowerUsage", json!({ "value": 654_321 }));
    agent.until("the new value is published", |agent| metrics(agent).contains("} 654.321\n"));
    agent
        .until("GPM has two samples", |agent| agent.count("accelerator_device_memory_bandwidth_ratio{") == 8);
    assert_eq!(agent.library_process(), Some(first));
    assert_eq!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}"), Some(0.0));
}

#[test]
fn a_gpu_that_falls_off_the_bus_affects_no_other_gpu() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    assert_eq!(agent.count(POWER), 8);
    host.driver_root().answer(5, "nvmlDeviceGetHandleByIndex_v2", json!({ "error": "GPU_IS_LOST" }));
    agent.until("the GPU has failed", |agent| states(agent)[5] == HealthState::Failed);
    agent.until("its series are gone", |agent| agent.count(POWER) == 7);
    let others = states(&agent);
    assert_eq!(others.iter().filter(|state| **state == HealthState::Healthy).count(), 7);
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = Fixture::named(H100).lay_out();
    let agent = start(&host);
    let first = agent.library_process();
    host.driver_root().fault("hang", &["nvmlDeviceGetPowerUsage"]);
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    assert_fast_scrapes(&agent);
    let devices = inventory(&agent).devices;
    assert_eq!(devices.len(), 8);
    assert!(devices.iter().all(|device| device.memory_bytes.is_known()), "static facts stay");
    host.driver_root().fault("hang", &[]);
    agent.until("the library process has restarted", |agent| agent.count(POWER) == 8);
    assert_ne!(agent.library_process(), first);
    assert!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}") >= Some(1.0));
}

#[test]
fn the_agent_survives_a_crash_and_an_abort_in_the_library() {
    for kind in ["crash", "abort"] {
        let host = Fixture::named(H100).lay_out();
        let agent = start(&host);
        host.driver_root().fault(kind, &["nvmlDeviceGetUtilizationRates"]);
        agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
        assert_fast_scrapes(&agent);
        assert_eq!(inventory(&agent).devices[0].product_name(), Some("NVIDIA H100 80GB HBM3"));
        host.driver_root().fault(kind, &[]);
        agent.until("the library process has restarted", |agent| agent.count(POWER) == 8);
    }
}

#[test]
fn a_library_that_leaks_memory_is_restarted() {
    let host = Fixture::named("nvidia-t4").lay_out();
    let agent = start(&host);
    let first = agent.library_process();
    host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
    agent.until("the library process was restarted", |agent| {
        agent.value("afd_probe_restarts_total{probe=\"nvidia\"}").is_some_and(|restarts| restarts >= 1.0)
    });
    host.driver_root().update(|recording| recording["faults"] = json!({}));
    agent.until("the library process has restarted", |agent| agent.count(POWER) == 1);
    assert_ne!(agent.library_process(), first);
}

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
    let devices = inventory(&agent).devices;
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
    let partitions = |agent: &Agent| inventory(agent).devices[3].partitions.len();
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
    let agent = start(&host);
    host.driver_root().fault("abort", &["nvmlDeviceGetName"]);
    host.driver_root().update(|recording| {
        recording["system"]["nvmlInit_v2"] = json!({ "error": "LIB_RM_VERSION_MISMATCH" });
    });
    agent.until("the mismatch is published", |agent| {
        inventory(agent).devices[0]
            .health
            .reasons
            .first()
            .is_some_and(|reason| reason.code == "DriverLibraryMismatch")
    });
    host.driver_root().update(|recording| {
        recording["system"]["nvmlInit_v2"] = json!({ "value": Value::Null });
        recording["faults"] = json!({});
    });
    fs::write(host.root().join("sys/module/nvidia/version"), "590.48.01\n").expect("a file can be written");
    agent.until("the new version is published", |agent| {
        inventory(agent).devices[0].driver_version.value().map(String::as_str) == Some("590.48.01")
    });
}

#[test]
fn static_facts_survive_the_removal_of_the_library() {
    let host = Fixture::named("nvidia-l40sx2").lay_out();
    let agent = start(&host);
    let before = inventory(&agent).devices;
    let (library, away) = (host.driver_root().library(), host.driver_root().path().join("away"));
    fs::rename(&library, &away).expect("a file can be moved");
    agent.until("the samples are absent", |agent| agent.count(POWER) == 0);
    agent.until("the problem is reported", |agent| {
        inventory(agent).problems.iter().any(|problem| problem.message.contains("no longer there"))
    });
    assert_eq!(without_marks(inventory(&agent)), before);
    fs::rename(&away, &library).expect("a file can be moved");
    agent.until("the library is sampled again", |agent| agent.count(POWER) == 2);
}

#[test]
fn the_library_process_ends_with_the_agent_also_when_it_hangs() {
    let host = Fixture::named("nvidia-t4").lay_out();
    let agent = start(&host);
    let pid = agent.library_process().expect("there is a library process");
    host.driver_root().fault("hang", &["nvmlDeviceGetUtilizationRates"]);
    agent.until("the library hangs", |agent| agent.count(POWER) == 0);
    let killed = Command::new("kill").args(["-KILL", &agent.pid().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let start = Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < TIMEOUT, "process {pid} outlived its agent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_utilization_of_mig_devices_comes_from_gpm() {
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    let agent = start(&host);
    let family = "DCGM_FI_DEV_GPU_UTIL{";
    let page = |agent: &Agent| agent.get("/compat/dcgm").text().to_owned();
    agent.until("GPM has two samples", |agent| page(agent).contains(family));
    let text = page(&agent);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(family)).collect();
    assert_eq!(lines.len(), 4, "one for each MIG device, none for the GPUs: {lines:?}");
    assert!(
        lines[0].contains("GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"1\"") && lines[0].ends_with("} 40"),
        "{}",
        lines[0]
    );
    assert!(lines.iter().all(|line| line.contains("pod=\"\"")), "{lines:?}");
    for family in
        ["DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_DRAM_ACTIVE"]
    {
        assert!(text.contains(&format!("\n{family}{{")), "{family} is missing");
    }
}

#[test]
fn the_dcgm_listener_serves_only_dcgm_metrics() {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = reserved.local_addr().expect("a listener has an address").to_string();
    drop(reserved);
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--dcgm-listen", address.as_str()])));
    agent.until("a sample was taken", |agent| {
        agent.get("/compat/dcgm").text().contains("DCGM_FI_DEV_GPU_UTIL")
    });
    let response = Agent::get_from(&address, "/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(response.text().matches("\nDCGM_FI_DEV_GPU_UTIL{").count(), 8);
    assert!(!response.text().contains("DCGM_FI_DEV_POWER_USAGE"), "other vendors have only utilization");
    assert_eq!(Agent::get_from(&address, "/inventory").status, 404);
}

#[test]
fn only_a_vgpu_reports_the_state_of_its_licence() {
    let family = "DCGM_FI_DEV_VGPU_LICENSE_STATUS{";
    let licensed = |host: &FixtureHost| {
        let text = stdout(&mut host.afd(["show", "--output", "dcgm"]));
        text.lines().find(|line| line.starts_with(family)).map(|line| line.ends_with(" 1"))
    };
    let guest = Fixture::named("nvidia-vgpu-guest").lay_out();
    assert_eq!(licensed(&guest), Some(true));
    guest.driver_root().update(|recording| {
        let call = "nvmlDeviceGetGridLicensableFeatures_v4";
        let features = &mut recording["devices"][0]["answers"][call]["value"]["gridLicensableFeatures"];
        features[0]["featureState"] = json!(0);
    });
    assert_eq!(licensed(&guest), Some(false));
    assert_eq!(licensed(&Fixture::named("nvidia-l40sx2").lay_out()), None);
}

#[test]
fn the_memory_of_each_process_is_published_on_request() {
    const FAMILY: &str = "accelerator_device_process_memory_used_bytes{";
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    let process = |pid: usize, instance: u32| json!({ "pid": pid, "usedGpuMemory": 1 << 30, "gpuInstanceId": instance, "computeInstanceId": 0 });
    // More than fit into the first buffer.
    let processes: Vec<Value> = (1..=100).map(|pid| process(pid, if pid > 99 { 2 } else { 1 })).collect();
    host.driver_root().answer(0, "nvmlDeviceGetComputeRunningProcesses_v3", json!({ "value": processes }));
    let shown = |more: &[&str]| {
        let text = stdout(host.afd(["show", "--output", "metrics"]).args(more));
        text.lines().filter(|line| line.starts_with(FAMILY)).map(str::to_owned).collect::<Vec<_>>()
    };
    let series = shown(&["--per-process"]);
    assert_eq!(series.len(), 100, "{series:?}");
    let last =
        series.iter().find(|line| line.contains("pid=\"100\"")).expect("the last process is published");
    assert!(last.contains("partition=\"gi2-ci0\"") && last.ends_with(" 1073741824"), "{last}");
    assert!(shown(&[]).is_empty());
}

#[test]
fn a_recording_answers_as_the_node_did() {
    let host = Fixture::named("nvidia-h100x2-mig").lay_out();
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let target = folder.path().join("recorded");
    let target_text = target.to_str().expect("temporary paths are UTF-8");
    stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
    let replay = FakeDriverRoot::new(&target.join("libraries/nvml.json"));
    let mut command = afd_tests::afd(["show", "--output", "json", "--host-root"]);
    let json = stdout(command.arg(target.join("root")).arg("--nvidia-driver-root").arg(replay.path()));
    let recorded: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
    assert_eq!(recorded, shown(&host));

    let redacted = folder.path().join("redacted");
    stdout(&mut host.afd(["record", redacted.to_str().expect("temporary paths are UTF-8")]));
    let text = fs::read_to_string(redacted.join("libraries/nvml.json")).expect("answers were recorded");
    assert!(!text.contains("1000000000001") && !text.contains("afd0-4000"), "{text}");
    assert!(text.contains("MIG-00000000-0000-0000-0000-0000000000"), "{text}");
}
