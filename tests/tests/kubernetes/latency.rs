//! The time from a new device to the label on the Node: the real binary, a real API server and a real uevent.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant},
};

use afd_test_cluster::{KubernetesVersion, until};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};

use crate::setup::{ADDRESS, COUNT, NODE, NodeSetup, metric};

/// Runs of the benchmark.
pub(crate) const RUNS: usize = 12;
/// The budget of the median.
pub(crate) const BUDGET: Duration = Duration::from_secs(1);
/// How long to wait for a label.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Adds and removes a device a number of times. No periodic discovery is due, so every change is caused by a uevent.
pub(crate) async fn latency(runs: usize, budget: Option<Duration>) -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let trigger = UeventTrigger::find()?;
    let mut command =
        setup.host.afd(["run", "--node-name", NODE, "--listen", ADDRESS, "--start-spread", "0"]);
    command
        .args(["--sample-interval", "5", "--discovery-interval", "3600", "--write-interval", "0.1"])
        .args(["--removal-grace", "0.5", "--boot-removal-grace", "0.5", "--kubeconfig"])
        .arg(setup.bed.kubeconfig());
    let _agent = setup.bed.process("afd", command)?;
    setup.until_label(COUNT, "8").await?;
    let (link, target) = setup.host.pci_link("0x1020");
    let mut times = Vec::new();
    for _ in 0..runs {
        fs::remove_file(&link)?;
        until("the label lacks the removed device", async || {
            trigger.send()?;
            // Longer than the agent waits for further events.
            tokio::time::sleep(Duration::from_millis(600)).await;
            let node = setup.node().await?;
            let count = node.labels().get(COUNT).map(String::as_str);
            ensure!(count == Some("7"), "{COUNT} is {count:?}");
            Ok(())
        })
        .await?;
        let version = setup.nodes.get_metadata(NODE).await?.metadata.resource_version.unwrap_or_default();
        let start = Instant::now();
        symlink(&target, &link)?;
        trigger.send()?;
        until_count(&setup.nodes, &version, "8").await?;
        times.push(start.elapsed());
    }
    times.sort();
    let milliseconds: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    let (median, slowest) = (times[runs / 2], times[runs - 1]);
    println!(
        "device in the host root to label on the Node, {runs} runs: median {median:.0?}, slowest {slowest:.0?}"
    );
    println!("  {milliseconds:?} ms");
    if let Some(budget) = budget {
        ensure!(median <= budget, "the median is {median:?}: {milliseconds:?} ms");
    }
    // The metrics change with the next sample only.
    until("the writes are counted", async || {
        let writes = metric("afd_label_writes_total ");
        ensure!(writes == Some((1 + 2 * runs) as f64), "{writes:?} writes for {runs} removals and additions");
        Ok(())
    })
    .await
}

/// Waits until the API server reports the count, by a watch.
async fn until_count(nodes: &Api<Node>, version: &str, count: &str) -> anyhow::Result<()> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={NODE}"));
    let stream = nodes.watch_metadata(&parameters, version).await?;
    pin_mut!(stream);
    let reported = async {
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
    tokio::time::timeout(TIMEOUT, reported).await.context("the label is not updated")?
}

/// A device of this machine whose uevent can be triggered (`Documentation/ABI/testing/sysfs-uevent`).
struct UeventTrigger(PathBuf);

impl UeventTrigger {
    /// A platform device: it belongs to no network namespace, so its uevents reach all of them.
    fn find() -> anyhow::Result<UeventTrigger> {
        let devices = fs::read_dir("/sys/bus/platform/devices").context("listing platform devices")?;
        let mut files: Vec<PathBuf> = devices.flatten().map(|entry| entry.path().join("uevent")).collect();
        files.sort();
        let file = files.into_iter().find(|file| file.exists()).context("there is no platform device")?;
        Ok(UeventTrigger(file))
    }

    fn send(&self) -> anyhow::Result<()> {
        fs::write(&self.0, "change").with_context(|| format!("writing {}", self.0.display()))
    }
}
