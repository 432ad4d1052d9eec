//! The door: what llm-d's endpoint picker reads, on hosts of every vendor, through the real binary and a fake kubelet. Fast model
//! actuation, for which pods are read, is in allocations.rs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, net::TcpListener, time::Duration};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
};
use tempfile::TempDir;

const UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL{";
const ACTIVE: &str = "DCGM_FI_PROF_GR_ENGINE_ACTIVE{";
const SYNTHETIC: &str = "afd_synthetic";

/// An agent with a door, beside a kubelet.
struct Door {
    agent: Agent,
    address: String,
    kubelet: FakeKubelet,
    _folder: TempDir,
}

impl Door {
    /// With a kubelet that reports one pod, `decode`, which holds a device.
    fn open(host: &FixtureHost, resource: &str, id: &str, options: &[&str]) -> Door {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let kubelet = FakeKubelet::default();
        kubelet.set_pods(vec![pod("decode", resource, &[id])]);
        kubelet.start(folder.path()).expect("a socket can be made");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has a free port").to_string();
        let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
        command.args(["--discovery-interval", "0.5", "--fault-grace", "0.2", "--dcgm-listen", &address]);
        command.args(options).arg("--pod-resources").arg(folder.path());
        Door { agent: Agent::start(command), address, kubelet, _folder: folder }
    }

    fn lines(&self, family: &str) -> Vec<String> {
        let response = Agent::get_from(&self.address, "/metrics");
        response.text().lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
    }

    /// Waits until the pod's device is busy because of a fault, and returns the series.
    fn until_synthetic(&self, what: &str) -> String {
        self.agent.until(what, |_| self.lines(UTILIZATION).iter().any(|line| line.contains(SYNTHETIC)));
        let mut lines = self.lines(UTILIZATION);
        lines.retain(|line| line.contains(SYNTHETIC));
        assert_eq!(lines.len(), 1, "{what}: {lines:?}");
        for page in ["/metrics", "/compat/dcgm", "/inventory"] {
            assert!(!self.agent.get(page).text().contains(SYNTHETIC), "{what}: {page}");
        }
        assert!(!self.lines(ACTIVE).iter().any(|line| line.contains(SYNTHETIC)), "{what}");
        lines.remove(0)
    }
}

/// Of each vendor a fixture with a device that has failed by its own evidence, under the name that its device plugin gives it.
const FAILED: [(&str, &str, &str, &str); 4] = [
    ("amd-mi325x8-unwell", "amd.com/gpu", "0000:22:00.0", "UncorrectableErrors"),
    ("gaudi3-x8", "habana.ai/gaudi", "0000:67:00.0", "InReset"),
    ("intel-b580-wedged", "gpu.intel.com/xe", "card0-1", "Wedged"),
    ("nvidia-h100x8-one-lost", "nvidia.com/gpu", "0000:99:00.0", "GpuLost"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_any_vendor_that_has_failed_is_busy_for_the_pod_that_holds_it() {
    for (fixture, resource, id, reason) in FAILED {
        let door = Door::open(&Fixture::named(fixture).lay_out(), resource, id, &[]);
        let line = door.until_synthetic(fixture);
        let ends = format!(
            "pod=\"decode\",namespace=\"serving\",container=\"vllm\",afd_synthetic=\"{reason}\"}} 100"
        );
        assert!(line.ends_with(&ends), "{line}");
        door.kubelet.set_pods(Vec::new());
        door.agent.until("no pod holds it", |_| {
            door.lines(UTILIZATION).iter().all(|line| !line.contains(SYNTHETIC) && line.contains("pod=\"\""))
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_gone_is_busy_for_the_pod_that_still_holds_it() {
    let host = Fixture::named("tpu-v5p-x4").copy();
    let options = ["--expect", "any=4", "--removal-grace", "0.2", "--boot-removal-grace", "0.2"];
    let door = Door::open(&host, "google.com/tpu", "0", &options);
    door.agent.until("the pod holds it", |agent| {
        agent.get("/metrics").text().contains("accelerator_device_allocation{")
    });
    assert!(door.lines(UTILIZATION).iter().all(|line| !line.contains(SYNTHETIC)));
    let function = host.root().join("sys/bus/pci/devices/0000:00:04.0");
    fs::remove_file(&function).or_else(|_| fs::remove_dir_all(&function)).expect("a function can be removed");
    let line = door.until_synthetic("it is missing");
    assert!(line.contains("gpu=\"missing-1\"") && line.contains("pod=\"decode\""), "{line}");
    assert!(line.ends_with("afd_synthetic=\"DeviceMissing\"} 100"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fault_of_a_device_and_what_is_turned_off_is_never_synthetic() {
    let unwell = ("amd-mi325x8-unwell", "amd.com/gpu", "0000:22:00.0");
    let keep = &["--door-failed", "keep"][..];
    for (fixture, resource, id, options, reason) in [
        ("nvidia-driver-mismatch", "nvidia.com/gpu", "0000:19:00.0", &[][..], "DriverLibraryMismatch"),
        ("nvidia-a100x2-no-driver", "nvidia.com/gpu", "0000:17:00.0", &[], "DriverMissing"),
        ("tpu-v6e-x4-no-driver", "google.com/tpu", "0000:00:04.0", &[], "DriverMissing"),
        (unwell.0, unwell.1, unwell.2, keep, "UncorrectableErrors"),
    ] {
        // Also where the admin has such a reason turn the condition.
        let graces = ["--driver-grace", "0.1", "--library-start-grace", "0.1", "--library-grace", "0.1"];
        let reasons = ["--problem-reasons", "DriverLibraryMismatch,FabricNotReady"];
        let options: Vec<&str> = graces.iter().chain(&reasons).chain(options).copied().collect();
        let door = Door::open(&Fixture::named(fixture).lay_out(), resource, id, &options);
        door.agent.until("the device has failed, and the kubelet has reported the pod", |agent| {
            door.kubelet.calls() > 1 && agent.get("/inventory").text().contains(reason)
        });
        // Longer than its grace, by some samples.
        std::thread::sleep(Duration::from_secs(2));
        assert!(door.lines("").iter().all(|line| !line.contains(SYNTHETIC)), "{fixture}");
    }
}

#[test]
fn how_busy_a_device_is_has_both_names_for_every_vendor_that_reports_it() {
    for (fixture, count) in
        [("amd-mi300x8-spx", 8), ("nvidia-h100x8-nvml", 8), ("gaudi2-x8", 8), ("intel-max1550-x2", 2)]
    {
        let host = Fixture::named(fixture).lay_out();
        let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]));
        agent.until(fixture, |agent| agent.lines("/compat/dcgm", ACTIVE).len() == count);
        assert_eq!(agent.lines("/compat/dcgm", UTILIZATION).len(), count, "{fixture}");
    }
}
