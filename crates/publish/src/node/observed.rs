//! The own Node, as read from the API server.

use std::{borrow::Cow, collections::BTreeMap};

use afd_model::ResourceCount;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::{DesiredCondition, plan::ObservedMetadata};

/// The fields of a Node that are used here; the others, such as its images, can be large.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OwnNode {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    status: OwnNodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct OwnNodeStatus {
    #[serde(default)]
    capacity: BTreeMap<String, Quantity>,
    #[serde(default)]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default)]
    conditions: Vec<OwnNodeCondition>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnNodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    last_transition_time: Option<String>,
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

/// The state of the Node as it was last read.
#[derive(Clone, Debug)]
pub(super) struct ObservedNode {
    pub(super) metadata: ObservedMetadata,
    pub(super) resources: ExtendedResources,
    conditions: Vec<OwnNodeCondition>,
}

/// The extended resources of the Node, by name: those with a domain, which device plugins register.
pub type ExtendedResources = BTreeMap<String, ResourceCount>;

impl From<OwnNode> for ObservedNode {
    fn from(node: OwnNode) -> ObservedNode {
        let OwnNode { metadata, status } = node;
        let names = status.capacity.keys().filter(|name| name.contains('/'));
        // A resource whose quantity cannot be parsed is left out, not counted as 0.
        let resources = names.filter_map(|name| {
            let capacity = integer(&status.capacity[name])?;
            let allocatable = status.allocatable.get(name).map_or(Some(0), integer)?;
            Some((name.clone(), ResourceCount { capacity, allocatable }))
        });
        let resources = resources.collect();
        ObservedNode { metadata: metadata.into(), resources, conditions: status.conditions }
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
    /// The condition of a type, and the time of its last transition.
    pub(super) fn condition(&self, kind: &str) -> Option<(DesiredCondition, Option<&str>)> {
        let condition = self.conditions.iter().find(|condition| condition.kind == kind)?;
        let current = DesiredCondition {
            kind: condition.kind.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        };
        Some((current, condition.last_transition_time.as_deref()))
    }

    /// Whether another version of the Node differs in what AFD may have written. Conditions of the kubelet are included, as
    /// they change rarely.
    pub(super) fn differs(&self, other: &ObservedNode) -> bool {
        self.metadata.differs(&other.metadata) || self.conditions != other.conditions
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_extended_resources_are_counted() {
        let counts =
            json!({ "cpu": "8", "nvidia.com/gpu": "8", "amd.com/gpu": "2k", "example.com/x": "1500m" });
        let node = json!({ "metadata": {}, "status": { "capacity": counts, "allocatable": { "nvidia.com/gpu": "7" } } });
        let node: OwnNode = serde_json::from_value(node).expect("it is a Node");
        let resources = ObservedNode::from(node).resources;
        assert_eq!(resources["nvidia.com/gpu"], ResourceCount { capacity: 8, allocatable: 7 });
        assert_eq!(resources["amd.com/gpu"], ResourceCount { capacity: 2000, allocatable: 0 });
        assert!(
            !resources.contains_key("example.com/x"),
            "a quantity that cannot be parsed is not counted as 0"
        );
        assert_eq!(resources.len(), 2);
    }
}
