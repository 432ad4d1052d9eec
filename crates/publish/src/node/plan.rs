//! What has to be written to the metadata of the Node. Pure.
//!
//! An apply deletes the keys that it leaves out and that AFD owns. So it carries every decided key with its value, and every
//! key of ours that is undecided with the value that the Node has; then it also carries the version of the Node that it was
//! planned on, and the API server refuses it on another one.

use std::collections::{BTreeMap, BTreeSet};

use afd_derive::decided::DecidedKeys;
use serde_json::{Map, Value, json};

use super::{
    DesiredNode,
    observed::{ObservedMetadata, OwnedKeys, is_under},
};

/// Annotations under the own prefix that belong to the admin.
const ADMIN_ANNOTATIONS: [&str; 2] = ["expect", "ignore"];

/// A write of the metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ApplyPlan {
    /// All labels that AFD will own; the apply removes others that it owns now.
    pub(super) labels: BTreeMap<String, String>,
    /// The same for annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Keys that an apply cannot remove, since the API server has no record of their owner. They are removed first.
    pub(super) removals: MetadataKeys,
    /// Whether the Node differs from what is decided.
    pub(super) write: bool,
    /// The version of the Node whose undecided values are carried.
    pub(super) resource_version: Option<String>,
    /// Own keys that another field manager has changed, and which one.
    pub(super) contested: Vec<(String, String)>,
}

/// Keys of labels and annotations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct MetadataKeys {
    pub(super) labels: BTreeSet<String>,
    pub(super) annotations: BTreeSet<String>,
}

impl ApplyPlan {
    /// The write that brings a Node to the desired state. `prefix` is that of AFD's own keys.
    pub(super) fn new(observed: &ObservedMetadata, desired: &DesiredNode, prefix: &str) -> ApplyPlan {
        let none = DecidedKeys::default();
        let rules = |own, compat, admin: &'static [&'static str]| KeyRules {
            own,
            compat,
            admin,
            inherits: desired.inherits,
            prefix,
        };
        let labels = rules(&desired.labels, &desired.compat, &[]).plan(&observed.labels);
        let annotations = rules(&desired.annotations, &none, &ADMIN_ANNOTATIONS).plan(&observed.annotations);
        let carries = labels.carries || annotations.carries;
        ApplyPlan {
            write: labels.write || annotations.write,
            resource_version: carries.then(|| observed.resource_version.clone()),
            contested: [labels.contested, annotations.contested].concat(),
            labels: labels.values,
            annotations: annotations.values,
            removals: MetadataKeys { labels: labels.removals, annotations: annotations.removals },
        }
    }

    /// Whether anything has to be written.
    pub(super) fn is_needed(&self) -> bool {
        self.write || self.has_removals()
    }

    /// Whether keys have to be removed that an apply cannot remove.
    pub(super) fn has_removals(&self) -> bool {
        self.removals != MetadataKeys::default()
    }

    /// The body of the apply. A map without keys is left out: an empty one would be owned as a whole.
    pub(super) fn body(&self, name: &str, uid: &str, resource_version: Option<&str>) -> Value {
        let mut metadata = Map::from_iter([("name".to_owned(), json!(name)), ("uid".to_owned(), json!(uid))]);
        for (map, values) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !values.is_empty() {
                metadata.insert(map.to_owned(), json!(values));
            }
        }
        if let Some(version) = resource_version.or(self.resource_version.as_deref()) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata })
    }

    /// The body of the merge patch with the removals.
    pub(super) fn removal_body(&self, resource_version: &str) -> Value {
        let nulls = |keys: &BTreeSet<String>| {
            keys.iter().map(|key| (key.clone(), Value::Null)).collect::<Map<_, _>>()
        };
        json!({ "metadata": {
            "resourceVersion": resource_version,
            "labels": nulls(&self.removals.labels),
            "annotations": nulls(&self.removals.annotations),
        } })
    }
}

/// What decides the labels, or the annotations.
struct KeyRules<'a> {
    own: &'a DecidedKeys,
    /// Keys that are never taken from another field manager.
    compat: &'a DecidedKeys,
    /// Names under the own prefix that are never touched.
    admin: &'static [&'static str],
    inherits: bool,
    prefix: &'a str,
}

/// The plan of the labels, or of the annotations.
struct KeyPlan {
    values: BTreeMap<String, String>,
    /// Whether there are undecided ones among them.
    carries: bool,
    removals: BTreeSet<String>,
    write: bool,
    contested: Vec<(String, String)>,
}

impl KeyRules<'_> {
    fn plan(&self, observed: &OwnedKeys) -> KeyPlan {
        let OwnedKeys { values: current, owners } = observed;
        // One that is there without a recorded owner may be of any manager.
        let is_free =
            |key: &str| owners.other(key).is_none() && (owners.is_ours(key) || !current.contains_key(key));
        let free = self.compat.values.iter().filter(|(key, _)| is_free(key));
        let own = self.own.values.iter().filter(|(key, _)| !self.is_admins(key));
        let mut values: BTreeMap<String, String> =
            free.chain(own).map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut write =
            values.iter().any(|(key, value)| current.get(key) != Some(value) || !owners.is_ours(key));
        let contested = self
            .own
            .values
            .iter()
            .filter(|(key, value)| !self.is_admins(key) && current.get(*key) != Some(*value));
        let contested = contested.filter_map(|(key, _)| Some((key.clone(), owners.other(key)?.to_owned())));
        let contested = contested.collect();
        let (mut carries, mut removals) = (false, BTreeSet::new());
        for (key, value) in current {
            let is_ours = owners.is_ours(key);
            if values.contains_key(key) || !is_ours && !self.is_ours_by_prefix(observed, key) {
                continue;
            }
            if self.stays(key) {
                values.insert(key.clone(), value.clone());
                carries = true;
            } else if owners.is_given_up_by_omission(key) {
                write = true;
            } else {
                removals.insert(key.clone());
            }
        }
        KeyPlan { values, carries, removals, write, contested }
    }

    /// Whether a key that is not decided keeps the value that the Node has.
    fn stays(&self, key: &str) -> bool {
        let is_undecided = self.own.undecided.contains(key) || self.compat.undecided.contains(key);
        self.inherits && is_undecided || self.is_admins(key)
    }

    fn is_admins(&self, key: &str) -> bool {
        is_under(key, self.prefix) && self.admin.contains(&&key[self.prefix.len() + 1..])
    }

    /// A key under the own prefix without an owner is AFD's: the record of owners was lost, as by a restored backup.
    fn is_ours_by_prefix(&self, observed: &OwnedKeys, key: &str) -> bool {
        is_under(key, self.prefix) && observed.owners.other(key).is_none() && !self.is_admins(key)
    }
}

#[cfg(test)]
mod tests;
