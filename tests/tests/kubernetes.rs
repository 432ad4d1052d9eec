//! The agent and its Node, by the real binary and a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "kubernetes/devices.rs"]
mod devices;
#[path = "kubernetes/latency.rs"]
mod latency;
#[path = "kubernetes/ownership.rs"]
mod ownership;
#[path = "kubernetes/platform_labels.rs"]
mod platform_labels;
#[path = "kubernetes/setup.rs"]
mod setup;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use afd_test_cluster::{BedProcess, Component, KubernetesVersion, Suite, succeed, until};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::Value;

use setup::{ADDRESS, COUNT, NODE, NodeSetup, metric};

const NVIDIA_COUNT: &str = "nvidia.com/gpu.count";
const REPORT: &str = "accelerator.llm-d.ai/report";
const CONDITION: &str = "accelerator.llm-d.ai/Ready";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    afd_tests::fake_level_zero();
    Suite::new()
        .test("a_node_is_labelled_once_on_kubernetes_1_37", || labelled_once(KubernetesVersion::V1_37))
        .test("a_node_is_labelled_once_on_kubernetes_1_34", || labelled_once(KubernetesVersion::V1_34))
        .test("changes_by_other_managers_are_reverted_and_counted", ownership::reverted)
        .test("a_key_that_another_manager_owns_is_left_alone", ownership::foreign_keys)
        .test("own_keys_whose_owner_was_lost_are_adopted_or_removed", ownership::lost_owners)
        .test("labels_and_metrics_survive_an_api_server_that_is_killed", killed_api_server)
        .test("a_node_that_is_recreated_is_labelled_again", recreated_node)
        .test(
            "a_new_device_is_published_at_once_and_a_removed_one_after_its_grace",
            devices::added_and_removed,
        )
        .test("a_uevent_is_enough_to_publish_a_new_device", || latency::latency(2, None))
        .on_request("label_latency", || latency::latency(latency::RUNS, Some(latency::BUDGET)))
        .test("an_agent_that_is_killed_and_started_again_writes_nothing", killed_agent)
        .test(
            "an_agent_that_finds_no_device_keeps_labels_until_the_grace_is_over",
            devices::empty_discoveries,
        )
        .test("cleanup_removes_everything_of_ours_and_nothing_of_others", ownership::cleanup)
        .test("a_driver_is_released_while_the_node_says_that_it_is_upgraded", devices::upgraded_driver)
        .test("a_node_that_its_platform_labels_gets_no_keys_of_the_set", platform_labels::platform_labels)
        .test("a_dra_driver_that_sees_another_health_is_a_problem_and_no_verdict", devices::published_health)
        .test("an_xid_event_is_enough_to_change_the_condition_and_the_labels", devices::xid)
        .main()
}

fn start(setup: &NodeSetup) -> anyhow::Result<BedProcess> {
    setup.bed.process("afd", setup.agent(&setup.bed.kubeconfig()))
}

fn condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == CONDITION)
}

/// Waits until the Node has not been written for some seconds.
async fn until_idle(setup: &NodeSetup) -> anyhow::Result<()> {
    const IDLE: Duration = Duration::from_secs(3);
    until("the Node is not written any more", async || {
        let before = setup.node().await?.resource_version();
        tokio::time::sleep(IDLE).await;
        let after = setup.node().await?.resource_version();
        ensure!(before == after, "the Node was written from {before:?} to {after:?}");
        Ok(())
    })
    .await
}

async fn until_condition(setup: &NodeSetup, status: &str) -> anyhow::Result<Node> {
    until(&format!("the condition is {status}"), async || {
        let node = setup.node().await?;
        ensure!(condition(&node).is_some_and(|ready| ready.status == status), "{:?}", condition(&node));
        Ok(node)
    })
    .await
}

