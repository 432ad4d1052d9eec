//! What has to be written on the Node: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::{FIELD_MANAGER, Wanted};

/// What matters of a Node's metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Metadata {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// Owners of each label, and of each annotation.
    label_owners: BTreeMap<String, BTreeSet<String>>,
    annotation_owners: BTreeMap<String, BTreeSet<String>>,
}

impl From<ObjectMeta> for Metadata {
    fn from(meta: ObjectMeta) -> Metadata {
        let managed = meta.managed_fields.unwrap_or_default();
        Metadata {
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            label_owners: owners(&managed, "f:labels"),
            annotation_owners: owners(&managed, "f:annotations"),
        }
    }
}

/// Who owns the keys of a map of the metadata, by `managedFields` (FieldsV1: `{"f:metadata": {"f:labels": {"f:<key>": {}}}}`).
fn owners(managed: &[ManagedFieldsEntry], map: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in managed {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let keys = fields.and_then(|fields| fields.get("f:metadata")?.get(map)?.as_object());
        for key in keys.into_iter().flat_map(serde_json::Map::keys) {
            if let Some(key) = key.strip_prefix("f:") {
                owners.entry(key.to_owned()).or_default().insert(entry.manager.clone().unwrap_or_default());
            }
        }
    }
    owners
}

impl Metadata {
    /// Whether another version of the Node says something else of what we may have written.
    pub(super) fn says_other(&self, other: &Metadata) -> bool {
        (&self.uid, &self.labels, &self.annotations, &self.label_owners)
            != (&other.uid, &other.labels, &other.annotations, &other.label_owners)
    }

    /// The labels that we own.
    pub(super) fn ours(&self) -> impl Iterator<Item = &str> {
        owned(&self.label_owners)
    }

    /// Who owns a label beside us.
    pub(super) fn other_owner(&self, key: &str) -> Option<&str> {
        self.label_owners.get(key)?.iter().map(String::as_str).find(|owner| *owner != FIELD_MANAGER)
    }
}

fn owned(owners: &BTreeMap<String, BTreeSet<String>>) -> impl Iterator<Item = &str> {
    owners.iter().filter(|(_, owners)| owners.contains(FIELD_MANAGER)).map(|(key, _)| key.as_str())
}

/// An apply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    /// All labels that we are to own; others that we own now are removed by the apply.
    pub(super) labels: BTreeMap<String, String>,
    /// All annotations likewise.
    pub(super) annotations: BTreeMap<String, String>,
    /// Whether the Node says anything else now.
    pub(super) write: bool,
    /// Our own keys that somebody else has changed, and who.
    pub(super) contested: Vec<(String, String)>,
}

impl Plan {
    /// What makes a Node say what is wanted.
    pub(super) fn of(seen: &Metadata, wanted: &Wanted, given_up: &BTreeSet<String>) -> Plan {
        let free = |key: &String| !given_up.contains(key) && seen.other_owner(key).is_none();
        let compat = wanted.compat.iter().filter(|(key, _)| free(key));
        let mut labels: BTreeMap<String, String> =
            compat.map(|(key, value)| (key.clone(), value.clone())).collect();
        labels.extend(wanted.labels.clone());
        let owned_labels: BTreeSet<&str> = owned(&seen.label_owners).collect();
        let owned_annotations: BTreeSet<&str> = owned(&seen.annotation_owners).collect();
        let right =
            |now: &BTreeMap<String, String>, owned: &BTreeSet<&str>, to_be: &BTreeMap<String, String>| {
                to_be.iter().all(|(key, value)| now.get(key) == Some(value) && owned.contains(key.as_str()))
                    && owned.iter().all(|key| to_be.contains_key(*key))
            };
        let write = !right(&seen.labels, &owned_labels, &labels)
            || !right(&seen.annotations, &owned_annotations, &wanted.annotations);
        let contested = wanted.labels.iter().filter_map(|(key, value)| {
            let owner = seen.other_owner(key)?;
            (seen.labels.get(key) != Some(value)).then(|| (key.clone(), owner.to_owned()))
        });
        Plan { contested: contested.collect(), annotations: wanted.annotations.clone(), labels, write }
    }

    /// The body of the apply.
    pub(super) fn body(&self, name: &str, uid: &str) -> Value {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "uid": uid, "labels": self.labels, "annotations": self.annotations },
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    const OURS: &str = "accelerator.llm-d.ai/count";
    const VENDORS: &str = "nvidia.com/gpu.count";

    fn node(labels: &[(&str, &str, &str)]) -> Metadata {
        let entry = |manager: &str, key: &str| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            fields_v1: Some(FieldsV1(
                json!({ "f:metadata": { "f:labels": { ".": {}, format!("f:{key}"): {} } } }),
            )),
            ..ManagedFieldsEntry::default()
        };
        ObjectMeta {
            uid: Some("u".to_owned()),
            labels: Some(
                labels.iter().map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ),
            managed_fields: Some(labels.iter().map(|(key, _, owner)| entry(owner, key)).collect()),
            ..ObjectMeta::default()
        }
        .into()
    }

    fn wanted() -> Wanted {
        let one = |key: &str| BTreeMap::from([(key.to_owned(), "8".to_owned())]);
        Wanted { labels: one(OURS), compat: one(VENDORS), ..Wanted::default() }
    }

    fn plan(labels: &[(&str, &str, &str)]) -> Plan {
        Plan::of(&node(labels), &wanted(), &BTreeSet::new())
    }

    #[test]
    fn nothing_is_written_while_the_node_says_it_already() {
        assert!(!plan(&[(OURS, "8", FIELD_MANAGER), (VENDORS, "8", FIELD_MANAGER)]).write);
        assert!(plan(&[(OURS, "7", FIELD_MANAGER), (VENDORS, "8", FIELD_MANAGER)]).write);
        assert!(plan(&[]).write);
    }

    #[test]
    fn a_vendors_key_that_somebody_owns_is_left_alone_whatever_it_says() {
        for value in ["8", "4"] {
            let plan = plan(&[(OURS, "8", FIELD_MANAGER), (VENDORS, value, "nfd-master")]);
            assert!(!plan.write && !plan.labels.contains_key(VENDORS));
        }
    }

    #[test]
    fn our_own_key_is_taken_back_and_its_taker_named() {
        let plan = plan(&[(OURS, "0", "kubectl-edit"), (VENDORS, "8", FIELD_MANAGER)]);
        assert!(plan.write);
        assert_eq!(plan.contested, [(OURS.to_owned(), "kubectl-edit".to_owned())]);
    }

    #[test]
    fn a_key_that_is_no_longer_wanted_is_a_change() {
        let old = "accelerator.llm-d.ai/product.Old";
        let plan =
            plan(&[(OURS, "8", FIELD_MANAGER), (VENDORS, "8", FIELD_MANAGER), (old, "1", FIELD_MANAGER)]);
        assert!(plan.write && !plan.labels.contains_key(old));
    }
}
