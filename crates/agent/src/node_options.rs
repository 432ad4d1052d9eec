//! The desired state of the Node: labels, annotation and condition of an inventory, by the options of the command line.

use afd_derive::{
    compat::{self, CompatOptions},
    condition,
    decided::{DecidedKeys, KeyFamilies},
    labels::{self, LabelOptions},
    offer::Offered,
    paths::{self, PathRules, PathVerdict},
    report,
};
use afd_model::{Condition, ConditionStatus, Decision, FAILED_DEVICES, Inventory};
use afd_publish::node::{DesiredCondition, DesiredNode, MANAGED_BY};
use afd_track::{Believed, Conditions};

use crate::incidents::INCIDENTS;

/// The options that decide what the Node shows.
#[derive(Debug)]
pub struct NodeOptions {
    labels: LabelOptions,
    compat: CompatOptions,
    rules: PathRules,
    alias: Option<String>,
    managed_by: Option<String>,
}

impl NodeOptions {
    /// The options of the command line. Label sets of vendors are `auto` unless it sets them.
    /// `alias` is another type under which the inverse of `Problem` is written; `managed_by` is the release of this agent.
    pub fn new(
        labels: LabelOptions,
        compat: CompatOptions,
        rules: PathRules,
        alias: Option<String>,
        managed_by: Option<String>,
    ) -> NodeOptions {
        // The reconciler never takes a key from another field manager, which is what `auto` means.
        let switches = compat.switches.auto_on();
        NodeOptions { labels, compat: CompatOptions { switches, ..compat }, rules, alias, managed_by }
    }

    /// The verdicts of all paths on an inventory.
    pub fn paths(&self, inventory: &Inventory) -> Vec<PathVerdict<'_>> {
        self.rules.verdicts(inventory, self.labels.include_integrated)
    }

    /// Whether integrated GPUs count.
    pub fn include_integrated(&self) -> bool {
        self.labels.include_integrated
    }

    /// A key of our own, with the prefix.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.labels.prefix)
    }

    /// The desired state of the Node for what is believed of it, with annotations that are decided elsewhere.
    pub fn desired(
        &self,
        believed: &Believed,
        offered: &Offered,
        conditions: &Conditions,
        more_annotations: [(&str, Decision<String>); 2],
    ) -> DesiredNode {
        let inventory = &believed.for_node;
        let verdicts = self.paths(inventory);
        let mut labels = labels::decided_labels(inventory, &self.labels, offered.allocation.clone());
        labels.extend(paths::decided_labels(inventory, &verdicts, &self.labels));
        let mut annotations = DecidedKeys::default();
        annotations.insert(self.key("report"), report::decided_report(inventory, offered, &verdicts));
        annotations.insert(self.key("expected"), believed.memory.clone());
        for (name, text) in more_annotations {
            annotations.insert(self.key(name), text);
        }
        let mut annotation_families = KeyFamilies::default();
        for name in ["report", "expected", INCIDENTS, FAILED_DEVICES, MANAGED_BY] {
            annotation_families.insert_key(self.key(name));
        }
        let mut desired = DesiredNode {
            labels,
            label_families: labels::all_families(&self.labels.prefix),
            annotation_families,
            compat: compat::decided_labels(inventory, &self.labels, &self.compat),
            annotations,
            conditions: self.conditions(conditions),
            inherits: believed.inherits,
        };
        let managed_by = self.managed_by(&desired);
        desired.annotations.insert(self.key(MANAGED_BY), managed_by);
        desired
    }

    /// The release is named where anything is written. While nothing is decided, what the Node says stays.
    fn managed_by(&self, desired: &DesiredNode) -> Decision<String> {
        let Some(release) = &self.managed_by else { return Decision::Absent };
        let keys = [&desired.labels, &desired.compat, &desired.annotations];
        let is_condition = |state: fn(&DesiredCondition) -> bool| desired.conditions.iter().any(state);
        if keys.iter().any(|keys| !keys.values.is_empty()) || is_condition(|own| own.state.value().is_some())
        {
            Decision::Decided(release.clone())
        } else if keys.iter().any(|keys| !keys.undecided.is_empty())
            || is_condition(|own| own.state == Decision::Undecided)
        {
            Decision::Undecided
        } else {
            Decision::Absent
        }
    }

    fn conditions(&self, conditions: &Conditions) -> Vec<DesiredCondition> {
        let (ready, problem) = condition::kinds(&self.labels.prefix);
        let alias = self.alias.as_ref().map(|kind| DesiredCondition {
            kind: kind.clone(),
            state: conditions.problem.clone().map(inverse),
        });
        let own = [
            DesiredCondition { kind: ready, state: conditions.ready.clone() },
            DesiredCondition { kind: problem, state: conditions.problem.clone() },
        ];
        own.into_iter().chain(alias).collect()
    }
}

/// The condition of the opposite polarity, with the same reason.
fn inverse(condition: Condition) -> Condition {
    let status = match condition.status {
        ConditionStatus::True => ConditionStatus::False,
        ConditionStatus::False => ConditionStatus::True,
        ConditionStatus::Unknown => ConditionStatus::Unknown,
    };
    Condition { status, ..condition }
}
