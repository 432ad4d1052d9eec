//! A Node whose platform labels its devices itself, and reports errors of them as conditions: GKE with TPUs.

use std::collections::BTreeMap;

use afd_test_cluster::{KubernetesVersion, until};
use afd_tests::agent::Agent;
use anyhow::ensure;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    setup::{ADDRESS, COUNT, NODE, NodeSetup},
    until_metric,
};

const CHIPS: &str = "tpu.google.com/chip-count";
const FABRIC: &str = "accelerator.llm-d.ai/fabric-domain";
const REASON: &str = "accelerator_device_health_reason{";

/// Nothing of the DRA driver's keys is written while the platform has its own, which are read instead.
pub(super) async fn platform_labels() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "tpu-v6e-x8").await?;
    let labels = |value: Option<&str>| {
        let own = ["nodepool", "tpu-accelerator", "tpu-topology", "accelerator-count"];
        let values = [Some("pool-7"), Some("tpu-v5p-slice"), Some("4x4"), Some("8")];
        let pairs = own.iter().zip(values);
        let labels = pairs.map(|(name, own)| (format!("cloud.google.com/gke-{name}"), json!(value.and(own))));
        json!({ "metadata": { "labels": labels.collect::<serde_json::Map<String, Value>>() } })
    };
    let of_driver = |labels: &BTreeMap<String, String>| {
        labels.keys().filter(|key| key.starts_with("tpu.google.com/")).count()
    };
    setup.patch_as_other(labels(Some("on"))).await?;
    let mut agent = setup.agent(&setup.bed.kubeconfig());
    for option in ["--tpu-exporter", "--tpu-runtime", "--tpu-metadata-server"] {
        agent.args([option, "off"]);
    }
    let _agent = setup.bed.process("afd", agent)?;
    let node = setup.until_label(COUNT, "8").await?;
    ensure!(of_driver(node.labels()) == 0, "{:?}", node.labels());
    ensure!(node.labels()[FABRIC] == "pool-7", "{:?}", node.labels());
    // The Node names another generation than the chips have.
    until_metric("afd_probe_problems{probe=\"tpu\",reason=\"unrecognized\"}", 1.0).await?;
    // An error of the slice.
    set_condition(&setup, "SliceErrorDetected", "True").await?;
    until_degraded(8).await?;
    set_condition(&setup, "SliceErrorDetected", "False").await?;
    until_degraded(0).await?;
    // Elsewhere the keys are written, and they are removed where the platform has its own.
    setup.patch_as_other(labels(None)).await?;
    let node = setup.until_label(CHIPS, "8").await?;
    ensure!(node.labels()["tpu.google.com/accelerator"] == "tpu-v6e-slice", "{:?}", node.labels());
    ensure!(of_driver(node.labels()) == 2 && !node.labels().contains_key(FABRIC), "{:?}", node.labels());
    setup.patch_as_other(labels(Some("on"))).await?;
    until("the keys are removed", async || {
        let node = setup.node().await?;
        ensure!(of_driver(node.labels()) == 0, "{:?}", node.labels());
        Ok(())
    })
    .await
}

/// Waits until so many chips are degraded by the condition.
async fn until_degraded(chips: usize) -> anyhow::Result<()> {
    until(&format!("{chips} chips are degraded"), async || {
        let page = Agent::get_from(ADDRESS, "/metrics");
        let is_reason = |line: &&str| line.starts_with(REASON) && line.contains("\"SliceError\"");
        let degraded = page.text().lines().filter(is_reason).count();
        ensure!(degraded == chips, "{degraded} are");
        Ok(())
    })
    .await
}

async fn set_condition(setup: &NodeSetup, kind: &str, status: &str) -> anyhow::Result<()> {
    let patch = json!({ "status": { "conditions": [{ "type": kind, "status": status }] } });
    setup.nodes.patch_status(NODE, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}
