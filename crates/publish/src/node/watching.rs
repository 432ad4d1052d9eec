//! The wait between two rounds: a watch of the Node.

use std::time::Duration;

use afd_apiserver::{MAX_BACKOFF, MAX_WATCH_DURATION};
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{DesiredNode, api::NodeWatchEvent, observed::ObservedNode, reconciler::NodeReconciler};

impl NodeReconciler {
    /// Waits until something has to be written. Returns none once the sender of desired states is dropped.
    pub(super) async fn wait(&mut self, desired: &mut watch::Receiver<Option<DesiredNode>>) -> Option<()> {
        let Some(observed) = &self.observed else { return Some(()) };
        let begun = Instant::now();
        let version = &observed.metadata.resource_version;
        let bookmark = self.bookmark.as_ref().filter(|(of, _)| of == version);
        let from = bookmark.map_or(version, |(_, bookmark)| bookmark);
        let stream = match self.api.watch(&self.settings.name, from).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "watching the Node failed");
                (self.observed, self.bookmark) = (None, None);
                let retry_after = error.retry_after.unwrap_or_default();
                let delay = self.watch_backoff.next_delay(None).saturating_sub(retry_after);
                sleep(retry_after).await;
                return sleep_or_changed(desired, delay).await;
            }
        };
        tokio::pin!(stream);
        loop {
            let due = self.due(desired.borrow().as_ref()).map(|due| Instant::now() + due);
            tokio::select! {
                changed = desired.changed() => return changed.ok(),
                () = sleep_until(due.unwrap_or(begun + MAX_WATCH_DURATION)), if due.is_some() => return Some(()),
                () = sleep_until(begun + MAX_WATCH_DURATION) => {
                    self.api.calls().watch_timed_out();
                    self.observed = None;
                    return Some(());
                }
                event = stream.next() => match event {
                    Some(Ok(NodeWatchEvent::Changed(node))) => {
                        let repeated = self.observe_change(*node);
                        if self.due(desired.borrow().as_ref()) == Some(Duration::ZERO) {
                            return self.delay_correction(repeated, desired).await;
                        }
                    }
                    Some(Ok(NodeWatchEvent::Bookmark(resource_version))) => {
                        // It is no version of this Node: a write that names it would be refused.
                        let of = self.observed.as_ref().map(|node| node.metadata.resource_version.clone());
                        self.bookmark = of.map(|of| (of, resource_version));
                    }
                    ended => {
                        let duration = begun.elapsed();
                        if let Some(Err(error)) = &ended {
                            self.api.calls().watch_failed(error);
                        }
                        // Only a watch that the server ended by its timeout is resumed.
                        if duration <= MAX_BACKOFF || ended.is_some() {
                            (self.observed, self.bookmark) = (None, None);
                        }
                        let delay = self.watch_backoff.after_watch(duration);
                        return sleep_or_changed(desired, delay).await;
                    }
                }
            }
        }
    }

    /// Takes a new version of the Node. Returns whether it comes soon after another field manager's change was corrected.
    fn observe_change(&mut self, node: ObservedNode) -> bool {
        self.notify(&node);
        let repeated = self.corrected_at.is_some_and(|at| at.elapsed() < MAX_BACKOFF);
        let removed = self.observed.as_ref().is_some_and(|before| self.api.removed_by_others(before, &node));
        if removed {
            self.corrected_at = Some(Instant::now());
        }
        self.observed = Some(node);
        repeated
    }

    /// A change by another field manager is corrected at once, and with a back-off if it is repeated: otherwise two managers
    /// would overwrite each other forever, as fast as the server allows.
    async fn delay_correction(
        &mut self,
        repeated: bool,
        desired: &mut watch::Receiver<Option<DesiredNode>>,
    ) -> Option<()> {
        if !repeated {
            self.conflict_backoff.reset();
            return Some(());
        }
        self.observed = None;
        let delay = self.conflict_backoff.next_delay(None);
        sleep_or_changed(desired, delay).await
    }
}

/// Sleeps until the delay is over or the desired state changes.
async fn sleep_or_changed(desired: &mut watch::Receiver<Option<DesiredNode>>, delay: Duration) -> Option<()> {
    tokio::select! {
        () = sleep(delay) => Some(()),
        changed = desired.changed() => changed.ok(),
    }
}
