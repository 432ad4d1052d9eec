//! Pods that do nothing but be there.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{image::PAUSE, until};

/// The namespace of such pods.
pub const NAMESPACE: &str = "default";
/// Their container.
pub const CONTAINER: &str = "pause";

/// Creates a pod; `spec` and `container` are added to its specification and to that of its container.
///
/// # Errors
/// When the API server does not take it.
pub async fn create(client: &Client, name: &str, spec: Value, container: Value) -> anyhow::Result<()> {
    let mut pod = json!({
        "metadata": { "name": name },
        "spec": {
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": CONTAINER, "image": PAUSE, "imagePullPolicy": "Never" }],
        },
    });
    let add = |to: &mut Value, more: Value| -> anyhow::Result<()> {
        let to = to.as_object_mut().context("it is an object")?;
        to.extend(more.as_object().context("what is added is an object")?.clone());
        Ok(())
    };
    add(&mut pod["spec"]["containers"][0], container)?;
    add(&mut pod["spec"], spec)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

/// Waits until a pod runs.
///
/// # Errors
/// When it does not in time.
pub async fn runs(client: &Client, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    until(&format!("pod {name} runs"), async || {
        let status = pods.get(name).await?.status.context("it has no status")?;
        anyhow::ensure!(status.phase.as_deref() == Some("Running"), "its status is {status:?}");
        Ok(())
    })
    .await
}

/// Deletes a pod, and waits until it is gone.
///
/// # Errors
/// When it does not go in time.
pub async fn delete(client: &Client, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.delete(name, &DeleteParams::default()).await?;
    until(&format!("pod {name} is gone"), async || {
        anyhow::ensure!(pods.get_opt(name).await?.is_none(), "it is there");
        Ok(())
    })
    .await
}
