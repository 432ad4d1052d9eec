//! Devices come and go.

use std::{fs, os::unix::fs::symlink, time::Duration};

use afd_test_cluster::until;
use anyhow::ensure;
use kube::ResourceExt;

use crate::{
    scene::{ALL_HEALTHY, HEALTHY, NO_FAULT, Scene, lines, offer, repeat, writes},
    setup::COUNT,
};

/// The device id of the GPUs.
const H100: &str = "0x2330";
/// Their product, as a label of metrics.
const PRODUCT: &str = "product=\"NVIDIA H100 80GB HBM3\"";
const MISSING: &str = "accelerator.llm-d.ai/missing";
const DEVICE_MISSING: &str = "DeviceMissing";

/// A GPU is away for less than the grace, while the device plugin offers seven and eight in turn: many observations.
pub(crate) async fn rescan() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let (mark, written) = (scene.witness.mark().await?, writes());
    let (link, target) = scene.setup.host.pci_link(H100);
    fs::remove_file(&link)?;
    repeat(Duration::from_millis(2500), Duration::from_millis(200), async |number| {
        offer(&scene.setup, 7 + number % 2).await
    })
    .await?;
    let seen = lines("accelerator_device_info{").len();
    ensure!(seen == 7, "the agent has not seen that a GPU is away: it shows {seen}");
    symlink(target, link)?;
    offer(&scene.setup, 8).await?;
    until("the GPU is back", async || {
        let seen = lines("accelerator_device_info{").len();
        ensure!(seen == 8, "there are {seen}");
        Ok(())
    })
    .await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()?;
    ensure!(writes() == written, "the agent sent {} writes", writes() - written);
    Ok(())
}

/// One of eight GPUs is removed, later all of them, and an operator accepts it.
pub(crate) async fn missing() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let (link, _) = scene.setup.host.pci_link(H100);
    let address = link.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    fs::remove_file(&link)?;
    let message = scene.until_condition("Ready", &format!("False {DEVICE_MISSING}")).await?;
    ensure!(message.contains(&address) && message.contains("10de:2330"), "the message is {message}");
    scene.until_condition("Problem", &format!("True {DEVICE_MISSING}")).await?;
    scene.setup.until_label(MISSING, "1").await?;
    scene.setup.until_label(COUNT, "7").await?;
    until_devices([("present", 7), ("expected", 8), ("missing", 1), ("healthy", 7)]).await?;

    let bus = link.parent().expect("a link is in a folder").to_owned();
    for link in fs::read_dir(bus)? {
        fs::remove_file(link?.path())?;
    }
    scene.setup.until_label(MISSING, "8").await?;
    until_devices([("present", 0), ("expected", 8), ("missing", 8), ("healthy", 0)]).await?;
    scene.until_idle().await?;
    // A new agent has seen none of them.
    scene.restart()?;
    until_devices([("present", 0), ("expected", 8), ("missing", 8), ("healthy", 0)]).await?;
    let lines = lines("accelerator_devices{vendor=\"nvidia\"");
    ensure!(lines.iter().all(|line| line.contains(PRODUCT)), "the product is not named: {lines:?}");
    scene.until_idle().await?;
    let node = scene.setup.node().await?;
    ensure!(
        node.labels().keys().filter(|key| key.contains("llm-d.ai/")).eq([MISSING]),
        "the labels are {:?}",
        node.labels()
    );

    let printed = scene.operator(&["forget"])?;
    ensure!(printed.matches("missing-").count() == 8, "it prints {printed}");
    scene.until_condition("Ready", "none").await?;
    scene.until_condition("Problem", "none").await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_no_flapping(&[MISSING])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, "False DeviceMissing", "none"])?;
    history.ensure_condition("Problem", &[NO_FAULT, "True DeviceMissing", "none"])?;
    ensure!(!history.last().own_labels().contains_key(HEALTHY), "{:?}", history.last());
    Ok(())
}

/// Waits for values of `accelerator_devices`, by state.
async fn until_devices(states: [(&str, u32); 4]) -> anyhow::Result<()> {
    until(&format!("the devices are {states:?}"), async || {
        let lines = lines("accelerator_devices{vendor=\"nvidia\"");
        for (state, number) in states {
            let of_state = lines.iter().filter(|line| line.contains(&format!("state=\"{state}\"")));
            let numbers = of_state.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
            ensure!(numbers.collect::<Vec<_>>() == [number], "they are {lines:?}");
        }
        Ok(())
    })
    .await
}
