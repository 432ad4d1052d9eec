//! The agent and its Node, by the real binary and a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "kubernetes/latency.rs"]
mod latency;
#[path = "kubernetes/platform_labels.rs"]
mod platform_labels;
#[path = "kubernetes/setup.rs"]
mod setup;

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{BedProcess, Component, KubernetesVersion, Suite, succeed, until};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use setup::{ADDRESS, COUNT, NODE, NodeSetup, metric};

const NVIDIA_COUNT: &str = "nvidia.com/gpu.count";
const REPORT: &str = "accelerator.llm-d.ai/report";
const CONDITION: &str = "accelerator.llm-d.ai/Ready";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("a_node_is_labelled_once_on_kubernetes_1_37", || labelled_once(KubernetesVersion::V1_37))
        .test("a_node_is_labelled_once_on_kubernetes_1_34", || labelled_once(KubernetesVersion::V1_34))
        .test("changes_by_other_managers_are_reverted_and_counted", reverted)
        .test("a_key_that_another_manager_owns_is_left_alone", foreign_keys)
        .test("own_keys_whose_owner_was_lost_are_adopted_or_removed", lost_owners)
        .test("labels_and_metrics_survive_an_api_server_that_is_killed", killed_api_server)
        .test("a_node_that_is_recreated_is_labelled_again", recreated_node)
        .test("a_new_device_is_published_at_once_and_a_removed_one_after_its_grace", added_and_removed)
        .test("a_uevent_is_enough_to_publish_a_new_device", || latency::latency(2, None))
        .on_request("label_latency", || latency::latency(latency::RUNS, Some(latency::BUDGET)))
        .test("an_agent_that_is_killed_and_started_again_writes_nothing", killed_agent)
        .test("an_agent_that_finds_no_device_keeps_labels_until_the_grace_is_over", empty_discoveries)
        .test("cleanup_removes_everything_of_ours_and_nothing_of_others", cleanup)
        .test("a_driver_is_released_while_the_node_says_that_it_is_upgraded", upgraded_driver)
        .test("a_node_that_its_platform_labels_gets_no_keys_of_the_set", platform_labels::platform_labels)
        .test("an_xid_event_is_enough_to_change_the_condition_and_the_labels", xid)
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

async fn reverted() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = start(&setup)?;
    setup.until_label(COUNT, "8").await?;
    setup.patch_as_other(json!({ "metadata": { "labels": { COUNT: "99", "foreign": "label" } } })).await?;
    let node = setup.until_label(COUNT, "8").await?;
    ensure!(node.labels()["foreign"] == "label", "{:?}", node.labels());
    until_contested("other-manager").await?;
    setup.patch_as_other(json!({ "metadata": { "labels": { COUNT: null } } })).await?;
    setup.until_label(COUNT, "8").await?;
    until_contested("removed").await?;
    // A conflict on the annotation alone does not stop what follows.
    setup.patch_as_other(json!({ "metadata": { "annotations": { REPORT: "mine" } } })).await?;
    until("the annotation is restored", async || {
        let node = setup.node().await?;
        ensure!(node.annotations()[REPORT] != "mine", "{:?}", node.annotations());
        Ok(())
    })
    .await?;
    until_idle(&setup).await
}

