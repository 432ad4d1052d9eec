//! What changes of the devices and of their driver, and when the Node says so.

use std::{
    fs,
    time::{Duration, Instant},
};

use afd_test_cluster::{KubernetesVersion, until};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    NVIDIA_COUNT, condition,
    setup::{ADDRESS, COUNT, NodeSetup, metric},
    start, until_condition, until_watching,
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
