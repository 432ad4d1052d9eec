//! What the admission policy allows and refuses on a real API server.

use afd_test_cluster::{KubernetesVersion, until};
use afd_tests::fixture::Fixture;
use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};

use crate::setup::{
    ALIAS, CONDITION, COUNT, IMAGE, NAMESPACE, NODE, PROBLEM, PolicySetup, annotation, as_agent, condition,
    condition_types, create_node, forbidden, removal,
};

const OTHER_NODE: &str = "other-node";

pub(crate) async fn policy(version: KubernetesVersion) -> anyhow::Result<()> {
    let setup = PolicySetup::new(version).await?;
    create_node(&setup.nodes, OTHER_NODE).await?;
    refused(&setup).await?;
    own_conditions_and_annotations(&setup).await?;
    // The policy allows the keys of every enabled label set, and to remove them.
    let host = Fixture::named("amd-mi300x8-cpx-nps4").lay_out();
    let mut agent = setup.start(&host, &[])?;
    setup
        .until_node("AMD's labels are written", |node| {
            node.labels().keys().any(|key| key.starts_with("beta.amd.com/gpu.cu-count."))
        })
        .await?;
    agent.kill()?;
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let _agent = setup.start(&host, &[])?;
    setup
        .until_node("labels and condition are written", |node| {
            let label = |key: &str| node.labels().get(key).map(String::as_str);
            label("nvidia.com/gpu.product") == Some("NVIDIA-H100-80GB-HBM3")
                && (label(COUNT), label("foreign")) == (Some("8"), Some("label"))
                && !node.labels().keys().any(|key| key.contains("amd.com/"))
                && condition_types(node).contains(&CONDITION)
        })
        .await
        .map(drop)
}

/// Writes that the policy allows: what the contract names, and the removal of what was written under other values of the chart.
async fn own_conditions_and_annotations(setup: &PolicySetup) -> anyhow::Result<()> {
    let label = |value: Value| json!({ "metadata": { "labels": { "nvidia.com/gpu.count": value } } });
    for name in ["report", "expected", "incidents", "failed-devices", "managed-by"] {
        let key = format!("accelerator.llm-d.ai/{name}");
        for value in [json!("1"), Value::Null] {
            setup.merge(annotation(&key, value)).await.context(key.clone())?;
        }
    }
    for kind in [CONDITION, PROBLEM] {
        setup.status(condition(kind)).await.context(kind)?;
    }
    setup.merge(label(json!("8"))).await?;
    setup.upgrade("compat.nvidia=off,conditionAlias=AcceleratedHardwareReady")?;
    until("the alias is allowed", async || Ok(setup.status(condition(ALIAS)).await?)).await?;
    forbidden("a key of a set that is off", setup.merge(label(json!("4"))).await)?;
    setup.merge(label(Value::Null)).await.context("the removal of a key of a set that is off")?;
    setup.upgrade("conditionAlias=")?;
    let mut attempts = 0;
    until("the alias is no longer allowed", async || {
        attempts += 1;
        let mut patch = condition(ALIAS);
        patch["status"]["conditions"][0]["message"] = attempts.to_string().into();
        forbidden("the alias", setup.status(patch).await)
    })
    .await?;
    for kind in [ALIAS, CONDITION, PROBLEM] {
        setup.status(removal(kind)).await.with_context(|| format!("the removal of {kind}"))?;
    }
    Ok(())
}

