//! Brings the metadata and the conditions of a Node to the desired state, as planned.

use std::collections::BTreeSet;

use afd_apiserver::CallError;

use super::{
    DesiredNode,
    api::{self, NodeApi},
    events::ConditionTransition,
    observed::ObservedNode,
    plan::{ApplyPlan, MetadataKeys},
    status::StatusPlan,
};

/// How often a write is tried, because the Node was changed since it was read. Then the caller backs off.
const MAX_ATTEMPTS: usize = 2;
/// How often conditions are removed in one write: more than once only where another manager writes them meanwhile.
const MAX_REMOVALS: usize = 3;

/// Writes one Node.
#[derive(Clone, Copy)]
pub(super) struct NodeWriter<'a> {
    pub(super) api: &'a NodeApi,
    pub(super) name: &'a str,
    pub(super) prefix: &'a str,
}

impl NodeWriter<'_> {
    /// Writes labels and annotations, if something that is decided differs. A conflict of fields is with a vendor's key that
    /// another field manager has taken, which the next plan leaves to it, or with a key that is ours by contract, which is
    /// forced. A forced apply holds for one version of the Node, so that it takes no key that was not foreseen. Keys that are
    /// `held` stay as the Node has them.
    pub(super) async fn write_metadata(
        self,
        mut observed: ObservedNode,
        desired: &DesiredNode,
        held: &MetadataKeys,
    ) -> Result<ObservedNode, CallError> {
        let (mut force, mut attempts, mut removals) = (false, 0, 0);
        loop {
            let plan = ApplyPlan::new(&observed.metadata, desired, self.prefix, held);
            if !plan.is_needed() {
                return Ok(observed);
            }
            force |= !plan.contested.is_empty();
            let error = match self.write_planned(&observed, &plan, force).await {
                // What an apply cannot remove is removed before the apply.
                Ok(node) if plan.has_removals() && removals < MAX_ATTEMPTS => {
                    (observed, removals) = (node, removals + 1);
                    continue;
                }
                Ok(node) => return Ok(node),
                Err(error) => error,
            };
            let conflicts = api::key_conflicts(&error);
            let for_one_version = plan.has_removals() || plan.resource_version.is_some() || force;
            // The first conflict of fields is no failed attempt: only then the next one is forced.
            attempts += usize::from(force || conflicts.is_empty());
            let can_retry = api::is_conflict(&error) && (!conflicts.is_empty() || for_one_version);
            if !can_retry || attempts >= MAX_ATTEMPTS {
                return Err(error);
            }
            for conflict in &conflicts {
                let is_compat = desired.compat.values.contains_key(&conflict.key);
                if is_compat && !desired.labels.values.contains_key(&conflict.key) {
                    self.api.report_contested(&conflict.key, &conflict.owner);
                }
            }
            force |= !conflicts.is_empty();
            observed = self.api.get(self.name).await?;
        }
    }

    async fn write_planned(
        self,
        observed: &ObservedNode,
        plan: &ApplyPlan,
        force: bool,
    ) -> Result<ObservedNode, CallError> {
        let version = &observed.metadata.resource_version;
        if plan.has_removals() {
            let node = self.api.remove(self.name, &plan.removal_body(version)).await?;
            tracing::info!(removed = ?plan.removals, "stale keys removed");
            return Ok(node);
        }
        let body = plan.body(self.name, &observed.metadata.uid, force.then_some(version));
        let node = self.api.apply(self.name, &body, force).await?;
        tracing::info!(labels = plan.labels.len(), "labels written");
        Ok(node)
    }

    /// Writes the conditions. Returns the resulting Node and the transitions.
    pub(super) async fn write_status(
        self,
        mut observed: ObservedNode,
        desired: &DesiredNode,
        held: &BTreeSet<String>,
    ) -> Result<(ObservedNode, Vec<ConditionTransition>), CallError> {
        let (mut attempt, mut removed) = (0, false);
        loop {
            attempt += 1;
            let time = api::wall_time(observed.metadata.created);
            let plan = StatusPlan::new(&observed, desired, self.prefix, time.as_deref(), held);
            if removed && !plan.is_needed() {
                return Ok((observed, Vec::new()));
            }
            let result = if plan.removals.is_empty() {
                self.api.apply_status(self.name, &plan.body(self.name, &observed.metadata.uid)).await
            } else {
                let body = plan.removal_body(&observed.metadata.resource_version);
                self.api.remove_conditions(self.name, &body).await
            };
            match result {
                Ok(node) if plan.removals.is_empty() => {
                    for entry in &plan.entries {
                        tracing::debug!(kind = entry.kind, status = entry.status, "condition written");
                    }
                    return Ok((node, plan.transitions));
                }
                // A removal that is undone, as by a webhook, is repeated with the next write.
                Ok(node) if attempt >= MAX_REMOVALS => return Ok((node, Vec::new())),
                Ok(node) => (observed, removed) = (node, true),
                Err(error)
                    if api::is_conflict(&error) && plan.holds_for_one_version() && attempt < MAX_ATTEMPTS =>
                {
                    observed = self.api.get(self.name).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
