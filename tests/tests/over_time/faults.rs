//! Faults of devices.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::scene::{ALL_HEALTHY, HEALTHY, NO_FAULT, Scene};

/// `--fault-grace` of these tests.
const GRACE: Duration = Duration::from_secs(6);
const LOST: usize = 2;
const HANDLE: &str = "nvmlDeviceGetHandleByIndex_v2";

pub(crate) async fn lost() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let start = Instant::now();
    scene.nvml().answer(LOST, HANDLE, json!({ "error": "GPU_IS_LOST" }));
    scene.setup.until_label(HEALTHY, "7").await?;
    scene.until_condition("Ready", "False GpuLost").await?;
    scene.until_condition("Problem", "True GpuLost").await?;
    ensure!(start.elapsed() >= GRACE, "the problem came after {:?}", start.elapsed());
    scene.nvml().update(|recording| {
        let answers = recording["devices"][LOST]["answers"].as_object_mut();
        answers.and_then(|answers| answers.remove(HANDLE)).map(drop).expect("it has this answer");
    });
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    scene.until_condition("Problem", NO_FAULT).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[HEALTHY])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, "False GpuLost", ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT, "True GpuLost", NO_FAULT])?;
    // The device has failed at once, and is a problem of the node only after its grace.
    let failed = history.first_with("Ready", "False GpuLost")?;
    ensure!(failed.condition("Problem") == NO_FAULT, "{failed:?}");
    Ok(())
}

pub(crate) async fn xid() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let mut address = String::new();
    scene.nvml().update(|recording| {
        let bus = &recording["devices"][LOST]["answers"]["nvmlDeviceGetPciInfo_v3"]["value"]["busId"];
        address = bus.as_str().expect("a GPU has an address").to_lowercase();
    });
    // NVML has eight digits for the domain.
    let address = address[address.len() - "0000:00:00.0".len()..].to_owned();
    scene.nvml().raise(json!({ "device": LOST, "eventType": 8, "eventData": 79 }));
    let message = scene.until_condition("Ready", "False Xid79").await?;
    ensure!(message.contains(&address), "the message is {message}");
    scene.until_condition("Problem", "True Xid79").await?;
    let printed = scene.operator(&["clear", &address])?;
    ensure!(printed.contains(&address), "it prints {printed}");
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    scene.until_condition("Problem", NO_FAULT).await?;
    scene.setup.until_label(HEALTHY, "8").await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[HEALTHY])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, "False Xid79", ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT, "True Xid79", NO_FAULT])
}