/// Waits for the value of a series, which changes with the next sample only.
async fn until_metric(series: &str, value: f64) -> anyhow::Result<()> {
    until(&format!("{series} is {value}"), async || {
        ensure!(metric(series) == Some(value), "it is {:?}", metric(series));
        Ok(())
    })
    .await
}

/// Waits until the agent has read its Node, written what differs, and watches it.
async fn until_watching() -> anyhow::Result<()> {
    until("the agent watches its Node", async || {
        let watches = metric("afd_kubernetes_requests_total{code=\"200\",verb=\"watch\"}");
        watches.map(drop).context("there is no watch")
    })
    .await
}

async fn labelled_once(version: KubernetesVersion) -> anyhow::Result<()> {
    let setup = NodeSetup::new(version, "nvidia-h100x8-nvml").await?;
    let _agent = start(&setup)?;
    setup.until_label(NVIDIA_COUNT, "8").await?;
    let node = until_condition(&setup, "True").await?;
    let shown = succeed(&mut setup.host.afd(["show", "--output", "labels", "--compat", "nvidia=on"]))?;
    let mut shown: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    // This label exists in a cluster only.
    shown.insert("accelerator.llm-d.ai/allocation", "device-plugin");
    let labels: BTreeMap<&str, &str> =
        node.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    ensure!(labels == shown, "the Node has {labels:?}, and afd show prints {shown:?}");
    let report: Value = serde_json::from_str(&node.annotations()[REPORT])?;
    ensure!(report["devices"].as_array().map(Vec::len) == Some(8), "the report is {report}");
    until_idle(&setup).await?;
    until_metric("afd_label_writes_total ", 1.0).await
}

async fn killed_api_server() -> anyhow::Result<()> {
    let mut setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let _agent = start(&setup)?;
    let before = setup.until_label(COUNT, "8").await?;
    setup.bed.kill(Component::ApiServer)?;
    for _ in 0..20 {
        ensure!(
            Agent::get_from(ADDRESS, "/metrics").text().contains("accelerator_device_info{"),
            "no metrics"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    setup.bed.restart(Component::ApiServer).await?;
    let after = until("the API server answers", async || setup.node().await).await?;
    ensure!(
        after.labels() == before.labels(),
        "labels moved from {:?} to {:?}",
        before.labels(),
        after.labels()
    );
    setup.overwrite_count().await?;
    setup.until_label(COUNT, "8").await?;
    let failed = Agent::get_from(ADDRESS, "/metrics");
    let requests = failed.text().lines().filter(|line| line.starts_with("afd_kubernetes_requests_total{"));
    let sum: f64 = requests.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    ensure!(sum < 40.0, "{sum} requests: a hot loop");
    Ok(())
}

async fn recreated_node() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let _agent = start(&setup)?;
    let first = setup.until_label(COUNT, "8").await?;
    setup.nodes.delete(NODE, &DeleteParams::default()).await?;
    until("the agent misses its Node", async || {
        let missing = metric("afd_kubernetes_requests_total{code=\"404\",verb=\"get\"}");
        missing.map(drop).context("there is no request with 404")
    })
    .await?;
    ensure!(setup.nodes.get_opt(NODE).await?.is_none(), "the agent created the Node");
    setup.create_node(&[("new", "true")]).await?;
    let second = setup.until_label(COUNT, "8").await?;
    ensure!(first.uid() != second.uid() && second.labels()["new"] == "true", "{:?}", second.metadata);
    until_condition(&setup, "True").await.map(drop)
}

async fn killed_agent() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    let mut agent = start(&setup)?;
    setup.until_label(NVIDIA_COUNT, "8").await?;
    until_condition(&setup, "True").await?;
    until_idle(&setup).await?;
    let before = setup.node().await?;
    agent.kill()?;
    agent.restart()?;
    until_watching().await?;
    until_idle(&setup).await?;
    let after = setup.node().await?;
    ensure!(before.labels() == after.labels(), "labels moved");
    ensure!(metric("afd_label_writes_total ") == Some(0.0), "labels were written");
    Ok(())
}
