//! Utilization and used memory of TPUs from the exporter of GKE's device plugin, through the real binary, a fake exporter and a fake
//! kubelet: whose values they are, and that a server which fails does no harm.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    thread,
    time::Duration,
};

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_tests::{
    agent::{Agent, TIMEOUT},
    fake_server::{FakeAnswer, FakeServer},
    fixture::Fixture,
    stdout,
};
use tempfile::TempDir;

const COMPUTE: &str = "accelerator_device_utilization_ratio{";
const USED: &str = "accelerator_device_memory_used_bytes{";
const OF_DCGM: &str = "DCGM_FI_DEV_GPU_UTIL{";
const PROBLEMS: &str = "afd_probe_problems{probe=\"tpu\"";

/// Series of a container in the namespace `serving`.
fn series(family: &str, pod: &str, values: &[(u32, &str)]) -> String {
    let mut text = format!("# TYPE {family} gauge\n");
    for (id, value) in values {
        writeln!(
            text,
            "{family}{{accelerator_id=\"4711-{id}\",container=\"vllm\",make=\"cloud-tpu\",model=\"tpu7x\",\
             namespace=\"serving\",pod=\"{pod}\",tpu_topology=\"2x2x1\"}} {value}"
        )
        .expect("a string can be written");
    }
    text
}

fn start(fixture: &str, exporter: SocketAddr, kubelet: Option<&Path>) -> Agent {
    let host = Fixture::named(fixture).lay_out();
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    command.args([
        "--tpu-exporter",
        &exporter.to_string(),
        "--tpu-runtime",
        "off",
        "--tpu-metadata-server",
        "off",
    ]);
    if let Some(folder) = kubelet {
        command.arg("--pod-resources").arg(folder);
    }
    Agent::start(command)
}

/// The values of a family by the device of the series.
fn values(agent: &Agent, family: &str) -> Vec<(String, f64)> {
    let value = |line: String| {
        let device = line.split("device=\"").nth(1)?.split('"').next()?.to_owned();
        Some((device, line.rsplit(' ').next()?.parse().ok()?))
    };
    agent.lines("/metrics", family).into_iter().filter_map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_pods_reach_the_chips_that_they_hold_and_the_metrics_of_dcgm_exporter() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let kubelet = FakeKubelet::default();
    // By slot, and by the group of a function.
    kubelet.set_pods(vec![
        pod("prefill", "google.com/tpu", &["0000:00:04", "0000:00:05"]),
        pod("decode", "google.com/tpu", &["0000:80:05"]),
        pod("other", "example.com/nic", &["0000:80:04", "4"]),
    ]);
    kubelet.start(folder.path()).expect("a socket can be made");
    let exporter = FakeServer::start(FakeAnswer::Text(
        [
            series("duty_cycle", "prefill", &[(4, "10"), (5, "30"), (6, "50"), (7, "70")]),
            series("duty_cycle", "decode", &[(12, "90")]),
            series("duty_cycle_node", "", &[(0, "1"), (1, "1"), (2, "1"), (3, "1")]),
            series("memory_used", "prefill", &[(4, "1e9"), (5, "2e9"), (6, "3e9"), (7, "4e9")]),
            series("memory_used", "decode", &[(12, "NaN")]),
            series("tensorcore_utilization", "decode", &[(0, "1"), (1, "1"), (2, "1"), (3, "1")]),
        ]
        .concat(),
    ));
    let agent = start("tpu-7x-x4", exporter.address, Some(folder.path()));
    agent.until("the values are published", |agent| values(agent, COMPUTE).len() == 3);
    let expected = [("0000:00:04.0", 0.2), ("0000:00:05.0", 0.6), ("0000:80:05.0", 0.9)];
    assert_eq!(values(&agent, COMPUTE), expected.map(|(device, value)| (device.to_owned(), value)));
    let used = [("0000:00:04.0", 3e9), ("0000:00:05.0", 7e9)];
    assert_eq!(values(&agent, USED), used.map(|(device, value)| (device.to_owned(), value)));
    let of_dcgm = agent.lines("/compat/dcgm", OF_DCGM);
    assert_eq!(of_dcgm.len(), 3, "none of the chip without a value: {of_dcgm:?}");
    assert_eq!(of_dcgm.iter().filter(|line| line.contains("pod=\"prefill\"")).count(), 2);
    assert!(
        of_dcgm.iter().any(|line| line.contains("pod=\"decode\"") && line.ends_with(" 90")),
        "{of_dcgm:?}"
    );
    assert!(agent.lines("/metrics", PROBLEMS).is_empty());
    // Without values of its cores a chip has none, and the other chip keeps its own.
    let cores = [(4, "10"), (5, "30"), (6, "NaN"), (7, "NaN")];
    exporter.set(FakeAnswer::Text(series("duty_cycle", "prefill", &cores)));
    let first = [("0000:00:04.0".to_owned(), 0.2)];
    agent.until("values of one chip are left", |agent| values(agent, COMPUTE) == first);
    assert!(agent.lines("/metrics", PROBLEMS).is_empty());
}

#[test]
fn two_of_four_chips_that_no_kubelet_reports_have_no_values() {
    let cores = [(4, "10"), (5, "30"), (6, "50"), (7, "70")];
    let exporter = FakeServer::start(FakeAnswer::Text(series("duty_cycle", "train", &cores)));
    let agent = start("tpu-7x-x4", exporter.address, None);
    agent.until("it is a problem", |agent| {
        agent.lines("/metrics", PROBLEMS) == [format!("{PROBLEMS},reason=\"unreadable\"}} 1")]
    });
    assert!(agent.lines("/metrics", COMPUTE).is_empty());
}

