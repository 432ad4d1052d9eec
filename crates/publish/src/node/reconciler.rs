//! One round of reconciling the Node, and the wait for the next one.

use std::{collections::BTreeMap, time::Duration};

use afd_apiserver::{Backoff, CallError, MAX_BACKOFF, MAX_WATCH_DURATION, jitter};
use afd_model::NodeFacts;
use futures_util::StreamExt;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    DesiredCondition, DesiredNode, NodeCounters, NodeObserver, NodeSettings,
    api::{self, NodeApi, NodeWatchEvent},
    events::EventRecorder,
    observed::ObservedNode,
    pace::WriteBudget,
    plan::ApplyPlan,
    status::StatusPlan,
    writer::NodeWriter,
};

pub(super) struct NodeReconciler {
    api: NodeApi,
    events: EventRecorder,
    settings: NodeSettings,
    /// The Node as it was last read.
    observed: Option<ObservedNode>,
    /// What the Node last said, without what AFD wrote.
    foreign_facts: Option<NodeFacts>,
    metadata_budget: WriteBudget,
    status_budget: WriteBudget,
    /// When the heartbeat of the conditions is due.
    heartbeat_at: Option<Instant>,
    /// The conditions that are left to another field manager.
    refused: BTreeMap<String, String>,
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
        settings: NodeSettings,
        counters: NodeCounters,
        observer: NodeObserver,
    ) -> NodeReconciler {
        NodeReconciler {
            events: EventRecorder::new(client.clone(), counters.calls.clone()),
            api: NodeApi::new(client, counters),
            settings,
            observed: None,
            foreign_facts: None,
            metadata_budget: WriteBudget::default(),
            status_budget: WriteBudget::default(),
            heartbeat_at: None,
            refused: BTreeMap::new(),
            corrected_at: None,
            watch_backoff: Backoff::default(),
            conflict_backoff: Backoff::default(),
            observer,
        }
    }

    /// Reads the Node if needed, notifies the observer, and writes what differs from the desired state and may be written now.
    pub(super) async fn reconcile(&mut self, desired: Option<&DesiredNode>) -> Result<(), CallError> {
        let observed = match self.observed.take() {
            Some(observed) => observed,
            None => self.api.get(&self.settings.name).await?,
        };
        self.notify(&observed);
        let Some(desired) = desired else {
            self.observed = Some(observed);
            return Ok(());
        };
        // The conditions are written even if the metadata could not be.
        let (observed, metadata) = match self.write_metadata(&observed, desired).await {
            Ok(written) => (written.unwrap_or(observed), Ok(())),
            Err(error) => (observed, Err(error)),
        };
        let observed = self.write_status(observed, desired).await?;
        metadata?;
        // The watch begins after what was written.
        self.notify(&observed);
        self.observed = Some(observed);
        Ok(())
    }

    fn notify(&mut self, observed: &ObservedNode) {
        let prefix = &self.settings.prefix;
        // What AFD itself wrote is updated, but does not wake the receivers.
        let foreign = observed.foreign_facts(prefix);
        let changed = self.foreign_facts.as_ref() != Some(&foreign);
        self.foreign_facts = Some(foreign);
        self.observer.node.send_if_modified(|last| {
            *last = Some(observed.facts(prefix));
            changed
        });
        self.observer.resources.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&observed.resources);
            if changed {
                *last = Some(observed.resources.clone());
            }
            changed
        });
    }

    fn writer(&self) -> NodeWriter<'_> {
        NodeWriter { api: &self.api, name: &self.settings.name, prefix: &self.settings.prefix }
    }

    /// How long until metadata have to be written; none if they are as desired.
    fn metadata_due(&self, observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
        let plan = ApplyPlan::new(&observed.metadata, desired, &self.settings.prefix);
        plan.is_needed().then(|| self.metadata_budget.wait(&self.settings.limits, Instant::now()))
    }

    /// How long until the conditions have to be written; none if they are as desired and have no heartbeat.
    fn status_due(&self, observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
        let now = Instant::now();
        let plan = StatusPlan::new(observed, desired, &self.settings.prefix, None);
        let heartbeat = self.heartbeat_at.filter(|_| plan.has_heartbeat);
        let heartbeat = heartbeat.map(|at| at.saturating_duration_since(now));
        let due = if plan.is_needed() { Some(Duration::ZERO) } else { heartbeat };
        due.map(|due| due.max(self.status_budget.wait(&self.settings.limits, now)))
    }

    /// Returns the Node if it was written.
    async fn write_metadata(
        &mut self,
        observed: &ObservedNode,
        desired: &DesiredNode,
    ) -> Result<Option<ObservedNode>, CallError> {
        if self.metadata_due(observed, desired) != Some(Duration::ZERO) {
            return Ok(None);
        }
        let plan = ApplyPlan::new(&observed.metadata, desired, &self.settings.prefix);
        for (key, owner) in &plan.contested {
            self.api.report_contested(key, owner);
            self.corrected_at = Some(Instant::now());
        }
        let written = self.writer().write_metadata(observed.clone(), desired).await?;
        self.metadata_budget.spend(&self.settings.limits, Instant::now());
        Ok(Some(written))
    }

    async fn write_status(
        &mut self,
        observed: ObservedNode,
        desired: &DesiredNode,
    ) -> Result<ObservedNode, CallError> {
        self.report_refused(&observed, desired);
        if self.heartbeat_at.is_none() {
            let until = self.until_first_heartbeat(&observed, desired);
            self.heartbeat_at = until.map(|until| Instant::now() + until);
        }
        if self.status_due(&observed, desired) != Some(Duration::ZERO) {
            return Ok(observed);
        }
        let (written, transitions) = self.writer().write_status(observed, desired).await?;
        let (now, heartbeat) = (Instant::now(), self.settings.limits.heartbeat);
        self.status_budget.spend(&self.settings.limits, now);
        // Agents that were started together do not write together.
        self.heartbeat_at = Some(now + heartbeat - jitter(heartbeat / 10));
        for transition in &transitions {
            let (kind, condition) = (&transition.kind, &transition.condition);
            tracing::info!(
                kind,
                status = condition.status.as_str(),
                reason = condition.reason,
                "condition changed"
            );
            self.events.record(&self.settings.name, &written.metadata.uid, transition).await;
        }
        Ok(written)
    }

    /// The heartbeat of an agent that was restarted continues that of its predecessor. None while no condition is decided.
    fn until_first_heartbeat(&self, observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
        let decided = desired.conditions.iter().filter(|condition| condition.state.value().is_some());
        let age = |condition: &DesiredCondition| {
            api::age(observed.condition(&condition.kind)?.last_heartbeat_time.as_deref()?)
        };
        let oldest = decided.map(|condition| age(condition).unwrap_or_default()).max()?;
        Some(self.settings.limits.heartbeat.saturating_sub(oldest))
    }

    fn report_refused(&mut self, observed: &ObservedNode, desired: &DesiredNode) {
        let plan = StatusPlan::new(observed, desired, &self.settings.prefix, None);
        for (kind, owner) in &plan.refused {
            if self.refused.get(kind) != Some(owner) {
                self.api.report_contested(kind, owner);
            }
        }
        self.refused = plan.refused;
    }

    /// How long until something has to be written to the Node as it was last read.
    fn due(&self, desired: Option<&DesiredNode>) -> Option<Duration> {
        let (observed, desired) = (self.observed.as_ref()?, desired?);
        let due = [self.metadata_due(observed, desired), self.status_due(observed, desired)];
        due.into_iter().flatten().min()
    }

    /// Waits until something has to be written. Returns none once the sender of desired states is dropped.
    pub(super) async fn wait(&mut self, desired: &mut watch::Receiver<Option<DesiredNode>>) -> Option<()> {
        let Some(observed) = &self.observed else { return Some(()) };
        let begun = Instant::now();
        let stream = match self.api.watch(&self.settings.name, &observed.metadata.resource_version).await {
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
