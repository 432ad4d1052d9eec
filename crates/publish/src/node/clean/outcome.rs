//! What became of Nodes that were to be cleaned.

use std::ops::AddAssign;

use afd_apiserver::CallError;

use super::super::observed::{ObservedMetadata, ObservedNode};

/// How many fields were removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RemovedFields {
    /// Labels.
    pub labels: usize,
    /// Annotations.
    pub annotations: usize,
    /// Conditions.
    pub conditions: usize,
}

/// The result of cleaning Nodes.
#[derive(Debug, Default)]
pub struct CleanedNodes {
    /// How many Nodes were cleaned. Those that had nothing of AFD are not counted.
    pub cleaned: usize,
    /// What was removed from them.
    pub removed: RemovedFields,
    /// How many Nodes were left to another release.
    pub left: usize,
    /// The Nodes that could not be cleaned, and why.
    pub failed: Vec<(String, CallError)>,
    /// Why the Nodes were not listed to the end, if they were not.
    pub unlisted: Option<CallError>,
    /// How many Nodes were not tried, because the server answered nothing any more.
    pub untried: usize,
}

/// What became of one Node.
pub(super) enum CleanOutcome {
    /// Nothing of AFD was there, or the Node is gone.
    Untouched,
    OfAnotherRelease,
    Cleaned(RemovedFields),
    Failed(CallError),
    Untried,
}

impl RemovedFields {
    pub(super) fn between(before: &ObservedMetadata, after: &ObservedNode) -> RemovedFields {
        let now = &after.metadata;
        let is_label_gone = |key: &&String| !now.labels.values.contains_key(*key);
        let is_annotation_gone = |key: &&String| !now.annotations.values.contains_key(*key);
        let is_condition_gone = |kind: &&str| after.condition(kind).is_none();
        RemovedFields {
            labels: before.labels.values.keys().filter(is_label_gone).count(),
            annotations: before.annotations.values.keys().filter(is_annotation_gone).count(),
            conditions: before.condition_owners.ours().filter(is_condition_gone).count(),
        }
    }
}

impl AddAssign for RemovedFields {
    fn add_assign(&mut self, other: RemovedFields) {
        self.labels += other.labels;
        self.annotations += other.annotations;
        self.conditions += other.conditions;
    }
}

impl CleanedNodes {
    pub(super) fn add(&mut self, name: String, outcome: CleanOutcome) {
        match outcome {
            CleanOutcome::Untouched => {}
            CleanOutcome::OfAnotherRelease => self.left += 1,
            CleanOutcome::Cleaned(removed) => {
                self.cleaned += 1;
                self.removed += removed;
            }
            CleanOutcome::Failed(error) => self.failed.push((name, error)),
            CleanOutcome::Untried => self.untried += 1,
        }
    }
}
