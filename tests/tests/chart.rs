//! The chart: what its policy allows on a real API server, and a complete installation on a real kubelet.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "chart/alerts.rs"]
mod alerts;
#[path = "chart/events.rs"]
mod events;
#[path = "chart/installed.rs"]
mod installed;
#[path = "chart/ownership.rs"]
mod ownership;
#[path = "chart/pods.rs"]
mod pods;
#[path = "chart/policy.rs"]
mod policy;
#[path = "chart/setup.rs"]
mod setup;

use std::{collections::BTreeMap, process::ExitCode};

use afd_test_cluster::{
    Bed, KubernetesVersion, Suite, image::Image, mounts, pods as test_pods, succeed, until,
};
use afd_tests::{
    chart::{chart, values_option},
    fixture::Fixture,
};
use anyhow::ensure;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, ServiceAccount},
};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use setup::{CONDITION, COUNT, IMAGE, NAMESPACE, PROBLEM};

/// A pod that opts in to the bridge.
const BRIDGED: &str = "selects";
/// How long Helm waits for pods and jobs.
pub(crate) const HELM_TIMEOUT: &str = "120s";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("each_alert_is_fired_for_a_sick_node_and_none_for_a_well_one", alerts::alerts)
        .test("an_agent_may_write_only_its_own_node_and_keys_on_kubernetes_1_37", || {
            policy::policy(KubernetesVersion::V1_37)
        })
        .test("an_agent_may_write_only_its_own_node_and_keys_on_kubernetes_1_34", || {
            policy::policy(KubernetesVersion::V1_34)
        })
        .test("an_agent_cannot_change_what_other_managers_own_nor_become_its_owner", ownership::ownership)
        .test("an_agent_creates_events_about_its_own_node_only", events::events)
        .test("the_runtimes_in_pods_are_queried_only_with_the_right_to_read_pods", pods::runtimes)
        .test("the_values_of_each_platform_find_the_driver_where_its_hosts_have_it", installed::platforms)
        .test("a_release_labels_its_node_and_its_uninstallation_removes_everything", release)
        .main()
}

async fn release() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new(IMAGE, &afd_tests::image_binary())?.with_libraries()?)?;
    let client = bed.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let before: BTreeMap<String, String> = nodes.get(Bed::NODE).await?.labels().clone();
    let host = Fixture::named("gaudi2-x8").copy();
    host.add_mounted_paths();
    mounts::share(host.root())?;
    let values = json!({
        "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
        "startSpreadSeconds": 0,
        "discoveryIntervalSeconds": 1,
        "writeIntervalSeconds": 1,
        "hostRoot": host.root(),
        "bridge": { "enabled": true, "replicas": 1, "deviceTaints": "None" },
    });
    let values = values_option(bed.folder(), &values);
    let mut install = bed.helm()?;
    install.args([
        "install",
        NAMESPACE,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--wait",
        "--timeout",
        HELM_TIMEOUT,
    ]);
    let installed = succeed(install.arg(chart()).arg(&values));
    if let Err(error) = installed {
        let pods = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "describe", "pods"]))?;
        let log = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "logs", "daemonset/afd"]))
            .unwrap_or_default();
        return Err(error.context(format!("{pods}\n{log}")));
    }
    let labelled = until("the node is labelled", async || {
        let node = nodes.get(Bed::NODE).await?;
        ensure!(node.labels().get(COUNT).map(String::as_str) == Some("8"), "{:?}", node.labels());
        Ok(node)
    })
    .await?;
    ensure!(labelled.labels()["accelerator.llm-d.ai/product"] == "Intel-Gaudi-2", "{:?}", labelled.labels());
    // With the kubelet's own socket mounted as the chart mounts it.
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    ensure!(
        sets.get(NAMESPACE).await?.status.is_some_and(|status| status.number_ready == 1),
        "the DaemonSet is not ready"
    );
    let log = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "logs", "daemonset/afd"]))?;
    ensure!(!log.contains("WARN"), "the agent logs a warning:\n{log}");

    // A pod that selects on our labels is bound to the node by the real scheduler.
    scheduled(&client).await?;
    let bridged = bridged(&bed, &client).await?;

    succeed(
        bed.helm()?
            .args(["upgrade", NAMESPACE, "--namespace", NAMESPACE, "--wait", "--timeout", HELM_TIMEOUT])
            .arg(chart())
            .arg(&values)
            .args(["--set", "sampleIntervalSeconds=4"]),
    )?;
    let upgraded = nodes.get(Bed::NODE).await?;
    ensure!(upgraded.labels() == labelled.labels(), "labels changed: {:?}", upgraded.labels());

    succeed(bed.helm()?.args([
        "uninstall",
        NAMESPACE,
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout",
        HELM_TIMEOUT,
    ]))?;
    let after = until("all labels of AFD are removed", async || {
        let node = nodes.get(Bed::NODE).await?;
        ensure!(*node.labels() == before, "the labels are {:?}", node.labels());
        Ok(node)
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), test_pods::NAMESPACE);
    let left = pods.get(BRIDGED).await?.labels().clone();
    ensure!(
        bridged.len() > 2 && left == [("llm-d.ai/role".to_owned(), "decode".to_owned())].into(),
        "{left:?}"
    );
    let conditions = after.status.and_then(|status| status.conditions).unwrap_or_default();
    ensure!(
        conditions.iter().all(|condition| ![CONDITION, PROBLEM].contains(&&condition.type_[..])),
        "{conditions:?}"
    );
    Ok(())
}

/// One of these pods opts in, and gets labels of its node from the bridge; returns its labels before.
async fn bridged(bed: &Bed, client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), test_pods::NAMESPACE);
    succeed(bed.kubectl()?.args([
        "--namespace",
        test_pods::NAMESPACE,
        "label",
        "pod",
        BRIDGED,
        "llm-d.ai/role=decode",
    ]))?;
    let before = until("the pod is labelled", async || {
        let labels = pods.get(BRIDGED).await?.labels().clone();
        let product = labels.get("llm-d.ai/accelerator-product").map(String::as_str);
        ensure!(
            product == Some("Intel-Gaudi-2") && labels["kubernetes.io/hostname"] == Bed::NODE,
            "{labels:?}"
        );
        Ok(labels)
    });
    let log = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "logs", "deployment/afd-bridge"]));
    let labels = before.await.map_err(|error| error.context(format!("{log:?}")))?;
    ensure!(!log?.contains("WARN"), "the bridge logs a warning");
    Ok(labels)
}

async fn scheduled(client: &Client) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until("the default service account exists", async || Ok(accounts.get("default").await.map(drop)?))
        .await?;
    let bound: Api<Pod> = Api::namespaced(client.clone(), test_pods::NAMESPACE);
    let expression = json!({ "key": COUNT, "operator": "Gt", "values": ["7"] });
    for (name, constraint) in [
        ("selects", json!({ "nodeSelector": { "accelerator.llm-d.ai/vendor": "intel" } })),
        (
            "compares",
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [expression] }],
            } } } }),
        ),
    ] {
        test_pods::create(client, name, constraint, json!({})).await?;
        until("the pod is bound", async || {
            let node = bound.get(name).await?.spec.and_then(|spec| spec.node_name);
            ensure!(node.as_deref() == Some(Bed::NODE), "{name} is bound to {node:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
