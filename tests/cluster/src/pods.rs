//! Pods whose container only waits.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{image::PAUSE, until};

/// The namespace of these pods.
pub const NAMESPACE: &str = "default";
/// Their container.
pub const CONTAINER: &str = "pause";

/// Creates a pod; `spec` and `container` are added to its specification and to that of its container.
///
/// # Errors
/// When the API server rejects it.
pub async fn create(client: &Client, name: &str, spec: Value, container: Value) -> anyhow::Result<()> {
    create_with(client, json!({ "name": name }), spec, container).await
}

/// The same with these metadata.
///
/// # Errors
/// The same.
pub async fn create_with(
    client: &Client,
    metadata: Value,
    spec: Value,
    container: Value,
) -> anyhow::Result<()> {
    let mut pod = json!({
        "metadata": metadata,
        "spec": {
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": CONTAINER, "image": PAUSE, "imagePullPolicy": "Never" }],
        },
    });
    let add = |to: &mut Value, more: Value| -> anyhow::Result<()> {
        let to = to.as_object_mut().context("the pod has it as an object")?;
        to.extend(more.as_object().context("an addition is an object")?.clone());
        Ok(())
    };
    add(&mut pod["spec"]["containers"][0], container)?;
    add(&mut pod["spec"], spec)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

/// Waits until a pod is running.
///
/// # Errors
/// When it is not within the timeout.
pub async fn until_running(client: &Client, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    until(&format!("pod {name} is running"), async || {
        let status = pods.get(name).await?.status.context("it has no status")?;
        anyhow::ensure!(status.phase.as_deref() == Some("Running"), "its status is {status:?}");
        Ok(())
    })
    .await
}

/// Deletes a pod, and waits until it no longer exists.
///
/// # Errors
/// When it still exists after the timeout.
pub async fn delete(client: &Client, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.delete(name, &DeleteParams::default()).await?;
    until(&format!("pod {name} is deleted"), async || {
        anyhow::ensure!(pods.get_opt(name).await?.is_none(), "it still exists");
        Ok(())
    })
    .await
}
