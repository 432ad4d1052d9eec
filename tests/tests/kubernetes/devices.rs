//! What changes of the devices and of their driver, and when the Node says so.

use std::{
    fs,
    time::{Duration, Instant},
};

use afd_test_cluster::{KubernetesVersion, until};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    NVIDIA_COUNT, REPORT, condition,
    setup::{ADDRESS, COUNT, NODE, NodeSetup, metric},
    start, until_condition, until_metric, until_watching,
};

/// The options for how long a device must be away until it counts as removed, also on a machine that was just booted.
fn removal_grace(seconds: &str) -> [&str; 4] {
    ["--removal-grace", seconds, "--boot-removal-grace", seconds]
}

pub(crate) async fn added_and_removed() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let mut agent = setup.agent(&setup.bed.kubeconfig());
    agent.args(removal_grace("8"));
    let _agent = setup.bed.process("afd", agent)?;
    setup.until_label(COUNT, "8").await?;
    let (link, target) = setup.host.pci_link("0x1020");
    let removed = Instant::now();
    fs::remove_file(&link)?;
    until("the device is not in the inventory", async || {
        let devices =
            Agent::get_from(ADDRESS, "/metrics").text().matches("\naccelerator_device_info{").count();
        ensure!(devices == 7, "there are {devices}");
        Ok(())
    })
    .await?;
    ensure!(setup.node().await?.labels()[COUNT] == "8", "a discovery was enough");
    setup.until_label(COUNT, "7").await?;
    ensure!(removed.elapsed() >= Duration::from_secs(8), "it took {:?}", removed.elapsed());
    std::os::unix::fs::symlink(target, link)?;
    setup.until_label(COUNT, "8").await?;
    Ok(())
}

/// As after a boot of the machine, when the driver is not loaded yet.
pub(crate) async fn empty_discoveries() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let mut agent = start(&setup)?;
    let before = setup.until_label(COUNT, "8").await?;
    agent.kill()?;
    let bus = setup.host.root().join("sys/bus/pci/devices");
    let aside = setup.host.root().join("aside");
    fs::rename(&bus, &aside)?;
    fs::create_dir(&bus)?;
    let mut after = setup.agent(&setup.bed.kubeconfig());
    after.args(removal_grace("10"));
    let started = Instant::now();
    let _agent = setup.bed.process("afd-after", after)?;
    until_watching().await?;
    let meanwhile = setup.node().await?;
    ensure!(meanwhile.labels() == before.labels(), "a discovery was enough: {:?}", meanwhile.labels());
    ensure!(metric("afd_label_writes_total ") == Some(0.0), "labels were written");
    until("the labels are gone", async || {
        let node = setup.node().await?;
        ensure!(!node.labels().contains_key(COUNT), "{:?}", node.labels());
        Ok(())
    })
    .await?;
    ensure!(started.elapsed() >= Duration::from_secs(10), "it took {:?}", started.elapsed());
    fs::remove_dir(&bus)?;
    fs::rename(&aside, &bus)?;
    setup.until_label(COUNT, "8").await.map(drop)
}

/// The label in which NVIDIA's GPU operator reports the progress of a driver upgrade.
const UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
const RELEASED: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"released\"}";

pub(crate) async fn upgraded_driver() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    let _agent = start(&setup)?;
    let before = setup.until_label(NVIDIA_COUNT, "8").await?;
    until_sampled(8).await?;
    for (state, sampled) in [
        ("upgrade-required", 8),
        ("pod-restart-required", 0),
        ("validation-required", 0),
        ("upgrade-done", 8),
    ] {
        setup.patch_as_other(json!({ "metadata": { "labels": { UPGRADE: state } } })).await?;
        // Gives the agent time to react where it must not.
        tokio::time::sleep(Duration::from_secs(2)).await;
        until_sampled(sampled).await.with_context(|| state.to_owned())?;
        until(&format!("the problem is counted as in the state {state}"), async || {
            ensure!(metric(RELEASED).is_some() == (sampled == 0), "it is {:?}", metric(RELEASED));
            Ok(())
        })
        .await?;
    }
    let after = setup.node().await?;
    for (key, value) in before.labels() {
        ensure!(
            after.labels().get(key) == Some(value),
            "{key} was {value}, and the Node has {:?}",
            after.labels()
        );
    }
    Ok(())
}

async fn until_sampled(gpus: usize) -> anyhow::Result<()> {
    until(&format!("{gpus} GPUs are sampled"), async || {
        let response = Agent::try_get_from(ADDRESS, "/metrics").context("it accepts no connections yet")?;
        let sampled = response.text().matches("\naccelerator_device_power_watts{").count();
        ensure!(sampled == gpus, "there are {sampled}");
        Ok(())
    })
    .await
}

