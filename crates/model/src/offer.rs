//! What Kubernetes offers of a node's devices: extended resources of device plugins, and devices that DRA drivers publish.

use std::collections::{BTreeMap, BTreeSet};

use crate::{AllocationMechanism, DeviceId};

/// What is known of the offers. `None` is "not known", which is something else than "nothing".
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offers {
    /// Extended resources of the Node, by name.
    pub resources: Option<BTreeMap<String, ResourceCount>>,
    /// The devices that device plugins hold ready, as the kubelet tells; `by` is the extended resource.
    pub ready: Option<BTreeSet<OfferedPart>>,
    /// What DRA drivers publish.
    pub published: Option<PublishedOffers>,
    /// How much of an extended resource, or how many devices of a DRA driver, pods hold.
    pub held: Option<BTreeMap<(AllocationMechanism, String), u64>>,
}

/// How much of an extended resource the Node has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResourceCount {
    /// All that its plugin has told of.
    pub capacity: u64,
    /// Of those, what pods may have.
    pub allocatable: u64,
}

/// A device or partition that is offered.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OfferedPart {
    /// The extended resource or the DRA driver.
    pub by: String,
    /// The device.
    pub device: DeviceId,
    /// Name of the partition, if it is one that is offered.
    pub partition: Option<String>,
}

/// What DRA drivers publish of the node's accelerators.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishedOffers {
    /// What pods may have.
    pub parts: BTreeSet<OfferedPart>,
    /// All drivers that have a complete pool on this node.
    pub drivers: BTreeSet<String>,
    /// Drivers of which a part of a pool is missing: nothing can be said of what they lack.
    pub incomplete: BTreeSet<String>,
}
