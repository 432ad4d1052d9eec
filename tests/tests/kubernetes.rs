//! The agent and its Node, by the real binary and a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{Bed, Part, Process, Suite, Version, succeed, until};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, LaidOut},
};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

const NODE: &str = "gpu-node";
const ADDRESS: &str = "127.0.0.1:9109";
const COUNT: &str = "accelerator.llm-d.ai/count";
const VENDORS_COUNT: &str = "nvidia.com/gpu.count";
const REPORT: &str = "accelerator.llm-d.ai/report";
const CONDITION: &str = "accelerator.llm-d.ai/Ready";

fn main() -> ExitCode {
    // Built before the bed, which has no way to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("a_node_says_what_it_has_and_is_left_alone_then_on_kubernetes_1_37", || {
            says_and_rests(Version::V1_37)
        })
        .test("a_node_says_what_it_has_and_is_left_alone_then_on_kubernetes_1_34", || {
            says_and_rests(Version::V1_34)
        })
        .test("what_somebody_changes_is_put_right_and_counted", put_right)
        .test("a_key_that_somebody_owns_is_left_to_them", left_to_them)
        .test("a_killed_api_server_moves_no_label_and_stops_no_metric", killed_api_server)
        .test("a_node_that_is_made_anew_is_told_again", made_anew)
        .test("a_device_that_comes_is_told_at_once_and_one_that_goes_after_three_looks", comes_and_goes)
        .test("an_agent_that_is_killed_and_started_again_writes_nothing", killed_agent)
        .test("cleanup_leaves_nothing_of_ours_and_all_of_others", cleanup)
        .test("a_driver_that_the_node_says_is_replaced_is_let_go_until_that_is_over", replaced_driver)
        .test("an_xid_reaches_the_condition_and_the_labels_within_a_second", xid)
        .main()
}

/// A cluster with a Node, and the host of that Node.
struct Scene {
    bed: Bed,
    nodes: Api<Node>,
    host: LaidOut,
}

impl Scene {
    async fn new(version: Version, fixture: &str) -> anyhow::Result<Scene> {
        let bed = Bed::builder().version(version).start().await?;
        let nodes: Api<Node> = Api::all(bed.client().await?);
        let scene = Scene { bed, nodes, host: Fixture::named(fixture).copy() };
        scene.create_node(&[]).await?;
        Ok(scene)
    }

    async fn create_node(&self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        // As if the device plugins of both hosts had told of all that they have.
        let offered = json!({ "nvidia.com/gpu": "8", "habana.ai/gaudi": "8" });
        let node = serde_json::from_value(json!({
            "metadata": { "name": NODE, "labels": labels },
            "status": { "capacity": offered, "allocatable": offered },
        }))?;
        self.nodes
            .create(&PostParams { field_manager: Some("kubelet".to_owned()), ..PostParams::default() }, &node)
            .await?;
        Ok(())
    }

    fn start(&self, more: &[&str]) -> anyhow::Result<Process> {
        self.start_turning(["0.2", "0.5"], more)
    }

    /// With so many seconds between samples, and between looks.
    fn start_turning(&self, [sample, look]: [&str; 2], more: &[&str]) -> anyhow::Result<Process> {
        let kubeconfig = self.bed.kubeconfig();
        let mut command =
            self.host.afd(["run", "--node-name", NODE, "--listen", ADDRESS, "--start-spread", "0"]);
        command
            .args(["--sample-interval", sample, "--look-interval", look, "--kubeconfig"])
            .arg(kubeconfig)
            .args(more);
        self.bed.process("afd", command)
    }

    async fn node(&self) -> anyhow::Result<Node> {
        Ok(self.nodes.get(NODE).await?)
    }

    async fn until_label(&self, key: &str, value: &str) -> anyhow::Result<Node> {
        until(&format!("{key} is {value}"), async || {
            let node = self.node().await?;
            ensure!(node.labels().get(key).map(String::as_str) == Some(value), "it has {:?}", node.labels());
            Ok(node)
        })
        .await
    }

    /// Changes the Node as somebody else.
    async fn somebody_patches(&self, patch: Value) -> anyhow::Result<()> {
        let somebody = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
        self.nodes.patch(NODE, &somebody, &Patch::Merge(patch)).await?;
        Ok(())
    }
}

fn condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == CONDITION)
}

