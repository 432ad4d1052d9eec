//! One round of reconciling the Node, and the wait for the next one.

use std::{collections::BTreeSet, time::Duration};

use afd_apiserver::{Backoff, CallError, MAX_BACKOFF, MAX_WATCH_DURATION};
use futures_util::StreamExt;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    DesiredNode, NodeCounters, NodeMetadata, NodeObserver,
    api::{self, NodeApi, NodeWatchEvent},
    events::{self, EventRecorder},
    observed::ObservedNode,
    plan::{ApplyPlan, ObservedMetadata},
};

pub(super) struct NodeReconciler {
    api: NodeApi,
    events: EventRecorder,
    name: String,
    /// The Node as it was last read.
    observed: Option<ObservedNode>,
    /// Vendors' keys that another field manager took.
    given_up: BTreeSet<String>,
    /// When a label changed by another field manager was last corrected.
    corrected_at: Option<Instant>,
    /// For consecutive watches that ended before their timeout.
    watch_backoff: Backoff,
    /// For consecutive changes that came soon after a correction.
    conflict_backoff: Backoff,
    observer: NodeObserver,
}

impl NodeReconciler {
    pub(super) fn new(
        client: Client,
        name: &str,
        counters: NodeCounters,
        observer: NodeObserver,
    ) -> NodeReconciler {
        NodeReconciler {
            events: EventRecorder::new(client.clone(), counters.calls.clone()),
            api: NodeApi::new(client, counters),
            name: name.to_owned(),
            observed: None,
            given_up: BTreeSet::new(),
            corrected_at: None,
            watch_backoff: Backoff::default(),
            conflict_backoff: Backoff::default(),
            observer,
        }
    }

    /// Reads the Node and notifies the observer.
    pub(super) async fn observe(&mut self) -> Result<(), CallError> {
        let observed = self.api.get(&self.name).await?;
        self.notify(&observed);
        Ok(())
    }

    /// Writes what differs from the desired state.
    pub(super) async fn reconcile(&mut self, desired: &DesiredNode) -> Result<(), CallError> {
        let observed = match self.observed.take() {
            Some(observed) => observed,
            None => self.api.get(&self.name).await?,
        };
        self.notify(&observed);
        let plan = ApplyPlan::new(&observed.metadata, desired, &self.given_up);
        let observed = match plan.write {
            false => observed,
            true => self.apply(observed, desired, plan).await?,
        };
        self.observed = Some(self.apply_condition(observed, desired).await?);
        Ok(())
    }

    fn notify(&self, observed: &ObservedNode) {
        let ObservedMetadata { labels, annotations, .. } = &observed.metadata;
        (self.observer.metadata)(&NodeMetadata { labels, annotations });
        self.observer.resources.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&observed.resources);
            if changed {
                *last = Some(observed.resources.clone());
            }
            changed
        });
    }

    /// Applies the plan. Keys in conflict are left to the other field manager, unless they are under AFD's own prefix.
    async fn apply(
        &mut self,
        observed: ObservedNode,
        desired: &DesiredNode,
        plan: ApplyPlan,
    ) -> Result<ObservedNode, CallError> {
        for (key, owner) in &plan.contested {
            self.api.report_contested(key, owner);
            self.corrected_at = Some(Instant::now());
        }
        match self.api.apply(&self.name, &observed.metadata.uid, &plan, false).await {
            Err(error) if api::is_conflict(&error) => {
                for key in api::conflicting_keys(&error) {
                    if desired.compat.contains_key(&key) {
                        self.api.report_contested(&key, "another manager");
                        self.given_up.insert(key);
                    }
                }
                let observed = self.api.get(&self.name).await?;
                let plan = ApplyPlan::new(&observed.metadata, desired, &self.given_up);
                // The remaining conflicts are under the own prefix.
                self.api.apply(&self.name, &observed.metadata.uid, &plan, true).await
            }
            result => result,
        }
    }

    /// Applies the condition if it differs. Returns the resulting Node.
    async fn apply_condition(
        &self,
        observed: ObservedNode,
        desired: &DesiredNode,
    ) -> Result<ObservedNode, CallError> {
        let Some(condition) = &desired.condition else { return Ok(observed) };
        let current = observed.condition(&condition.kind);
        if current.as_ref().is_some_and(|(current, _)| current == condition) {
            return Ok(observed);
        }
        let transition = events::is_transition(current.as_ref().map(|(current, _)| current), condition);
        let since = current
            .filter(|(current, _)| current.status == condition.status)
            .and_then(|(_, since)| since.map(str::to_owned))
            .unwrap_or_else(api::now);
        let observed =
            self.api.apply_condition(&self.name, &observed.metadata.uid, condition, &since).await?;
        if transition {
            self.events.record(&self.name, &observed.metadata.uid, condition).await;
        }
        Ok(observed)
    }

    /// Waits until the desired state or the Node changes. Returns none once the sender of desired states is dropped.
    pub(super) async fn wait(&mut self, desired: &mut watch::Receiver<Option<DesiredNode>>) -> Option<()> {
        let Some(observed) = &self.observed else { return Some(()) };
        let begun = Instant::now();
        let stream = match self.api.watch(&self.name, &observed.metadata.resource_version).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "watching the Node failed");
                self.observed = None;
                let retry_after = error.retry_after.unwrap_or_default();
                let delay = self.watch_backoff.next_delay(None).saturating_sub(retry_after);
                sleep(retry_after).await;
                return sleep_or_changed(desired, delay).await;
            }
        };
        tokio::pin!(stream);
        loop {
            tokio::select! {
                changed = desired.changed() => return changed.ok(),
                () = sleep_until(begun + MAX_WATCH_DURATION) => {
                    self.api.calls().watch_timed_out();
                    self.observed = None;
                    return Some(());
                }
                event = stream.next() => match event {
                    Some(Ok(NodeWatchEvent::Changed(node))) => {
                        self.notify(&node);
                        let before = self.observed.replace(node.clone());
                        if before.as_ref().is_none_or(|before| before.differs(&node)) {
                            return self.delay_correction(before.as_ref(), &node, desired).await;
                        }
                    }
                    Some(Ok(NodeWatchEvent::Bookmark(resource_version))) => {
                        if let Some(observed) = &mut self.observed {
                            observed.metadata.resource_version = resource_version;
                        }
                    }
                    ended => {
                        let duration = begun.elapsed();
                        if let Some(Err(error)) = &ended {
                            self.api.calls().watch_failed(error);
                        }
                        // Only a watch that the server ended by its timeout is resumed.
                        if duration <= MAX_BACKOFF || ended.is_some() {
                            self.observed = None;
                        }
                        let delay = self.watch_backoff.after_watch(duration);
                        return sleep_or_changed(desired, delay).await;
                    }
                }
            }
        }
    }

    /// A change by another field manager is corrected at once, and with a back-off if it is repeated: otherwise two managers
    /// would overwrite each other forever, as fast as the server allows.
    async fn delay_correction(
        &mut self,
        before: Option<&ObservedNode>,
        now: &ObservedNode,
        desired: &mut watch::Receiver<Option<DesiredNode>>,
    ) -> Option<()> {
        let repeated = self.corrected_at.is_some_and(|at| at.elapsed() < MAX_BACKOFF);
        if before.is_some_and(|before| self.api.removed_by_others(&before.metadata, &now.metadata)) {
            self.corrected_at = Some(Instant::now());
        }
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
