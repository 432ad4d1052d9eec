//! Which pods hold devices, through the real binary and a fake kubelet.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_tests::{agent::Agent, fixture::Fixture};
use tempfile::TempDir;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--pod-resources", "DIR"];
const UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL{";

fn start(fixture: &str, folder: &TempDir) -> Agent {
    let host = Fixture::named(fixture).lay_out();
    let folder = folder.path().to_str().expect("temporary paths are UTF-8");
    Agent::start(host.afd(RUN.map(|argument| if argument == "DIR" { folder } else { argument })))
}

fn lines(agent: &Agent, path: &str, family: &str) -> Vec<String> {
    agent.get(path).text().lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_the_pods_that_hold_devices() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![
        pod("decode-0", "amd.com/gpu", &["0000:0c:00.0"]),
        pod("decode-1", "amd.com/gpu", &["0000:0c:00.0"]),
        pod("nic", "rdma/ib", &["mlx5_0"]),
    ]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let agent = start("amd-mi300x8-spx", &folder);
    agent.until("the allocations are published", |agent| {
        lines(agent, "/metrics", "accelerator_device_allocation{").len() == 2
    });
    let series: Vec<String> = lines(&agent, "/compat/dcgm", UTILIZATION);
    assert_eq!(series.len(), 9, "two of the shared device, one of each other: {series:?}");
    assert_eq!(series.iter().filter(|line| line.contains("pod=\"\"")).count(), 7);
    assert!(
        series.iter().any(|line| line.contains("pod=\"decode-1\",namespace=\"serving\",container=\"vllm\""))
    );
    assert!(agent.get("/metrics").text().contains("afd_kubelet_errors_total 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_kubelet_is_counted_and_affects_nothing_else() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let agent = start("amd-mi300x8-spx", &folder);
    agent.until("the failure is counted", |agent| {
        !agent.get("/metrics").text().contains("afd_kubelet_errors_total 0\n")
    });
    assert_eq!(lines(&agent, "/compat/dcgm", UTILIZATION).len(), 8);
    assert!(lines(&agent, "/metrics", "accelerator_device_allocation{").is_empty());
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("late", "amd.com/gpu", &["0000:0c:00.0"])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    agent.until("the allocation is published", |agent| {
        lines(agent, "/metrics", "accelerator_device_allocation{").len() == 1
    });
}