#[test]
fn numbers_of_a_second_host_follow_the_order_of_its_chips() {
    let ids = [(7, "70"), (4, "40"), (6, "60"), (5, "50")];
    let exporter = FakeServer::start(FakeAnswer::Text(series("duty_cycle", "train", &ids)));
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let address = exporter.address.to_string();
    let text = stdout(&mut host.afd(["show", "--output", "metrics", "--tpu-exporter", &address]));
    let series = text.lines().filter(|line| line.starts_with(COMPUTE));
    let values: Vec<&str> = series.filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(values, ["0.4", "0.5", "0.6", "0.7"]);
}

#[test]
fn a_server_that_fails_costs_its_own_values_and_is_one_problem() {
    let all = [(0, "25"), (1, "25"), (2, "25"), (3, "25")];
    let good = FakeAnswer::Text(series("duty_cycle", "train", &all));
    let exporter = FakeServer::start(FakeAnswer::Text(String::new()));
    let agent = start("tpu-v5p-x4", exporter.address, None);
    let long = "# a comment that is as long as a mebibyte\n".repeat((1 << 20) / 42);
    let response = |text: &str| FakeAnswer::Bytes(format!("HTTP/1.0 200 OK\r\n\r\n{text}").into_bytes());
    let dying = b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\nduty_cycle{".to_vec();
    let three = series("duty_cycle", "train", &all[..3]);
    for (what, answer) in [
        ("slow", FakeAnswer::Nothing),
        ("dying", FakeAnswer::Bytes(dying)),
        ("garbage", FakeAnswer::Bytes(vec![0xff; 4096])),
        (
            "an endless body",
            FakeAnswer::Bytes([b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'#'; 8 << 20]].concat()),
        ),
        ("no exposition", response("<html>")),
        ("three numbers of four chips", FakeAnswer::Text(three)),
    ] {
        exporter.set(answer);
        agent.until(what, |agent| {
            agent.lines("/metrics", PROBLEMS) == [format!("{PROBLEMS},reason=\"unreadable\"}} 1")]
        });
        assert_eq!(agent.get("/healthz").status, 200, "{what}");
        exporter.set(good.clone());
        agent.until("the values are back", |agent| {
            values(agent, COMPUTE).len() == 4 && agent.lines("/metrics", PROBLEMS).is_empty()
        });
    }
    exporter.set(FakeAnswer::Text(format!(
        "{long}{}",
        series("duty_cycle", "train", &[(0, "50"), (1, "50"), (2, "50"), (3, "50")])
    )));
    agent.until("a body of a mebibyte is read", |agent| {
        values(agent, COMPUTE).iter().map(|(_, value)| *value).collect::<Vec<_>>() == [0.5; 4]
    });
    exporter.set(FakeAnswer::Text(String::new()));
    agent.until("values that are not reported are absent", |agent| values(agent, COMPUTE).is_empty());
    assert!(agent.lines("/metrics", PROBLEMS).is_empty());
}

#[test]
fn a_server_that_hangs_delays_no_other_vendor() {
    let exporter = FakeServer::start(FakeAnswer::Nothing);
    let host = Fixture::named("tpu-v5p-x4").copy();
    host.add(&Fixture::named("amd-mi300x8-spx").lay_out());
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    let address = exporter.address.to_string();
    command.args(["--tpu-exporter", &address, "--tpu-runtime", "off", "--tpu-metadata-server", "off"]);
    let agent = Agent::start(command);
    agent.until("it is a problem", |agent| agent.count(PROBLEMS) == 1);
    let samples = || {
        agent.value("afd_probe_duration_seconds_count{probe=\"amd\",step=\"sample\"}").expect("it is counted")
    };
    let (first, asked) = (samples(), exporter.connections());
    // The exporter has a second each time.
    agent.until("the other vendor is sampled again and again", |_| samples() >= first + 12.0);
    let asked = exporter.connections() - asked;
    assert!(asked < 12, "each sample waited for the exporter: {asked}");
    let power = agent.lines("/metrics", "accelerator_device_power_watts{vendor=\"amd\"");
    assert_eq!(power.len(), 8, "{power:?}");
}

#[test]
fn a_node_without_the_exporter_has_no_utilization_and_no_problem() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let agent = start("tpu-v5p-x4", address, None);
    let answered = "afd_last_sample_timestamp_seconds{probe=\"tpu\",source=\"library\"}";
    agent.until("the process has answered", |agent| agent.get("/metrics").text().contains(answered));
    assert!(agent.lines("/metrics", COMPUTE).is_empty() && agent.lines("/compat/dcgm", OF_DCGM).is_empty());
    assert!(agent.lines("/metrics", PROBLEMS).is_empty());
}

#[test]
fn the_process_is_confined_and_ends_with_the_agent() {
    let exporter = FakeServer::start(FakeAnswer::Text(String::new()));
    let agent = start("tpu-v5p-x4", exporter.address, None);
    let parent = format!("PPid:\t{}", agent.pid());
    let child = || {
        let processes = std::fs::read_dir("/proc").expect("it can be listed");
        let mut paths = processes.filter_map(|process| Some(process.ok()?.path()));
        paths.find(|path| {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            status.lines().any(|line| line == parent)
        })
    };
    agent.until("the process runs", |_| child().is_some());
    let child = child().expect("it runs");
    let status = std::fs::read_to_string(child.join("status")).expect("it can be read");
    assert!(status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')), "{status}");
    drop(agent);
    let deadline = std::time::Instant::now() + TIMEOUT;
    while child.exists() {
        assert!(std::time::Instant::now() < deadline, "the process outlives the agent");
        thread::sleep(Duration::from_millis(50));
    }
}
