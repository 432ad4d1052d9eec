//! The driver, or the devices, are being worked on.

use std::time::Duration;

use afd_test_cluster::until;
use anyhow::ensure;
use serde_json::json;

use crate::{
    driver::{UnloadedDriver, holders},
    scene::{ALL_HEALTHY, NO_FAULT, Scene, until_sampled},
};

/// The label in which NVIDIA's GPU operator reports the progress of an upgrade of the driver.
const UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
/// The label in which NVIDIA's MIG manager reports what it does.
const MIG_STATE: &str = "nvidia.com/mig.config.state";
const DRIVER_VERSION: &str = "accelerator.llm-d.ai/driver-version";
const OLD: &str = "580.105.08";
const NEW: &str = "590.48.01";
/// Longer than all graces of these tests.
const WORK: Duration = Duration::from_secs(12);

async fn label(scene: &Scene, key: &str, value: &str) -> anyhow::Result<()> {
    scene.setup.patch_as_other(json!({ "metadata": { "labels": { key: value } } })).await
}

pub(crate) async fn announced_upgrade() -> anyhow::Result<()> {
    const UPGRADING: &str = "Unknown DriverUpgrade";
    // Without the announcement the driver would be missed.
    let mut scene = Scene::settled(&[("driver-grace", "4"), ("fault-grace", "2")]).await?;
    let mark = scene.witness.mark().await?;
    label(&scene, UPGRADE, "upgrade-required").await?;
    scene.until_idle().await?;
    ensure!(scene.now().await?.condition("Ready") == ALL_HEALTHY, "the work has not begun");
    for state in ["pod-deletion-required", "pod-restart-required"] {
        label(&scene, UPGRADE, state).await?;
    }
    scene.until_condition("Ready", UPGRADING).await?;
    until_released(&scene).await?;
    let driver = UnloadedDriver::unload(&scene)?;
    tokio::time::sleep(WORK).await;
    // The agent is restarted like all pods of the node.
    scene.restart()?;
    tokio::time::sleep(WORK).await;
    driver.load(NEW)?;
    label(&scene, UPGRADE, "validation-required").await?;
    scene.until_idle().await?;
    label(&scene, UPGRADE, "upgrade-done").await?;
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    scene.setup.until_label(DRIVER_VERSION, NEW).await?;
    until_sampled(8).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    let of_driver = history.keys_with("nvidia.com/cuda.driver");
    let of_driver: Vec<&str> = of_driver.iter().map(String::as_str).chain([DRIVER_VERSION]).collect();
    history.ensure_labels_stay(&of_driver)?;
    history.ensure_no_flapping(&[])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, UPGRADING, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}

/// Waits until no process has the library loaded: a handle to the driver would make its replacement or a reset fail.
async fn until_released(scene: &Scene) -> anyhow::Result<()> {
    let library = scene.nvml().library();
    until("no process holds the library", async || {
        let holders = holders(&library)?;
        ensure!(holders.is_empty(), "{holders:?} do");
        Ok(())
    })
    .await
}

pub(crate) async fn silent_upgrade() -> anyhow::Result<()> {
    const INSTALLING: &str = "Unknown DriverInstalling";
    let scene = Scene::settled(&[("library-grace", "2"), ("fault-grace", "2")]).await?;
    let mark = scene.witness.mark().await?;
    let driver = UnloadedDriver::unload(&scene)?;
    scene.until_condition("Ready", INSTALLING).await?;
    tokio::time::sleep(WORK).await;
    driver.load(OLD)?;
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    until_sampled(8).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, INSTALLING, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}

pub(crate) async fn mig() -> anyhow::Result<()> {
    const RECONFIGURING: &str = "Unknown Reconfiguring";
    let scene = Scene::settled(&[("fault-grace", "2")]).await?;
    let mark = scene.witness.mark().await?;
    ensure!(holders(&scene.nvml().library())?.len() == 1, "one process holds the library");
    label(&scene, MIG_STATE, "pending").await?;
    scene.until_condition("Ready", RECONFIGURING).await?;
    until_released(&scene).await?;
    // It is not started again while the manager resets the GPUs.
    tokio::time::sleep(WORK / 2).await;
    ensure!(holders(&scene.nvml().library())?.is_empty(), "a process holds the library again");
    label(&scene, MIG_STATE, "success").await?;
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    until_sampled(8).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, RECONFIGURING, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}