fn metric(series: &str) -> Option<f64> {
    // An agent that is being started takes no connections yet.
    let text = Agent::try_get_from(ADDRESS, "/metrics")?.text().to_owned();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Nothing is written for some seconds.
async fn rests(scene: &Scene) -> anyhow::Result<()> {
    let before = scene.node().await?.resource_version();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = scene.node().await?.resource_version();
    ensure!(before == after, "the Node was written from {before:?} to {after:?}");
    Ok(())
}

async fn says_and_rests(version: Version) -> anyhow::Result<()> {
    let scene = Scene::new(version, "nvidia-h100x8-nvml").await?;
    let _agent = scene.start(&[])?;
    scene.until_label(VENDORS_COUNT, "8").await?;
    let node = until("the condition is there", async || {
        let node = scene.node().await?;
        ensure!(condition(&node).is_some_and(|ready| ready.status == "True"), "{:?}", condition(&node));
        Ok(node)
    })
    .await?;
    let shown = succeed(&mut scene.host.afd(["show", "--output", "labels", "--compat", "nvidia=on"]))?;
    let mut shown: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    // Only a cluster knows it.
    shown.insert("accelerator.llm-d.ai/allocation", "device-plugin");
    let told: BTreeMap<&str, &str> =
        node.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    ensure!(told == shown, "the Node says {told:?}, and afd show {shown:?}");
    let report: Value = serde_json::from_str(&node.annotations()[REPORT])?;
    ensure!(report["devices"].as_array().map(Vec::len) == Some(8), "the report is {report}");
    rests(&scene).await?;
    ensure!(metric("afd_label_writes_total ") == Some(1.0), "{:?}", metric("afd_label_writes_total "));
    Ok(())
}

async fn put_right() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = scene.start(&[])?;
    scene.until_label(COUNT, "8").await?;
    scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99", "somebodys": "own" } } })).await?;
    let node = scene.until_label(COUNT, "8").await?;
    ensure!(node.labels()["somebodys"] == "own", "{:?}", node.labels());
    until_counted("somebody").await?;
    scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: null } } })).await?;
    scene.until_label(COUNT, "8").await?;
    until_counted("removed").await?;
    rests(&scene).await
}

/// The metrics are made anew at each sample.
async fn until_counted(owner: &str) -> anyhow::Result<()> {
    let series = format!("afd_label_contested_total{{key=\"{COUNT}\",owner=\"{owner}\"}}");
    until("it is counted", async || {
        ensure!(metric(&series) == Some(1.0), "{series} is {:?}", metric(&series));
        Ok(())
    })
    .await
}

async fn left_to_them() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    scene.somebody_patches(json!({ "metadata": { "labels": { VENDORS_COUNT: "4" } } })).await?;
    let _agent = scene.start(&[])?;
    let node = scene.until_label("nvidia.com/gpu.family", "hopper").await?;
    ensure!(node.labels()[VENDORS_COUNT] == "4", "{:?}", node.labels());
    // And one that is taken while the agent runs.
    scene
        .somebody_patches(json!({ "metadata": { "labels": { "nvidia.com/gpu.family": "ampere" } } }))
        .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = scene.node().await?;
    ensure!(node.labels()["nvidia.com/gpu.family"] == "ampere", "{:?}", node.labels());
    ensure!(node.labels()[COUNT] == "8", "{:?}", node.labels());
    rests(&scene).await
}

