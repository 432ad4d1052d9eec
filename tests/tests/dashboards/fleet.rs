//! A fleet of agents, one of each vendor, whose devices are busy and held by pods; the pages of model servers; and a Prometheus that scrapes
//! all of them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use afd_kubelet::{
    testing::{FakeKubelet, pod},
    v1::PodResources,
};
use afd_model::{Device, HealthState};
use afd_test_cluster::{Bed, until};
use afd_tests::{
    agent::Agent,
    chart::chart,
    fake_server::{FakeAnswer, FakeServer},
    fixture::{Fixture, FixtureHost},
    prometheus::Prometheus,
    workload::{self, DeviceLoad},
};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node of the fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetNode {
    pub(crate) name: &'static str,
    fixture: &'static str,
    resource: &'static str,
    /// Whether the scrape adds the label `node`, as the chart's PodMonitor does.
    is_relabelled: bool,
}

pub(crate) const NODES: [FleetNode; 5] = [
    FleetNode {
        name: "h100-0",
        fixture: "nvidia-h100x8-nvml",
        resource: "nvidia.com/gpu",
        is_relabelled: true,
    },
    FleetNode { name: "mi300x-0", fixture: "amd-mi300x8-spx", resource: "amd.com/gpu", is_relabelled: false },
    FleetNode {
        name: "max1550-0",
        fixture: "intel-max1550-x2",
        resource: "gpu.intel.com/i915",
        is_relabelled: true,
    },
    FleetNode { name: "gaudi3-0", fixture: "gaudi3-x8", resource: "habana.ai/gaudi", is_relabelled: false },
    FleetNode { name: TPU, fixture: "tpu-v6e-x8", resource: "google.com/tpu", is_relabelled: true },
];
const TPU: &str = "v6e-0";
/// A node with many partitions, for pictures only.
pub(crate) const MANY: FleetNode = FleetNode {
    name: "cpx-0",
    fixture: "amd-mi300x8-cpx-nps4",
    resource: "amd.com/gpu",
    is_relabelled: true,
};

/// The node of which one device is held and idle, and the device.
const IDLE: (&str, usize) = ("h100-0", 7);
/// The device that has an XID while it is observed.
const FAILING: usize = 6;
/// How often the load changes.
const STEP: Duration = Duration::from_millis(500);
/// For how many steps a pod of a job is there, and then is not.
const JOB_STEPS: u32 = 8;

/// The agent of a node, with what it reads.
struct FleetMember {
    node: FleetNode,
    agent: Agent,
    host: FixtureHost,
    kubelet: FakeKubelet,
    exporter: FakeServer,
    devices: Vec<Device>,
    _sockets: TempDir,
}

/// The page of a model server.
struct ModelServer {
    pod: String,
    page: FakeServer,
}

/// The running fleet.
pub(crate) struct Fleet {
    pub(crate) prometheus: Prometheus,
    /// The addresses of the agents.
    agents: Vec<String>,
    stop: Arc<AtomicBool>,
    fail: Arc<AtomicBool>,
    step: Arc<AtomicU32>,
    load: Option<thread::JoinHandle<()>>,
    _bed: Bed,
}

