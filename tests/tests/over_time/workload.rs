//! A state of a device that follows the workload: Gaudi's driver resets a device after each job.

use std::{fs, path::PathBuf, time::Duration};

use afd_test_cluster::until;
use anyhow::{Context, ensure};
use serde_json::json;

use crate::scene::{HEALTHY, Scene, lines, node_of, writes};

/// How long the reset takes. It is several discoveries, and less than the grace, which is 120 seconds.
const RESET: Duration = Duration::from_secs(20);
/// How much later than the device its links work.
const LATE_LINKS: Duration = Duration::from_secs(5);
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";

/// A job ends; its device is reset, during which HLML has lost it, and the links of the other devices with it are down. They go
/// up some time after the reset. No label and no condition moves.
pub(crate) async fn reset_after_release() -> anyhow::Result<()> {
    let scene = Scene::start(node_of("gaudi2-x8").await?, &[]).await?;
    scene.until_settled().await?;
    until_sampled(8).await?;
    let (mark, written) = (scene.witness.mark().await?, writes());
    let status = status_file(&scene)?;
    let library = scene.setup.host.driver_root();
    // The first device of the library.
    let call = "hlml_device_get_pci_info";
    library.answer(0, call, json!({ "error": "AIP_IS_LOST" }));
    fs::write(&status, "In reset after device release\n")?;
    set_links_of_others(&scene, false);
    until_sampled(7).await?;
    tokio::time::sleep(RESET).await;
    ensure!(lines("accelerator_device_info{").len() == 8, "the device stays");
    ensure!(lines(UTILIZATION).len() == 7, "the library still does not answer");
    library.answer(0, call, json!({ "value": { "bus_id": ADDRESS, "pci_device_id": 0x1020_1da3 } }));
    fs::write(&status, "Operational\n")?;
    until_sampled(8).await?;
    tokio::time::sleep(LATE_LINKS).await;
    set_links_of_others(&scene, true);
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()?;
    ensure!(writes() == written, "the agent sent {} writes", writes() - written);

    // A reset for another reason is a fault.
    fs::write(&status, "In reset\n")?;
    scene.setup.until_label(HEALTHY, "7").await?;
    fs::write(&status, "Operational\n")?;
    scene.setup.until_label(HEALTHY, "8").await?;
    Ok(())
}

/// The device of which the library reports first.
const ADDRESS: &str = "0000:33:00.0";

/// Sets the state of the links that the other devices have to the first one.
fn set_links_of_others(scene: &Scene, up: bool) {
    for index in 1..8 {
        for port in 0..3 {
            let call = format!("hlml_nic_get_link({port})");
            scene.setup.host.driver_root().answer(index, &call, json!({ "value": up }));
        }
    }
}

fn status_file(scene: &Scene) -> anyhow::Result<PathBuf> {
    let function = scene.setup.host.root().join("sys/bus/pci/devices").join(ADDRESS);
    Ok(fs::canonicalize(function).context("the device is there")?.join("status"))
}

async fn until_sampled(devices: usize) -> anyhow::Result<()> {
    until(&format!("the library reports of {devices} devices"), async || {
        let sampled = lines(UTILIZATION).len();
        ensure!(sampled == devices, "there are {sampled}");
        Ok(())
    })
    .await
}
