//! How long it takes from a device that comes to the label on the Node: the real binary, a real API server and a real event of
//! the kernel.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant},
};

use afd_test_cluster::{Version, until};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};

use crate::scene::{ADDRESS, COUNT, NODE, Scene, metric};

const RUNS: usize = 12;
/// The budget.
const BUDGET: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent looks by itself only once an hour here: what is told comes of the event. That a device is gone is told after
/// three looks, which take three events.
pub(crate) async fn latency() -> anyhow::Result<()> {
    let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
    let bell = Bell::find()?;
    let mut command =
        scene.host.afd(["run", "--node-name", NODE, "--listen", ADDRESS, "--start-spread", "0"]);
    command
        .args(["--sample-interval", "5", "--discovery-interval", "3600", "--kubeconfig"])
        .arg(scene.bed.kubeconfig());
    let _agent = scene.bed.process("afd", command)?;
    scene.until_label(COUNT, "8").await?;
    let (link, target) = scene.host.pci_link("0x1020");
    let mut times = Vec::new();
    for _ in 0..RUNS {
        fs::remove_file(&link)?;
        for _ in 0..3 {
            bell.ring()?;
            // Longer than events are gathered for.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        scene.until_label(COUNT, "7").await?;
        let version = scene.nodes.get_metadata(NODE).await?.metadata.resource_version.unwrap_or_default();
        let begun = Instant::now();
        symlink(&target, &link)?;
        bell.ring()?;
        until_count(&scene.nodes, &version, "8").await?;
        times.push(begun.elapsed());
    }
    times.sort();
    let milliseconds: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    let (median, slowest) = (times[RUNS / 2], times[RUNS - 1]);
    println!(
        "device in the host root to label on the Node, {RUNS} runs: median {median:.0?}, slowest {slowest:.0?}"
    );
    println!("  {milliseconds:?} ms");
    ensure!(median <= BUDGET, "the median is {median:?}: {milliseconds:?} ms");
    // The metrics are made anew at each sample.
    until("the writes are counted", async || {
        let writes = metric("afd_label_writes_total ");
        ensure!(
            writes == Some((1 + 2 * RUNS) as f64),
            "{writes:?} writes for {RUNS} departures and arrivals"
        );
        Ok(())
    })
    .await
}

/// Waits for the API server's own word that the count is so.
async fn until_count(nodes: &Api<Node>, version: &str, count: &str) -> anyhow::Result<()> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={NODE}"));
    let stream = nodes.watch_metadata(&parameters, version).await?;
    pin_mut!(stream);
    let told = async {
        while let Some(event) = stream.next().await {
            if let WatchEvent::Modified(node) = event?
                && node
                    .metadata
                    .labels
                    .is_some_and(|labels| labels.get(COUNT).is_some_and(|label| label == count))
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, told).await.context("the label does not come")?
}

/// A device of this machine whose event the kernel can be asked to send again (`Documentation/ABI/testing/sysfs-uevent`).
struct Bell(PathBuf);

impl Bell {
    /// A platform device: those are not part of a container's own network, so that the event reaches every namespace.
    fn find() -> anyhow::Result<Bell> {
        let devices = fs::read_dir("/sys/bus/platform/devices").context("listing platform devices")?;
        let mut files: Vec<PathBuf> = devices.flatten().map(|entry| entry.path().join("uevent")).collect();
        files.sort();
        let file = files.into_iter().find(|file| file.exists()).context("there is no platform device")?;
        Ok(Bell(file))
    }

    fn ring(&self) -> anyhow::Result<()> {
        fs::write(&self.0, "change").with_context(|| format!("writing {}", self.0.display()))
    }
}
