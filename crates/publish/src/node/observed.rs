//! The own Node, as read from the API server.

use std::{borrow::Cow, collections::BTreeMap};

use afd_model::{NodeFacts, ResourceCount};
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::owners::FieldOwners;

/// The fields of a Node that are used here; the others, such as its images, can be large.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OwnNode {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: OwnNodeSpec,
    #[serde(default)]
    status: OwnNodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnNodeSpec {
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    #[serde(default)]
    taints: Vec<OwnNodeTaint>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct OwnNodeTaint {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnNodeStatus {
    #[serde(default)]
    capacity: BTreeMap<String, Quantity>,
    #[serde(default)]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default)]
    conditions: Vec<OwnNodeCondition>,
    #[serde(default)]
    node_info: OwnNodeInfo,
}

/// `status.nodeInfo`: what the kubelet reports of its machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct OwnNodeInfo {
    #[serde(default, rename = "systemUUID")]
    system_uuid: String,
    #[serde(default, rename = "machineID")]
    machine_id: String,
    #[serde(default, rename = "bootID")]
    boot_id: String,
}

/// A condition as the API has it. Times are in the format of Kubernetes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnNodeCondition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_heartbeat_time: Option<String>,
}

impl Resource for OwnNode {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Node::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Node::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Node::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Node::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The metadata of a Node that is used here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ObservedMetadata {
    pub(super) uid: String,
    pub(super) resource_version: String,
    /// When the Node was created, in seconds since 1970.
    pub(super) created: Option<i64>,
    pub(super) labels: OwnedKeys,
    pub(super) annotations: OwnedKeys,
    /// The owners of the conditions, by type.
    pub(super) condition_owners: FieldOwners,
}

/// Labels or annotations with their owners.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct OwnedKeys {
    pub(super) values: BTreeMap<String, String>,
    pub(super) owners: FieldOwners,
}

impl OwnedKeys {
    /// Those that AFD does not own.
    fn foreign(&self) -> BTreeMap<String, String> {
        let mut values = self.values.clone();
        values.retain(|key, _| !self.owners.is_ours(key));
        values
    }
}

impl From<ObjectMeta> for ObservedMetadata {
    fn from(meta: ObjectMeta) -> ObservedMetadata {
        let managed = meta.managed_fields.unwrap_or_default();
        let keys = |values: Option<BTreeMap<_, _>>, map| OwnedKeys {
            values: values.unwrap_or_default(),
            owners: FieldOwners::of_metadata(&managed, map),
        };
        ObservedMetadata {
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            created: meta.creation_timestamp.map(|time| time.0.as_second()),
            labels: keys(meta.labels, "f:labels"),
            annotations: keys(meta.annotations, "f:annotations"),
            condition_owners: FieldOwners::of_conditions(&managed),
        }
    }
}

/// The state of the Node as it was last read.
#[derive(Clone, Debug)]
pub(super) struct ObservedNode {
    pub(super) metadata: ObservedMetadata,
    pub(super) resources: ExtendedResources,
    pub(super) conditions: Vec<OwnNodeCondition>,
    taints: BTreeMap<String, String>,
    provider_id: Option<String>,
    info: OwnNodeInfo,
}

/// The extended resources of the Node, by name: those with a domain, which device plugins register.
pub type ExtendedResources = BTreeMap<String, ResourceCount>;

impl From<OwnNode> for ObservedNode {
    fn from(node: OwnNode) -> ObservedNode {
        let OwnNode { metadata, spec, status } = node;
        let names = status.capacity.keys().filter(|name| name.contains('/'));
        // A resource whose quantity cannot be parsed is left out, not counted as 0.
        let resources = names.filter_map(|name| {
            let capacity = integer(&status.capacity[name])?;
            let allocatable = status.allocatable.get(name).map_or(Some(0), integer)?;
            Some((name.clone(), ResourceCount { capacity, allocatable }))
        });
        ObservedNode {
            metadata: metadata.into(),
            resources: resources.collect(),
            conditions: status.conditions,
            taints: spec.taints.into_iter().map(|taint| (taint.key, taint.value)).collect(),
            provider_id: spec.provider_id,
            info: status.node_info,
        }
    }
}