/// As a Node that was restored from a backup without `managedFields`, with the labels of other devices.
async fn lost_owners() -> anyhow::Result<()> {
    const OLD: &str = "accelerator.llm-d.ai/product.Old";
    const EXPECT: &str = "accelerator.llm-d.ai/expect";
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let stale = json!({
        "labels": { COUNT: "4", OLD: "4", "foreign": "label" },
        "annotations": { REPORT: "old", EXPECT: "any=8" },
    });
    setup.patch_as_other(json!({ "metadata": stale })).await?;
    let problem = json!({ "type": "accelerator.llm-d.ai/Other", "status": "True" });
    let problem = Patch::Strategic(json!({ "status": { "conditions": [problem] } }));
    setup.nodes.patch_status(NODE, &PatchParams::default(), &problem).await?;
    setup.patch_as_other(json!({ "metadata": { "managedFields": [{}] } })).await?;
    ensure!(setup.node().await?.metadata.managed_fields.is_none_or(|fields| fields.is_empty()));
    let mut agent = start(&setup)?;
    setup.until_label(COUNT, "8").await?;
    until_condition(&setup, "True").await?;
    until_idle(&setup).await?;
    let node = setup.node().await?;
    ensure!(!node.labels().contains_key(OLD) && node.labels()["foreign"] == "label", "{:?}", node.labels());
    ensure!(node.annotations()[EXPECT] == "any=8" && node.annotations()[REPORT] != "old");
    let others = node.status.and_then(|status| status.conditions).unwrap_or_default();
    ensure!(others.iter().all(|condition| condition.type_ != "accelerator.llm-d.ai/Other"), "{others:?}");
    // The owners are lost again: cleaning removes everything under the prefix but what is the admin's.
    agent.kill()?;
    setup.patch_as_other(json!({ "metadata": { "managedFields": [{}] } })).await?;
    let mut command = afd_tests::afd(["cleanup", "--node-name", NODE, "--kubeconfig"]);
    succeed(command.arg(setup.bed.kubeconfig()))?;
    let node = setup.node().await?;
    let own = |key: &&String| key.starts_with("accelerator.llm-d.ai/");
    ensure!(node.labels().keys().find(own).is_none(), "{:?}", node.labels());
    ensure!(
        node.annotations().keys().filter(own).collect::<Vec<_>>() == [EXPECT],
        "{:?}",
        node.annotations()
    );
    ensure!(condition(&node).is_none(), "{:?}", node.status);
    Ok(())
}

async fn until_contested(owner: &str) -> anyhow::Result<()> {
    until_metric(&format!("afd_label_contested_total{{key=\"{COUNT}\",owner=\"{owner}\"}}"), 1.0).await
}

async fn foreign_keys() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    setup.patch_as_other(json!({ "metadata": { "labels": { NVIDIA_COUNT: "4" } } })).await?;
    let _agent = start(&setup)?;
    let node = setup.until_label("nvidia.com/gpu.family", "hopper").await?;
    ensure!(node.labels()[NVIDIA_COUNT] == "4", "{:?}", node.labels());
    // A key that is taken while the agent runs. The agent restores its own key, which shows that it has seen both.
    let taken = json!({ "nvidia.com/gpu.family": "ampere", COUNT: "99" });
    setup.patch_as_other(json!({ "metadata": { "labels": taken } })).await?;
    let node = setup.until_label(COUNT, "8").await?;
    ensure!(node.labels()["nvidia.com/gpu.family"] == "ampere", "{:?}", node.labels());
    until_idle(&setup).await
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

/// The options for how long a device must be away until it counts as removed, also on a machine that was just booted.
fn removal_grace(seconds: &str) -> [&str; 4] {
    ["--removal-grace", seconds, "--boot-removal-grace", seconds]
}

async fn added_and_removed() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let mut agent = setup.agent(&setup.bed.kubeconfig());
    agent.args(removal_grace("8"));
    let _agent = setup.bed.process("afd", agent)?;
    setup.until_label(COUNT, "8").await?;
    let (link, target) = setup.host.pci_link("0x1020");
    let removed = Instant::now();
    fs::remove_file(&link)?;
    until("the device is not in the inventory", async || {
        let devices =
            Agent::get_from(ADDRESS, "/metrics").text().matches("\naccelerator_device_info{").count();
        ensure!(devices == 7, "there are {devices}");
        Ok(())
    })
    .await?;
    ensure!(setup.node().await?.labels()[COUNT] == "8", "a discovery was enough");
    setup.until_label(COUNT, "7").await?;
    ensure!(removed.elapsed() >= Duration::from_secs(8), "it took {:?}", removed.elapsed());
    std::os::unix::fs::symlink(target, link)?;
    setup.until_label(COUNT, "8").await?;
    Ok(())
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

/// As after a boot of the machine, when the driver is not loaded yet.
async fn empty_discoveries() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let mut agent = start(&setup)?;
    let before = setup.until_label(COUNT, "8").await?;
    agent.kill()?;
    let bus = setup.host.root().join("sys/bus/pci/devices");
    let aside = setup.host.root().join("aside");
    fs::rename(&bus, &aside)?;
    fs::create_dir(&bus)?;
    let mut after = setup.agent(&setup.bed.kubeconfig());
    after.args(removal_grace("10"));
    let started = Instant::now();
    let _agent = setup.bed.process("afd-after", after)?;
    until_watching().await?;
    let meanwhile = setup.node().await?;
    ensure!(meanwhile.labels() == before.labels(), "a discovery was enough: {:?}", meanwhile.labels());
    ensure!(metric("afd_label_writes_total ") == Some(0.0), "labels were written");
    until("the labels are gone", async || {
        let node = setup.node().await?;
        ensure!(!node.labels().contains_key(COUNT), "{:?}", node.labels());
        Ok(())
    })
    .await?;
    ensure!(started.elapsed() >= Duration::from_secs(10), "it took {:?}", started.elapsed());
    fs::remove_dir(&bus)?;
    fs::rename(&aside, &bus)?;
    setup.until_label(COUNT, "8").await.map(drop)
}

