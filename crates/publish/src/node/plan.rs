//! What has to be written to the Node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::{DesiredNode, FIELD_MANAGER};

/// The metadata of a Node that is used here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ObservedMetadata {
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The field managers that own each label, and each annotation.
    label_owners: BTreeMap<String, BTreeSet<String>>,
    annotation_owners: BTreeMap<String, BTreeSet<String>>,
}

impl From<ObjectMeta> for ObservedMetadata {
    fn from(meta: ObjectMeta) -> ObservedMetadata {
        let managed = meta.managed_fields.unwrap_or_default();
        ObservedMetadata {
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            label_owners: owners(&managed, "f:labels"),
            annotation_owners: owners(&managed, "f:annotations"),
        }
    }
}

/// The owners of the keys of a map of the metadata, from `managedFields` (FieldsV1: `{"f:metadata": {"f:labels": {"f:<key>": {}}}}`).
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

impl ObservedMetadata {
    /// Whether another version of the Node differs in what AFD may have written.
    pub(super) fn differs(&self, other: &ObservedMetadata) -> bool {
        (&self.uid, &self.labels, &self.annotations, &self.label_owners)
            != (&other.uid, &other.labels, &other.annotations, &other.label_owners)
    }

    /// The labels that AFD owns.
    pub(super) fn owned_labels(&self) -> impl Iterator<Item = &str> {
        owned_keys(&self.label_owners)
    }

    /// Another owner of a label.
    pub(super) fn other_owner(&self, key: &str) -> Option<&str> {
        self.label_owners.get(key)?.iter().map(String::as_str).find(|owner| *owner != FIELD_MANAGER)
    }
}

fn owned_keys(owners: &BTreeMap<String, BTreeSet<String>>) -> impl Iterator<Item = &str> {
    owners.iter().filter(|(_, owners)| owners.contains(FIELD_MANAGER)).map(|(key, _)| key.as_str())
}

/// A server-side apply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ApplyPlan {
    /// All labels that AFD will own; the apply removes others that it owns now.
    pub(super) labels: BTreeMap<String, String>,
    /// The same for annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Whether the Node differs from it.
    pub(super) write: bool,
    /// Own keys that another field manager has changed, and which one.
    pub(super) contested: Vec<(String, String)>,
}

impl ApplyPlan {
    /// The apply that brings a Node to the desired state.
    pub(super) fn new(
        observed: &ObservedMetadata,
        desired: &DesiredNode,
        given_up: &BTreeSet<String>,
    ) -> ApplyPlan {
        let is_free = |key: &String| !given_up.contains(key) && observed.other_owner(key).is_none();
        let compat = desired.compat.iter().filter(|(key, _)| is_free(key));
        let mut labels: BTreeMap<String, String> =
            compat.map(|(key, value)| (key.clone(), value.clone())).collect();
        labels.extend(desired.labels.clone());
        let owned_labels: BTreeSet<&str> = owned_keys(&observed.label_owners).collect();
        let owned_annotations: BTreeSet<&str> = owned_keys(&observed.annotation_owners).collect();
        let up_to_date =
            |now: &BTreeMap<String, String>, owned: &BTreeSet<&str>, desired: &BTreeMap<String, String>| {
                desired.iter().all(|(key, value)| now.get(key) == Some(value) && owned.contains(key.as_str()))
                    && owned.iter().all(|key| desired.contains_key(*key))
            };
        let write = !up_to_date(&observed.labels, &owned_labels, &labels)
            || !up_to_date(&observed.annotations, &owned_annotations, &desired.annotations);
        let contested = desired.labels.iter().filter_map(|(key, value)| {
            let owner = observed.other_owner(key)?;
            (observed.labels.get(key) != Some(value)).then(|| (key.clone(), owner.to_owned()))
        });
        ApplyPlan { contested: contested.collect(), annotations: desired.annotations.clone(), labels, write }
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

    const OWN_KEY: &str = "accelerator.llm-d.ai/count";
    const VENDOR_KEY: &str = "nvidia.com/gpu.count";

    fn node(labels: &[(&str, &str, &str)]) -> ObservedMetadata {
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

    fn desired() -> DesiredNode {
        let one = |key: &str| BTreeMap::from([(key.to_owned(), "8".to_owned())]);
        DesiredNode { labels: one(OWN_KEY), compat: one(VENDOR_KEY), ..DesiredNode::default() }
    }

    fn plan(labels: &[(&str, &str, &str)]) -> ApplyPlan {
        ApplyPlan::new(&node(labels), &desired(), &BTreeSet::new())
    }

    #[test]
    fn nothing_is_written_while_the_node_is_up_to_date() {
        assert!(!plan(&[(OWN_KEY, "8", FIELD_MANAGER), (VENDOR_KEY, "8", FIELD_MANAGER)]).write);
        assert!(plan(&[(OWN_KEY, "7", FIELD_MANAGER), (VENDOR_KEY, "8", FIELD_MANAGER)]).write);
        assert!(plan(&[]).write);
    }

    #[test]
    fn a_vendors_key_with_another_owner_is_left_alone_whatever_its_value() {
        for value in ["8", "4"] {
            let plan = plan(&[(OWN_KEY, "8", FIELD_MANAGER), (VENDOR_KEY, value, "nfd-master")]);
            assert!(!plan.write && !plan.labels.contains_key(VENDOR_KEY));
        }
    }

    #[test]
    fn an_own_key_is_corrected_and_its_other_owner_reported() {
        let plan = plan(&[(OWN_KEY, "0", "kubectl-edit"), (VENDOR_KEY, "8", FIELD_MANAGER)]);
        assert!(plan.write);
        assert_eq!(plan.contested, [(OWN_KEY.to_owned(), "kubectl-edit".to_owned())]);
    }

    #[test]
    fn a_key_that_is_no_longer_desired_is_a_change() {
        let old = "accelerator.llm-d.ai/product.Old";
        let plan = plan(&[
            (OWN_KEY, "8", FIELD_MANAGER),
            (VENDOR_KEY, "8", FIELD_MANAGER),
            (old, "1", FIELD_MANAGER),
        ]);
        assert!(plan.write && !plan.labels.contains_key(old));
    }
}