async fn killed_api_server() -> anyhow::Result<()> {
    let mut scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
    let _agent = scene.start(&[])?;
    let before = scene.until_label(COUNT, "8").await?;
    scene.bed.kill(Part::ApiServer)?;
    for _ in 0..20 {
        ensure!(
            Agent::get_from(ADDRESS, "/metrics").text().contains("accelerator_device_info{"),
            "no metrics"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.bed.restart(Part::ApiServer).await?;
    let after = until("the API server answers", async || scene.node().await).await?;
    ensure!(
        after.labels() == before.labels(),
        "labels moved from {:?} to {:?}",
        before.labels(),
        after.labels()
    );
    scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99" } } })).await?;
    scene.until_label(COUNT, "8").await?;
    let failed = Agent::get_from(ADDRESS, "/metrics");
    let requests = failed.text().lines().filter(|line| line.starts_with("afd_kubernetes_requests_total{"));
    let sum: f64 = requests.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    ensure!(sum < 40.0, "{sum} requests: a hot loop");
    Ok(())
}

async fn made_anew() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
    let _agent = scene.start(&[])?;
    let first = scene.until_label(COUNT, "8").await?;
    scene.nodes.delete(NODE, &DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(scene.nodes.get_opt(NODE).await?.is_none(), "the agent made the Node");
    scene.create_node(&[("new", "true")]).await?;
    let second = scene.until_label(COUNT, "8").await?;
    ensure!(first.uid() != second.uid() && second.labels()["new"] == "true", "{:?}", second.metadata);
    until("the condition is there again", async || {
        condition(&scene.node().await?).map(drop).context("there is none")
    })
    .await
}

async fn comes_and_goes() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
    let _agent = scene.start(&[])?;
    scene.until_label(COUNT, "8").await?;
    let (link, target) = one_device(scene.host.root())?;
    fs::remove_file(&link)?;
    until("the inventory lacks it", async || {
        let text = Agent::get_from(ADDRESS, "/metrics").text().matches("\naccelerator_device_info{").count();
        ensure!(text == 7, "there are {text}");
        Ok(())
    })
    .await?;
    ensure!(scene.node().await?.labels()[COUNT] == "8", "one look was enough");
    scene.until_label(COUNT, "7").await?;
    std::os::unix::fs::symlink(target, link)?;
    scene.until_label(COUNT, "8").await?;
    Ok(())
}

/// The link of a Gaudi 2 on the bus, and where it leads.
fn one_device(root: &Path) -> anyhow::Result<(std::path::PathBuf, std::path::PathBuf)> {
    let link = fs::read_dir(root.join("sys/bus/pci/devices"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| fs::read_to_string(path.join("device")).is_ok_and(|id| id.trim() == "0x1020"))
        .context("the host has a Gaudi 2")?;
    let target = fs::read_link(&link)?;
    Ok((link, target))
}

async fn killed_agent() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    let mut agent = scene.start(&[])?;
    scene.until_label(VENDORS_COUNT, "8").await?;
    until("the condition is there", async || {
        condition(&scene.node().await?).map(drop).context("there is none")
    })
    .await?;
    rests(&scene).await?;
    let before = scene.node().await?;
    agent.kill()?;
    agent.restart()?;
    until("the agent has looked at its Node", async || {
        ensure!(metric("afd_kubernetes_requests_total{code=\"200\",verb=\"watch\"}").is_some(), "not yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = scene.node().await?;
    ensure!(before.labels() == after.labels(), "labels moved");
    ensure!(metric("afd_label_writes_total ") == Some(0.0), "labels were written");
    Ok(())
}

async fn cleanup() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    scene.somebody_patches(json!({ "metadata": { "labels": { "somebodys": "own" } } })).await?;
    let mut agent = scene.start(&[])?;
    scene.until_label(VENDORS_COUNT, "8").await?;
    until("the condition is there", async || {
        condition(&scene.node().await?).map(drop).context("there is none")
    })
    .await?;
    agent.kill()?;
    let kubeconfig = scene.bed.kubeconfig();
    let mut command = afd_tests::afd(["cleanup", "--all-nodes", "--kubeconfig"]);
    let told = succeed(command.arg(kubeconfig))?;
    ensure!(told == "Removed what AFD wrote on 1 Nodes.\n", "it says {told}");
    let node = scene.node().await?;
    let labels: Vec<_> = node.labels().iter().collect();
    ensure!(labels == [(&"somebodys".to_owned(), &"own".to_owned())], "{labels:?}");
    ensure!(!node.annotations().contains_key(REPORT) && condition(&node).is_none(), "{:?}", node.status);
    Ok(())
}

/// The label by which NVIDIA's GPU operator tells how far it is.
const UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
const RELEASED: &str = "afd_probe_problems{vendor=\"nvidia\",reason=\"released\"}";

async fn replaced_driver() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = scene.start(&[])?;
    let before = scene.until_label(VENDORS_COUNT, "8").await?;
    until_sampled(8).await?;
    for (state, sampled) in [
        ("upgrade-required", 8),
        ("pod-restart-required", 0),
        ("validation-required", 8),
        ("upgrade-done", 8),
    ] {
        scene.somebody_patches(json!({ "metadata": { "labels": { UPGRADE: state } } })).await?;
        // Nothing may happen at the first state, and that takes a while.
        tokio::time::sleep(Duration::from_secs(2)).await;
        until_sampled(sampled).await.with_context(|| state.to_owned())?;
        ensure!(metric(RELEASED).is_some() == (sampled == 0), "{state}: {:?}", metric(RELEASED));
    }
    let after = scene.node().await?;
    for (key, value) in before.labels() {
        ensure!(
            after.labels().get(key) == Some(value),
            "{key} was {value}, and the Node has {:?}",
            after.labels()
        );
    }
    Ok(())
}

async fn until_sampled(gpus: usize) -> anyhow::Result<()> {
    until(&format!("{gpus} GPUs are sampled"), async || {
        let answer = Agent::try_get_from(ADDRESS, "/metrics").context("it takes no connections yet")?;
        let told = answer.text().matches("\naccelerator_power_watts{").count();
        ensure!(told == gpus, "there are {told}");
        Ok(())
    })
    .await
}

async fn xid() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    // As it is installed: only the event itself may make it look.
    let _agent = scene.start_turning(["5", "60"], &[])?;
    until("the condition is there", async || {
        let node = scene.node().await?;
        ensure!(condition(&node).is_some_and(|ready| ready.status == "True"), "{:?}", condition(&node));
        Ok(())
    })
    .await?;
    let begun = Instant::now();
    scene.host.driver_root().raise(json!({ "device": 2, "eventType": 8, "eventData": 79 }));
    let (node, took) = loop {
        let node = scene.node().await?;
        let told = condition(&node).is_some_and(|ready| ready.status == "False")
            && node.labels().get("accelerator.llm-d.ai/healthy").is_some_and(|count| count == "7");
        if told {
            break (node, begun.elapsed());
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "the Node says {:?}", condition(&node));
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    ensure!(took < Duration::from_secs(1), "it took {took:?}");
    ensure!(
        condition(&node).and_then(|ready| ready.message.as_deref()).is_some_and(|m| m.contains("XID 79"))
    );
    Ok(())
}
