//! What Kubernetes offers of a node's devices: extended resources of device plugins, and devices that DRA drivers publish.

use std::collections::{BTreeMap, BTreeSet};

use crate::{AllocationMechanism, UnitId};

/// What is known of the offers. `None` is "not known", which differs from "nothing offered".
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offers {
    /// Extended resources of the Node, by name.
    pub resources: Option<BTreeMap<String, ResourceCount>>,
    /// The devices that device plugins advertise, as the kubelet reports them; `by` is the extended resource.
    pub ready: Option<BTreeSet<OfferedUnit>>,
    /// What DRA drivers publish.
    pub published: Option<PublishedOffers>,
    /// How much of an extended resource, or how many devices of a DRA driver, pods hold.
    pub held: Option<BTreeMap<(AllocationMechanism, String), u64>>,
    /// The pods that hold RDMA devices: namespace and name.
    pub rdma_pods: Option<BTreeSet<(String, String)>>,
}

/// How much of an extended resource the Node has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResourceCount {
    /// All devices that its plugin registered.
    pub capacity: u64,
    /// Of those, the allocatable ones.
    pub allocatable: u64,
}

/// A device or partition that is offered.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OfferedUnit {
    /// The extended resource or the DRA driver.
    pub by: String,
    /// The device or partition.
    pub unit: UnitId,
}

/// What DRA drivers publish of the node's accelerators.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishedOffers {
    /// The allocatable devices.
    pub units: BTreeSet<OfferedUnit>,
    /// Drivers with a complete pool on this node.
    pub drivers: BTreeSet<String>,
    /// Drivers with an incomplete pool: what they lack is not known.
    pub incomplete: BTreeSet<String>,
    /// Whether a driver publishes a device, allocatable or not, as healthy, where it says so.
    pub health: BTreeMap<OfferedUnit, bool>,
}

/// Whether the devices that are present are offered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum OfferVerdict {
    /// Every device that has not failed is offered once.
    Complete,
    /// It is not known what is offered.
    #[default]
    Unknown,
    /// Some devices are not offered; the message says what to do.
    Incomplete(String),
    /// Some devices are offered by both mechanisms; the message says what to do.
    Duplicate(String),
}