/// Writes that the policy refuses for the agent's token.
async fn refused(setup: &PolicySetup) -> anyhow::Result<()> {
    const EXPECT: &str = "accelerator.llm-d.ai/expect";
    setup.patch_as("kubectl-annotate", annotation(EXPECT, json!("any=8"))).await?;
    let label = |key: &str| json!({ "metadata": { "labels": { key: "1" } } });
    let half = "x".repeat(17 << 10);
    let two_halves = ["report", "expected"].map(|name| (format!("accelerator.llm-d.ai/{name}"), json!(half)));
    let many = (0..1025).map(|number| (format!("accelerator.llm-d.ai/{number}"), json!("1")));
    for (what, patch) in [
        ("long annotations", json!({ "metadata": { "annotations": Map::from_iter(two_halves) } })),
        ("many labels", json!({ "metadata": { "labels": Map::from_iter(many) } })),
        ("a similar prefix", label("accelerator.llm-d.ai.evil/count")),
        ("a key of a vendor that is not in the set", label("nvidia.com/gpu.deploy.driver")),
        ("the removal of a foreign label", json!({ "metadata": { "labels": { "foreign": null } } })),
        ("a foreign annotation", annotation("example.com/mine", json!("1"))),
        ("the admin's expectation", annotation(EXPECT, json!("off"))),
        ("its removal", annotation(EXPECT, Value::Null)),
        ("what the admin ignores", annotation("accelerator.llm-d.ai/ignore", json!("GPU-1"))),
        ("another annotation under the prefix", annotation("accelerator.llm-d.ai/other", json!("1"))),
        ("a long annotation", annotation("accelerator.llm-d.ai/report", json!("x".repeat(33 << 10)))),
        ("a finalizer", json!({ "metadata": { "finalizers": ["example.com/mine"] } })),
        ("unschedulable", json!({ "spec": { "unschedulable": true } })),
        ("a taint", json!({ "spec": { "taints": [{ "key": "mine", "effect": "NoSchedule" }] } })),
    ] {
        forbidden(what, setup.merge(patch).await)?;
    }
    let mut long = condition(CONDITION);
    long["status"]["conditions"][0]["message"] = "x".repeat(33 << 10).into();
    let conditions = [CONDITION, PROBLEM].map(|kind| {
        let mut half_long = condition(kind)["status"]["conditions"][0].clone();
        half_long["message"] = half.as_str().into();
        half_long
    });
    for (what, patch) in [
        ("long messages", json!({ "status": { "conditions": conditions } })),
        ("a foreign condition", condition("Ready")),
        ("the removal of a foreign condition", removal("Ready")),
        ("an alias that is not configured", condition(ALIAS)),
        ("another condition under the prefix", condition("accelerator.llm-d.ai/Other")),
        ("a long message", long),
        ("a foreign label through the status", label("example.com/mine")),
        ("capacity", json!({ "status": { "capacity": { "nvidia.com/gpu": "80" } } })),
        ("addresses", json!({ "status": { "addresses": [{ "type": "Hostname", "address": "evil" }] } })),
    ] {
        forbidden(what, setup.status(patch).await)?;
    }
    let node = setup.nodes.get(NODE).await?;
    let mut conditions = serde_json::to_value(node.status.and_then(|status| status.conditions))?;
    let twice =
        [condition(CONDITION), condition(CONDITION)].map(|one| one["status"]["conditions"][0].clone());
    conditions.as_array_mut().context("the Node has conditions")?.extend(twice);
    let all = json!({ "status": { "conditions": conditions } });
    let merged = setup.agent_nodes.patch_status(NODE, &as_agent(), &Patch::Merge(&all)).await;
    forbidden("a condition that exists twice", merged)?;
    let (nodes, default) = (&setup.agent_nodes, PatchParams::apply("accelerator-feature-discovery"));
    let merge = PatchParams { force: false, ..default };
    let other = nodes.patch(OTHER_NODE, &merge, &Patch::Merge(label(COUNT))).await;
    forbidden("a label of another node", other)?;
    let other = nodes.patch_status(OTHER_NODE, &merge, &Patch::Strategic(condition(CONDITION))).await;
    forbidden("a condition of another node", other)?;
    let node = serde_json::from_value(json!({ "metadata": { "name": "third-node" } }))?;
    forbidden("a new node", nodes.create(&PostParams::default(), &node).await)?;
    forbidden("a deletion", nodes.delete(OTHER_NODE, &Default::default()).await)?;
    let (client, list) = (&setup.agent_client, ListParams::default());
    forbidden("a list of secrets", Api::<Secret>::all(client.clone()).list(&list).await)?;
    forbidden("a list of pods", Api::<Pod>::all(client.clone()).list(&list).await)?;
    let own: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    forbidden("a secret of its namespace", own.get("any").await)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "mine" },
        "spec": { "containers": [{ "name": "mine", "image": IMAGE }] },
    }))?;
    forbidden("a new pod", pods.create(&PostParams::default(), &pod).await)
}
