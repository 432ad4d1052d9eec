//! What the Node object says: of which machine it is, and what an admin wants.

use std::fs;

use afd_test_cluster::{succeed, until};
use anyhow::{Context, ensure};
use kube::ResourceExt;

use crate::{
    scene::{
        ALL_HEALTHY, ESSENTIAL_CALLS, EXPECTED, MEMORY, NO_FAULT, Scene, command, set_machine, until_sampled,
    },
    setup::{COUNT, NODE, metric},
    witness::History,
};

const EXPECT: &str = "accelerator.llm-d.ai/expect";
const DEVICE_MISSING: &str = "False DeviceMissing";
const OTHER_UUID: &str = "a1b2c3d4-0000-4000-8000-00000000beef";
const OTHER_BOOT: &str = "11111111-2222-4333-8444-555555555555";

/// The boot of which the kernel speaks.
fn boot(setup: &crate::setup::NodeSetup, id: &str) -> anyhow::Result<()> {
    Ok(fs::write(setup.host.root().join("proc/sys/kernel/random/boot_id"), format!("{id}\n"))?)
}

/// A machine is replaced, and its Node object stays. The library of the new one does not answer.
pub(crate) async fn other_machine() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    scene.agent.kill()?;
    boot(&scene.setup, OTHER_BOOT)?;
    set_machine(&scene.setup, OTHER_UUID, OTHER_BOOT).await?;
    scene.nvml().fault("hang", &ESSENTIAL_CALLS);
    let mark = scene.witness.mark().await?;
    fs::remove_dir_all(scene.setup.bed.folder().join("state"))?;
    scene.agent = scene.setup.bed.process("afd-after", command(&scene.setup, &[]))?;
    scene.until_condition("Ready", "none").await?;
    until("the keys of the old machine are gone", async || {
        let node = scene.setup.node().await?;
        ensure!(!node.labels().contains_key(MEMORY), "{:?}", node.labels());
        Ok(())
    })
    .await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    first_write(&history)?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, "none"])?;
    history.ensure_condition("Problem", &[NO_FAULT, "none"])?;
    // What the kernel alone knows is decided.
    let (before, now) = (history.first().own_labels(), history.last().own_labels());
    ensure!(now.get(COUNT) == Some(&"8"), "{now:?}");
    for (key, value) in &now {
        ensure!(before.get(key) == Some(value), "{key} is {value}, and was {:?}", before.get(key));
    }
    ensure!(history.last().annotation(EXPECTED) != history.first().annotation(EXPECTED), "{history:?}");

    // The new machine is learnt like any.
    scene.nvml().fault("hang", &[]);
    scene.agent.kill()?;
    scene.agent.restart()?;
    scene.until_settled().await?;
    let settled = scene.now().await?;
    ensure!(settled.own_labels() == before, "the labels are {:?}", settled.own_labels());
    Ok(())
}

/// The first write of the metadata removes all keys at once that it removes at all.
fn first_write(history: &History) -> anyhow::Result<()> {
    let labels: Vec<_> = history.label_sets();
    let (first, last) = (labels.get(1).context("nothing was written")?, labels.last());
    ensure!(labels.len() == 2, "{} sets of labels, the first {first:?} and the last {last:?}", labels.len());
    Ok(())
}

/// The machine was booted again, and the kubelet has not written the Node since.
pub(crate) async fn earlier_boot() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    scene.agent.kill()?;
    let mark = scene.witness.mark().await?;
    boot(&scene.setup, OTHER_BOOT)?;
    // A GPU has not survived the boot, which cannot be known yet.
    let (link, _) = scene.setup.host.pci_link("0x2330");
    fs::remove_file(link)?;
    scene.agent.restart()?;
    until_sampled(7).await?;
    until("the agent watches its Node", async || {
        metric("afd_kubernetes_requests_total{code=\"200\",verb=\"watch\"}").map(drop).context("it does not")
    })
    .await?;
    scene.until_idle().await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()?;

    let uuid = scene.setup.node().await?.status.and_then(|status| status.node_info);
    set_machine(&scene.setup, &uuid.context("there is no nodeInfo")?.system_uuid, OTHER_BOOT).await?;
    scene.until_condition("Ready", DEVICE_MISSING).await?;
    scene.setup.until_label(COUNT, "7").await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_no_flapping(&[])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, DEVICE_MISSING])
}

/// An admin edits the annotation with kubectl, and removes it again.
pub(crate) async fn expect() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let annotate = |annotation: &str| {
        let mut kubectl = scene.setup.bed.kubectl()?;
        kubectl.args(["annotate", "node", NODE, "--overwrite", annotation]);
        succeed(&mut kubectl)
    };
    for (value, ready) in [("nvidia/10de:2330=9", DEVICE_MISSING), ("off", ALL_HEALTHY)] {
        annotate(&format!("{EXPECT}={value}"))?;
        let edited = scene.witness.mark().await?;
        scene.until_condition("Ready", ready).await?;
        scene.until_idle().await?;
        scene.witness.since(edited).await?.ensure_annotation(EXPECT, value)?;
    }
    // Nothing is missed, although the agent has learnt eight.
    let (link, _) = scene.setup.host.pci_link("0x2330");
    fs::remove_file(link)?;
    scene.setup.until_label(COUNT, "7").await?;
    scene.until_idle().await?;
    ensure!(scene.now().await?.condition("Ready") == ALL_HEALTHY, "a missing device turns the condition");
    annotate(&format!("{EXPECT}-"))?;
    scene.until_condition("Ready", DEVICE_MISSING).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, DEVICE_MISSING, ALL_HEALTHY, DEVICE_MISSING])?;
    ensure!(history.last().annotation(EXPECT).is_none(), "the agent wrote the admin's annotation");
    let node = scene.setup.node().await?;
    ensure!(node.annotations().contains_key(EXPECTED), "{:?}", node.annotations());
    Ok(())
}
