//! A kubelet with hundreds of thousands of ids, with the longest names, with another answer each time, that answers garbage or
//! nothing at all: through the real binary. Scrapes are answered, memory stays small, and what can be read is published.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts and start programs, and print what they measure"
)]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use afd_kubelet::{
    testing::{FakeKubelet, pod},
    v1::PodResources,
};
use afd_tests::{agent::Agent, fixture::Fixture};
use tempfile::TempDir;

const ALLOCATED: &str = "accelerator_device_allocation{";
/// The devices of the fixture.
const BUSES: [&str; 8] = ["0c", "22", "3c", "52", "8c", "a2", "bc", "d2"];
/// One id for each MiB of a GPU with 80 GiB.
const IDS: usize = 81_559;
/// Ten times what the agent may grow by: 24 MiB in all, of which it has 10 at rest.
const MAX_GROWTH_KIB: u64 = 10 * (14 << 10);
/// Ten times what may remain of that.
const MAX_REMAINDER_KIB: u64 = 10 << 10;
/// Ten times what a scrape may take on a busy machine.
const MAX_SCRAPE: Duration = Duration::from_secs(2);

fn start(folder: &TempDir) -> Agent {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let folder = folder.path().to_str().expect("temporary paths are UTF-8");
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    command.args(["--pod-resources", folder]);
    Agent::start(command)
}

/// A pod that holds each MiB of a GPU.
fn pod_with_memory(name: &str, bus: &str) -> PodResources {
    let ids: Vec<String> = (0..IDS).map(|number| format!("0000:{bus}:00.0-_-{number}")).collect();
    let mut pod = pod(name, "amd.com/gpu", &[]);
    pod.containers[0].devices = vec![afd_kubelet::v1::ContainerDevices {
        resource_name: "amd.com/gpu-mem".to_owned(),
        device_ids: ids,
    }];
    pod
}

/// The private memory of a process.
fn private_kib(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux counts it");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// Scrapes until a condition holds; the most private memory meanwhile.
fn scrape_until(agent: &Agent, what: &str, holds: impl Fn(&Agent) -> bool) -> u64 {
    let mut most = 0;
    let started = Instant::now();
    loop {
        let scrape = Instant::now();
        let is_done = holds(agent);
        assert!(scrape.elapsed() < MAX_SCRAPE, "a scrape took {:?} while {what}", scrape.elapsed());
        most = most.max(private_kib(agent));
        if is_done {
            println!("{what}: {:?}, at most {most} KiB of private memory", started.elapsed());
            return most;
        }
        assert!(
            started.elapsed() < afd_tests::agent::TIMEOUT,
            "it does not end: {what}\n{}",
            agent.get("/metrics").text()
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_thousands_of_ids_neither_bloat_the_agent_nor_delay_a_scrape() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("before", "amd.com/gpu", &["0000:0c:00.0"])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let agent = start(&folder);
    agent.until("an allocation is published", |agent| agent.count(ALLOCATED) == 1);
    let before = private_kib(&agent);

    // 14 MB with 652,472 ids.
    let pods = BUSES.iter().enumerate();
    kubelet.set_pods(pods.map(|(index, bus)| pod_with_memory(&format!("infer-{index}"), bus)).collect());
    let most = scrape_until(&agent, "each MiB is an id", |agent| {
        agent
            .get("/metrics")
            .text()
            .lines()
            .filter(|line| line.contains("resource=\"amd.com/gpu-mem\""))
            .count()
            == 8
    });
    let metrics = agent.get("/metrics");
    for index in 0..BUSES.len() {
        let holder = format!("pod=\"infer-{index}\",container=\"vllm\",resource=\"amd.com/gpu-mem\"");
        let held =
            metrics.text().lines().filter(|line| line.starts_with(ALLOCATED) && line.contains(&holder));
        assert_eq!(held.count(), 1, "{}", metrics.text());
    }
    assert_eq!(agent.value("afd_kubelet_skipped_devices"), Some(0.0));
    assert_eq!(agent.value("afd_kubelet_errors_total"), Some(0.0));
    assert!(most < before + MAX_GROWTH_KIB, "the agent grew from {before} KiB to {most} KiB");
    // The answer does not change: it is only read. Then it has the longest names, and other ones each time.
    let calls = kubelet.calls();
    let most = scrape_until(&agent, "nothing changes", |_| kubelet.calls() > calls + 1);
    assert!(most < before + MAX_GROWTH_KIB, "the agent grew from {before} KiB to {most} KiB");

    let long_names = |seed: usize| -> Vec<PodResources> {
        let name = |number: usize| format!("{number:05}{seed:03}{}", "x".repeat(245));
        (0..40_000).map(|number| pod(&name(number), "amd.com/gpu", &["0000:0c:00.0"])).collect()
    };
    kubelet.set_pods(long_names(0));
    scrape_until(&agent, "there are 40,000 pods", |agent| agent.count(ALLOCATED) > 300);
    let skipped = agent.value("afd_kubelet_skipped_devices").expect("it is published");
    assert!(skipped > 30_000.0, "{skipped} were skipped");
    kubelet.set_pods(long_names(1));
    let last = "pod=\"00000001x";
    let most =
        scrape_until(&agent, "the pods have changed", |agent| agent.get("/metrics").text().contains(last));
    assert!(most < before + MAX_GROWTH_KIB, "the agent grew from {before} KiB to {most} KiB");

    kubelet.set_pods(vec![pod("after", "amd.com/gpu", &["0000:0c:00.0"])]);
    scrape_until(&agent, "there is one pod again", |agent| agent.count(ALLOCATED) == 1);
    let after = private_kib(&agent);
    println!("private memory: {before} KiB before, {after} KiB after");
    assert!(after < before + MAX_REMAINDER_KIB, "{after} KiB remain of {before} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_of_a_kubelet_are_errors_and_delay_no_scrape() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let garbage = answering(&folder.path().join("kubelet.sock"), |mut stream| {
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(&[0xff; 100_000]);
    });
    let agent = start(&folder);
    scrape_until(&agent, "it answers garbage", |agent| {
        agent.value("afd_kubelet_errors_total").is_some_and(|errors| errors > 0.0)
    });
    fs::remove_file(garbage).expect("the socket exists");
    let (connected, connections) = std::sync::mpsc::channel();
    let silent = answering(&folder.path().join("kubelet.sock"), move |stream| {
        // The stream stays open.
        let _ = connected.send(stream);
    });
    let silence = connections.recv_timeout(afd_tests::agent::TIMEOUT).expect("the agent connects again");
    let errors = agent.value("afd_kubelet_errors_total").expect("it is published");
    scrape_until(&agent, "it is silent", |agent| {
        agent.value("afd_kubelet_errors_total").is_some_and(|now| now > errors)
    });
    drop(silence);
    fs::remove_file(silent).expect("the socket exists");
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("well", "amd.com/gpu", &["0000:0c:00.0"])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    agent.until("the allocation is published", |agent| agent.count(ALLOCATED) == 1);
}

/// A socket whose connections a function gets, until the test ends.
fn answering(path: &Path, answer: impl Fn(UnixStream) + Send + 'static) -> PathBuf {
    let listener = UnixListener::bind(path).expect("a socket can be made");
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    path.to_owned()
}
