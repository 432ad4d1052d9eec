//! A real kubelet runs a pod with containerd and runc, and a real scheduler assigns it.

use std::{process::ExitCode, time::Duration};

use afd_test_cluster::{Bed, Component, KubernetesVersion, Suite, image::PAUSE, succeed, until};
use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;

fn main() -> ExitCode {
    Suite::new().test("a_pod_runs_and_outlives_its_kubelet", a_pod_runs).main()
}

async fn a_pod_runs() -> anyhow::Result<()> {
    let mut bed = Bed::builder().version(KubernetesVersion::V1_37).node().start().await?;
    let pods: Api<Pod> = Api::default_namespaced(bed.client().await?);
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "waits"},
        "spec": {
            "dnsPolicy": "Default",
            "containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "Never"}],
        },
    }))?;
    pods.create(&PostParams::default(), &pod).await?;
    let running = until("the pod is ready", async || {
        let status = pods.get("waits").await?.status.unwrap_or_default();
        let conditions = status.conditions.clone().unwrap_or_default();
        let ready =
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(ready, "its status is {}", serde_json::to_string(&status)?);
        Ok(status)
    })
    .await?;
    ensure!(running.pod_ip.as_deref().is_some_and(|ip| ip.starts_with("10.244.7.")), "{:?}", running.pod_ip);
    // This involves kubectl, the API server, the kubelet's own server and the container's output.
    let log = succeed(bed.kubectl()?.args(["logs", "waits"]))?;
    ensure!(log.trim() == "waiting for SIGTERM", "the container prints {log}");
    bed.kill(Component::Kubelet)?;
    bed.restart(Component::Kubelet).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = pods.get("waits").await?.status.unwrap_or_default();
    let restarts: Vec<i32> =
        status.container_statuses.unwrap_or_default().iter().map(|status| status.restart_count).collect();
    ensure!(restarts == [0], "the container was restarted: {restarts:?}");
    Ok(())
}
