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

use std::{collections::BTreeMap, fs, process::ExitCode, time::Duration};

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
        .test("cleanup_leaves_nothing_of_ours_and_all_of_others", cleanup)
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
