//! The agent and its Node, by the real binary and a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and tell what they measured"
)]

#[path = "kubernetes/latency.rs"]
mod latency;
#[path = "kubernetes/scene.rs"]
mod scene;

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{Part, Process, Suite, Version, succeed, until};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use scene::{ADDRESS, COUNT, NODE, Scene, metric};

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
        .test("a_device_that_comes_is_a_label_within_a_second", latency::latency)
        .test("an_agent_that_is_killed_and_started_again_writes_nothing", killed_agent)
        .test("an_agent_whose_first_looks_are_empty_takes_no_label_before_the_third", empty_first_looks)
        .test("cleanup_leaves_nothing_of_ours_and_all_of_others", cleanup)
        .test("a_driver_that_the_node_says_is_replaced_is_let_go_until_that_is_over", replaced_driver)
        .test("an_xid_reaches_the_condition_and_the_labels_within_a_second", xid)
        .main()
}

fn start(scene: &Scene) -> anyhow::Result<Process> {
    scene.bed.process("afd", scene.agent(&scene.bed.kubeconfig()))
}

fn condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == CONDITION)
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
    let _agent = start(&scene)?;
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
    let _agent = start(&scene)?;
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
    let _agent = start(&scene)?;
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
    let _agent = start(&scene)?;
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
    let _agent = start(&scene)?;
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
    let _agent = start(&scene)?;
    scene.until_label(COUNT, "8").await?;
    let (link, target) = scene.host.pci_link("0x1020");
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

async fn killed_agent() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    let mut agent = start(&scene)?;
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

/// As after a start of the machine, when the driver is not loaded yet.
async fn empty_first_looks() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
    let mut agent = start(&scene)?;
    let before = scene.until_label(COUNT, "8").await?;
    agent.kill()?;
    let bus = scene.host.root().join("sys/bus/pci/devices");
    let aside = scene.host.root().join("aside");
    fs::rename(&bus, &aside)?;
    fs::create_dir(&bus)?;
    let slow = scene.agent_turning(&scene.bed.kubeconfig(), ["0.2", "3"]);
    let _agent = scene.bed.process("afd-after", slow)?;
    until("the agent has read its Node", async || {
        ensure!(metric("afd_kubernetes_requests_total{code=\"200\",verb=\"get\"}").is_some(), "not yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let meanwhile = scene.node().await?;
    ensure!(meanwhile.labels() == before.labels(), "one look was enough: {:?}", meanwhile.labels());
    ensure!(metric("afd_label_writes_total ") == Some(0.0), "labels were written");
    // Seen three times it is true.
    until("the labels are gone", async || {
        let node = scene.node().await?;
        ensure!(!node.labels().contains_key(COUNT), "{:?}", node.labels());
        Ok(())
    })
    .await?;
    fs::remove_dir(&bus)?;
    fs::rename(&aside, &bus)?;
    scene.until_label(COUNT, "8").await.map(drop)
}

async fn cleanup() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    scene.somebody_patches(json!({ "metadata": { "labels": { "somebodys": "own" } } })).await?;
    let mut agent = start(&scene)?;
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
const RELEASED: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"released\"}";

async fn replaced_driver() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = start(&scene)?;
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
    let agent = scene.agent_turning(&scene.bed.kubeconfig(), ["5", "60"]);
    let _agent = scene.bed.process("afd", agent)?;
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
