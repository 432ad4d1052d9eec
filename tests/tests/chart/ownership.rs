//! The agent may remove what it owns. So it cannot become the owner of anything else, and it cannot change who owns the rest.

use std::time::Instant;

use afd_test_cluster::KubernetesVersion;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::setup::{CONDITION, COUNT, NODE, PolicySetup, annotation, condition, forbidden};

const OURS: &str = "accelerator-feature-discovery";
const VENDOR_COUNT: &str = "nvidia.com/gpu.count";
const FAMILY: &str = "nvidia.com/gpu.family";

pub(crate) async fn ownership() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });
    let nfd = json!({ "labels": { VENDOR_COUNT: "4", "feature.node.kubernetes.io/x": "1" } });
    setup.patch_as("nfd-master", json!({ "metadata": nfd })).await?;
    setup.apply_as(OURS, json!({ "name": NODE, "labels": { COUNT: "8", FAMILY: "hopper" } })).await?;
    let before = managers(&setup).await?;
    ensure!(before.len() >= 3, "{before:?}");

    // Wiping, changing or adding entries.
    let entry = |index: usize, manager: &str| {
        let mut entries = before.clone();
        entries[index]["manager"] = json!(manager);
        entries
    };
    let others = before.iter().filter(|entry| entry["manager"] != OURS).cloned().collect::<Vec<_>>();
    let without: Vec<_> = before.iter().filter(|entry| entry["manager"] != "nfd-master").collect();
    let mut emptied = before.clone();
    for entry in emptied.iter_mut().filter(|entry| entry["manager"] == "nfd-master") {
        entry["fieldsV1"] = json!({ "f:metadata": { "f:labels": { ".": {} } } });
    }
    let mut widened = before.clone();
    for entry in widened.iter_mut().filter(|entry| entry["manager"] == "nfd-master") {
        entry["fieldsV1"]["f:metadata"]["f:labels"]["f:foreign"] = json!({});
    }
    let mut claimed = before.clone();
    for entry in claimed.iter_mut().filter(|entry| entry["manager"] == OURS) {
        entry["fieldsV1"]["f:metadata"]["f:labels"]["f:foreign"] = json!({});
    }
    for (what, entries) in [
        ("wiping all owners", json!([{}])),
        ("renaming a manager", json!(entry(0, "mine"))),
        ("emptying the entry of a manager", json!(emptied)),
        ("widening the entry of a manager", json!(widened)),
        ("claiming a foreign label", json!(claimed)),
        ("leaving a manager out", json!(without)),
    ] {
        let patch = json!({ "metadata": { "managedFields": entries } });
        forbidden(what, setup.merge(patch).await)?;
    }
    // Its own entry is no concern of others.
    setup.merge(json!({ "metadata": { "managedFields": others } })).await.context("giving up ownership")?;
    setup.apply_as(OURS, json!({ "name": NODE, "labels": { COUNT: "8", FAMILY: "hopper" } })).await?;

    // Ownership by an apply of a value that is there already, to remove it afterwards.
    let foreign = json!({ "name": NODE, "labels": { "foreign": "label", COUNT: "8" } });
    forbidden("owning a foreign label", setup.apply_as(OURS, foreign).await)?;
    let expect = annotation("accelerator.llm-d.ai/expect", json!("any=8"));
    setup.patch_as("kubectl-annotate", expect.clone()).await?;
    let expect = json!({ "name": NODE, "annotations": expect["metadata"]["annotations"] });
    forbidden("owning an annotation of the admin", setup.apply_as(OURS, expect).await)?;
    let ready = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    let apply = PatchParams::apply(OURS);
    forbidden(
        "owning the kubelet's condition",
        setup.agent_nodes.patch_status(NODE, &apply, &Patch::Apply(&ready)).await,
    )?;
    for manager in ["kubelet", "nfd-master", "mine"] {
        let own = json!({ "name": NODE, "labels": { COUNT: "8" } });
        forbidden("writing as another manager", setup.apply_as(manager, own).await)?;
    }
    // Vendors' keys that another manager owns.
    for value in [json!("8"), Value::Null] {
        forbidden("another manager's key of a vendor", setup.merge(label(VENDOR_COUNT, value)).await)?;
    }

    // What must work: own keys that another manager has taken, after which it owns nothing any more.
    setup.patch_as("kubectl-label", label(COUNT, json!("99"))).await?;
    let kubectl = Patch::Strategic(condition(CONDITION));
    let parameters = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    setup.nodes.patch_status(NODE, &parameters, &kubectl).await?;
    let apply = PatchParams::apply(OURS).force();
    let own = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": NODE, "labels": { COUNT: "8", FAMILY: "hopper" } } });
    setup.agent_nodes.patch(NODE, &apply, &Patch::Apply(&own)).await.context("an own key")?;
    let status = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
        "status": { "conditions": [{ "type": CONDITION, "status": "True" }] } });
    setup.agent_nodes.patch_status(NODE, &apply, &Patch::Apply(&status)).await.context("an own condition")?;
    let left = managers(&setup).await?;
    ensure!(left.iter().all(|entry| entry["manager"] != "kubectl-label"), "{left:?}");
    // The owners were lost: the first apply makes the API server record a stand-in for them.
    let wiped = json!({ "metadata": { "managedFields": [{}] } });
    setup.patch_as("restore", wiped).await?;
    setup.agent_nodes.patch(NODE, &apply, &Patch::Apply(&own)).await.context("without owners")?;
    large_node(&setup).await
}

