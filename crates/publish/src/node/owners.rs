//! Who owns the fields of a Node, from `metadata.managedFields` (FieldsV1 of structured-merge-diff).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

use super::FIELD_MANAGER;

/// The API server's stand-in for the owner of fields that were set before owners were recorded.
const UNRECORDED: &str = "before-first-apply";

/// The field managers of each key of a map or list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FieldOwners(BTreeMap<String, BTreeSet<String>>);

impl FieldOwners {
    /// The owners of labels or annotations: `{"f:metadata": {"f:labels": {"f:<key>": {}}}}`.
    pub(super) fn of_metadata(managed: &[ManagedFieldsEntry], map: &str) -> FieldOwners {
        FieldOwners::collect(managed, ["f:metadata", map], |key| Some(key.strip_prefix("f:")?.to_owned()))
    }

    /// The owners of conditions, by type: `{"f:status": {"f:conditions": {"k:{\"type\":\"<type>\"}": {}}}}`.
    pub(super) fn of_conditions(managed: &[ManagedFieldsEntry]) -> FieldOwners {
        FieldOwners::collect(managed, ["f:status", "f:conditions"], |key| {
            let keys: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            Some(keys.get("type")?.as_str()?.to_owned())
        })
    }

    fn collect(
        managed: &[ManagedFieldsEntry],
        [part, list]: [&str; 2],
        key: impl Fn(&str) -> Option<String>,
    ) -> FieldOwners {
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in managed {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            let keys = fields.and_then(|fields| fields.get(part)?.get(list)?.as_object());
            for key in keys.into_iter().flat_map(Map::keys).filter_map(|name| key(name)) {
                owners.entry(key).or_default().insert(entry.manager.clone().unwrap_or_default());
            }
        }
        FieldOwners(owners)
    }

    /// Whether AFD owns a key, alone or with others.
    pub(super) fn is_ours(&self, key: &str) -> bool {
        self.has(key, FIELD_MANAGER)
    }

    /// Another field manager that owns a key.
    pub(super) fn other(&self, key: &str) -> Option<&str> {
        let owners = self.0.get(key)?.iter().map(String::as_str);
        owners.into_iter().find(|owner| ![FIELD_MANAGER, UNRECORDED].contains(owner))
    }

    /// Whether an apply without the key ends AFD's ownership of it. It does not remove a key whose owner was not recorded.
    pub(super) fn is_given_up_by_omission(&self, key: &str) -> bool {
        self.is_ours(key) && !self.has(key, UNRECORDED)
    }

    /// The keys that AFD owns.
    pub(super) fn ours(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, owners)| owners.contains(FIELD_MANAGER)).map(|(key, _)| key.as_str())
    }

    fn has(&self, key: &str, manager: &str) -> bool {
        self.0.get(key).is_some_and(|owners| owners.contains(manager))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn managed(entries: Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(entries).expect("they are entries")
    }

    #[test]
    fn owners_of_labels_and_of_conditions_are_read() {
        let managed = managed(json!([
            { "manager": FIELD_MANAGER, "fieldsV1": {
                "f:metadata": { "f:labels": { ".": {}, "f:p/count": {}, "f:p/model": {} } },
            } },
            { "manager": FIELD_MANAGER, "subresource": "status", "fieldsV1": {
                "f:status": { "f:conditions": { "k:{\"type\":\"p/Ready\"}": { ".": {} }, "v:other": {} } },
            } },
            { "manager": "other", "fieldsV1": { "f:metadata": { "f:labels": { "f:p/count": {} } } } },
        ]));
        let labels = FieldOwners::of_metadata(&managed, "f:labels");
        assert_eq!(labels.ours().collect::<Vec<_>>(), ["p/count", "p/model"]);
        assert_eq!((labels.other("p/count"), labels.other("p/model")), (Some("other"), None));
        let conditions = FieldOwners::of_conditions(&managed);
        assert_eq!(conditions.ours().collect::<Vec<_>>(), ["p/Ready"]);
    }

    #[test]
    fn an_owner_that_was_not_recorded_is_none_but_keeps_the_key_from_being_removed() {
        let entry = |manager: &str| json!({ "manager": manager, "fieldsV1": { "f:metadata": { "f:labels": { "f:p/x": {} } } } });
        let alone = managed(json!([entry(UNRECORDED)]));
        let both = managed(json!([entry(UNRECORDED), entry(FIELD_MANAGER)]));
        let ours = managed(json!([entry(FIELD_MANAGER)]));
        let state = |managed: &[ManagedFieldsEntry]| {
            let owners = FieldOwners::of_metadata(managed, "f:labels");
            (owners.is_ours("p/x"), owners.other("p/x").is_some(), owners.is_given_up_by_omission("p/x"))
        };
        assert_eq!(state(&alone), (false, false, false));
        assert_eq!(state(&both), (true, false, false));
        assert_eq!(state(&ours), (true, false, true));
    }
}
