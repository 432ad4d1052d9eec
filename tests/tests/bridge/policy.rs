//! What the token of a bridge may do to pods, by the chart's policy.

use afd_test_cluster::until;
use anyhow::{Context, bail, ensure};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::setup::{BridgeSetup, HOST, MARKER, MODEL, PRODUCT, ZONE};

const MANAGER: &str = "accelerator-feature-discovery-bridge";

pub(crate) async fn refused(setup: &BridgeSetup) -> anyhow::Result<()> {
    let pods = setup.bridge_pods();
    let merge = async |name: &str, patch: Value| {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        pods.patch(name, &parameters, &Patch::Merge(patch)).await.map(drop)
    };
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });
    let mut attempts = 0;
    until("the policy is in effect", async || {
        attempts += 1;
        forbidden("a label", merge("plain", label("example.com/attempt", json!(attempts.to_string()))).await)
    })
    .await?;
    let managed = json!({ "metadata": { "managedFields": [{}] } });
    for (what, pod, patch) in [
        ("another label", "plain", label("app", json!("evil"))),
        ("a label of llm-d's router", "plain", label("llm-d.ai/role", json!("prefill"))),
        ("a removed label", "plain", label("llm-d.ai/role", Value::Null)),
        ("a label of AFD", "plain", label("accelerator.llm-d.ai/count", json!("1"))),
        ("a label that a user has set", "plain", label(MODEL, json!("evil"))),
        ("a removed label that a user has set", "plain", label(MODEL, Value::Null)),
        ("a label of a template", "owned", label(ZONE, json!("evil"))),
        ("a label of a pod that does not opt in", "silent", label(PRODUCT, json!("evil"))),
        ("a label of a pod that opts out", "out", label(PRODUCT, json!("evil"))),
        ("an annotation", "plain", json!({ "metadata": { "annotations": { "a": "b" } } })),
        ("a finalizer", "plain", json!({ "metadata": { "finalizers": ["example.com/mine"] } })),
        (
            "an owner",
            "plain",
            json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1" }] } }),
        ),
        ("the owners of all fields", "plain", managed),
    ] {
        forbidden(what, merge(pod, patch).await)?;
    }
    for (manager, labels) in
        [("mine", json!({ PRODUCT: "evil" })), (MANAGER, json!({ "llm-d.ai/role": "decode" }))]
    {
        let body =
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "plain", "labels": labels } });
        let parameters = PatchParams::apply(manager).force();
        forbidden("an apply", pods.patch("plain", &parameters, &Patch::Apply(&body)).await.map(drop))?;
    }
    let image = json!({ "spec": { "containers": [{ "name": "main", "image": "localhost/evil" }] } });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    forbidden("an image", pods.patch("plain", &parameters, &Patch::Strategic(&image)).await.map(drop))?;
    // By RBAC.
    for (what, result) in [
        ("deleting a pod", pods.delete("plain", &DeleteParams::default()).await.map(drop)),
        ("the status of a pod", {
            let patch = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
            pods.patch_status("plain", &PatchParams::default(), &patch).await.map(drop)
        }),
    ] {
        ensure!(matches!(&result, Err(kube::Error::Api(status)) if status.code == 403), "{what}: {result:?}");
    }
    // What it is for.
    let body = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "plain", "labels": { HOST: "other" } } });
    pods.patch("plain", &PatchParams::apply(MANAGER), &Patch::Apply(&body)).await.context("an own label")?;
    let pod = setup.until_label("plain", HOST, Some(crate::NODE)).await?;
    ensure!(pod.labels()[MARKER] == "true", "{:?}", pod.labels());
    Ok(())
}

fn forbidden(what: &str, answer: kube::Result<()>) -> anyhow::Result<()> {
    match answer {
        // RBAC refuses as well, until the role is in effect.
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
        Ok(()) => bail!("{what} was allowed"),
        Err(error) => Err(error).with_context(|| format!("{what} was not refused by the policy")),
    }
}