pub(crate) async fn xid() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "nvidia-h100x8-nvml").await?;
    // Neither a sample nor a discovery is due: only the event itself makes the agent discover.
    let agent = setup.agent_with_intervals(&setup.bed.kubeconfig(), ["3600", "3600"]);
    let _agent = setup.bed.process("afd", agent)?;
    until_condition(&setup, "True").await?;
    let start = Instant::now();
    setup.host.driver_root().raise(json!({ "device": 2, "eventType": 8, "eventData": 79 }));
    let node = until_condition(&setup, "False").await?;
    setup.until_label("accelerator.llm-d.ai/healthy", "7").await?;
    println!("XID event to condition and label on the Node: {:.0?}", start.elapsed());
    ensure!(
        condition(&node).and_then(|ready| ready.message.as_deref()).is_some_and(|m| m.contains("XID 79"))
    );
    Ok(())
}

const CONTRADICTED: &str = "afd_probe_problems{probe=\"intel\",reason=\"contradicted\"}";

/// The series of a family of a device of Intel.
fn of_device(family: &str, bus: &str, label: &str) -> String {
    format!("{family}{{vendor=\"intel\",device=\"0000:{bus}:00.0\",uuid=\"\",partition=\"\",{label}}}")
}

/// A slice with four GPUs, of the health that the driver publishes: of the last one it publishes none.
fn slice_of_intel(generation: u64, health: [&str; 3]) -> Value {
    let device = |(bus, health): (&str, Option<&&str>)| {
        let attributes: serde_json::Map<String, Value> =
            health.map(|health| ("health".to_owned(), json!({ "string": health }))).into_iter().collect();
        json!({ "name": format!("0000-{bus}-00-0-0xe211"), "attributes": attributes })
    };
    let health = health.iter().map(Some).chain([None]);
    let devices: Vec<Value> = ["03", "13", "23", "33"].into_iter().zip(health).map(device).collect();
    let pool = json!({ "name": NODE, "generation": generation, "resourceSliceCount": 1 });
    json!({ "metadata": { "name": "gpus" }, "spec": { "driver": "gpu.intel.com", "nodeName": NODE, "pool": pool, "devices": devices } })
}

/// What the annotation says of the health of a device that another source contradicts.
async fn contradictions(setup: &NodeSetup) -> anyhow::Result<Vec<String>> {
    let node = setup.node().await?;
    let report: Value = serde_json::from_str(node.annotations().get(REPORT).context("there is no report")?)?;
    let problems = report["problems"].as_array().into_iter().flatten();
    let own = problems.filter(|problem| problem["fact"] == "health" && problem["device"] == "0000:03:00.0");
    Ok(own.filter_map(|problem| problem["message"].as_str().map(str::to_owned)).collect())
}

pub(crate) async fn published_health() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "intel-arc-pro-b60-x4").await?;
    let slices: Api<ResourceSlice> = Api::all(setup.bed.client().await?);
    let first = serde_json::from_value(slice_of_intel(1, ["Unhealthy", "Healthy", "Unknown"]))?;
    slices.create(&PostParams::default(), &first).await?;
    let mut agent = setup.agent(&setup.bed.kubeconfig());
    agent.args(removal_grace("1"));
    let _agent = setup.bed.process("afd", agent)?;
    setup.until_label(COUNT, "4").await?;
    let published =
        |bus: &str| of_device("accelerator_device_published_health", bus, "driver=\"gpu.intel.com\"");
    let healthy = |bus: &str| of_device("accelerator_device_health", bus, "state=\"healthy\"");
    until_metric(&published("03"), 0.0).await?;
    until_metric(&published("13"), 1.0).await?;
    for bus in ["23", "33"] {
        ensure!(metric(&published(bus)).is_none(), "the driver says neither of {bus}");
    }
    until_metric(CONTRADICTED, 1.0).await?;
    until("the annotation names it", async || {
        let messages = contradictions(&setup).await?;
        let is_named = |message: &String| {
            message.contains("gpu.intel.com publishes health=Unhealthy, and here the device is healthy")
        };
        ensure!(messages.len() == 1 && messages.iter().all(is_named), "{messages:?}");
        Ok(())
    })
    .await?;
    ensure!(metric(&healthy("03")) == Some(1.0), "what the driver says overrides nothing");

    let agreeing = slice_of_intel(2, ["Healthy", "Healthy", "Healthy"]);
    slices.patch("gpus", &PatchParams::default(), &Patch::Merge(agreeing)).await?;
    until_metric(&published("03"), 1.0).await?;
    until("both agree", async || {
        let (counted, messages) = (metric(CONTRADICTED), contradictions(&setup).await?);
        ensure!(counted.is_none() && messages.is_empty(), "{counted:?} {messages:?}");
        Ok(())
    })
    .await
}
