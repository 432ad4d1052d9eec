//! A Node as AFD's labels, annotations and conditions describe it.

use afd_apiserver::node_pages::{ListedCondition, ListedNode};
use afd_derive::{condition, labels::PRODUCT_KEY, paths::PATH_KEY};
use serde_json::Value;

/// A Node, and the prefix of AFD's keys on it.
#[derive(Clone, Copy, Debug)]
pub struct FleetNode<'a> {
    /// The Node.
    pub node: &'a ListedNode,
    /// The prefix, without the slash.
    pub prefix: &'a str,
}

/// Which Nodes are shown, besides those that the label selector leaves out.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeFilter<'a> {
    /// Also those without anything of AFD.
    pub(super) all: bool,
    pub(super) product: Option<&'a str>,
    pub(super) problem: bool,
}

impl NodeFilter<'_> {
    pub(super) fn selects(&self, node: &FleetNode<'_>) -> bool {
        (self.all || node.is_known())
            && self.product.is_none_or(|product| node.has_product(product))
            && (!self.problem || node.has_problem())
    }
}

impl<'a> FleetNode<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.node.metadata.name
    }

    /// The value of a label, by its name after the prefix or by its whole key.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let labels = &self.node.metadata.labels;
        let value = if name.contains('/') { labels.get(name) } else { labels.get(&self.key(name)) };
        value.map(String::as_str)
    }

    /// The value of an annotation of AFD.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.node.metadata.annotations.get(&self.key(name)).map(String::as_str)
    }

    /// The annotation `report`; null where there is none, or it cannot be read.
    pub(super) fn report(&self) -> Value {
        self.annotation("report").and_then(|report| serde_json::from_str(report).ok()).unwrap_or_default()
    }

    /// The conditions `Ready` and `Problem`.
    pub(super) fn conditions(&self) -> [Option<&'a ListedCondition>; 2] {
        let (ready, problem) = condition::kinds(self.prefix);
        [ready, problem].map(|kind| self.node.conditions().iter().find(|condition| condition.kind == kind))
    }

    /// The paths with a verdict, and whether the Node can serve each.
    pub fn paths(&self) -> impl Iterator<Item = (&'a str, bool)> {
        let key = self.key(PATH_KEY);
        let labels = self.node.metadata.labels.iter();
        labels.filter_map(move |(label, value)| Some((label.strip_prefix(&key)?, value == "true")))
    }

    /// Whether an agent has written anything on it.
    pub(super) fn is_known(&self) -> bool {
        let metadata = &self.node.metadata;
        let mut keys = metadata.labels.keys().chain(metadata.annotations.keys());
        let of_us = |key: &str| key.strip_prefix(self.prefix).is_some_and(|rest| rest.starts_with('/'));
        keys.any(|key| of_us(key)) || self.node.conditions().iter().any(|condition| of_us(&condition.kind))
    }

    /// Whether it has devices of a product, which is given as the label `product` or `model` has it.
    fn has_product(&self, product: &str) -> bool {
        ["product", "model"].iter().any(|name| self.label(name) == Some(product))
            || self.label(&format!("{PRODUCT_KEY}{product}")).is_some()
    }

    /// Whether a fault is confirmed, or an expected device cannot take work.
    fn has_problem(&self) -> bool {
        let [ready, problem] = self.conditions();
        problem.is_some_and(|problem| problem.status == "True")
            || ready.is_some_and(|ready| ready.status == "False")
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}
