//! What has to be written to the metadata of the Node. Pure.
//!
//! An apply deletes the keys that it leaves out and that AFD owns. So it carries every decided key with its value, and every
//! key of ours that is undecided with the value that the Node has; then it also carries the version of the Node that it was
//! planned on, and the API server refuses it on another one.

use std::collections::{BTreeMap, BTreeSet};

use afd_derive::decided::{DecidedKeys, KeyFamilies};
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

impl MetadataKeys {
    pub(super) fn len(&self) -> usize {
        self.labels.len() + self.annotations.len()
    }

    pub(super) fn extend(&mut self, other: MetadataKeys) {
        self.labels.extend(other.labels);
        self.annotations.extend(other.annotations);
    }

    /// Two halves, of which neither is empty if there are at least two keys.
    pub(super) fn halves(self) -> [MetadataKeys; 2] {
        let half = self.len() / 2;
        let mut halves = [MetadataKeys::default(), MetadataKeys::default()];
        let labels = self.labels.len();
        for (index, key) in self.labels.into_iter().enumerate() {
            halves[usize::from(index >= half)].labels.insert(key);
        }
        for (index, key) in self.annotations.into_iter().enumerate() {
            halves[usize::from(labels + index >= half)].annotations.insert(key);
        }
        halves
    }

    /// Each key by itself.
    pub(super) fn singles(self) -> Vec<MetadataKeys> {
        let label = |key| MetadataKeys { labels: BTreeSet::from([key]), ..MetadataKeys::default() };
        let annotation = |key| MetadataKeys { annotations: BTreeSet::from([key]), ..MetadataKeys::default() };
        self.labels.into_iter().map(label).chain(self.annotations.into_iter().map(annotation)).collect()
    }

    /// Those that are not among others.
    pub(super) fn without(&self, other: &MetadataKeys) -> MetadataKeys {
        MetadataKeys {
            labels: self.labels.difference(&other.labels).cloned().collect(),
            annotations: self.annotations.difference(&other.annotations).cloned().collect(),
        }
    }

    /// Whether all of them are among others.
    pub(super) fn is_subset(&self, other: &MetadataKeys) -> bool {
        self.labels.is_subset(&other.labels) && self.annotations.is_subset(&other.annotations)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().chain(&self.annotations).map(String::as_str)
    }
}

impl ApplyPlan {
    /// The write that brings a Node to the desired state. `prefix` is that of AFD's own keys. The keys that are `held` stay as the
    /// Node has them.
    pub(super) fn new(
        observed: &ObservedMetadata,
        desired: &DesiredNode,
        prefix: &str,
        held: &MetadataKeys,
    ) -> ApplyPlan {
        let (none, inherits) = (DecidedKeys::default(), desired.inherits);
        let labels = KeyRules {
            own: &desired.labels,
            compat: &desired.compat,
            families: &desired.label_families,
            admin: &[],
            held: &held.labels,
            inherits,
            prefix,
        };
        let annotations = KeyRules {
            own: &desired.annotations,
            compat: &none,
            families: &desired.annotation_families,
            admin: &ADMIN_ANNOTATIONS,
            held: &held.annotations,
            inherits,
            prefix,
        };
        let (labels, annotations) = (labels.plan(&observed.labels), annotations.plan(&observed.annotations));
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

    /// The keys that it sets, takes over or removes.
    pub(super) fn changed(&self, observed: &ObservedMetadata) -> MetadataKeys {
        let changed =
            |planned: &BTreeMap<String, String>, removals: &BTreeSet<String>, on_node: &OwnedKeys| {
                let OwnedKeys { values, owners } = on_node;
                let set = planned
                    .iter()
                    .filter(|(key, value)| values.get(*key) != Some(*value) || !owners.is_ours(key));
                let omitted = values.keys().filter(|key| owners.is_ours(key) && !planned.contains_key(*key));
                set.map(|(key, _)| key).chain(omitted).chain(removals).cloned().collect()
            };
        MetadataKeys {
            labels: changed(&self.labels, &self.removals.labels, &observed.labels),
            annotations: changed(&self.annotations, &self.removals.annotations, &observed.annotations),
        }
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
    /// All families that AFD decides under the own prefix. A stale key of one is removed from any owner.
    families: &'a KeyFamilies,
    /// Names under the own prefix that are never touched.
    admin: &'static [&'static str],
    /// Keys that stay as they are.
    held: &'a BTreeSet<String>,
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
        let own =
            || self.own.values.iter().filter(|(key, _)| !self.is_admins(key) && !self.held.contains(*key));
        let mut values: BTreeMap<String, String> = free
            .filter(|(key, _)| !self.held.contains(*key))
            .chain(own())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut write =
            values.iter().any(|(key, value)| current.get(key) != Some(value) || !owners.is_ours(key));
        let differing = own().filter(|(key, value)| current.get(*key) != Some(*value));
        let contested = differing.filter_map(|(key, _)| Some((key.clone(), owners.other(key)?.to_owned())));
        let mut contested: Vec<_> = contested.collect();
        let (mut carries, mut removals) = (false, BTreeSet::new());
        for (key, value) in current {
            let (is_ours, is_free) = (owners.is_ours(key), self.is_ours_by_prefix(observed, key));
            let is_family = self.is_of_own_family(key);
            if values.contains_key(key) || !is_ours && !is_free && !is_family {
                continue;
            }
            let is_held = self.held.contains(key);
            let other = owners.other(key).filter(|_| is_family);
            if self.stays(key) || is_held {
                if is_ours || is_free && !is_held {
                    values.insert(key.clone(), value.clone());
                    carries = true;
                }
            } else if owners.is_given_up_by_omission(key) && other.is_none() {
                write = true;
            } else {
                removals.insert(key.clone());
                contested.extend(other.map(|owner| (key.clone(), owner.to_owned())));
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

    /// A key that only AFD's rules make.
    fn is_of_own_family(&self, key: &str) -> bool {
        is_under(key, self.prefix) && self.families.contains(key) && !self.is_admins(key)
    }

    /// A key under the own prefix without an owner is AFD's: the record of owners was lost, as by a restored backup.
    fn is_ours_by_prefix(&self, observed: &OwnedKeys, key: &str) -> bool {
        is_under(key, self.prefix) && observed.owners.other(key).is_none() && !self.is_admins(key)
    }
}

#[cfg(test)]
mod tests;
