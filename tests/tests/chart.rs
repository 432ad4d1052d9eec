//! The chart: what it renders, what its policy allows on a real API server, and a complete installation on a real kubelet.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use afd_test_cluster::{Bed, KubernetesVersion, Suite, image::Image, mounts, pods, succeed, until};
use afd_tests::{fixture::Fixture, workspace};
use anyhow::{Context, bail, ensure};
use expect_test::expect_file;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

const NAMESPACE: &str = "afd";
const NODE: &str = "gpu-node";
const OTHER_NODE: &str = "other-node";
const COUNT: &str = "accelerator.llm-d.ai/count";
const CONDITION: &str = "accelerator.llm-d.ai/Ready";
const PROBLEM: &str = "accelerator.llm-d.ai/Problem";
const ALIAS: &str = "AcceleratedHardwareReady";
const IMAGE: &str = "localhost/afd:test";
/// How long Helm waits for pods and jobs.
const HELM_TIMEOUT: &str = "120s";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("the_chart_is_valid_and_the_plain_manifests_are_its_output", manifests)
        .test("an_agent_may_write_only_its_own_node_and_keys_on_kubernetes_1_37", || {
            policy(KubernetesVersion::V1_37)
        })
        .test("an_agent_may_write_only_its_own_node_and_keys_on_kubernetes_1_34", || {
            policy(KubernetesVersion::V1_34)
        })
        .test("a_release_labels_its_node_and_its_uninstallation_removes_everything", release)
        .main()
}

fn chart() -> PathBuf {
    workspace().join("daemonset/chart")
}

async fn manifests() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    succeed(bed.helm()?.args(["lint", "--strict"]).arg(chart()))?;
    let render = |more: &[&str]| -> anyhow::Result<String> {
        let mut command = bed.helm()?;
        command.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--no-hooks"]).arg(chart()).args(more);
        succeed(&mut command)
    };
    let head = "# The namespace, and the output of `helm template afd daemonset/chart --namespace afd --no-hooks`.\n\
                apiVersion: v1\nkind: Namespace\nmetadata:\n  name: afd\n  labels:\n    \
                pod-security.kubernetes.io/enforce: privileged\n";
    expect_file![workspace().join("daemonset/manifests/afd.yaml")]
        .assert_eq(&format!("{head}{}", render(&[])?));
    // The API server accepts every combination. Custom resources are not included.
    for switches in [
        "conditionAlias=AcceleratedHardwareReady,labelPrefix=gpu.example.com",
        "profile=labels,networkPolicy.enabled=true,compat.nvidia=off,compat.amd=off",
        "nvidia.driverRoot=/run/nvidia/driver,metrics.dcgmPort=0,expect=any=8",
        "nvidia.runtimeClassName=nvidia,hostNetwork=false,includeIntegrated=true",
        "pathRules=[[path]],profile=labels",
    ] {
        let file = bed.folder().join("rendered.yaml");
        fs::write(&file, render(&["--set", switches])?)?;
        succeed(bed.kubectl()?.args(["create", "namespace", NAMESPACE])).or_else(|error| {
            if error.to_string().contains("AlreadyExists") { Ok(String::new()) } else { Err(error) }
        })?;
        succeed(bed.kubectl()?.args(["apply", "--dry-run=server", "--validate=strict", "-f"]).arg(&file))?;
        validate(&bed, &file)?;
    }
    validate(&bed, &workspace().join("daemonset/manifests/afd.yaml"))?;
    let expecting = render(&["--set", "expect=nvidia/10de:2330=8"])?;
    ensure!(expecting.contains("--expect=nvidia/10de:2330=8"), "{expecting}");
    ensure!(render(&["--set", "expect=eight"]).is_err(), "the schema refuses what the agent cannot parse");
    let monitors = render(&["--set", "podMonitor.enabled=true,prometheusRule.enabled=true"])?;
    ensure!(
        monitors.contains("honorLabels: true") && monitors.contains("alert: AcceleratorFailed"),
        "{monitors}"
    );
    Ok(())
}

/// Every object and field exists in the oldest and in the newest supported version.
fn validate(bed: &Bed, file: &Path) -> anyhow::Result<()> {
    for version in [KubernetesVersion::V1_34, KubernetesVersion::V1_37] {
        succeed(bed.validate(version)?.arg("--quiet").arg(file))?;
    }
    Ok(())
}