/// The policy evaluates a large Node within the API server's limits.
async fn large_node(setup: &PolicySetup) -> anyhow::Result<()> {
    let labels: serde_json::Map<_, _> =
        (0..1000).map(|number| (format!("example.com/label-{number}"), json!("1"))).collect();
    let annotations: serde_json::Map<_, _> = (0..28)
        .map(|number| (format!("example.com/annotation-{number}"), json!("x".repeat(8 << 10))))
        .collect();
    setup.patch_as("other", json!({ "metadata": { "labels": labels, "annotations": annotations } })).await?;
    for number in 0..8 {
        let own = json!({ "metadata": { "labels": { format!("example.com/of-{number}"): "1" } } });
        setup.patch_as(&format!("manager-{number}"), own).await?;
    }
    let images: Vec<_> = (0..1500)
        .map(|image| {
            let names: Vec<_> =
                (0..5).map(|name| format!("registry.example.com/image-{image}/name-{name}")).collect();
            json!({ "names": names, "sizeBytes": 1 })
        })
        .collect();
    let images = Patch::Merge(json!({ "status": { "images": images } }));
    setup.nodes.patch_status(NODE, &PatchParams::default(), &images).await?;
    let labels: serde_json::Map<_, _> =
        (0..120).map(|number| (format!("accelerator.llm-d.ai/product.P-{number}"), json!("1"))).collect();
    let apply = PatchParams::apply(OURS).force();
    let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE, "labels": labels } });
    let start = Instant::now();
    setup.agent_nodes.patch(NODE, &apply, &Patch::Apply(&body)).await.context("labels of a large Node")?;
    println!("an apply of 120 labels to a large Node: {:.0?}", start.elapsed());
    // With every entry compared field by field.
    setup
        .patch_as("other", json!({ "metadata": { "labels": { "accelerator.llm-d.ai/product.P-1": "2" } } }))
        .await?;
    let start = Instant::now();
    setup
        .agent_nodes
        .patch(NODE, &apply, &Patch::Apply(&body))
        .await
        .context("a correction on a large Node")?;
    println!("a correction of a large Node: {:.0?}", start.elapsed());
    Ok(())
}

async fn managers(setup: &PolicySetup) -> anyhow::Result<Vec<Value>> {
    let node: Node = setup.nodes.get(NODE).await?;
    let entries = node.metadata.managed_fields.unwrap_or_default();
    Ok(entries.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}
