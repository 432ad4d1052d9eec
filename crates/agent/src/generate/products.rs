//! The Nodes by product: what all Nodes of a product have in common.

use std::collections::{BTreeMap, BTreeSet};

use afd_apiserver::node_pages::ListedTaint;
use afd_derive::{
    labels::PRODUCT_KEY,
    vendors::{SignalPlace, VENDORS},
};

use super::{FABRIC, REGION, ZONE, names::object_names};
use crate::fleet::FleetNode;

/// What a machine of a type has before any agent has run on it, and keeps: the labels by which an autoscaler may choose.
const STABLE_LABELS: [&str; 11] = [
    "present",
    "vendor",
    "variant",
    "product",
    "model",
    "architecture",
    "compute",
    "count",
    "memory-mib",
    "llm-d.ai/accelerator-vendor",
    "llm-d.ai/accelerator-variant",
];
/// The labels that are levels of a topology.
const LEVELS: [&str; 3] = [REGION, ZONE, FABRIC];
/// The domains of controllers whose taints come and go.
const CONTROLLERS: [&str; 3] = ["kubernetes.io", "k8s.io", "karpenter.sh"];
/// The one domain of them whose taints stay: `node-role.kubernetes.io/control-plane`.
const ROLES: &str = "node-role.kubernetes.io";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The products of all Nodes.
#[derive(Debug)]
pub(super) struct FleetProducts<'a> {
    /// The prefix of AFD's labels.
    pub(super) prefix: &'a str,
    products: BTreeMap<String, ProductNodes>,
    /// How many Nodes have an accelerator, also one without a known product.
    pub(super) accelerated: usize,
    /// How many of them have each label of a level.
    levels: LevelCounts,
    /// How many Nodes can serve each path.
    pub(super) paths: BTreeMap<String, usize>,
    /// How many Nodes have devices with this memory, in MiB.
    pub(super) memories: BTreeMap<u64, usize>,
}

/// The Nodes with a product.
#[derive(Debug, Default)]
pub(super) struct ProductNodes {
    /// How many there are.
    pub(super) nodes: usize,
    /// How many of them have devices of other products as well.
    pub(super) mixed: usize,
    /// The stable labels that all of them have with the same value, by their whole key.
    pub(super) labels: BTreeMap<String, String>,
    /// The taints that all of them have, except those that come and go.
    pub(super) taints: BTreeSet<ListedTaint>,
    /// Their instance types.
    pub(super) instance_types: BTreeSet<String>,
    /// How many of them have each label of a level.
    levels: LevelCounts,
}

/// How many Nodes have each label of a level.
#[derive(Debug, Default)]
struct LevelCounts([usize; LEVELS.len()]);

impl LevelCounts {
    fn add(&mut self, node: &FleetNode<'_>) {
        for (count, level) in self.0.iter_mut().zip(LEVELS) {
            *count += usize::from(node.label(level).is_some());
        }
    }

    fn of(&self, level: &str) -> usize {
        LEVELS.iter().position(|known| *known == level).map_or(0, |index| self.0[index])
    }
}

impl<'a> FleetProducts<'a> {
    pub(super) fn new(prefix: &'a str) -> FleetProducts<'a> {
        FleetProducts {
            prefix,
            products: BTreeMap::new(),
            accelerated: 0,
            levels: LevelCounts::default(),
            paths: BTreeMap::new(),
            memories: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, node: &FleetNode<'_>) {
        if let Some(product) = node.label("product").filter(|product| is_value(product)) {
            self.products.entry(product.to_owned()).or_default().add(node, product, self.prefix);
        }
        if node.label("present") == Some("true") {
            self.accelerated += 1;
            self.levels.add(node);
        }
        for (path, _) in node.paths().filter(|(path, ready)| *ready && is_value(path)) {
            *self.paths.entry(path.to_owned()).or_default() += 1;
        }
        if let Some(memory) = node.label("memory-mib").and_then(|memory| memory.parse().ok()) {
            *self.memories.entry(memory).or_default() += 1;
        }
    }

    /// Whether a product is known.
    pub(super) fn has_named(&self) -> bool {
        !self.products.is_empty()
    }

    /// Each product with its name for an object, and its Nodes.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, String, &ProductNodes)> {
        let names = object_names(self.products.keys().map(String::as_str));
        self.products
            .iter()
            .map(move |(product, nodes)| (product.as_str(), names[product.as_str()].clone(), nodes))
    }

    /// How many Nodes with accelerators have the label of a level.
    pub(super) fn with_level(&self, level: &str) -> usize {
        self.levels.of(level)
    }

    /// The whole key of a label of AFD.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

impl ProductNodes {
    fn add(&mut self, node: &FleetNode<'_>, product: &str, prefix: &str) {
        let counted = format!("{PRODUCT_KEY}{product}");
        let named = STABLE_LABELS.into_iter().chain([counted.as_str()]).filter_map(|name| {
            let key = if name.contains('/') { name.to_owned() } else { format!("{prefix}/{name}") };
            Some((key, node.label(name).filter(|value| is_value(value))?.to_owned()))
        });
        let labels: BTreeMap<String, String> = named.collect();
        let taints: BTreeSet<ListedTaint> =
            node.node.taints().iter().filter(|taint| is_lasting(taint)).cloned().collect();
        if self.nodes == 0 {
            (self.labels, self.taints) = (labels, taints);
        } else {
            self.labels.retain(|key, value| labels.get(key) == Some(value));
            self.taints.retain(|taint| taints.contains(taint));
        }
        self.nodes += 1;
        self.mixed += usize::from(node.label("homogeneous") == Some("false"));
        self.instance_types
            .extend(node.label(INSTANCE_TYPE).filter(|value| is_value(value)).map(str::to_owned));
        self.levels.add(node);
    }

    /// A sentence about those with devices of other products; empty if there is none.
    pub(super) fn about_mixed(&self) -> String {
        match self.mixed {
            0 => String::new(),
            mixed => format!(" {mixed} of them have devices of other products as well."),
        }
    }

    /// Whether all Nodes have the label of a level.
    pub(super) fn all_have(&self, level: &str) -> bool {
        self.levels.of(level) == self.nodes
    }
}

/// Whether Kubernetes accepts a text as the value of a label. A file may have any; what is written to YAML has no other characters.
fn is_value(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && is_end(text.chars().next())
        && is_end(text.chars().last())
        && text.chars().all(is_inner)
}

/// The taints by which vendors' operators announce that they work on a Node.
fn maintenance_taints() -> impl Iterator<Item = &'static str> {
    let signals = VENDORS.iter().flat_map(|vendor| vendor.maintenance);
    signals.filter(|signal| signal.place == SignalPlace::Taint).map(|signal| signal.key)
}

/// Whether a taint belongs to the machines, and is none of Kubernetes and its controllers, which come and go.
fn is_lasting(taint: &ListedTaint) -> bool {
    let domain = taint.key.split_once('/').map_or("", |(domain, _)| domain);
    let is_key = taint.key.len() <= 253 && taint.key.split('/').all(is_value);
    is_key
        && (taint.value.is_empty() || is_value(&taint.value))
        && ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str())
        && (domain == ROLES || !CONTROLLERS.iter().any(|own| domain.ends_with(own)))
        && !taint.key.ends_with("ClusterAutoscaler")
        && !maintenance_taints().any(|own| own == taint.key)
}