/// Extended resources are integers; Kubernetes writes large ones with a suffix (`2k`).
fn integer(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.as_str();
    let thousands = text.strip_suffix('k');
    let number: u64 = thousands.unwrap_or(text).parse().ok()?;
    number.checked_mul(if thousands.is_some() { 1000 } else { 1 })
}

impl ObservedNode {
    /// The condition of a type.
    pub(super) fn condition(&self, kind: &str) -> Option<&OwnNodeCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// What the Node says, with the annotations under this prefix.
    pub(super) fn facts(&self, prefix: &str) -> NodeFacts {
        let ObservedMetadata { labels, annotations, .. } = &self.metadata;
        self.facts_with(labels.values.clone(), annotations.values.clone(), prefix)
    }

    /// The same without what AFD wrote.
    pub(super) fn foreign_facts(&self, prefix: &str) -> NodeFacts {
        self.facts_with(self.metadata.labels.foreign(), self.metadata.annotations.foreign(), prefix)
    }

    fn facts_with(
        &self,
        labels: BTreeMap<String, String>,
        mut annotations: BTreeMap<String, String>,
        prefix: &str,
    ) -> NodeFacts {
        annotations.retain(|key, _| is_under(key, prefix));
        NodeFacts {
            labels,
            annotations,
            taints: self.taints.clone(),
            conditions: self
                .conditions
                .iter()
                .filter(|condition| !is_under(&condition.kind, prefix))
                .map(|condition| (condition.kind.clone(), condition.status == "True"))
                .collect(),
            system_uuid: self.info.system_uuid.clone(),
            machine_id: self.info.machine_id.clone(),
            boot_id: self.info.boot_id.clone(),
            provider_id: self.provider_id.clone(),
            created: self.metadata.created,
        }
    }
}

/// Whether a key or the type of a condition is under a prefix.
pub(super) fn is_under(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: Value) -> ObservedNode {
        let node: OwnNode = serde_json::from_value(value).expect("it is a Node");
        node.into()
    }

    #[test]
    fn only_extended_resources_are_counted() {
        let counts =
            json!({ "cpu": "8", "nvidia.com/gpu": "8", "amd.com/gpu": "2k", "example.com/x": "1500m" });
        let resources =
            node(json!({ "metadata": {}, "status": { "capacity": counts, "allocatable": { "nvidia.com/gpu": "7" } } }))
                .resources;
        assert_eq!(resources["nvidia.com/gpu"], ResourceCount { capacity: 8, allocatable: 7 });
        assert_eq!(resources["amd.com/gpu"], ResourceCount { capacity: 2000, allocatable: 0 });
        assert!(
            !resources.contains_key("example.com/x"),
            "a quantity that cannot be parsed is not counted as 0"
        );
        assert_eq!(resources.len(), 2);
    }

    #[test]
    fn the_facts_are_those_of_the_machine_and_of_other_managers() {
        let ours = json!({ "f:labels": { "f:p/count": {} }, "f:annotations": { "f:p/report": {} } });
        let node = node(json!({
            "metadata": {
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { "p/count": "8", "zone": "a" },
                "annotations": { "p/report": "{}", "p/expect": "any=8", "other/x": "1" },
                "managedFields": [{ "manager": super::super::FIELD_MANAGER, "fieldsV1": { "f:metadata": ours } }],
            },
            "spec": { "providerID": "aws:///a/i-0", "taints": [{ "key": "t", "value": "v", "effect": "NoSchedule" }, { "key": "u", "effect": "NoExecute" }] },
            "status": { "nodeInfo": { "systemUUID": "s", "machineID": "m", "bootID": "b" } },
        }));
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let facts = node.facts("p");
        assert_eq!(facts.annotations, map(&[("p/expect", "any=8"), ("p/report", "{}")]));
        assert_eq!(facts.labels, map(&[("p/count", "8"), ("zone", "a")]));
        assert_eq!(facts.taints, map(&[("t", "v"), ("u", "")]));
        assert_eq!(
            (facts.system_uuid.as_str(), facts.machine_id.as_str(), facts.boot_id.as_str()),
            ("s", "m", "b")
        );
        assert_eq!(
            (facts.provider_id.as_deref(), facts.created),
            (Some("aws:///a/i-0"), Some(1_767_225_600))
        );
        let foreign = node.foreign_facts("p");
        assert_eq!(foreign.labels, map(&[("zone", "a")]));
        assert_eq!(foreign.annotations, map(&[("p/expect", "any=8")]));
    }
}