impl Fleet {
    /// Starts it, and waits until Prometheus has values of all nodes.
    pub(crate) async fn start(nodes: &[FleetNode]) -> anyhow::Result<Fleet> {
        let bed = Bed::builder().start().await?;
        let api: Api<Node> = Api::all(bed.client().await?);
        let mut members = Vec::new();
        let kubeconfig = bed.kubeconfig();
        let starting: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (node, kubeconfig) = (*node, kubeconfig.clone());
                (node, kubeconfig, TempDir::new(), FakeKubelet::default())
            })
            .collect();
        for (node, ..) in &starting {
            let host = Fixture::named(node.fixture).lay_out();
            let offered = json!({ node.resource: pci_devices(&host).to_string() });
            let object = json!({
                "metadata": { "name": node.name }, "status": { "capacity": offered, "allocatable": offered },
            });
            api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        }
        for (node, kubeconfig, sockets, kubelet) in starting {
            let sockets = sockets?;
            kubelet.start(sockets.path())?;
            members.push(thread::spawn(move || FleetMember::start(node, &kubeconfig, sockets, kubelet)));
        }
        let members = members
            .into_iter()
            .map(|member| member.join().map_err(|_| anyhow::anyhow!("an agent did not start")));
        let members: Vec<FleetMember> = members.collect::<anyhow::Result<_>>()?;
        let servers: Vec<ModelServer> = members
            .iter()
            .map(|member| ModelServer {
                pod: member.serving_pod(),
                page: FakeServer::start(FakeAnswer::Text(String::new())),
            })
            .collect();
        let router = FakeServer::start(FakeAnswer::Text(String::new()));
        let rules = std::fs::read_to_string(chart().join("rules.yaml"))?;
        let (records, _) = rules.split_once("\n- name: accelerators\n").context("the records come first")?;
        let prometheus = Prometheus::start(&scrape_configs(&members, &servers, &router), Some(records));
        let agents = members.iter().map(|member| member.agent.address().to_owned()).collect();
        let (stop, fail, step) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, failed, steps) = (Arc::clone(&stop), Arc::clone(&fail), Arc::clone(&step));
        let load = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let step = steps.fetch_add(1, Ordering::Relaxed);
                members.iter().for_each(|member| member.apply(step));
                if failed.swap(false, Ordering::Relaxed) {
                    members.iter().for_each(FleetMember::fail_device);
                }
                servers.iter().enumerate().for_each(|(index, server)| server.apply(index, step));
                router.set(FakeAnswer::Text(router_page(step)));
                thread::sleep(STEP);
            }
        });
        let fleet = Fleet { prometheus, agents, stop, fail, step, load: Some(load), _bed: bed };
        fleet.until_complete(nodes.len()).await?;
        Ok(fleet)
    }

    /// Each of these has a series for each agent.
    async fn until_complete(&self, nodes: usize) -> anyhow::Result<()> {
        for expression in [
            "instance:afd_build_info:max",
            "group by (job, instance, vendor) (accelerator_device_utilization_ratio)",
            "group by (job, instance) (accelerator_devices{state=\"allocatable\"})",
            "group by (job, instance) (pod:accelerator_device_allocation:max)",
            "vllm:num_requests_running",
        ] {
            until(&format!("{nodes} have {expression}"), async || {
                let series = self.prometheus.instant(expression).map_err(anyhow::Error::msg)?;
                ensure!(series.len() == nodes, "it is {series:?}, with the problems {:?}", self.problems());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What the agents could not read.
    fn problems(&self) -> Vec<String> {
        let inventories = self.agents.iter().map(|address| Agent::get_from(address, "/inventory").body);
        let read = |inventory: Vec<u8>| {
            serde_json::from_slice::<Value>(&inventory).unwrap_or_default()["problems"].to_string()
        };
        inventories.map(read).collect()
    }

    /// Has a device of a node report an error that it cannot correct.
    pub(crate) fn fail_device(&self) {
        self.fail.store(true, Ordering::Relaxed);
    }

    /// Waits for a number of changes of the load.
    pub(crate) async fn steps(&self, count: u32) {
        let end = self.step.load(Ordering::Relaxed) + count;
        while self.step.load(Ordering::Relaxed) < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(load) = self.load.take() {
            let _ = load.join();
        }
    }
}

/// The number of accelerators of a host.
fn pci_devices(host: &FixtureHost) -> usize {
    let inventory = afd_tests::stdout(&mut host.afd(["show", "--output", "json"]));
    let inventory: afd_model::Inventory = serde_json::from_str(&inventory).expect("the inventory is JSON");
    inventory.devices.len()
}

impl FleetMember {
    fn start(node: FleetNode, kubeconfig: &Path, sockets: TempDir, kubelet: FakeKubelet) -> FleetMember {
        let host = Fixture::named(node.fixture).copy();
        let exporter = FakeServer::start(FakeAnswer::Text(String::new()));
        // Remembered devices are expected after a while only.
        let expected = format!("any={}", pci_devices(&host));
        let mut command =
            host.afd(["run", "--node-name", node.name, "--start-spread", "0", "--node-lock", "off"]);
        command
            .args(["--sample-interval", "1", "--discovery-interval", "2", "--write-interval", "1"])
            .args(["--expect", &expected, "--kubeconfig"])
            .arg(kubeconfig)
            .arg("--pod-resources")
            .arg(sockets.path());
        if node.name == TPU {
            let exporter = exporter.address.to_string();
            command.args(["--tpu-runtime=off", "--tpu-metadata-server=off", "--tpu-exporter", &exporter]);
        }
        let agent = Agent::start(command);
        let devices = agent.inventory().devices;
        let ids: Vec<String> = devices.iter().map(|device| device.pci.address.to_string()).collect();
        kubelet.offer(node.resource, &ids);
        FleetMember { node, agent, host, kubelet, exporter, devices, _sockets: sockets }
    }

    fn serving_pod(&self) -> String {
        format!("decode-{}", self.node.name)
    }

    fn apply(&self, step: u32) {
        let load = |device: usize| match (self.node.name, device) {
            IDLE => DeviceLoad::IDLE,
            _ => DeviceLoad::at(device, step),
        };
        if self.node.name == TPU {
            let container = ["serving", &self.serving_pod(), "vllm"];
            workload::apply_to_exporter(&self.exporter, container, self.devices.len(), load);
        } else {
            workload::apply(&self.host, load);
        }
        self.kubelet.set_pods(self.pods(step));
    }

    fn fail_device(&self) {
        if self.node.name == IDLE.0 {
            self.host.driver_root().raise(json!({ "device": FAILING, "eventType": 8, "eventData": 48 }));
        }
    }

    /// A model server with the first devices, all of a TPU host, and with each that has failed; a notebook that is idle; and a job that comes
    /// and goes.
    fn pods(&self, step: u32) -> Vec<PodResources> {
        let ids: Vec<String> = self.devices.iter().map(|device| device.pci.address.to_string()).collect();
        let has_failed = |index: &usize| self.devices[*index].health.state == HealthState::Failed;
        let is_served = |index: &usize| *index < 4 || self.node.name == TPU || has_failed(index);
        let of = |name: &str, indices: &mut dyn Iterator<Item = usize>| {
            let own: Vec<&str> = indices.map(|index| ids[index].as_str()).collect();
            pod(name, self.node.resource, &own)
        };
        let mut pods = vec![of(&self.serving_pod(), &mut (0..ids.len()).filter(is_served))];
        let mut add = |name: &str, index: usize| {
            let mut pod = of(name, &mut [index].into_iter());
            "research".clone_into(&mut pod.namespace);
            pods.push(pod);
        };
        if self.node.name == IDLE.0 {
            add("notebook-0", IDLE.1);
            add("training-0", FAILING);
        }
        if self.node.name == "mi300x-0" && step / JOB_STEPS % 2 == 1 {
            add("job-0", 5);
        }
        pods
    }
}

impl ModelServer {
    /// What vLLM's V1 engine reports, by its names and labels.
    fn apply(&self, index: usize, step: u32) {
        const LABELS: &str = "engine=\"0\",model_name=\"meta-llama/Llama-3.1-70B-Instruct\"";
        let load = DeviceLoad::at(index, step);
        let count = |each: f64| (load.total * each) as u64;
        let mut page = String::new();
        for (family, kind, value) in [
            ("vllm:num_requests_running", "gauge", (load.busy * 64.0).round()),
            ("vllm:num_requests_waiting", "gauge", ((load.busy - 0.5).max(0.0) * 40.0).round()),
            ("vllm:kv_cache_usage_perc", "gauge", load.busy),
            ("vllm:generation_tokens_total", "counter", count(900.0) as f64),
        ] {
            page += &format!("# TYPE {family} {kind}\n{family}{{{LABELS}}} {value}\n");
        }
        page += "# TYPE vllm:time_to_first_token_seconds histogram\n";
        let bucket = "vllm:time_to_first_token_seconds_bucket";
        for (le, share) in [("0.1", 0.3 * load.busy), ("0.5", 0.8), ("1.0", 0.97), ("+Inf", 1.0)] {
            // A bucket is a counter as well: the fastest requests grow slower when the server is busy.
            let value = if le == "0.1" { count(10.0) / 4 } else { (load.total * 20.0 * share) as u64 };
            page += &format!("{bucket}{{le=\"{le}\",{LABELS}}} {value}\n");
        }
        self.page.set(FakeAnswer::Text(page));
    }
}

/// What the endpoint picker of llm-d reports of its pool.
fn router_page(step: u32) -> String {
    let queue = DeviceLoad::at(0, step).busy * 8.0;
    format!(
        "# TYPE llm_d_epp_average_queue_size gauge\nllm_d_epp_average_queue_size{{name=\"llama\"}} {queue}\n"
    )
}

/// Half of the agents as the chart's PodMonitor scrapes them, the others without relabelling.
fn scrape_configs(members: &[FleetMember], servers: &[ModelServer], router: &FakeServer) -> String {
    let targets = |is_relabelled: bool| -> String {
        let members = members.iter().filter(|member| member.node.is_relabelled == is_relabelled);
        let target = |member: &FleetMember| {
            let (name, address) = (member.node.name, member.agent.address());
            let labels = format!("{{node: {name}, namespace: afd, pod: afd-{name}, container: afd}}");
            let labels = if is_relabelled { format!("\n    labels: {labels}") } else { String::new() };
            format!("  - targets: ['{address}']{labels}\n")
        };
        members.map(target).collect()
    };
    let models: String = servers
        .iter()
        .map(|server| {
            let ModelServer { pod, page } = server;
            format!("  - targets: ['{}']\n    labels: {{namespace: serving, pod: {pod}}}\n", page.address)
        })
        .collect();
    format!(
        "- job_name: afd/afd\n  honor_labels: true\n  static_configs:\n{}- job_name: plain\n  honor_labels: true\n  static_configs:\n{}\
         - job_name: vllm\n  static_configs:\n{models}- job_name: epp\n  static_configs:\n  - targets: ['{}']\n",
        targets(true),
        targets(false),
        router.address
    )
}
