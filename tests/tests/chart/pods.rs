//! The runtimes within pods: by the right that the chart grants on request, a fake kubelet, and fake runtimes at the addresses of
//! pods.

use std::collections::BTreeSet;

use afd_kubelet::testing::{FakeKubelet, pod};
use afd_test_cluster::{KubernetesVersion, succeed, until};
use afd_tests::{
    agent::Agent,
    fake_runtime::{FakeRuntime, RuntimeMetrics, duty_cycles},
    fixture::Fixture,
};
use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::setup::{NODE, PolicySetup, forbidden};

const ADDRESS: &str = "127.0.0.1:9109";
const NAMESPACE: &str = "serving";
const COMPUTE: &str = "accelerator_device_utilization_ratio{";
const PROBLEMS: &str = "afd_probe_problems{probe=\"tpu\"";
const REFUSED: &str = "afd_kubernetes_requests_total{code=\"403\",verb=\"get\"}";
const VARIABLE: &str = "TPU_RUNTIME_METRICS_PORTS";
const DUTY_CYCLE: &str = "tpu.runtime.tensorcore.dutycycle.percent";

fn duty(values: &[(i64, f64)]) -> RuntimeMetrics {
    RuntimeMetrics::from([(DUTY_CYCLE, duty_cycles(values))])
}

/// Creates a running pod.
async fn create(client: &Client, name: &str, address: &str, port: u16, more: Value) -> anyhow::Result<()> {
    let mut spec = json!({ "nodeName": NODE, "containers": [{
        "name": "vllm", "image": "localhost/vllm", "env": [{ "name": VARIABLE, "value": port.to_string() }],
    }] });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
    until("the pod is accepted", async || Ok(api.create(&PostParams::default(), &pod).await.map(drop)?))
        .await?;
    let status = json!({ "status": { "phase": "Running", "hostIP": "127.0.0.1", "podIP": address,
        "hostIPs": [{ "ip": "127.0.0.1" }], "podIPs": [{ "ip": address }] } });
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

/// The values of utilization, by device.
fn values() -> Vec<f64> {
    lines(COMPUTE).iter().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

fn lines(prefix: &str) -> Vec<String> {
    let Some(page) = Agent::try_get_from(ADDRESS, "/metrics") else { return Vec::new() };
    page.text().lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

async fn until_values(what: &str, expected: &[f64], problems: usize) -> anyhow::Result<()> {
    until(what, async || {
        let (now, found) = (values(), lines(PROBLEMS));
        ensure!(now == expected && found.len() == problems, "there are {now:?} and {found:?}");
        Ok(())
    })
    .await
}

/// Only with the right, only pods that hold chips, and those on the node's network not twice.
pub(crate) async fn runtimes() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let client = setup.bed.client().await?;
    succeed(setup.bed.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
    succeed(setup.bed.kubectl()?.args(["--namespace", NAMESPACE, "create", "serviceaccount", "default"]))?;
    let (first, first_address) = FakeRuntime::start_at("127.0.0.2:0", duty(&[(8, 10.0), (9, 30.0)])).await;
    let (second, second_address) =
        FakeRuntime::start_at("127.0.0.3:0", duty(&[(10, 50.0), (11, 70.0)])).await;
    let (other, other_address) = FakeRuntime::start_at("127.0.0.4:0", duty(&[(0, 99.0)])).await;
    create(&client, "first", "127.0.0.2", first_address.port(), json!({})).await?;
    create(&client, "other", "127.0.0.4", other_address.port(), json!({})).await?;
    let kubelet = FakeKubelet::default();
    let of = |name: &str, slots: &[&str]| pod(name, "google.com/tpu", slots);
    let both = [of("first", &["0000:00:04"]), of("second", &["0000:00:05"])];
    kubelet
        .set_pods(both.iter().cloned().chain([pod("other", "example.com/nic", &["0000:80:04"])]).collect());
    let socket = setup.bed.folder().join("pod-resources");
    std::fs::create_dir(&socket)?;
    kubelet.start(&socket)?;

    let host = Fixture::named("tpu-7x-x4").copy();
    let socket = socket.to_string_lossy().into_owned();
    let loopback = "127.0.0.1:8431";
    let options = [
        "--sample-interval",
        "0.2",
        "--pod-resources",
        &socket,
        "--read-pods",
        "--tpu-exporter",
        "off",
        "--tpu-metadata-server",
        "off",
        "--tpu-runtime",
        loopback,
    ];
    let _agent = setup.start(&host, &options)?;
    // The default role has no right to read pods.
    until("it is refused", async || {
        ensure!(!lines(REFUSED).is_empty(), "it is not");
        Ok(())
    })
    .await?;
    ensure!(values().is_empty() && first.calls() == 0, "a runtime was asked");
    setup.upgrade("pods.watch=true")?;
    until_values("the values of one pod are published", &[0.2], 0).await?;
    // The API server shows a pod later than the kubelet does.
    create(&client, "second", "127.0.0.3", second_address.port(), json!({})).await?;
    // Cores of one chip each.
    until_values("the values of both pods are published", &[0.2, 0.6], 0).await?;
    ensure!(other.calls() == 0, "a pod without a TPU was asked");
    let door = Agent::get_from(ADDRESS, "/compat/dcgm").text().to_owned();
    let samples: Vec<&str> = door.lines().filter(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{")).collect();
    let held: BTreeSet<_> =
        samples.iter().filter_map(|line| line.split("pod=\"").nth(1)?.split('"').next()).collect();
    ensure!(held == BTreeSet::from(["first", "second"]) && samples.len() == 2, "{samples:?}");
    // It may read a pod by its name, and list none.
    let own: Api<Pod> = Api::namespaced(setup.agent_client.clone(), NAMESPACE);
    own.get("other").await?;
    forbidden("a list of pods", own.list(&ListParams::default()).await)?;

    // Three numbers of one chip are of none, and one problem; that a runtime has no values is none.
    first.set(duty(&[(8, 1.0), (9, 1.0), (10, 1.0)]));
    until_values("one pod is left", &[0.6], 1).await?;
    second.set(RuntimeMetrics::new());
    first.set(duty(&[(8, 10.0), (9, 30.0)]));
    until_values("the other pod is left", &[0.2], 0).await?;
    second.set(duty(&[(10, 50.0), (11, 70.0)]));

    // A pod on the node's network has the runtime on loopback, and is asked there alone.
    let (host_runtime, _) = FakeRuntime::start_at(loopback, duty(&[(0, 80.0), (1, 80.0)])).await;
    create(&client, "on-host", "127.0.0.1", second_address.port(), json!({ "hostNetwork": true })).await?;
    kubelet.set_pods([of("first", &["0000:00:04"]), of("on-host", &["0000:80:05"])].to_vec());
    until_values("each has its own values", &[0.2, 0.8], 0).await?;
    ensure!(host_runtime.calls() > 0, "the runtime of the host was not asked");
    let asked = second.calls();
    // Nothing but the runtimes of holders is asked from now on.
    first.set(duty(&[(8, 20.0), (9, 20.0)]));
    first.set(duty(&[(8, 40.0), (9, 40.0)]));
    until_values("the values change", &[0.4, 0.8], 0).await?;
    ensure!(second.calls() == asked, "a pod that holds no chip any more was asked");
    Ok(())
}
