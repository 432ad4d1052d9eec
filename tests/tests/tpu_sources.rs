//! The runtime of a workload and the metadata server of a machine as sources of what is known of TPUs, through the real binary: whose
//! values they are, which labels they decide, and that a server which fails does no harm.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use afd_derive::compat::CompatSet;
use afd_kubelet::testing::{FakeKubelet, pod};
use afd_tests::{
    agent::Agent,
    fake_runtime::{AttrValue, DeviceNumber, FakeRuntime, Gauge, GaugeValue, RuntimeMetrics, duty_cycles},
    fake_server::{FakeAnswer, FakeServer},
    fixture::{Fixture, FixtureHost},
    stdout,
};
use tempfile::TempDir;

const COMPUTE: &str = "accelerator_device_utilization_ratio{";
const USED: &str = "accelerator_device_memory_used_bytes{";
const OF_DCGM: &str = "DCGM_FI_DEV_GPU_UTIL{";
const PROBLEMS: &str = "afd_probe_problems{probe=\"tpu\"";
const DUTY_CYCLE: &str = "tpu.runtime.tensorcore.dutycycle.percent";
const MEMORY_USED: &str = "tpu.runtime.hbm.memory.usage.bytes";
const MEMORY_TOTAL: &str = "tpu.runtime.hbm.memory.total.bytes";
const GIB: i64 = 1 << 30;

/// Devices whose numbers are text, as in newer versions.
fn memory(devices: &[i64], bytes: i64) -> Vec<(AttrValue, Gauge)> {
    let value = |device: &i64| {
        let number = AttrValue { number: Some(DeviceNumber::Text(device.to_string())) };
        (number, Gauge { value: Some(GaugeValue::Integer(bytes)) })
    };
    devices.iter().map(value).collect()
}

/// One value for each of four chips of the second host of a slice.
fn per_chip() -> RuntimeMetrics {
    RuntimeMetrics::from([
        (DUTY_CYCLE, duty_cycles(&[(7, 70.0), (4, 40.0), (6, 60.0), (5, 50.0)])),
        (MEMORY_USED, memory(&[4, 5, 6, 7], 3 * GIB)),
        (MEMORY_TOTAL, memory(&[4, 5, 6, 7], 94 * GIB)),
        ("hlo.queue.size.gauge", duty_cycles(&[(4, 1.0)])),
    ])
}

/// An agent that queries an exporter and a runtime.
fn start(host: &FixtureHost, [exporter, runtime]: [&str; 2], kubelet: Option<&Path>, more: &[&str]) -> Agent {
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    command.args(["--tpu-exporter", exporter, "--tpu-metadata-server", "off", "--tpu-runtime", runtime]);
    command.args(more);
    if let Some(folder) = kubelet {
        command.arg("--pod-resources").arg(folder);
    }
    Agent::start(command)
}

/// A process without a server to query would end at once, be started again, and be a problem.
#[test]
fn no_process_is_started_where_every_server_is_off() {
    let host = Fixture::named("tpu-v6e-x8").lay_out();
    let agent = start(&host, ["off", "off"], None, &[]);
    let sampled = "afd_last_sample_timestamp_seconds{probe=\"tpu\",source=\"kernel\"}";
    agent.until("a sample was taken", |agent| agent.value(sampled).is_some());
    let first = agent.value(sampled);
    agent.until("another sample was taken", |agent| agent.value(sampled) > first);
    assert_eq!(agent.count(PROBLEMS), 0);
    assert_eq!(agent.library_process(), None);
}

