//! The patch that removes what AFD wrote to a Node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::{
    DesiredNode,
    observed::{ObservedMetadata, OwnedKeys},
    plan::{ApplyPlan, MetadataKeys},
};

/// A strategic merge patch that removes what AFD alone owns, and what is under its prefix without an owner. It holds for one
/// version of the Node. A map without keys is left out: an empty one would be owned as a whole.
pub(super) fn body(metadata: &ObservedMetadata, prefix: &str) -> Value {
    let plan = ApplyPlan::new(metadata, &DesiredNode::default(), prefix, &MetadataKeys::default());
    let mut body = json!({ "metadata": {
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
    } });
    for (field, nulls) in [
        ("labels", nulls(&metadata.labels, &plan.labels, &plan.removals.labels)),
        ("annotations", nulls(&metadata.annotations, &plan.annotations, &plan.removals.annotations)),
    ] {
        if !nulls.is_empty() {
            body["metadata"][field] = Value::Object(nulls);
        }
    }
    let owners = &metadata.condition_owners;
    let conditions = owners.ours().filter(|kind| owners.other(kind).is_none());
    let conditions: Vec<Value> = conditions.map(|kind| json!({ "$patch": "delete", "type": kind })).collect();
    if !conditions.is_empty() {
        body["status"] = json!({ "conditions": conditions });
    }
    body
}

/// A null for each key that is removed; `kept` are the admin's.
fn nulls(
    keys: &OwnedKeys,
    kept: &BTreeMap<String, String>,
    unowned: &BTreeSet<String>,
) -> Map<String, Value> {
    let is_removed = |key: &&String| {
        let is_ours_alone = keys.owners.is_ours(key) && keys.owners.other(key).is_none();
        is_ours_alone && !kept.contains_key(*key) || unowned.contains(*key)
    };
    keys.values.keys().filter(is_removed).map(|key| (key.clone(), Value::Null)).collect()
}
