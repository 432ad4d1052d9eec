//! The Node object of this node as the API server returned it, as far as it decides what is believed.

use std::collections::BTreeMap;

/// What the Node says of its machine, and what others wrote on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFacts {
    /// All labels, from all field managers.
    pub labels: BTreeMap<String, String>,
    /// The annotations under our prefix, from all field managers.
    pub annotations: BTreeMap<String, String>,
    /// Keys of the taints, with their values.
    pub taints: BTreeMap<String, String>,
    /// Whether each of the Node's conditions is `True`, by its type, without our own ones.
    pub conditions: BTreeMap<String, bool>,
    /// `status.nodeInfo.systemUUID`; empty where the kubelet has not written it.
    pub system_uuid: String,
    /// `status.nodeInfo.machineID`; empty where the kubelet has not written it.
    pub machine_id: String,
    /// `status.nodeInfo.bootID`; empty where the kubelet has not written it.
    pub boot_id: String,
    /// `spec.providerID`: `aws:///eu-west-1a/i-0123`.
    pub provider_id: Option<String>,
    /// When the object was created, in seconds since 1970.
    pub created: Option<i64>,
}