/// The values of a family, by device.
fn values(agent: &Agent, family: &str) -> Vec<f64> {
    agent.lines("/metrics", family).iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

/// A kubelet with pods that hold VFIO groups.
fn kubelet(folder: &TempDir, pods: &[(&str, &[&str])]) -> FakeKubelet {
    let kubelet = FakeKubelet::default();
    kubelet.set_pods(pods.iter().map(|(name, groups)| pod(name, "google.com/tpu", groups)).collect());
    kubelet.start(folder.path()).expect("a socket can be made");
    kubelet
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_a_runtime_are_of_the_chips_that_its_pod_holds() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let kubelet = kubelet(&folder, &[("train", &["0", "1", "2", "3"])]);
    let (runtime, address) = FakeRuntime::start(per_chip()).await;
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let agent = start(&host, ["off", &address.to_string()], Some(folder.path()), &[]);
    agent.until("values are published", |agent| values(agent, COMPUTE) == [0.4, 0.5, 0.6, 0.7]);
    assert_eq!(values(&agent, USED), [(3 * GIB) as f64; 4]);
    agent.until("the page of dcgm-exporter has each chip of the pod", |agent| {
        let of_dcgm = agent.lines("/compat/dcgm", OF_DCGM);
        of_dcgm.len() == 4 && of_dcgm.iter().all(|line| line.contains("pod=\"train\""))
    });
    // Newer versions report each TensorCore.
    let cores: Vec<(i64, f64)> =
        (8..16).map(|core| (core, if core % 2 == 0 { 20.0 } else { 40.0 })).collect();
    let numbers: Vec<i64> = (8..16).collect();
    runtime
        .set(RuntimeMetrics::from([(DUTY_CYCLE, duty_cycles(&cores)), (MEMORY_USED, memory(&numbers, GIB))]));
    agent.until("cores are averaged", |agent| values(agent, COMPUTE) == [0.3; 4]);
    assert_eq!(values(&agent, USED), [(2 * GIB) as f64; 4]);
    // What is not reported is absent, and an idle runtime reports nothing.
    runtime.set(RuntimeMetrics::from([(DUTY_CYCLE, Vec::new())]));
    agent.until("there are no values", |agent| values(agent, COMPUTE).is_empty());
    assert!(values(&agent, USED).is_empty() && agent.lines("/metrics", PROBLEMS).is_empty());
    // Two pods: the runtime does not say of which one it is.
    runtime.set(per_chip());
    agent.until("values are published", |agent| values(agent, COMPUTE).len() == 4);
    let two = [("a", "0"), ("b", "1")].map(|(name, group)| pod(name, "google.com/tpu", &[group]));
    kubelet.set_pods(two.to_vec());
    agent.until("values of unknown pods are a problem", |agent| {
        values(agent, COMPUTE).is_empty() && !agent.lines("/metrics", PROBLEMS).is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_fails_costs_its_own_values_and_is_one_problem() {
    let (runtime, address) = FakeRuntime::start(per_chip()).await;
    let server = FakeServer::start(FakeAnswer::Forward(address));
    // The machine names the port of its runtime.
    let host = with_ports("tpu-v5p-x4", &[server.address.port()]);
    let agent = start(&host, ["off", "127.0.0.1:1"], None, &[]);
    let failing = |what: &str| {
        agent.until(what, |agent| {
            agent.lines("/metrics", PROBLEMS) == [format!("{PROBLEMS},reason=\"unreadable\"}} 1")]
        });
        assert_eq!(agent.get("/healthz").status, 200, "{what}");
    };
    let answering = || {
        agent.until("values are published", |agent| {
            values(agent, COMPUTE) == [0.4, 0.5, 0.6, 0.7] && agent.lines("/metrics", PROBLEMS).is_empty()
        });
    };
    answering();
    for (what, answer) in [
        ("slow", FakeAnswer::Nothing),
        ("dying", FakeAnswer::Bytes(Vec::new())),
        ("garbage", FakeAnswer::Bytes(vec![0xff; 4096])),
        ("of another protocol", FakeAnswer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
    ] {
        server.set(answer);
        failing(what);
        server.set(FakeAnswer::Forward(address));
        answering();
    }
    runtime.set(RuntimeMetrics::from([(DUTY_CYCLE, duty_cycles(&[(4, 1.0), (5, 1.0), (6, 1.0)]))]));
    failing("three numbers of four chips");
    assert!(values(&agent, COMPUTE).is_empty());
}

/// A host whose machine names the ports of its runtimes.
fn with_ports(fixture: &str, ports: &[u16]) -> FixtureHost {
    let host = Fixture::named(fixture).copy();
    fs::create_dir_all(host.root().join("etc/tpu")).expect("a folder can be made");
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let text = format!("TPU_RUNTIME_METRICS_PORTS: '{}'\n", ports.join(","));
    fs::write(host.root().join("etc/tpu/tpu-env"), text).expect("a file can be written");
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_runtimes_of_a_machine_has_no_values_and_is_one_problem() {
    let cores = |count: i64| {
        let cores: Vec<(i64, f64)> = (0..count).map(|core| (core, 50.0)).collect();
        RuntimeMetrics::from([(DUTY_CYCLE, duty_cycles(&cores))])
    };
    let (runtime, address) = FakeRuntime::start(cores(4)).await;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let free = free.expect("loopback has a free port").port();
    let host = with_ports("tpu-7x-x4", &[address.port(), free]);
    let agent = start(&host, ["off", "127.0.0.1:1"], None, &[]);
    agent.until("there is one problem", |agent| {
        agent.lines("/metrics", PROBLEMS) == [format!("{PROBLEMS},reason=\"unreadable\"}} 1")]
    });
    assert!(values(&agent, COMPUTE).is_empty(), "four cores are no four chips");
    // One process that has every core needs no other one.
    runtime.set(cores(8));
    agent.until("values are published", |agent| {
        values(agent, COMPUTE) == [0.5; 4] && agent.lines("/metrics", PROBLEMS).is_empty()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_plugin_has_its_families() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let _kubelet = kubelet(&folder, &[("train", &["0", "1", "2", "3"])]);
    let of_chips = |family: &str| -> String {
        let series = |id: u8| {
            format!(
                "{family}{{accelerator_id=\"1-{id}\",container=\"vllm\",make=\"cloud-tpu\",namespace=\"serving\",\
                 pod=\"train\"}} 5{id}\n"
            )
        };
        (0..4).map(series).collect()
    };
    let families = [
        "duty_cycle",
        "memory_total",
        "memory_used",
        "tensorcore_utilization",
        "memory_bandwidth_utilization",
    ];
    let families = families.map(of_chips).concat();
    let exporter = format!("HTTP/1.0 200 OK\r\n\r\n{families}");
    let exporter = FakeServer::start(FakeAnswer::Bytes(exporter.into_bytes()));
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let exporter = exporter.address.to_string();
    let options = ["--compat-metrics", "tpu", "--node-name", "node-7"];
    let agent = start(&host, [&exporter, "off"], Some(folder.path()), &options);
    agent.until("the page has values", |agent| agent.lines("/compat/tpu", "duty_cycle{").len() == 4);
    let held = "accelerator_id=\"node-7-1\",make=\"cloud-tpu\",model=\"tpu-v5p-slice\",tpu_topology=\"\",\
                namespace=\"serving\",pod=\"train\",container=\"vllm\"";
    let text = agent.get("/compat/tpu").text().to_owned();
    assert!(text.contains(&format!("duty_cycle{{{held}}} 51\n")), "{text}");
    let alone = held.split(",namespace").next().expect("it has a beginning");
    assert!(text.contains(&format!("memory_used_node{{{alone}}} 51\n")), "{text}");
    // The names are the plugin's: one of them ends as that of a counter.
    let findings = promtool(&text);
    assert!(findings.iter().all(|finding| finding.starts_with("memory_total")), "{findings:?}");
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let (_, set) = CompatSet::with_metrics().find(|(set, _)| set.as_str() == "tpu").expect("it has metrics");
    assert_eq!(shown, set.families().map(|family| family.name).collect());
}

/// What promtool finds in a page.
fn promtool(text: &str) -> Vec<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `cargo xtask setup`");
    child.stdin.take().expect("standard input is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn metadata(texts: &[(&str, &str)]) -> FakeAnswer {
    let path = |name: &str| match name {
        "machine-type" => format!("/computeMetadata/v1/instance/{name}"),
        name => format!("/computeMetadata/v1/instance/attributes/{name}"),
    };
    let texts = texts.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect();
    FakeAnswer::Paths { header: "Metadata-Flavor: Google", texts }
}

/// The labels of a fixture that depend on the metadata server.
fn labels(fixture: &str, server: &str) -> BTreeMap<String, String> {
    let host = Fixture::named(fixture).lay_out();
    let off = ["--tpu-exporter", "off", "--tpu-runtime", "off", "--tpu-metadata-server", server];
    let arguments = ["show", "--output", "labels", "--compat", "tpu=on"].into_iter().chain(off);
    let text = stdout(&mut host.afd(arguments));
    let labels = text.lines().filter_map(|line| line.split_once('='));
    let labels = labels.filter(|(key, _)| key.starts_with("tpu.") || key.ends_with("/fabric-domain"));
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn expected(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_metadata_server_decides_the_labels_of_a_machine_without_the_file() {
    let tpu_env = "TPU_ACCELERATOR_TYPE: v5litepod-16\nCHIPS_PER_HOST_BOUNDS: 2,4,1\nHOST_BOUNDS: 1,2,1\n\
                   TOPOLOGY: 4x4\nENABLE_ICI_RESILIENCY: 'true'\nNODE_ID: 'ours'\nZONE: 'z'\nUNKNOWN: x\n";
    let server = FakeServer::start(metadata(&[
        ("tpu-env", tpu_env),
        ("accelerator_topology_id", r#"{"2x2": "a", "4x4": "slice-4711"}"#),
    ]));
    let of_server = expected(&[
        ("accelerator.llm-d.ai/fabric-domain", "slice-4711"),
        ("tpu.google.com/accelerator", "tpu-v5-lite-podslice"),
        ("tpu.google.com/chip-count", "8"),
        ("tpu.google.com/ici-resiliency", "true"),
        ("tpu.google.com/topology", "4x4"),
    ]);
    assert_eq!(labels("tpu-v5e-x8", &server.address.to_string()), of_server);
    let count = expected(&[("tpu.google.com/chip-count", "8")]);
    server.set(metadata(&[("kube-labels", "cloud.google.com/gke-tpu-accelerator=tpu-v5-lite-device")]));
    let mut device = count.clone();
    device.insert("tpu.google.com/accelerator".to_owned(), "tpu-v5-lite-device".to_owned());
    assert_eq!(labels("tpu-v5e-x8", &server.address.to_string()), device);
    // Without a server, with one that lacks the header of Google's, and one that sends garbage.
    assert_eq!(labels("tpu-v5e-x8", "off"), count);
    server.set(FakeAnswer::Bytes(b"HTTP/1.0 200 OK\r\n\r\nTOPOLOGY: 2x4\n".to_vec()));
    assert_eq!(labels("tpu-v5e-x8", &server.address.to_string()), count);
    server.set(FakeAnswer::Bytes(vec![0xff; 100]));
    assert_eq!(labels("tpu-v5e-x8", &server.address.to_string()), count);
    // It is not queried where the machine has the file, nor without a TPU.
    let before = server.connections();
    labels("tpu-v5e-x4", &server.address.to_string());
    labels("no-accelerator", &server.address.to_string());
    assert_eq!(server.connections(), before);
}

#[test]
fn fewer_chips_than_the_type_of_the_machine_has_are_a_problem() {
    let server =
        FakeServer::start(metadata(&[("machine-type", "projects/4711/machineTypes/ct5p-hightpu-8t")]));
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let options = ["--tpu-metadata-server", &server.address.to_string()].map(str::to_owned);
    let text = stdout(host.afd(["show", "--output", "json"]).args(options));
    let problem = "the machine has 4 of the 8 chips that it should have according to its metadata server";
    assert!(text.contains(problem) && !text.contains("4711"), "{text}");
}

#[test]
fn an_answer_of_the_metadata_server_is_shown_without_waiting_for_the_next_discovery() {
    let server = FakeServer::start(metadata(&[("tpu-env", "TOPOLOGY: 4x4\nCHIPS_PER_HOST_BOUNDS: 2,4,1\n")]));
    let host = Fixture::named("tpu-v5e-x8").lay_out();
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    command.args(["--discovery-interval", "3600", "--tpu-exporter", "off", "--tpu-runtime", "off"]);
    command.args(["--tpu-metadata-server", &server.address.to_string()]);
    let agent = Agent::start(command);
    agent.until("the slice is known", |agent| {
        agent.get("/inventory").text().contains("\"topology\": \"4x4\"")
    });
    assert_eq!(server.connections(), 4, "one for each attribute and the type of the machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_server_that_hangs_costs_its_deadline_once_and_is_one_problem() {
    let server = FakeServer::start(FakeAnswer::Nothing);
    let (_runtime, address) = FakeRuntime::start(per_chip()).await;
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let metadata = server.address.to_string();
    let mut command = host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]);
    command.args([
        "--discovery-interval",
        "0.2",
        "--tpu-exporter",
        "off",
        "--tpu-metadata-server",
        &metadata,
    ]);
    command.args(["--tpu-runtime", &address.to_string()]);
    let agent = Agent::start(command);
    agent.until("the runtime is queried", |agent| values(agent, COMPUTE).len() == 4);
    let discoveries = || {
        let count = "afd_probe_duration_seconds_count{probe=\"tpu\",step=\"discover\"}";
        let line = agent.lines("/metrics", count).pop().expect("it is counted");
        line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).expect("it is a number")
    };
    let before = discoveries();
    agent.until("it is discovered again and again", |_| discoveries() >= before + 3.0);
    assert_eq!(server.connections(), 1);
    // It is a problem of its own, beside which the values of the runtime are as before.
    assert_eq!(agent.lines("/metrics", PROBLEMS), [format!("{PROBLEMS},reason=\"unreadable\"}} 1")]);
    assert_eq!(values(&agent, COMPUTE), [0.4, 0.5, 0.6, 0.7]);
}
