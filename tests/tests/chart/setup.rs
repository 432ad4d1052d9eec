//! A real API server with the chart's role and policy, and the token of an agent's pod.

use std::path::PathBuf;

use afd_test_cluster::{Bed, BedProcess, KubernetesVersion, succeed, until};
use afd_tests::{chart::chart, fixture::FixtureHost};
use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "afd";
pub(crate) const NODE: &str = "gpu-node";
pub(crate) const COUNT: &str = "accelerator.llm-d.ai/count";
pub(crate) const CONDITION: &str = "accelerator.llm-d.ai/Ready";
pub(crate) const PROBLEM: &str = "accelerator.llm-d.ai/Problem";
pub(crate) const ALIAS: &str = "AcceleratedHardwareReady";
pub(crate) const IMAGE: &str = "localhost/afd:test";
const FIELD_MANAGER: &str = "accelerator-feature-discovery";

/// A cluster with a Node, a release of the chart without pods, and an agent's token.
pub(crate) struct PolicySetup {
    pub(crate) bed: Bed,
    /// With the rights of an administrator.
    pub(crate) nodes: Api<Node>,
    /// With the agent's token.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) agent_client: Client,
    pub(crate) agent_nodes: Api<Node>,
}

impl PolicySetup {
    pub(crate) async fn new(version: KubernetesVersion) -> anyhow::Result<PolicySetup> {
        let bed = Bed::builder().version(version).start().await?;
        let client = bed.client().await?;
        let nodes: Api<Node> = Api::all(client.clone());
        create_node(&nodes, NODE).await?;
        let mut install = bed.helm()?;
        install.args(["install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"]);
        succeed(install.arg(chart()))?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "agent" },
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": NAMESPACE,
                "containers": [{ "name": "afd", "image": IMAGE }],
            },
        }))?;
        until("the pod is accepted", async || {
            Ok(pods.create(&PostParams::default(), &pod).await.map(drop)?)
        })
        .await?;
        let kubeconfig = bed.bound_kubeconfig(NAMESPACE, NAMESPACE, "agent")?;
        let user = Kubeconfig::read_from(&kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(user, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        let agent_client = Client::try_from(config)?;
        let agent_nodes = Api::all(agent_client.clone());
        let setup = PolicySetup { bed, nodes, kubeconfig, agent_client, agent_nodes };
        setup.until_in_effect().await?;
        Ok(setup)
    }

    /// A new policy takes effect after some time. Each attempt has another value, since an unchanged label is not refused.
    async fn until_in_effect(&self) -> anyhow::Result<()> {
        let mut attempts = 0;
        until("the policy is in effect", async || {
            attempts += 1;
            let patch = json!({ "metadata": { "labels": { "example.com/attempt": attempts.to_string() } } });
            forbidden("a foreign label", self.merge(patch).await)
        })
        .await
    }

    /// Upgrades the release with other values.
    pub(crate) fn upgrade(&self, values: &str) -> anyhow::Result<()> {
        let mut helm = self.bed.helm()?;
        helm.args(["upgrade", NAMESPACE, "--namespace", NAMESPACE, "--set", values]).arg(chart());
        succeed(&mut helm).map(drop)
    }

    /// Patches metadata as the agent may.
    pub(crate) async fn merge(&self, patch: Value) -> kube::Result<()> {
        self.agent_nodes.patch(NODE, &as_agent(), &Patch::Merge(&patch)).await.map(drop)
    }

    /// Patches the status as the agent may.
    pub(crate) async fn status(&self, patch: Value) -> kube::Result<()> {
        self.agent_nodes.patch_status(NODE, &as_agent(), &Patch::Strategic(&patch)).await.map(drop)
    }

    /// Applies as a field manager with the agent's token.
    pub(crate) async fn apply_as(&self, manager: &str, metadata: Value) -> kube::Result<()> {
        let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
        self.agent_nodes.patch(NODE, &PatchParams::apply(manager), &Patch::Apply(&body)).await.map(drop)
    }

    /// Patches the Node as an administrator, with a field manager.
    pub(crate) async fn patch_as(&self, manager: &str, patch: Value) -> anyhow::Result<()> {
        let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.nodes.patch(NODE, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Starts an agent with its token on a host.
    pub(crate) fn start(&self, host: &FixtureHost, options: &[&str]) -> anyhow::Result<BedProcess> {
        let mut command =
            host.afd(["run", "--node-name", NODE, "--listen", "127.0.0.1:9109", "--start-spread", "0"]);
        command.args(["--discovery-interval", "1", "--write-interval", "0.1"]).args(options);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        self.bed.process("afd", command)
    }

    /// Waits until a Node has what is expected.
    pub(crate) async fn until_node(
        &self,
        what: &str,
        mut holds: impl FnMut(&Node) -> bool,
    ) -> anyhow::Result<Node> {
        until(what, async || {
            let node = self.nodes.get(NODE).await?;
            ensure!(holds(&node), "{:?} {:?}", node.metadata, condition_types(&node));
            Ok(node)
        })
        .await
    }
}

pub(crate) fn as_agent() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Creates a Node with a foreign label and the kubelet's condition.
pub(crate) async fn create_node(nodes: &Api<Node>, name: &str) -> anyhow::Result<()> {
    let node = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "foreign": "label" } },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "capacity": { "nvidia.com/gpu": "8" },
            "allocatable": { "nvidia.com/gpu": "8" },
        },
    }))?;
    let kubelet = PostParams { field_manager: Some("kubelet".to_owned()), ..PostParams::default() };
    nodes.create(&kubelet, &node).await?;
    Ok(())
}

pub(crate) fn condition_types(node: &Node) -> Vec<&str> {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.map(|condition| condition.type_.as_str()).collect()
}

pub(crate) fn annotation(key: &str, value: Value) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

pub(crate) fn removal(kind: &str) -> Value {
    json!({ "status": { "conditions": [{ "$patch": "delete", "type": kind }] } })
}

pub(crate) fn condition(kind: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": kind, "status": "False" }] } })
}

/// Whether the API server has refused a request with 403.
pub(crate) fn forbidden<T>(what: &str, answer: kube::Result<T>) -> anyhow::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        Ok(_) => bail!("{what} was allowed"),
        Err(error) => Err(error).with_context(|| format!("{what} was not refused with 403")),
    }
}
