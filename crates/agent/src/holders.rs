//! Who holds the devices: asks the kubelet again and again, and keeps what it said last.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use afd_kubelet::{Hold, Kubelet};
use tokio::sync::watch;

use crate::agent_metrics::AgentMetrics;

/// Between two questions. The kubelet takes a hundred a second from all its clients; a pod starts in more than this.
const INTERVAL: Duration = Duration::from_secs(5);
/// After this time without an answer nobody knows any more who holds what.
const STALE: Duration = Duration::from_secs(60);

/// What the kubelet said last; empty while nobody knows.
pub type Holders = watch::Receiver<Vec<Hold>>;

/// Asks for ever, and calls `changed` when somebody else holds something.
pub async fn follow(
    folder: &Path,
    publish: watch::Sender<Vec<Hold>>,
    metrics: AgentMetrics,
    changed: impl Fn(),
) {
    let mut kubelet = Kubelet::new(folder);
    let mut answered = Instant::now();
    let mut failing = false;
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let holds = match kubelet.list().await {
            Ok(answer) => {
                if failing {
                    tracing::info!("the kubelet answers again");
                }
                (failing, answered) = (false, Instant::now());
                answer.holds
            }
            Err(error) => {
                metrics.kubelet_failed();
                if !failing {
                    tracing::warn!(%error, "the kubelet does not tell who holds the devices; asking on");
                }
                failing = true;
                if answered.elapsed() < STALE {
                    continue;
                }
                Vec::new()
            }
        };
        if publish.send_if_modified(|last| std::mem::replace(last, holds.clone()) != holds) {
            changed();
        }
    }
}
