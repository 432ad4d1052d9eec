//! A release of the chart: the agent's image, installed by Helm, on a real kubelet and on further Nodes, with hosts of every
//! vendor; and pods that the real scheduler places by the labels of the agents.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "chart/scheduled.rs"]
mod scheduled;

use std::{fs, path::Path, process::ExitCode};

use afd_test_cluster::{Bed, BedProcess, Suite, image::Image, mounts, succeed, until};
use afd_tests::{
    chart::{chart, values_option},
    fixture::{Fixture, FixtureHost},
};
use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

const NAMESPACE: &str = "afd";
const PRODUCT: &str = "accelerator.llm-d.ai/product";
const COUNT: &str = "accelerator.llm-d.ai/count";
const PREFIX: &str = "accelerator.llm-d.ai/";

/// How long Helm waits for pods and jobs.
const HELM_TIMEOUT: &str = "120s";

/// Hosts, with the expected product label and count of their Node.
const HOSTS: [(&str, Option<(&str, &str)>); 5] = [
    ("gaudi2-x8", Some(("Intel-Gaudi-2", "8"))),
    ("amd-mi300x8-cpx-nps4", Some(("AMD-Instinct-MI300X", "8"))),
    ("tpu-v6e-x8", Some(("Google-TPU-v6e", "8"))),
    ("nvidia-h100x8-nvml", Some(("NVIDIA-H100-80GB-HBM3", "8"))),
    ("no-accelerator", None),
];

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("a_release_labels_hosts_of_every_vendor_one_after_another", one_after_another)
        .test("nodes_of_every_vendor_side_by_side_get_the_pods_that_select_them", side_by_side)
        .main()
}

async fn one_after_another() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new("localhost/afd:test", &afd_tests::image_binary())?.with_libraries()?)?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    for (index, (name, expected)) in HOSTS.into_iter().enumerate() {
        let host = mounted(name)?;
        let mut helm = bed.helm()?;
        helm.args([if index == 0 { "install" } else { "upgrade" }, NAMESPACE, "--namespace", NAMESPACE]);
        helm.args(["--create-namespace", "--wait", "--timeout", HELM_TIMEOUT]);
        let values = values_option(bed.folder(), &values_of(name, &host)?);
        succeed(helm.arg(chart()).arg(values)).with_context(|| format!("the release on {name}"))?;
        let node = until(&format!("the Node has the labels of {name}"), async || {
            let node = nodes.get(Bed::NODE).await?;
            let label = |key: &str| node.labels().get(key).map(String::as_str);
            ensure!(label(PRODUCT).zip(label(COUNT)) == expected, "{:?}", node.labels());
            Ok(node)
        })
        .await?;
        match expected {
            Some((product, count)) => {
                let own = node.labels().get(&format!("{PREFIX}product.{product}"));
                ensure!(own.map(String::as_str) == Some(count), "{:?}", node.labels());
                let products =
                    node.labels().keys().filter(|key| key.starts_with(&format!("{PREFIX}product.")));
                ensure!(products.count() == 1, "labels of another host are left: {:?}", node.labels());
            }
            None => ensure!(node.labels().keys().all(|key| !key.starts_with(PREFIX)), "{:?}", node.labels()),
        }
        if name == "nvidia-h100x8-nvml" {
            ensure!(
                node.labels()["nvidia.com/gpu.memory"] == "81559",
                "the labels lack what NVML reports: {:?}",
                node.labels()
            );
        }
    }
    Ok(())
}

