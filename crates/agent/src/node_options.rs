//! The desired state of the Node: labels, annotation and condition of an inventory, by the options of the command line.

use std::collections::BTreeMap;

use afd_derive::{
    compat::{self, CompatOptions},
    condition,
    labels::{self, LabelOptions},
    offer::Offered,
    paths::{self, PathRules, PathVerdict},
    report,
};
use afd_model::Inventory;
use afd_publish::node::{DesiredCondition, DesiredNode};

/// The options that decide what the Node shows.
#[derive(Debug)]
pub struct NodeOptions {
    labels: LabelOptions,
    compat: CompatOptions,
    rules: PathRules,
}

impl NodeOptions {
    /// The options of the command line. Label sets of vendors are `auto` unless it sets them.
    pub fn new(labels: LabelOptions, compat: CompatOptions, rules: PathRules) -> NodeOptions {
        // The reconciler never takes a key from another field manager, which is what `auto` means.
        let switches = compat.switches.auto_on();
        NodeOptions { labels, compat: CompatOptions { switches, ..compat }, rules }
    }

    /// The verdicts of all paths on an inventory.
    pub fn paths(&self, inventory: &Inventory) -> Vec<PathVerdict<'_>> {
        self.rules.verdicts(inventory, self.labels.include_integrated)
    }

    /// Whether integrated GPUs count.
    pub fn include_integrated(&self) -> bool {
        self.labels.include_integrated
    }

    /// The desired state of the Node for an inventory and its offers.
    pub fn desired(&self, inventory: &Inventory, offered: &Offered) -> DesiredNode {
        let prefix = &self.labels.prefix;
        let verdicts = self.paths(inventory);
        let mut own = labels::labels(inventory, &self.labels, offered.allocation);
        own.extend(paths::labels(inventory, &verdicts, &self.labels));
        let report = (!inventory.devices.is_empty())
            .then(|| (report_key(prefix), report::report(inventory, offered, &verdicts)));
        let condition = condition::condition(inventory, self.labels.include_integrated, &offered.verdict);
        DesiredNode {
            labels: own,
            compat: compat::labels(inventory, &self.labels, &self.compat),
            annotations: report.into_iter().collect::<BTreeMap<_, _>>(),
            condition: condition.map(|condition| DesiredCondition {
                kind: format!("{prefix}/Ready"),
                status: condition.status.to_owned(),
                reason: condition.reason,
                message: condition.message,
            }),
        }
    }
}

/// The key of the annotation with the report.
pub fn report_key(prefix: &str) -> String {
    format!("{prefix}/report")
}
