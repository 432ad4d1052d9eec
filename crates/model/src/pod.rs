//! A pod that holds devices, as the API server describes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Namespace and name of a pod.
pub type PodName = (String, String);

/// How a pod is reached, for what it reports of its devices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodNetwork {
    /// Its UID: another pod of this name has another one.
    pub uid: String,
    /// Its address; none where it shares the network of the node.
    pub address: Option<IpAddr>,
    /// A variable of the environment that names ports, by container: the text that the pod's specification has.
    pub ports: BTreeMap<String, String>,
    /// The pod of its namespace that it says it is bound to, where one serves with a device that the other one holds.
    pub partner: Option<String>,
    /// The UUIDs of the devices that it says it uses: what a tenant writes.
    pub used_devices: BTreeSet<String>,
}

/// The pods that were read, by name. A pod that is missing is not known.
pub type PodNetworks = BTreeMap<PodName, PodNetwork>;
