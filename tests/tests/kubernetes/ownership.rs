//! What other managers own of the Node, and what the agent owns of it.

use afd_test_cluster::{KubernetesVersion, succeed, until};
use anyhow::ensure;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    NVIDIA_COUNT, REPORT, condition,
    setup::{COUNT, NODE, NodeSetup},
    start, until_condition, until_idle, until_metric,
};

pub(crate) async fn reverted() -> anyhow::Result<()> {
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
pub(crate) async fn lost_owners() -> anyhow::Result<()> {
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

pub(crate) async fn foreign_keys() -> anyhow::Result<()> {
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

pub(crate) async fn cleanup() -> anyhow::Result<()> {
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
