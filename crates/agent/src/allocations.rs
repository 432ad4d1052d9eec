//! Follows which pods hold the devices: queries the kubelet periodically and publishes its last report.
//!
//! It runs in a thread of its own: a response may have tens of megabytes, and scrapes do not wait until it was read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use afd_kubelet::{Kubelet, KubeletReport, MAX_AGE, UnitNames};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{agent_metrics::AgentMetrics, run};

/// Time between two requests. The kubelet serves a hundred per second to all its clients together.
const INTERVAL: Duration = Duration::from_secs(5);
/// Reading responses needs little stack.
const STACK_BYTES: usize = 512 << 10;

/// The names of the devices, once there is an inventory.
type LatestNames = watch::Receiver<Option<Arc<UnitNames>>>;

/// Queries the kubelet forever, and calls `changed` when its report changes.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(
    directory: PathBuf,
    names: LatestNames,
    sender: watch::Sender<Option<KubeletReport>>,
    metrics: AgentMetrics,
    changed: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let follow = move || {
        let followed = run::block_on(async {
            follow(&directory, names, sender, metrics, changed).await;
            Ok(())
        });
        if let Err(error) = followed {
            tracing::error!(%error, "allocations are not followed");
        }
    };
    thread::Builder::new().name("kubelet".to_owned()).stack_size(STACK_BYTES).spawn(follow).map(drop)
}

async fn follow(
    directory: &Path,
    mut names: LatestNames,
    sender: watch::Sender<Option<KubeletReport>>,
    metrics: AgentMetrics,
    changed: impl Fn(),
) {
    let mut kubelet = Kubelet::new(directory);
    let mut responded_at = Instant::now();
    let (mut failing, mut allocatable_failing, mut skipping) = (false, false, false);
    let mut interval = interval(INTERVAL);
    // A kubelet that responds slowly is not asked more often afterwards.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(known) = next_request(&mut names, &mut interval).await {
        let report = match kubelet.list(&known).await {
            Ok(report) => {
                if failing {
                    tracing::info!("the kubelet responds again");
                }
                (failing, responded_at) = (false, Instant::now());
                let error = kubelet.allocatable_error();
                if let Some(error) = error {
                    metrics.kubelet_failed();
                    if !allocatable_failing {
                        tracing::warn!(
                            %error,
                            "PodResources does not say what is allocatable, so what device plugins offer is not updated; retrying"
                        );
                    }
                }
                allocatable_failing = error.is_some();
                metrics.kubelet_skipped(report.skipped);
                if report.skipped > 0 && !skipping {
                    tracing::warn!(
                        skipped = report.skipped,
                        "PodResources has more device ids than are read, or ids that are no names"
                    );
                }
                skipping = report.skipped > 0;
                Some(report)
            }
            Err(error) => {
                metrics.kubelet_failed();
                if !failing {
                    tracing::warn!(%error, "PodResources cannot be read, so allocations are not updated; retrying");
                }
                failing = true;
                if responded_at.elapsed() < MAX_AGE {
                    continue;
                }
                None
            }
        };
        let has_changed = sender.send_if_modified(|last| {
            let has_changed = *last != report;
            *last = report;
            has_changed
        });
        if has_changed {
            changed();
        }
    }
}

/// Waits for the next request: at intervals, and when the names change. None when the agent ends.
async fn next_request(
    names: &mut LatestNames,
    interval: &mut tokio::time::Interval,
) -> Option<Arc<UnitNames>> {
    loop {
        tokio::select! {
            changed = names.changed() => changed.ok()?,
            _ = interval.tick() => {}
        }
        if let Some(names) = names.borrow_and_update().clone() {
            return Some(names);
        }
    }
}
