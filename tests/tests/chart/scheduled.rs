//! `nvidia.mode: auto` on the real scheduler and DaemonSet controller: each Node has one agent, by its labels, also while they change.

use std::collections::BTreeMap;

use afd_test_cluster::{Bed, succeed, until};
use afd_tests::chart::{chart, values_option};
use anyhow::ensure;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    node::v1::RuntimeClass,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// Of a second release, which has the name of the first one.
const NAMESPACE: &str = "auto";
const TOOLKIT: &str = "nvidia.com/gpu.deploy.container-toolkit";
const DRIVER: &str = "nvidia.com/gpu.deploy.driver";
const SANDBOX: &str = "nvidia.com/gpu.deploy.sandbox-validator";
const NFD: &str = "feature.node.kubernetes.io/pci-0302_10de.present";

/// The name of a Node, its labels, and the way of the DaemonSet that serves it.
type Served = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const NODES: [Served; 7] = [
    ("operator", &[(TOOLKIT, "true"), (DRIVER, "true"), (NFD, "true")], "runtime"),
    ("operator-on-host", &[(TOOLKIT, "true"), (DRIVER, "pre-installed")], "runtime"),
    ("driver-container", &[(TOOLKIT, "false"), (DRIVER, "true"), (NFD, "true")], "container"),
    ("host-driver", &[(TOOLKIT, "false"), (DRIVER, "pre-installed")], "host"),
    ("only-nfd", &[(NFD, "true")], "host"),
    ("virtual-machines", &[(NFD, "true"), (SANDBOX, "true")], "none"),
    ("other-vendor", &[("feature.node.kubernetes.io/pci-1200_1002.present", "true")], "none"),
];

pub(crate) async fn one_agent_for_each_node(bed: &Bed, client: &Client) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let capacity = json!({ "cpu": "8", "memory": "16Gi", "pods": "110" });
    for (name, own, _) in NODES {
        let mut labels: BTreeMap<&str, &str> = own.iter().copied().collect();
        labels.extend([("auto", "true"), ("kubernetes.io/os", "linux")]);
        let node = json!({ "metadata": { "name": name, "labels": labels },
            "status": { "capacity": capacity, "allocatable": capacity } });
        nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    }
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let class = json!({ "metadata": { "name": "nvidia" }, "handler": "nvidia" });
    classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    let values = json!({ "nvidia": { "mode": "auto" }, "nodeSelector": { "auto": "true" },
        // The agents of the other release have the ports of the host.
        "hostNetwork": false });
    let mut helm = bed.helm()?;
    helm.args(["install", "afd", "--namespace", NAMESPACE, "--create-namespace"]);
    succeed(helm.arg(chart()).arg(values_option(bed.folder(), &values)))?;
    let expected: BTreeMap<&str, &str> = NODES.iter().map(|(name, _, way)| (*name, *way)).collect();
    let before = until_served(client, &expected).await?;

    // While the operator replaces the driver, and after the agents have written their labels, the same agents stay.
    for (name, change) in [
        ("operator", json!({ TOOLKIT: "paused-for-driver-upgrade", "nvidia.com/gpu.present": "true" })),
        ("only-nfd", json!({ "nvidia.com/gpu.product": "H100", "accelerator.llm-d.ai/vendor": "nvidia" })),
        // The operator is installed on this one.
        ("host-driver", json!({ TOOLKIT: "true" })),
    ] {
        let patch: Value = json!({ "metadata": { "labels": change } });
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let mut after = expected.clone();
    after.insert("host-driver", "runtime");
    let now = until_served(client, &after).await?;
    for (node, pod) in &before {
        ensure!(
            (now.get(node) == Some(pod)) == (node != "host-driver"),
            "{node} had {pod}, and has {:?}",
            now.get(node)
        );
    }
    Ok(())
}

/// Waits until each Node has one agent, of its DaemonSet; the pods by Node.
async fn until_served(
    client: &Client,
    expected: &BTreeMap<&str, &str>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    until("each node has one agent", async || {
        let (mut ways, mut names) = (BTreeMap::new(), BTreeMap::new());
        // A pod that is deleted stays on a Node without a kubelet.
        for pod in pods.list(&ListParams::default()).await?.items {
            if pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let way = pod.labels().get("accelerator.llm-d.ai/nvidia").cloned().unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            ensure!(ways.insert(node.clone(), way).is_none(), "two agents are on {node:?}");
            names.insert(node, pod.name_any());
        }
        let found: BTreeMap<&str, &str> =
            ways.iter().map(|(node, way)| (node.as_str(), way.as_str())).collect();
        ensure!(found == *expected, "{found:?}");
        Ok(names)
    })
    .await
}
