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
use afd_tests::{agent::Agent, fixture::Fixture, memory::AttackMemory};
use tempfile::TempDir;

const ALLOCATED: &str = "accelerator_device_allocation{";
/// The devices of the fixture.
const BUSES: [&str; 8] = ["0c", "22", "3c", "52", "8c", "a2", "bc", "d2"];
/// One id for each MiB of a GPU with 80 GiB.
const IDS: usize = 81_559;
/// Ten times what the private memory may grow by: 24 MiB may be resident in all, of which the agent has 10 at rest.
const MAX_GROWTH_KIB: u64 = 10 * (14 << 10);
/// What may remain of the first attack, which warms the allocator up: four times what was seen. Without returning memory it was 5 MiB.
const MAX_WARM_UP_KIB: u64 = 2 << 10;
/// Ten times what a scrape may take on a busy machine.
const MAX_SCRAPE: Duration = Duration::from_secs(2);

/// How long the agent may take to end: less than a request to the kubelet waits.
const MAX_END: Duration = Duration::from_secs(8);

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

/// Scrapes until a condition holds.
fn scrape_until(agent: &Agent, memory: &mut AttackMemory, what: &str, holds: impl Fn(&Agent) -> bool) {
    let started = Instant::now();
    loop {
        let scrape = Instant::now();
        let is_done = holds(agent);
        assert!(scrape.elapsed() < MAX_SCRAPE, "a scrape took {:?} while {what}", scrape.elapsed());
        memory.observe(agent);
        if is_done {
            println!("{what}: {:?}, {memory}", started.elapsed());
            return;
        }
        assert!(
            started.elapsed() < afd_tests::agent::TIMEOUT,
            "it does not end: {what}\n{}",
            agent.get("/metrics").text()
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// 40,000 pods with the longest names, which differ by a seed.
fn pods_with_long_names(seed: usize) -> Vec<PodResources> {
    let name = |number: usize| format!("{number:05}{seed:03}{}", "x".repeat(245));
    (0..40_000).map(|number| pod(&name(number), "amd.com/gpu", &["0000:0c:00.0"])).collect()
}

/// An agent, its kubelet, and what the agent needed up to now.
struct Attacked {
    agent: Agent,
    kubelet: FakeKubelet,
    memory: AttackMemory,
}

impl Attacked {
    fn until(&mut self, what: &str, holds: impl Fn(&Agent) -> bool) {
        scrape_until(&self.agent, &mut self.memory, what, holds);
    }

    /// 652,472 ids in 14 MB.
    fn by_ids(&mut self) {
        let pods = BUSES.iter().enumerate();
        let pods = pods.map(|(index, bus)| pod_with_memory(&format!("infer-{index}"), bus));
        self.kubelet.set_pods(pods.collect());
        self.until("each MiB is an id", |agent| {
            let metrics = agent.get("/metrics");
            let held = metrics.text().lines().filter(|line| line.contains("resource=\"amd.com/gpu-mem\""));
            held.count() == BUSES.len()
        });
        let metrics = self.agent.get("/metrics");
        for index in 0..BUSES.len() {
            let holder = format!("pod=\"infer-{index}\",container=\"vllm\",resource=\"amd.com/gpu-mem\"");
            let held =
                metrics.text().lines().filter(|line| line.starts_with(ALLOCATED) && line.contains(&holder));
            assert_eq!(held.count(), 1, "{}", metrics.text());
        }
        assert_eq!(self.agent.value("afd_kubelet_skipped_devices"), Some(0.0));
        // The answer does not change: it is only read.
        let kubelet = self.kubelet.clone();
        let calls = kubelet.calls();
        self.until("nothing changes", |_| kubelet.calls() > calls + 1);
    }

    /// The longest names, and other ones each time.
    fn by_names(&mut self, seed: usize) {
        for seed in [seed, seed + 1] {
            self.kubelet.set_pods(pods_with_long_names(seed));
            let first = format!("pod=\"00000{seed:03}x");
            self.until("there are 40,000 other pods", |agent| agent.get("/metrics").text().contains(&first));
            assert!(self.agent.count(ALLOCATED) > 300, "what can be read is published");
            let skipped = self.agent.value("afd_kubelet_skipped_devices").expect("it is published");
            assert!(skipped > 30_000.0, "{skipped} were skipped");
        }
    }

    fn end(&mut self) {
        self.kubelet.set_pods(vec![pod("after", "amd.com/gpu", &["0000:0c:00.0"])]);
        self.until("there is one pod again", |agent| agent.count(ALLOCATED) == 1);
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
    let memory = AttackMemory::before(&agent);
    let mut attacked = Attacked { agent, kubelet, memory };
    attacked.by_ids();
    attacked.by_names(0);
    attacked.end();
    let remainder = attacked.memory.remainder(&attacked.agent, MAX_WARM_UP_KIB);
    println!("{remainder} KiB remain of the first attack");
    assert!(remainder < MAX_WARM_UP_KIB, "{remainder} KiB remain of the first attack");

    attacked.memory = AttackMemory::before(&attacked.agent);
    attacked.by_ids();
    attacked.by_names(2);
    attacked.end();
    assert_eq!(attacked.agent.value("afd_kubelet_errors_total"), Some(0.0));
    attacked.memory.assert_within_limits("the kubelet's ids and names", &attacked.agent, MAX_GROWTH_KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_of_a_kubelet_are_errors_and_delay_no_scrape() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let garbage = answering(&folder.path().join("kubelet.sock"), |mut stream| {
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(&[0xff; 100_000]);
    });
    let agent = start(&folder);
    let mut memory = AttackMemory::before(&agent);
    scrape_until(&agent, &mut memory, "it answers garbage", |agent| {
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
    scrape_until(&agent, &mut memory, "it is silent", |agent| {
        agent.value("afd_kubelet_errors_total").is_some_and(|now| now > errors)
    });
    drop(silence);
    fs::remove_file(silent).expect("the socket exists");
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(vec![pod("well", "amd.com/gpu", &["0000:0c:00.0"])]);
    kubelet.start(folder.path()).expect("a socket can be made");
    agent.until("the allocation is published", |agent| agent.count(ALLOCATED) == 1);
}

#[test]
fn an_agent_ends_while_the_kubelet_is_silent() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (connected, connections) = std::sync::mpsc::channel();
    answering(&folder.path().join("kubelet.sock"), move |stream| {
        // The stream stays open.
        let _ = connected.send(stream);
    });
    let agent = start(&folder);
    let silence = connections.recv_timeout(afd_tests::agent::TIMEOUT).expect("the agent connects");
    let terminated = Instant::now();
    agent.terminate();
    assert!(agent.wait(), "it exits with success");
    assert!(terminated.elapsed() < MAX_END, "it took {:?}", terminated.elapsed());
    drop(silence);
}

/// A socket whose connections a function gets, until the test ends.
fn answering(path: &Path, answer: impl Fn(UnixStream) + Send + 'static) -> PathBuf {
    let listener = UnixListener::bind(path).expect("a socket can be made");
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    path.to_owned()
}
