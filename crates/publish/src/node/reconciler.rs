//! One round of reconciling the Node, and the wait for the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use afd_apiserver::{Backoff, CallError};
use afd_model::NodeFacts;
use kube::Client;
use tokio::time::Instant;

use super::{
    DesiredCondition, DesiredNode, NodeCounters, NodeObserver, NodeSettings,
    api::{self, NodeApi},
    events::EventRecorder,
    heartbeat::Heartbeat,
    observed::ObservedNode,
    pace::WriteBudget,
    plan::{ApplyPlan, MetadataKeys},
    retry::PartRetry,
    status::StatusPlan,
    writer::NodeWriter,
};

pub(super) struct NodeReconciler {
    pub(super) api: NodeApi,
    events: EventRecorder,
    pub(super) settings: NodeSettings,
    /// The Node as it was last read.
    pub(super) observed: Option<ObservedNode>,
    /// What the Node last said, without what AFD wrote.
    foreign_facts: Option<NodeFacts>,
    metadata_budget: WriteBudget,
    status_budget: WriteBudget,
    metadata_retry: PartRetry<MetadataKeys>,
    status_retry: PartRetry<BTreeSet<String>>,
    heartbeat: Heartbeat,
    /// The conditions that are left to another field manager.
    refused: BTreeMap<String, String>,
    /// When a label changed by another field manager was last corrected.
    pub(super) corrected_at: Option<Instant>,
    /// For consecutive watches that ended before their timeout.
    pub(super) watch_backoff: Backoff,
    /// For consecutive changes that came soon after a correction.
    pub(super) conflict_backoff: Backoff,
    /// The version of a bookmark, from which the watch goes on after the version of the Node that is observed.
    pub(super) bookmark: Option<(String, String)>,
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
            heartbeat: Heartbeat::new(settings.limits.heartbeat, &settings.name),
            settings,
            observed: None,
            foreign_facts: None,
            metadata_budget: WriteBudget::default(),
            status_budget: WriteBudget::default(),
            metadata_retry: PartRetry::default(),
            status_retry: PartRetry::default(),
            refused: BTreeMap::new(),
            corrected_at: None,
            watch_backoff: Backoff::default(),
            conflict_backoff: Backoff::default(),
            bookmark: None,
            observer,
        }
    }

    /// Reads the Node if needed, notifies the observer, and writes what differs from the desired state and may be written now.
    /// Metadata and conditions are written independently: what fails is tried again by itself.
    ///
    /// # Errors
    /// When the Node cannot be read, or the server asks for a delay.
    pub(super) async fn reconcile(&mut self, desired: Option<&DesiredNode>) -> Result<(), CallError> {
        let now = Instant::now();
        if self.metadata_retry.is_due(now) || self.status_retry.is_due(now) {
            // What failed may have been written nevertheless.
            self.observed = None;
        }
        let observed = match self.observed.take() {
            Some(observed) => observed,
            None => self.api.get(&self.settings.name).await?,
        };
        self.notify(&observed);
        let Some(desired) = desired else {
            self.observed = Some(observed);
            return Ok(());
        };
        let (observed, metadata) = match self.write_metadata(&observed, desired).await {
            Ok(written) => (written.unwrap_or(observed), None),
            Err(error) => (observed, Some(error)),
        };
        let (observed, status) = match self.write_status(&observed, desired).await {
            Ok(written) => (written.unwrap_or(observed), None),
            Err(error) => (observed, Some(error)),
        };
        if let Some(error) =
            [metadata, status].into_iter().flatten().find(|error| error.retry_after.is_some())
        {
            return Err(error);
        }
        // The watch begins after what was written.
        self.notify(&observed);
        self.observed = Some(observed);
        Ok(())
    }

    pub(super) fn notify(&mut self, observed: &ObservedNode) {
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

    fn metadata_plan(
        &self,
        observed: &ObservedNode,
        desired: &DesiredNode,
        held: &MetadataKeys,
    ) -> ApplyPlan {
        ApplyPlan::new(&observed.metadata, desired, &self.settings.prefix, held)
    }

    fn status_plan(
        &self,
        observed: &ObservedNode,
        desired: &DesiredNode,
        held: &BTreeSet<String>,
    ) -> StatusPlan {
        StatusPlan::new(observed, desired, &self.settings.prefix, None, held)
    }

    /// How long until metadata have to be written; none if they are as desired.
    fn metadata_due(&self, observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
        let (now, retry) = (Instant::now(), &self.metadata_retry);
        let is_needed = |held: &MetadataKeys| self.metadata_plan(observed, desired, held).is_needed();
        let due = if !retry.is_blocked(now) && is_needed(retry.held(now)) {
            Some(Duration::ZERO)
        } else {
            // Failed or refused; nothing if it is as desired meanwhile.
            retry.delay(now).filter(|_| is_needed(&MetadataKeys::default()))
        };
        due.map(|due| due.max(self.metadata_budget.wait(&self.settings.limits, now)))
    }

    /// How long until the conditions have to be written; none if they are as desired and have no heartbeat.
    fn status_due(&self, observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
        let (now, retry) = (Instant::now(), &self.status_retry);
        let until_needed = |held: &BTreeSet<String>| {
            let plan = self.status_plan(observed, desired, held);
            let heartbeat = self.heartbeat.due(now).filter(|_| plan.has_heartbeat);
            if plan.is_needed() { Some(Duration::ZERO) } else { heartbeat }
        };
        let due = if retry.is_blocked(now) { None } else { until_needed(retry.held(now)) };
        let again = retry.delay(now).filter(|delay| !delay.is_zero());
        let again = again.zip(until_needed(&BTreeSet::new())).map(|(delay, needed)| delay.max(needed));
        let due = [due, again].into_iter().flatten().min()?;
        Some(due.max(self.status_budget.wait(&self.settings.limits, now)))
    }

    /// Returns the Node if it was written.
    async fn write_metadata(
        &mut self,
        observed: &ObservedNode,
        desired: &DesiredNode,
    ) -> Result<Option<ObservedNode>, CallError> {
        if self.metadata_due(observed, desired) != Some(Duration::ZERO) {
            let now = Instant::now();
            let is_needed = || self.metadata_plan(observed, desired, &MetadataKeys::default()).is_needed();
            if self.metadata_retry.is_due(now) && !is_needed() {
                self.metadata_retry.succeeded();
            }
            return Ok(None);
        }
        let held = self.metadata_retry.held(Instant::now()).clone();
        for (key, owner) in &self.metadata_plan(observed, desired, &held).contested {
            self.api.report_contested(key, owner);
            self.corrected_at = Some(Instant::now());
        }
        let before = self.metadata_retry.refused_before();
        let written = self.writer().write_accepted_metadata(observed.clone(), desired, &held, before).await;
        let now = Instant::now();
        let written = written.inspect_err(|error| {
            let delay = self.metadata_retry.failed(error, now);
            tracing::warn!(%error, retry_seconds = delay.as_secs(), "labels cannot be written; retrying");
        })?;
        if is_another_version(observed, &written.node) {
            self.metadata_budget.spend(&self.settings.limits, now);
        }
        let (error, mut refused) = (written.error, written.refused);
        self.api.report_refused(refused.without(&written.untried).iter(), error.as_ref());
        let plan = self.metadata_plan(&written.node, desired, &refused);
        if error.is_none() && plan.is_needed() {
            // Removals come first: with one that is undone nothing else was written.
            let undone = match plan.has_removals() {
                true => plan.removals,
                false => plan.changed(&written.node.metadata),
            };
            self.api.report_undone(undone.iter());
            refused.extend(undone);
        }
        if refused == MetadataKeys::default() {
            self.metadata_retry.succeeded();
        } else {
            self.metadata_retry.refused(refused, now);
        }
        Ok(Some(written.node))
    }

    /// Returns the Node if it was written.
    async fn write_status(
        &mut self,
        observed: &ObservedNode,
        desired: &DesiredNode,
    ) -> Result<Option<ObservedNode>, CallError> {
        self.report_foreign(observed, desired);
        if let Some(age) = age_of_heartbeat(observed, desired) {
            self.heartbeat.start(age, Instant::now());
        }
        if self.status_due(observed, desired) != Some(Duration::ZERO) {
            let now = Instant::now();
            let is_needed = || self.status_plan(observed, desired, &BTreeSet::new()).is_needed();
            if self.status_retry.is_due(now) && !is_needed() {
                self.status_retry.succeeded();
            }
            return Ok(None);
        }
        let held = self.status_retry.held(Instant::now()).clone();
        let written = self.writer().write_accepted_status(observed.clone(), desired, &held).await;
        let now = Instant::now();
        let (written, mut transitions) = written.inspect_err(|error| {
            let delay = self.status_retry.failed(error, now);
            tracing::warn!(%error, retry_seconds = delay.as_secs(), "conditions cannot be written; retrying");
        })?;
        if is_another_version(observed, &written.node) {
            self.status_budget.spend(&self.settings.limits, now);
        }
        self.heartbeat.written(now);
        let (error, mut refused) = (written.error, written.refused);
        let tried = refused.difference(&written.untried);
        self.api.report_refused(tried.map(String::as_str), error.as_ref());
        let plan = self.status_plan(&written.node, desired, &refused);
        if error.is_none() && plan.is_needed() {
            let undone = match plan.removals.is_empty() {
                true => plan.differing,
                false => plan.removals.into_iter().collect(),
            };
            self.api.report_undone(undone.iter().map(String::as_str));
            transitions.retain(|transition| !undone.contains(&transition.kind));
            refused.extend(undone);
        }
        if refused.is_empty() {
            self.status_retry.succeeded();
        } else {
            self.status_retry.refused(refused, now);
        }
        for transition in &transitions {
            let (kind, condition) = (&transition.kind, &transition.condition);
            tracing::info!(
                kind,
                status = condition.status.as_str(),
                reason = condition.reason,
                "condition changed"
            );
            self.events.record(&self.settings.name, &written.node.metadata.uid, transition).await;
        }
        Ok(Some(written.node))
    }

    fn report_foreign(&mut self, observed: &ObservedNode, desired: &DesiredNode) {
        let plan = self.status_plan(observed, desired, &BTreeSet::new());
        for (kind, owner) in &plan.refused {
            if self.refused.get(kind) != Some(owner) {
                self.api.report_contested(kind, owner);
            }
        }
        self.refused = plan.refused;
    }

    /// How long until something has to be written to the Node as it was last read.
    pub(super) fn due(&self, desired: Option<&DesiredNode>) -> Option<Duration> {
        let (observed, desired) = (self.observed.as_ref()?, desired?);
        let due = [self.metadata_due(observed, desired), self.status_due(observed, desired)];
        due.into_iter().flatten().min()
    }
}

/// The age of the oldest heartbeat, also of a previous agent. None while no condition is decided.
fn age_of_heartbeat(observed: &ObservedNode, desired: &DesiredNode) -> Option<Duration> {
    let decided = desired.conditions.iter().filter(|condition| condition.state.value().is_some());
    let age = |condition: &DesiredCondition| {
        api::age(observed.condition(&condition.kind)?.last_heartbeat_time.as_deref()?)
    };
    decided.map(|condition| age(condition).unwrap_or_default()).max()
}

/// Whether something was written.
fn is_another_version(before: &ObservedNode, after: &ObservedNode) -> bool {
    before.metadata.resource_version != after.metadata.resource_version
}
