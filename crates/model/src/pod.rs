//! A pod that holds devices, as the API server describes it.

use std::{collections::BTreeMap, net::IpAddr};

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
}

/// The pods that were read, by name. A pod that is missing is not known.
pub type PodNetworks = BTreeMap<PodName, PodNetwork>;
