//! A cluster with a Node, the host of that Node, and the agent on it.

use std::{collections::BTreeMap, path::Path, process::Command};

use afd_test_cluster::{Bed, KubernetesVersion, until};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
};
use anyhow::ensure;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

pub(crate) const NODE: &str = "gpu-node";
/// Where the agent serves.
pub(crate) const ADDRESS: &str = "127.0.0.1:9109";
pub(crate) const COUNT: &str = "accelerator.llm-d.ai/count";

/// A cluster with a Node, and the host of that Node.
pub(crate) struct NodeSetup {
    pub(crate) bed: Bed,
    pub(crate) nodes: Api<Node>,
    pub(crate) host: FixtureHost,
}

impl NodeSetup {
    pub(crate) async fn new(version: KubernetesVersion, fixture: &str) -> anyhow::Result<NodeSetup> {
        let bed = Bed::builder().version(version).start().await?;
        let nodes: Api<Node> = Api::all(bed.client().await?);
        let setup = NodeSetup { bed, nodes, host: Fixture::named(fixture).copy() };
        setup.create_node(&[]).await?;
        Ok(setup)
    }

    pub(crate) async fn create_node(&self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        // As if the device plugins of both hosts had advertised all their devices.
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

    /// The agent, with a kubeconfig, discovering devices twice a second.
    pub(crate) fn agent(&self, kubeconfig: &Path) -> Command {
        self.agent_with_intervals(kubeconfig, ["0.2", "0.5"])
    }

    /// The agent with intervals of sampling and of discovery, in seconds. It writes the Node as often as it differs.
    pub(crate) fn agent_with_intervals(&self, kubeconfig: &Path, [sample, discovery]: [&str; 2]) -> Command {
        let mut command =
            self.host.afd(["run", "--node-name", NODE, "--listen", ADDRESS, "--start-spread", "0"]);
        command
            .args(["--sample-interval", sample, "--discovery-interval", discovery])
            .args(["--write-interval", "0.1", "--kubeconfig"])
            .arg(kubeconfig);
        command
    }

    pub(crate) async fn node(&self) -> anyhow::Result<Node> {
        Ok(self.nodes.get(NODE).await?)
    }

    pub(crate) async fn until_label(&self, key: &str, value: &str) -> anyhow::Result<Node> {
        until(&format!("{key} is {value}"), async || {
            let node = self.node().await?;
            ensure!(node.labels().get(key).map(String::as_str) == Some(value), "it has {:?}", node.labels());
            Ok(node)
        })
        .await
    }

    /// Patches the Node as another field manager.
    pub(crate) async fn patch_as_other(&self, patch: Value) -> anyhow::Result<()> {
        let other = PatchParams { field_manager: Some("other-manager".to_owned()), ..PatchParams::default() };
        self.nodes.patch(NODE, &other, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Changes the label `count` as another field manager; the agent must restore it.
    pub(crate) async fn overwrite_count(&self) -> anyhow::Result<()> {
        self.patch_as_other(json!({ "metadata": { "labels": { COUNT: "99" } } })).await
    }
}

/// The current value of a series of the agent; none where it is absent.
pub(crate) fn metric(series: &str) -> Option<f64> {
    // A starting agent does not accept connections yet.
    let text = Agent::try_get_from(ADDRESS, "/metrics")?.text().to_owned();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}