/// A host whose root is a shared mount, as on a real machine, with its driver in the root of a driver container.
fn mounted(name: &str) -> anyhow::Result<FixtureHost> {
    let fixture = Fixture::named(name);
    let host = fixture.copy();
    host.add_mounted_paths();
    if fixture.has_nvml() {
        let from = host.driver_root().path().join("usr/lib64");
        let to = host.root().join("run/nvidia/driver/usr/lib64");
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    mounts::share(host.root())?;
    Ok(host)
}

/// Values for both profiles: the TPU host has the profile without privileges, which does not ask the kubelet.
fn values_of(name: &str, host: &FixtureHost) -> anyhow::Result<Value> {
    let driver = Path::new("/run/nvidia/driver");
    let has_driver = host.root().join(driver.strip_prefix("/")?).exists();
    Ok(json!({
        "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
        "profile": if name.starts_with("tpu") { "labels" } else { "full" },
        "startSpreadSeconds": 0,
        "discoveryIntervalSeconds": 1,
        "writeIntervalSeconds": 1,
        "hostRoot": host.root(),
        "nvidia": { "driverRoot": if has_driver { json!(driver) } else { json!("") } },
    }))
}

/// A further Node and its agent.
struct ExtraNode {
    _host: FixtureHost,
    _agent: BedProcess,
}

async fn side_by_side() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    let client = bed.client().await?;
    // For the role and the policy; the pods of the release have no image here.
    succeed(
        bed.helm()?.args(["install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"]).arg(chart()),
    )?;
    let mut agents = Vec::new();
    for (index, (name, _)) in HOSTS.into_iter().enumerate() {
        agents.push(extra_node(&bed, &client, name, index).await?);
    }
    let nodes: Api<Node> = Api::all(client.clone());
    for (name, expected) in HOSTS {
        until(&format!("the Node of {name} has its labels"), async || {
            let node = nodes.get(name).await?;
            let product = node.labels().get(PRODUCT).map(String::as_str);
            ensure!(product == expected.map(|(product, _)| product), "{:?}", node.labels());
            Ok(())
        })
        .await?;
    }
    let selects = |key: &str, value: &str| json!({ "nodeSelector": { key: value } });
    let compares = |key: &str, than: &str| {
        let expression = json!({ "key": key, "operator": "Gt", "values": [than] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [expression] }],
        } } } })
    };
    for (name, constraint, node) in [
        ("by-variant", selects("llm-d.ai/accelerator-variant", "tpu-v6e"), "tpu-v6e-x8"),
        ("by-model", selects("accelerator.llm-d.ai/model", "H100"), "nvidia-h100x8-nvml"),
        ("by-product-count", compares("accelerator.llm-d.ai/product.Intel-Gaudi-2", "7"), "gaudi2-x8"),
        (
            "by-partition-count",
            compares("accelerator.llm-d.ai/partition-count", "60"),
            "amd-mi300x8-cpx-nps4",
        ),
    ] {
        deploy(&client, name, constraint).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        until(&format!("the pods {name} are bound to {node}"), async || {
            let list = pods.list(&ListParams::default().labels(&format!("app={name}"))).await?;
            let bound: Vec<_> =
                list.items.iter().map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
            ensure!(bound == [Some(node), Some(node)], "they are bound to {bound:?}");
            Ok(())
        })
        .await?;
    }
    scheduled::one_agent_for_each_node(&bed, &client).await
}

/// A Node without a kubelet, and its agent, whose token is bound to a pod of that Node.
async fn extra_node(bed: &Bed, client: &Client, name: &str, index: usize) -> anyhow::Result<ExtraNode> {
    let capacity = json!({ "cpu": "8", "memory": "16Gi", "pods": "110" });
    let status = json!({ "capacity": capacity, "allocatable": capacity });
    let node = json!({ "metadata": { "name": name }, "status": status });
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": name,
            "serviceAccountName": NAMESPACE,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "afd", "image": "localhost/afd:test" }],
        },
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let kubeconfig = bed.bound_kubeconfig(NAMESPACE, NAMESPACE, name)?;
    let host = Fixture::named(name).lay_out();
    let address = format!("127.0.0.1:{}", 9200 + index);
    let mut command = host.afd(["run", "--node-name", name, "--listen", &address, "--start-spread", "0"]);
    command.arg("--kubeconfig").arg(kubeconfig);
    Ok(ExtraNode { _agent: bed.process(&format!("afd-{name}"), command)?, _host: host })
}

/// A Deployment of two pods with a scheduling constraint. They tolerate the taint of a Node without a kubelet.
async fn deploy(client: &Client, name: &str, constraint: Value) -> anyhow::Result<()> {
    let mut spec = json!({
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{ "name": "pause", "image": afd_test_cluster::image::PAUSE, "imagePullPolicy": "Never" }],
    });
    let more = constraint.as_object().context("a constraint is an object")?.clone();
    spec.as_object_mut().context("a specification is an object")?.extend(more);
    let labels = json!({ "app": name });
    let deployment = json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    });
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment)?).await?;
    Ok(())
}
