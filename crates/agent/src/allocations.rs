//! Follows which pods hold the devices: queries the kubelet periodically and publishes its last report.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use afd_kubelet::{Kubelet, KubeletReport};
use tokio::sync::watch;

use crate::agent_metrics::AgentMetrics;

/// Time between two requests. The kubelet serves a hundred per second to all its clients together.
const INTERVAL: Duration = Duration::from_secs(5);
/// A report expires when the kubelet has not responded for this long.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Queries the kubelet forever, and calls `changed` when its report changes.
pub async fn follow(
    directory: &Path,
    sender: watch::Sender<Option<KubeletReport>>,
    metrics: AgentMetrics,
    changed: impl Fn(),
) {
    let mut kubelet = Kubelet::new(directory);
    let mut responded_at = Instant::now();
    let mut failing = false;
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let report = match kubelet.list().await {
            Ok(report) => {
                if failing {
                    tracing::info!("the kubelet responds again");
                }
                (failing, responded_at) = (false, Instant::now());
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
