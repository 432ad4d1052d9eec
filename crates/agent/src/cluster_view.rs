//! What the cluster reports of this node's devices: which pods hold them, and how they are offered.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use afd_apiserver::slices::{NodeSlices, PublishedDevices};
use afd_derive::{
    offer::{self, OfferCount},
    vendors,
};
use afd_kubelet::{DraAttributes, KubeletReport, NamedDevice, UnitNames};
use afd_model::{
    Allocation, Decision, DeviceId, Handle, Inventory, NodeFacts, OfferedUnit, Offers, PodName, PodNetworks,
    Problem, PublishedOffers, Variant, Vendor,
};
use afd_publish::node::ExtendedResources;
use tokio::sync::watch;

use crate::{door::FormerDevice, failed_devices};

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
    /// The names of the devices, by which the kubelet's responses are joined.
    pub names: watch::Sender<Option<Arc<UnitNames>>>,
    /// The pods that are wanted, from the API server.
    pub pods: watch::Receiver<PodNetworks>,
    /// The pods that hold devices.
    pub wanted_pods: watch::Sender<BTreeSet<PodName>>,
}

/// The same, joined with the inventory.
#[derive(Debug)]
pub struct ClusterView {
    /// Which pods hold the devices; none while the kubelet has not reported.
    pub allocations: Option<Vec<Allocation>>,
    /// Which pods hold devices that are gone, by the id of the missing device.
    pub held_of_gone: Vec<(String, Allocation)>,
    /// How many devices are offered, for metrics.
    pub counts: Vec<OfferCount>,
    /// Whether each device can be allocated; none before the API server has reported all of the offers.
    pub allocatable: Option<BTreeMap<DeviceId, bool>>,
    /// How the devices are offered.
    pub offers: Offers,
    /// Whether the API server has reported all of the offers.
    pub complete: bool,
    /// How many devices of ResourceSlices were not read; none before they are known.
    pub skipped_devices: Option<u64>,
}

impl ClusterReceivers {
    /// The problems of devices whose DRA driver publishes another health than an inventory has.
    pub fn health_conflicts(&self, inventory: &Inventory) -> Vec<Problem> {
        let slices = self.slices.borrow();
        let NodeSlices::Known(published) = &*slices else { return Vec::new() };
        let names = UnitNames::new(inventory, &attributes(published), owner);
        offer::health_conflicts(inventory, &published_offers(&names, published, |_| true))
    }

    /// Joins the latest reports with an inventory, and the names that devices had.
    pub fn view(
        &self,
        inventory: &Inventory,
        former: &[FormerDevice],
        include_integrated: bool,
    ) -> ClusterView {
        let (resources, slices, kubelet) =
            (self.resources.borrow(), self.slices.borrow(), self.kubelet.borrow());
        let published = match &*slices {
            NodeSlices::Known(published) => Some(published),
            NodeSlices::Pending | NodeSlices::Unavailable => None,
        };
        let attributes = published.map(attributes).unwrap_or_default();
        let names = UnitNames::new(&with_former(inventory, former), &attributes, owner);
        let is_present = |device: DeviceId| inventory.devices.iter().any(|present| present.id == device);
        let skipped_devices = published.map(|published| published.skipped);
        let published = published.map(|published| published_offers(&names, published, is_present));
        self.publish_names(names);
        // The kubelet's report is joined with the names that were published before.
        let allocations: Option<Vec<Allocation>> = kubelet.as_ref().map(|report| {
            let present = report.allocations.iter().filter(|allocation| is_present(allocation.unit.device));
            present.cloned().collect()
        });
        let of_gone = kubelet.iter().flat_map(|report| &report.allocations).filter_map(|held| {
            let gone = former.iter().filter(|former| former.device.id == held.unit.device);
            Some((gone.filter_map(|former| former.missing.clone()).next()?, held.clone()))
        });
        let held_of_gone = of_gone.collect();
        self.publish_wanted_pods(allocations.as_deref());
        let ready = kubelet.as_ref().and_then(|report| report.ready.as_ref());
        let offers = Offers {
            resources: resources.clone(),
            ready: ready.map(|units| {
                units.iter().filter(|offered| is_present(offered.unit.device)).cloned().collect()
            }),
            published,
            held: kubelet.as_ref().map(|report| report.held.clone()),
            rdma_pods: kubelet.as_ref().map(|report| report.rdma_pods.clone()),
        };
        let offered = offer::offered(inventory, &offers, include_integrated);
        let complete = resources.is_some() && *slices != NodeSlices::Pending;
        let allocatable = complete.then_some(offered.allocatable);
        ClusterView {
            allocations,
            held_of_gone,
            counts: offered.counts,
            allocatable,
            offers,
            complete,
            skipped_devices,
        }
    }