async fn policy(version: KubernetesVersion) -> anyhow::Result<()> {
    let bed = Bed::builder().version(version).start().await?;
    let client = bed.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    for name in [NODE, OTHER_NODE] {
        let node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "foreign": "label" } },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }))?;
        nodes.create(&PostParams::default(), &node).await?;
    }
    succeed(
        bed.helm()?.args(["install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"]).arg(chart()),
    )?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "agent" },
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": NAMESPACE,
            "containers": [{ "name": "afd", "image": IMAGE }],
        },
    }))?;
    until("the pod is accepted", async || Ok(pods.create(&PostParams::default(), &pod).await.map(drop)?))
        .await?;
    let kubeconfig = bed.bound_kubeconfig(NAMESPACE, NAMESPACE, "agent")?;
    refused(&kubeconfig, &nodes).await?;
    own_conditions_and_annotations(&bed, &kubeconfig).await?;

    labels_of_an_amd_node(&bed, &nodes, &kubeconfig).await?;
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let mut command =
        host.afd(["run", "--node-name", NODE, "--listen", "127.0.0.1:9109", "--start-spread", "0"]);
    // The Node still has AMD's labels, which are removed.
    command.args(["--discovery-interval", "1", "--write-interval", "1", "--kubeconfig"]).arg(&kubeconfig);
    let _agent = bed.process("afd", command)?;
    until("labels and condition are written", async || {
        let node = nodes.get(NODE).await?;
        ensure!(
            node.labels().get("nvidia.com/gpu.product").is_some_and(|name| name == "NVIDIA-H100-80GB-HBM3")
        );
        ensure!(node.labels()[COUNT] == "8" && node.labels()["foreign"] == "label", "{:?}", node.labels());
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        ensure!(conditions.iter().any(|condition| condition.type_ == CONDITION), "{conditions:?}");
        Ok(())
    })
    .await
}

/// The policy allows the keys of every enabled label set.
async fn labels_of_an_amd_node(bed: &Bed, nodes: &Api<Node>, kubeconfig: &Path) -> anyhow::Result<()> {
    let host = Fixture::named("amd-mi300x8-cpx-nps4").lay_out();
    let mut command =
        host.afd(["run", "--node-name", NODE, "--listen", "127.0.0.1:9109", "--start-spread", "0"]);
    command.arg("--kubeconfig").arg(kubeconfig);
    let mut agent = bed.process("afd-amd", command)?;
    until("AMD's labels are written", async || {
        let node = nodes.get(NODE).await?;
        ensure!(
            node.labels().keys().any(|key| key.starts_with("beta.amd.com/gpu.cu-count.")),
            "{:?}",
            node.labels()
        );
        Ok(())
    })
    .await?;
    agent.kill()
}

/// The Nodes, with the rights of a kubeconfig.
async fn nodes_with(kubeconfig: &Path) -> anyhow::Result<Api<Node>> {
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    config.default_retry = false;
    Ok(Api::all(Client::try_from(config)?))
}

/// Writes that the policy allows: what the contract names, and the removal of what was written under other values of the chart.
async fn own_conditions_and_annotations(bed: &Bed, kubeconfig: &Path) -> anyhow::Result<()> {
    let nodes = nodes_with(kubeconfig).await?;
    let merge = async |patch: Value| nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await;
    let status = async |patch: Value| {
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Strategic(&patch)).await
    };
    let upgrade = |values: &str| {
        let mut helm = bed.helm()?;
        helm.args(["upgrade", NAMESPACE, "--namespace", NAMESPACE, "--set", values]).arg(chart());
        succeed(&mut helm)
    };
    for name in ["report", "expected", "incidents"] {
        let key = format!("accelerator.llm-d.ai/{name}");
        for value in [json!("1"), Value::Null] {
            merge(json!({ "metadata": { "annotations": { &key: value } } })).await.context(key.clone())?;
        }
    }
    for kind in [CONDITION, PROBLEM] {
        status(condition(kind)).await.context(kind)?;
    }
    merge(json!({ "metadata": { "labels": { "nvidia.com/gpu.count": "8" } } })).await?;
    upgrade("compat.nvidia=off,conditionAlias=AcceleratedHardwareReady")?;
    until("the alias is allowed", async || Ok(status(condition(ALIAS)).await?)).await?;
    forbidden(
        "a key of a set that is off",
        merge(json!({ "metadata": { "labels": { "nvidia.com/gpu.count": "4" } } })).await.map(drop),
    )?;
    merge(json!({ "metadata": { "labels": { "nvidia.com/gpu.count": null } } })).await?;
    upgrade("conditionAlias=")?;
    let mut attempts = 0;
    until("the alias is no longer allowed", async || {
        attempts += 1;
        let mut patch = condition(ALIAS);
        patch["status"]["conditions"][0]["message"] = attempts.to_string().into();
        forbidden("the alias", status(patch).await.map(drop))
    })
    .await?;
    for kind in [ALIAS, CONDITION, PROBLEM] {
        status(removal(kind)).await.with_context(|| format!("the removal of {kind}"))?;
    }
    Ok(())
}

