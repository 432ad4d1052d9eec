//! What is published beside health: compatible metrics, processes, recordings.

use std::{fs, process::Stdio};

use afd_model::Inventory;
use afd_tests::{
    agent::Agent,
    driver_root::FakeDriverRoot,
    fixture::{Fixture, FixtureHost},
    stdout,
};
use serde_json::{Value, json};

use crate::{RUN, shown, start};

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
fn the_listener_for_endpoint_pickers_serves_only_what_they_read() {
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
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
    let families = response.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let families: Vec<&str> = families.filter(|name| *name != "DCGM_FI_PROF_GR_ENGINE_ACTIVE").collect();
    assert_eq!(families, ["DCGM_FI_DEV_GPU_UTIL"]);
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
fn each_link_is_published_on_request() {
    const UP: &str = "accelerator_device_link_up{";
    const BYTES: &str = "accelerator_device_link_bytes_total{";
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let agent = start(&host);
    // The sum of each direction.
    assert_eq!((agent.count(UP), agent.count(BYTES)), (0, 16));
    drop(agent);
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--per-link"])));
    agent.until("the links are sampled", |agent| agent.count(UP) == 8 * 18);
    let lines = agent.lines("/metrics", "accelerator_device_link_");
    let of_first = |start: &str| -> Vec<&str> {
        let first = lines.iter().filter(|line| line.contains("device=\"0000:19:00.0\""));
        first.filter_map(|line| Some(line.strip_prefix(start)?.split_once("partition=\"\",")?.1)).collect()
    };
    assert_eq!(of_first(BYTES).len(), 2 * 18, "each link in place of the sums");
    assert_eq!(of_first(BYTES)[0], r#"type="nvlink",direction="receive",link="0",peer=""} 13344768"#);
    let errors = of_first("accelerator_device_link_errors_total{");
    assert_eq!(errors.len(), 3 * 18);
    assert!(errors.contains(&r#"type="nvlink",kind="crc",link="5",peer=""} 3"#), "{errors:?}");

    // A bridge instead of a switch: the link has a peer, and keeps it when it goes down.
    let remote = json!({ "value": { "busId": "00000000:29:00.0", "domain": 0, "bus": 0x29, "device": 0 } });
    host.driver_root().answer(0, "nvmlDeviceGetNvLinkRemotePciInfo_v2(7)", remote);
    let link = |value: u32| format!("type=\"nvlink\",link=\"7\",peer=\"0000:29:00.0\"}} {value}");
    let is_shown = |agent: &Agent, line: &str| agent.get("/metrics").text().contains(line);
    agent.until("the peer is known", |agent| is_shown(agent, &link(1)));
    host.driver_root().answer(0, "nvmlDeviceGetNvLinkState(7)", json!({ "value": 0 }));
    agent.until("the link is down", |agent| is_shown(agent, &link(0)));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(is_shown(&agent, &link(0)), "also after further discoveries");
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