async fn cleanup() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    let foreign = json!({
        "labels": { "foreign": "label" },
        "annotations": { "accelerator.llm-d.ai/expect": "any=8" },
    });
    setup.patch_as_other(json!({ "metadata": foreign })).await?;
    let untouched = serde_json::from_value(json!({ "metadata": { "name": "untouched" } }))?;
    let untouched = setup.nodes.create(&PostParams::default(), &untouched).await?;
    let mut agent = start(&setup)?;
    setup.until_label(NVIDIA_COUNT, "8").await?;
    until_condition(&setup, "True").await?;
    agent.kill()?;
    let kubeconfig = setup.bed.kubeconfig();
    let clean = || succeed(afd_tests::afd(["cleanup", "--all-nodes", "--kubeconfig"]).arg(&kubeconfig));
    let output = clean()?;
    ensure!(output.starts_with("Removed ") && output.ends_with(" from 1 Nodes.\n"), "it prints {output}");
    let node = setup.node().await?;
    let labels: Vec<_> = node.labels().iter().collect();
    ensure!(labels == [(&"foreign".to_owned(), &"label".to_owned())], "{labels:?}");
    ensure!(!node.annotations().contains_key(REPORT) && condition(&node).is_none(), "{:?}", node.status);
    ensure!(node.annotations()["accelerator.llm-d.ai/expect"] == "any=8", "{:?}", node.annotations());
    let output = clean()?;
    ensure!(
        output == "Removed 0 labels, 0 annotations and 0 conditions from 0 Nodes.\n",
        "it prints {output}"
    );
    for (before, after) in [(untouched, "untouched"), (node, NODE)] {
        let after = setup.nodes.get(after).await?;
        ensure!(before.resource_version() == after.resource_version(), "{after:?} was written");
    }
    Ok(())
}

/// The label in which NVIDIA's GPU operator reports the progress of a driver upgrade.
const UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
const RELEASED: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"released\"}";

async fn upgraded_driver() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = start(&setup)?;
    let before = setup.until_label(NVIDIA_COUNT, "8").await?;
    until_sampled(8).await?;
    for (state, sampled) in [
        ("upgrade-required", 8),
        ("pod-restart-required", 0),
        ("validation-required", 0),
        ("upgrade-done", 8),
    ] {
        setup.patch_as_other(json!({ "metadata": { "labels": { UPGRADE: state } } })).await?;
        // Gives the agent time to react where it must not.
        tokio::time::sleep(Duration::from_secs(2)).await;
        until_sampled(sampled).await.with_context(|| state.to_owned())?;
        until(&format!("the problem is counted as in the state {state}"), async || {
            ensure!(metric(RELEASED).is_some() == (sampled == 0), "it is {:?}", metric(RELEASED));
            Ok(())
        })
        .await?;
    }
    let after = setup.node().await?;
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
        let response = Agent::try_get_from(ADDRESS, "/metrics").context("it accepts no connections yet")?;
        let sampled = response.text().matches("\naccelerator_device_power_watts{").count();
        ensure!(sampled == gpus, "there are {sampled}");
        Ok(())
    })
    .await
}

async fn xid() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    // Neither a sample nor a discovery is due: only the event itself makes the agent discover.
    let agent = setup.agent_with_intervals(&setup.bed.kubeconfig(), ["3600", "3600"]);
    let _agent = setup.bed.process("afd", agent)?;
    until_condition(&setup, "True").await?;
    let start = Instant::now();
    setup.host.driver_root().raise(json!({ "device": 2, "eventType": 8, "eventData": 79 }));
    let node = until_condition(&setup, "False").await?;
    setup.until_label("accelerator.llm-d.ai/healthy", "7").await?;
    println!("XID event to condition and label on the Node: {:.0?}", start.elapsed());
    ensure!(
        condition(&node).and_then(|ready| ready.message.as_deref()).is_some_and(|m| m.contains("XID 79"))
    );
    Ok(())
}