    /// The annotation of the devices that have failed, by the names that DRA drivers publish. `key` is its own; with `inherits`
    /// what the Node has is of this machine.
    pub fn failed_devices(
        &self,
        failed: &Decision<BTreeMap<DeviceId, String>>,
        key: &str,
        inherits: bool,
    ) -> Decision<String> {
        let node = self.node.borrow();
        let earlier = node.as_ref().map(|node| match inherits {
            true => failed_devices::of_node(node, key),
            false => Vec::new(),
        });
        let names = self.names.borrow();
        failed_devices::annotation(failed, &self.slices.borrow(), names.as_deref(), earlier.as_deref())
    }

    /// Has the pods read that hold devices. Without a report of the kubelet the last ones stay.
    fn publish_wanted_pods(&self, allocations: Option<&[Allocation]>) {
        let Some(allocations) = allocations else { return };
        let wanted: BTreeSet<PodName> =
            allocations.iter().map(|holder| (holder.namespace.clone(), holder.pod.clone())).collect();
        self.wanted_pods.send_if_modified(|last| {
            let has_changed = *last != wanted;
            *last = wanted;
            has_changed
        });
    }

    /// Has the kubelet's responses joined again if other names than before refer to devices.
    fn publish_names(&self, names: UnitNames) {
        self.names.send_if_modified(|known| {
            let has_changed = known.as_deref() != Some(&names);
            if has_changed {
                *known = Some(Arc::new(names));
            }
            has_changed
        });
    }
}

/// The inventory with devices under the names that they had, as far as no device that is there has such a name now.
fn with_former<'i>(inventory: &'i Inventory, former: &[FormerDevice]) -> Cow<'i, Inventory> {
    if former.is_empty() {
        return Cow::Borrowed(inventory);
    }
    let mut all = inventory.clone();
    let taken: BTreeSet<Handle> =
        inventory.devices.iter().flat_map(|device| device.handles.clone()).collect();
    all.devices.extend(former.iter().map(|former| {
        let mut device = former.device.clone();
        device.handles.retain(|handle| !taken.contains(handle));
        device
    }));
    Cow::Owned(all)
}

/// The kind of device that an extended resource or a DRA driver offers.
fn owner(name: &str) -> Option<(Vendor, Variant)> {
    let record = vendors::owner_of_driver(name).or_else(|| vendors::owner_of_resource(name))?;
    Some((record.vendor, record.variant))
}

fn attributes(published: &PublishedDevices) -> DraAttributes<'_> {
    let devices = published.devices.iter();
    devices.map(|device| ((device.driver.as_str(), device.name.as_str()), &*device.attributes)).collect()
}

fn published_offers(
    names: &UnitNames,
    published: &PublishedDevices,
    is_present: impl Fn(DeviceId) -> bool,
) -> PublishedOffers {
    let allocatable = published.devices.iter().filter(|device| device.allocatable);
    let units = allocatable.filter_map(|device| {
        let unit = names.unit(NamedDevice::Dra { driver: &device.driver, device: &device.name })?;
        is_present(unit.device).then_some(())?;
        Some(OfferedUnit { by: device.driver.clone(), unit })
    });
    let health = published.devices.iter().filter_map(|device| {
        let attribute = vendors::owner_of_driver(&device.driver)?.offers.dra_health?;
        let healthy = attribute.is_healthy(device.attributes.get(attribute.name)?)?;
        let unit = names.unit(NamedDevice::Dra { driver: &device.driver, device: &device.name })?;
        Some((OfferedUnit { by: device.driver.clone(), unit }, healthy))
    });
    PublishedOffers {
        units: units.collect(),
        drivers: published.drivers.clone(),
        incomplete: published.incomplete.clone(),
        health: health.collect(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_attributes_that_identify_a_device_and_those_of_the_records_are_read() {
        use std::collections::BTreeSet;
        let of_records =
            afd_derive::vendors::VENDORS.into_iter().filter_map(|record| record.offers.dra_health);
        let used =
            afd_kubelet::IDENTIFYING_ATTRIBUTES.into_iter().chain(of_records.map(|health| health.name));
        let read = BTreeSet::from(afd_apiserver::slices::USED_ATTRIBUTES);
        assert_eq!(read, used.collect::<BTreeSet<_>>());
    }
}
