//! Who holds the devices: asks the kubelet again and again, and keeps what it said last.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use afd_kubelet::{Answer, Kubelet};
use tokio::sync::watch;

use crate::agent_metrics::AgentMetrics;

/// Between two questions. The kubelet takes a hundred a second from all its clients; a pod starts in more than this.
const INTERVAL: Duration = Duration::from_secs(5);
/// After this time without an answer nobody knows any more who holds what.
const STALE: Duration = Duration::from_secs(60);

/// Asks for ever, and calls `changed` when the answer is another one. What the kubelet said last stays for a minute after
/// it stopped answering; then nobody knows.
pub async fn follow(
    folder: &Path,
    publish: watch::Sender<Option<Answer>>,
    metrics: AgentMetrics,
    changed: impl Fn(),
) {
    let mut kubelet = Kubelet::new(folder);
    let mut answered = Instant::now();
    let mut failing = false;
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let answer = match kubelet.list().await {
            Ok(answer) => {
                if failing {
                    tracing::info!("the kubelet answers again");
                }
                (failing, answered) = (false, Instant::now());
                Some(answer)
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
                None
            }
        };
        let is_other = publish.send_if_modified(|last| {
            let is_other = *last != answer;
            *last = answer;
            is_other
        });
        if is_other {
            changed();
        }
    }
}
