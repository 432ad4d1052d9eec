//! Events with the agent's token.

use afd_test_cluster::{KubernetesVersion, until};
use anyhow::{Context, ensure};
use k8s_openapi::api::{core, events::v1::Event};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::setup::{NODE, PolicySetup, forbidden};

fn event(name: &str, change: Value) -> anyhow::Result<Event> {
    let mut event = json!({
        "metadata": { "name": format!("{NODE}.{name}"), "namespace": "default" },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "action": "ConditionChanged",
        "reason": "DeviceMissing",
        "note": "a device is missing",
        "type": "Warning",
        "regarding": { "apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "u" },
        "reportingController": "accelerator.llm-d.ai/accelerator-feature-discovery",
        "reportingInstance": NODE,
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        match (event[key].as_object_mut(), value.as_object()) {
            (Some(object), Some(more)) => object.extend(more.clone()),
            _ => event[key] = value.clone(),
        }
    }
    Ok(serde_json::from_value(event)?)
}

pub(crate) async fn events() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let api: Api<Event> = Api::namespaced(setup.agent_client.clone(), "default");
    let create = async |event: Event| api.create(&PostParams::default(), &event).await;
    // The binding of this policy may take effect after that of the other.
    let mut attempt = 0;
    until("the policy of Events is in effect", async || {
        attempt += 1;
        let foreign = event(&format!("foreign-{attempt}"), json!({ "regarding": { "name": "other-node" } }))?;
        forbidden("an Event of another Node", create(foreign).await)
    })
    .await?;
    create(event("own", json!({}))?).await.context("an Event of the own Node")?;
    for (what, change) in [
        ("about a pod", json!({ "regarding": { "kind": "Pod" } })),
        ("about another API version", json!({ "regarding": { "apiVersion": "example.com/v1" } })),
        ("about a namespaced object", json!({ "regarding": { "namespace": "default" } })),
        (
            "with a related object",
            json!({ "related": { "kind": "Pod", "name": "p", "namespace": "default" } }),
        ),
        (
            "of a series",
            json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z" } }),
        ),
        ("of the kubelet", json!({ "reportingController": "kubelet" })),
        ("of another instance", json!({ "reportingInstance": "other-node" })),
        ("with the name of another object", json!({ "metadata": { "name": "other-node.1" } })),
        ("with labels", json!({ "metadata": { "labels": { "a": "b" } } })),
    ] {
        forbidden(&format!("an Event {what}"), create(event("refused", change)?).await)?;
    }
    // By the core API, which the role does not include.
    let core: Api<core::v1::Event> = Api::namespaced(setup.agent_client.clone(), "default");
    let old = serde_json::from_value(json!({
        "metadata": { "name": format!("{NODE}.core"), "namespace": "default" },
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
    }))?;
    forbidden("an Event by the core API", core.create(&PostParams::default(), &old).await)?;
    let name = format!("{NODE}.own");
    let patch =
        Patch::Merge(json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z" } }));
    forbidden("a change of an Event", api.patch(&name, &PatchParams::default(), &patch).await)?;
    // The policy holds even where a role gives more.
    let bed = &setup.bed;
    let account = format!("--serviceaccount={0}:{0}", crate::setup::NAMESPACE);
    let verbs = "--verb=create,update,patch";
    for arguments in [
        vec!["create", "clusterrole", "more", verbs, "--resource=events.events.k8s.io,events"],
        vec!["create", "clusterrolebinding", "more", "--clusterrole=more", &account],
    ] {
        afd_test_cluster::succeed(bed.kubectl()?.args(arguments))?;
    }
    let refusals = async || -> anyhow::Result<Vec<String>> {
        let answers = [
            core.create(&PostParams::default(), &old).await.map(drop),
            api.patch(&name, &PatchParams::default(), &patch).await.map(drop),
        ];
        let text = |answer: kube::Result<()>| match answer {
            Err(kube::Error::Api(status)) => status.message,
            other => format!("{other:?}"),
        };
        Ok(answers.map(text).into())
    };
    let answers = until("the role is in effect", async || {
        let answers = refusals().await?;
        ensure!(answers.iter().all(|answer| !answer.contains("cannot")), "{answers:?}");
        Ok(answers)
    })
    .await?;
    ensure!(answers.iter().all(|answer| answer.contains("ValidatingAdmissionPolicy")), "{answers:?}");
    Ok(())
}
