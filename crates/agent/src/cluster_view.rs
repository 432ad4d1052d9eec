//! What the cluster reports of this node's devices: which pods hold them, and how they are offered.

use std::collections::{BTreeMap, BTreeSet};

use afd_apiserver::slices::{NodeSlices, PublishedDevices};
use afd_derive::{
    offer::{self, OfferCount},
    vendors,
};
use afd_kubelet::{DeviceHold, DeviceReference, DraAttributes, KubeletReport, UnitNames};
use afd_model::{
    Allocation, AllocationMechanism, DeviceId, Inventory, NodeFacts, OfferedUnit, Offers, PublishedOffers,
    Variant, Vendor,
};
use afd_publish::node::ExtendedResources;
use tokio::sync::watch;

/// The latest reports of the API server and the kubelet.
#[derive(Clone, Debug)]
pub struct ClusterReceivers {
    /// The extended resources of the Node, from the API server.
    pub resources: watch::Receiver<Option<ExtendedResources>>,
    /// What the Node says of its machine, and what others wrote on it, from the API server.
    pub node: watch::Receiver<Option<NodeFacts>>,
    /// The ResourceSlices of the node, from the API server.
    pub slices: watch::Receiver<NodeSlices>,
    /// The kubelet's report.
    pub kubelet: watch::Receiver<Option<KubeletReport>>,
}

/// The same, joined with the inventory.
#[derive(Debug)]
pub struct ClusterView {
    /// Which pods hold the devices; none while the kubelet has not reported.
    pub allocations: Option<Vec<Allocation>>,
    /// How many devices are offered, for metrics.
    pub counts: Vec<OfferCount>,
    /// Whether each device can be allocated; none before the API server has reported all of the offers.
    pub allocatable: Option<BTreeMap<DeviceId, bool>>,
    /// How the devices are offered.
    pub offers: Offers,
    /// Whether the API server has reported all of the offers.
    pub complete: bool,
}

impl ClusterReceivers {
    /// Joins the latest reports with an inventory.
    pub fn view(&self, inventory: &Inventory, include_integrated: bool) -> ClusterView {
        let (resources, slices, kubelet) =
            (self.resources.borrow(), self.slices.borrow(), self.kubelet.borrow());
        let published = match &*slices {
            NodeSlices::Known(published) => Some(published),
            NodeSlices::Pending | NodeSlices::Unavailable => None,
        };
        let names = UnitNames::new(inventory, published.map(attributes).unwrap_or_default(), &owner);
        let holds = kubelet.as_ref().map(|report| report.holds.as_slice());
        let allocations = holds.map(|holds| afd_kubelet::allocations(&names, holds));
        let allocatable = kubelet.as_ref().and_then(|report| report.allocatable.as_ref());
        let offers = Offers {
            resources: resources.clone(),
            ready: allocatable.map(|devices| {
                devices.iter().filter_map(|reference| offered_unit(&names, reference)).collect()
            }),
            published: published.map(|published| published_offers(&names, published)),
            held: holds.map(count_held),
        };
        let offered = offer::offered(inventory, &offers, include_integrated);
        let complete = resources.is_some() && *slices != NodeSlices::Pending;
        let allocatable = complete.then_some(offered.allocatable);
        ClusterView { allocations, counts: offered.counts, allocatable, offers, complete }
    }
}

/// The kind of device that an extended resource or a DRA driver offers.
fn owner(name: &str) -> Option<(Vendor, Variant)> {
    let record = vendors::owner_of_driver(name).or_else(|| vendors::owner_of_resource(name))?;
    Some((record.vendor, record.variant))
}

fn attributes(published: &PublishedDevices) -> DraAttributes<'_> {
    let devices = published.devices.iter();
    devices.map(|device| ((device.driver.as_str(), device.name.as_str()), &device.attributes)).collect()
}

/// The offered device or partition, if it is in the inventory.
fn offered_unit(names: &UnitNames<'_>, reference: &DeviceReference) -> Option<OfferedUnit> {
    let by = match reference {
        DeviceReference::Plugin { resource, .. } => resource,
        DeviceReference::Dra { driver, .. } => driver,
    };
    Some(OfferedUnit { by: by.clone(), unit: names.unit(reference)? })
}

fn published_offers(names: &UnitNames<'_>, published: &PublishedDevices) -> PublishedOffers {
    let allocatable = published.devices.iter().filter(|device| device.allocatable);
    let references = allocatable.map(|device| DeviceReference::Dra {
        driver: device.driver.clone(),
        claim: String::new(),
        device: device.name.clone(),
    });
    PublishedOffers {
        units: references.filter_map(|reference| offered_unit(names, &reference)).collect(),
        drivers: published.drivers.clone(),
        incomplete: published.incomplete.clone(),
    }
}

/// How many devices of each resource and driver are held. Several containers may hold the same device.
fn count_held(holds: &[DeviceHold]) -> BTreeMap<(AllocationMechanism, String), u64> {
    let distinct: BTreeSet<_> = holds
        .iter()
        .map(|hold| match &hold.device {
            DeviceReference::Plugin { resource, id } => (AllocationMechanism::DevicePlugin, resource, id),
            DeviceReference::Dra { driver, device, .. } => (AllocationMechanism::Dra, driver, device),
        })
        .collect();
    let mut held = BTreeMap::new();
    for (mechanism, by, _) in distinct {
        *held.entry((mechanism, by.clone())).or_default() += 1;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_two_containers_hold_is_counted_once() {
        let hold = |container: &str, id: &str| DeviceHold {
            namespace: "ns".to_owned(),
            pod: "pod".to_owned(),
            container: container.to_owned(),
            device: DeviceReference::Plugin { resource: "amd.com/gpu".to_owned(), id: id.to_owned() },
        };
        let held = count_held(&[hold("a", "1"), hold("b", "1"), hold("b", "2")]);
        assert_eq!(held[&(AllocationMechanism::DevicePlugin, "amd.com/gpu".to_owned())], 2);
    }
}