/// Writes that the policy refuses for the agent's token. `admin` may write everything.
async fn refused(kubeconfig: &Path, admin: &Api<Node>) -> anyhow::Result<()> {
    let nodes = nodes_with(kubeconfig).await?;
    let set_by_admin = json!({ "metadata": { "annotations": { "accelerator.llm-d.ai/expect": "any=8" } } });
    admin.patch(NODE, &PatchParams::default(), &Patch::Merge(&set_by_admin)).await?;
    let label = |key: &str| json!({ "metadata": { "labels": { key: "1" } } });
    let foreign = label("example.com/mine");
    // A new policy takes effect after some time. Each attempt has another value, since an unchanged label is not refused.
    let mut attempts = 0;
    until("the policy is in effect", async || {
        attempts += 1;
        let patch = json!({ "metadata": { "labels": { "example.com/attempt": attempts.to_string() } } });
        forbidden(
            "a foreign label",
            nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop),
        )
    })
    .await?;
    let on_node = [
        (OTHER_NODE, "a label of another node", label(COUNT)),
        (NODE, "a similar prefix", label("accelerator.llm-d.ai.evil/count")),
        (NODE, "a key of a vendor that is not in the set", label("nvidia.com/gpu.deploy.driver")),
        (NODE, "the removal of a foreign label", json!({ "metadata": { "labels": { "foreign": null } } })),
        (NODE, "a foreign annotation", annotation("example.com/mine", json!("1"))),
        (NODE, "the admin's expectation", annotation("accelerator.llm-d.ai/expect", json!("off"))),
        (NODE, "its removal", annotation("accelerator.llm-d.ai/expect", Value::Null)),
        (NODE, "what the admin ignores", annotation("accelerator.llm-d.ai/ignore", json!("GPU-1"))),
        (NODE, "another annotation under the prefix", annotation("accelerator.llm-d.ai/other", json!("1"))),
        (NODE, "a finalizer", json!({ "metadata": { "finalizers": ["example.com/mine"] } })),
        (NODE, "unschedulable", json!({ "spec": { "unschedulable": true } })),
        (NODE, "a taint", json!({ "spec": { "taints": [{ "key": "mine", "effect": "NoSchedule" }] } })),
    ];
    for (node, what, patch) in on_node {
        forbidden(what, nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))?;
    }
    let on_status = [
        (OTHER_NODE, "a condition of another node", condition(CONDITION)),
        (NODE, "a foreign condition", condition("Ready")),
        (NODE, "the removal of a foreign condition", removal("Ready")),
        (NODE, "an alias that is not configured", condition(ALIAS)),
        (NODE, "another condition under the prefix", condition("accelerator.llm-d.ai/Other")),
        (NODE, "a foreign label through the status", foreign.clone()),
        (NODE, "capacity", json!({ "status": { "capacity": { "nvidia.com/gpu": "80" } } })),
        (
            NODE,
            "addresses",
            json!({ "status": { "addresses": [{ "type": "Hostname", "address": "evil" }] } }),
        ),
    ];
    for (node, what, patch) in on_status {
        let answer = nodes.patch_status(node, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        forbidden(what, answer.map(drop))?;
    }
    let node = serde_json::from_value(json!({ "metadata": { "name": "third-node" } }))?;
    forbidden("a new node", nodes.create(&PostParams::default(), &node).await.map(drop))?;
    forbidden("a deletion", nodes.delete(OTHER_NODE, &Default::default()).await.map(drop))
}

fn annotation(key: &str, value: Value) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

fn removal(kind: &str) -> Value {
    json!({ "status": { "conditions": [{ "$patch": "delete", "type": kind }] } })
}

fn condition(kind: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": kind, "status": "False" }] } })
}

fn forbidden(what: &str, answer: kube::Result<()>) -> anyhow::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        Ok(()) => bail!("{what} was allowed"),
        Err(error) => Err(error).with_context(|| format!("{what} was not refused with 403")),
    }
}

async fn release() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new(IMAGE, &afd_tests::image_binary())?.with_libraries()?)?;
    let client = bed.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let before: BTreeMap<String, String> = nodes.get(Bed::NODE).await?.labels().clone();
    let host = Fixture::named("gaudi2-x8").copy();
    mounts::share(host.root())?;
    let values = json!({
        "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
        "startSpreadSeconds": 0,
        "discoveryIntervalSeconds": 1,
        "hostRoot": host.root(),
    });
    let file = bed.folder().join("values.yaml");
    fs::write(&file, values.to_string())?;
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
    let installed = succeed(install.arg(chart()).arg("--values").arg(&file));
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

    succeed(
        bed.helm()?
            .args(["upgrade", NAMESPACE, "--namespace", NAMESPACE, "--wait", "--timeout", HELM_TIMEOUT])
            .arg(chart())
            .arg("--values")
            .arg(&file)
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
    let conditions = after.status.and_then(|status| status.conditions).unwrap_or_default();
    ensure!(
        conditions.iter().all(|condition| ![CONDITION, PROBLEM].contains(&&condition.type_[..])),
        "{conditions:?}"
    );
    Ok(())
}

async fn scheduled(client: &Client) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until("the default service account exists", async || Ok(accounts.get("default").await.map(drop)?))
        .await?;
    let bound: Api<Pod> = Api::namespaced(client.clone(), pods::NAMESPACE);
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
        pods::create(client, name, constraint, json!({})).await?;
        until("the pod is bound", async || {
            let node = bound.get(name).await?.spec.and_then(|spec| spec.node_name);
            ensure!(node.as_deref() == Some(Bed::NODE), "{name} is bound to {node:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
