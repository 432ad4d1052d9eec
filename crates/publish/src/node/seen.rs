//! The own Node, as far as it matters here.

use std::{borrow::Cow, collections::BTreeMap};

use afd_model::ResourceCount;
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::{WantedCondition, plan::Metadata};

/// A Node without its list of images and the like, which are long.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OwnNode {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Status {
    #[serde(default)]
    capacity: BTreeMap<String, Quantity>,
    #[serde(default)]
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
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

/// What the Node says.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) metadata: Metadata,
    pub(super) resources: Resources,
    conditions: Vec<Condition>,
}

/// The extended resources of the Node, by name: those in a domain of their own, which device plugins make.
pub type Resources = BTreeMap<String, ResourceCount>;

impl From<OwnNode> for Seen {
    fn from(node: OwnNode) -> Seen {
        let OwnNode { metadata, status } = node;
        let names = status.capacity.keys().filter(|name| name.contains('/'));
        // A quantity that cannot be read is no 0: its resource is left out.
        let resources = names.filter_map(|name| {
            let capacity = whole(&status.capacity[name])?;
            let allocatable = status.allocatable.get(name).map_or(Some(0), whole)?;
            Some((name.clone(), ResourceCount { capacity, allocatable }))
        });
        let resources = resources.collect();
        Seen { metadata: metadata.into(), resources, conditions: status.conditions }
    }
}

/// Extended resources are whole; Kubernetes writes large ones with a suffix (`2k`).
fn whole(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.as_str();
    let thousands = text.strip_suffix('k');
    let number: u64 = thousands.unwrap_or(text).parse().ok()?;
    number.checked_mul(if thousands.is_some() { 1000 } else { 1 })
}

impl Seen {
    /// The condition of a type, and since when it has its status.
    pub(super) fn condition(&self, kind: &str) -> Option<(WantedCondition, Option<&str>)> {
        let condition = self.conditions.iter().find(|condition| condition.kind == kind)?;
        let said = WantedCondition {
            kind: condition.kind.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        };
        Some((said, condition.last_transition_time.as_deref()))
    }

    /// Whether another version of the Node says something else of what we may have written. Conditions of a kubelet count
    /// too; they change seldom.
    pub(super) fn says_other(&self, other: &Seen) -> bool {
        self.metadata.says_other(&other.metadata) || self.conditions != other.conditions
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn extended_resources_are_counted_and_the_kubelets_own_are_not() {
        let counts = json!({ "cpu": "8", "nvidia.com/gpu": "8", "amd.com/gpu": "2k", "odd.io/x": "1500m" });
        let node = json!({ "metadata": {}, "status": { "capacity": counts, "allocatable": { "nvidia.com/gpu": "7" } } });
        let node: OwnNode = serde_json::from_value(node).expect("it is a Node");
        let resources = Seen::from(node).resources;
        assert_eq!(resources["nvidia.com/gpu"], ResourceCount { capacity: 8, allocatable: 7 });
        assert_eq!(resources["amd.com/gpu"], ResourceCount { capacity: 2000, allocatable: 0 });
        assert!(!resources.contains_key("odd.io/x"), "what cannot be read is no 0");
        assert_eq!(resources.len(), 2);
    }
}
