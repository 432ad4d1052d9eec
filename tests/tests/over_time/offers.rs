//! How Kubernetes offers the devices.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::scene::{ALL_HEALTHY, NO_FAULT, Scene, node, offer};

const ALLOCATION: &str = "accelerator.llm-d.ai/allocation";
const GRACE: Duration = Duration::from_secs(8);
const NOT_ALLOCATABLE: &str = "False NotAllocatable";

/// The device plugin starts after the agent: first within the grace, then after it.
pub(crate) async fn late_plugin() -> anyhow::Result<()> {
    let setup = node().await?;
    offer(&setup, 0).await?;
    let start = Instant::now();
    let scene = Scene::start(setup, &[("offer-grace", "8")]).await?;
    scene.setup.until_label(ALLOCATION, "none").await?;
    ensure!(scene.now().await?.condition("Ready") == "none", "the grace is not over");
    scene.until_condition("Ready", NOT_ALLOCATABLE).await?;
    ensure!(start.elapsed() >= GRACE, "it came after {:?}", start.elapsed());
    offer(&scene.setup, 8).await?;
    scene.until_settled().await?;
    let history = scene.witness.since(1).await?;
    history.ensure_condition("Ready", &["none", NOT_ALLOCATABLE, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &["none", NO_FAULT])?;

    // A plugin that is restarted offers nothing for a moment.
    let mark = scene.witness.mark().await?;
    offer(&scene.setup, 0).await?;
    tokio::time::sleep(GRACE / 2).await;
    offer(&scene.setup, 8).await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()
}
