//! What has to be written to the conditions of the Node. Pure.
//!
//! One apply writes all of them, and removes those of ours that it leaves out. So an undecided one is carried as the Node has
//! it, with its times.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Condition, Decision};
use serde_json::{Map, Value, json};

use super::{
    DesiredCondition, DesiredNode,
    events::{self, ConditionTransition},
    observed::{ObservedNode, OwnNodeCondition, is_under},
};

/// A write of the conditions.
#[derive(Clone, Debug, Default)]
pub(super) struct StatusPlan {
    /// All conditions that AFD will own.
    pub(super) entries: Vec<OwnNodeCondition>,
    /// Types that an apply cannot remove, since the API server has no record of their owner. They are removed first.
    pub(super) removals: Vec<String>,
    /// The types that differ from what is decided, messages and times aside.
    pub(super) differing: BTreeSet<String>,
    /// Whether a condition is decided, so that there is a heartbeat.
    pub(super) has_heartbeat: bool,
    /// The version of the Node whose undecided conditions are carried.
    resource_version: Option<String>,
    /// The transitions of conditions under the own prefix.
    pub(super) transitions: Vec<ConditionTransition>,
    /// Types outside of the own prefix that another field manager owns, and which one. They are left to it.
    pub(super) refused: BTreeMap<String, String>,
}

impl StatusPlan {
    /// The write that brings the conditions to the desired state. `time` is the present in the format of Kubernetes; none
    /// where the clock is not plausible. The types that are `held` stay as the Node has them.
    pub(super) fn new(
        observed: &ObservedNode,
        desired: &DesiredNode,
        prefix: &str,
        time: Option<&str>,
        held: &BTreeSet<String>,
    ) -> StatusPlan {
        let mut plan = StatusPlan::default();
        for condition in desired.conditions.iter().filter(|condition| !held.contains(&condition.kind)) {
            plan.add(observed, condition, desired.inherits, prefix, time);
        }
        for current in observed.conditions.iter().filter(|current| held.contains(&current.kind)) {
            if observed.metadata.condition_owners.is_ours(&current.kind) {
                plan.carry(observed, current);
            }
        }
        let absent = desired.conditions.iter().filter(|condition| condition.state == Decision::Absent);
        let absent: BTreeSet<&str> = absent.map(|condition| condition.kind.as_str()).collect();
        plan.remove_stale(observed, prefix, &absent, held);
        plan
    }

    /// Keeps a condition as the Node has it.
    fn carry(&mut self, observed: &ObservedNode, current: &OwnNodeCondition) {
        self.entries.push(current.clone());
        self.resource_version = Some(observed.metadata.resource_version.clone());
    }

    /// The types that it sets or removes, also those of which only the time is another one.
    pub(super) fn changed(&self, observed: &ObservedNode) -> BTreeSet<String> {
        let owners = &observed.metadata.condition_owners;
        let entry = |kind: &str| self.entries.iter().find(|entry| entry.kind == kind);
        let set = self
            .entries
            .iter()
            .filter(|entry| observed.condition(&entry.kind) != Some(entry) || !owners.is_ours(&entry.kind));
        let omitted = owners.ours().filter(|kind| entry(kind).is_none()).map(str::to_owned);
        set.map(|entry| entry.kind.clone()).chain(omitted).chain(self.removals.iter().cloned()).collect()
    }

    fn add(
        &mut self,
        observed: &ObservedNode,
        desired: &DesiredCondition,
        inherits: bool,
        prefix: &str,
        time: Option<&str>,
    ) {
        let kind = &desired.kind;
        let owners = &observed.metadata.condition_owners;
        let is_own = is_under(kind, prefix);
        if let Some(owner) = owners.other(kind).filter(|_| !is_own && desired.state != Decision::Absent) {
            self.refused.insert(kind.clone(), owner.to_owned());
            return;
        }
        let current = observed.condition(kind);
        match &desired.state {
            Decision::Absent => {}
            Decision::Undecided => {
                let is_ours = owners.is_ours(kind) || is_own && owners.other(kind).is_none();
                if let Some(current) = current.filter(|_| inherits && is_ours) {
                    self.carry(observed, current);
                }
            }
            Decision::Decided(condition) => {
                let differs = events::differs(current, condition);
                if differs || !owners.is_ours(kind) {
                    self.differing.insert(kind.clone());
                }
                self.has_heartbeat = true;
                self.entries.push(entry(kind, condition, current, time));
                if is_own && differs && events::is_transition(kind, current, condition) {
                    self.transitions
                        .push(ConditionTransition { kind: kind.clone(), condition: condition.clone() });
                }
            }
        }
    }

    /// Removes the conditions of ours that are not among the entries. One under the own prefix that is decided to be absent is
    /// ours, even if another manager wrote it.
    fn remove_stale(
        &mut self,
        observed: &ObservedNode,
        prefix: &str,
        absent: &BTreeSet<&str>,
        held: &BTreeSet<String>,
    ) {
        let owners = &observed.metadata.condition_owners;
        for OwnNodeCondition { kind, .. } in &observed.conditions {
            let is_entry = self.entries.iter().any(|entry| entry.kind == *kind);
            let is_under = is_under(kind, prefix);
            let is_claimed = is_under && (owners.other(kind).is_none() || absent.contains(kind.as_str()));
            if is_entry || held.contains(kind) || !owners.is_ours(kind) && !is_claimed {
                continue;
            }
            self.differing.insert(kind.clone());
            if !owners.is_given_up_by_omission(kind) || owners.other(kind).is_some() && is_claimed {
                self.removals.push(kind.clone());
            }
        }
    }

    /// Whether anything has to be written, heartbeats aside.
    pub(super) fn is_needed(&self) -> bool {
        !self.differing.is_empty()
    }

    /// Whether the apply holds only for the version of the Node that it was planned on.
    pub(super) fn holds_for_one_version(&self) -> bool {
        self.resource_version.is_some() || !self.removals.is_empty()
    }

    /// The body of the apply.
    pub(super) fn body(&self, name: &str, uid: &str) -> Value {
        let mut metadata = Map::from_iter([("name".to_owned(), json!(name)), ("uid".to_owned(), json!(uid))]);
        if let Some(version) = &self.resource_version {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        let mut body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
        if !self.entries.is_empty() {
            body["status"] = json!({ "conditions": self.entries });
        }
        body
    }

    /// The body of the strategic merge patch with the removals.
    pub(super) fn removal_body(&self, resource_version: &str) -> Value {
        let deleted = |kind: &String| json!({ "$patch": "delete", "type": kind });
        json!({
            "metadata": { "resourceVersion": resource_version },
            "status": { "conditions": self.removals.iter().map(deleted).collect::<Vec<_>>() },
        })
    }
}

/// A decided condition with its times.
fn entry(
    kind: &str,
    desired: &Condition,
    current: Option<&OwnNodeCondition>,
    time: Option<&str>,
) -> OwnNodeCondition {
    let time = time.map(str::to_owned);
    let same = current.filter(|current| current.status == desired.status.as_str());
    OwnNodeCondition {
        kind: kind.to_owned(),
        status: desired.status.as_str().to_owned(),
        reason: desired.reason.clone(),
        message: desired.message.clone(),
        last_transition_time: same
            .and_then(|current| current.last_transition_time.clone())
            .or_else(|| time.clone()),
        last_heartbeat_time: time.or_else(|| current.and_then(|current| current.last_heartbeat_time.clone())),
    }
}

#[cfg(test)]
mod tests;
