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
    Allocation, DeviceId, Inventory, NodeFacts, OfferedUnit, Offers, PodName, PodNetworks, PublishedOffers,
    Variant, Vendor,
};
use afd_publish::node::ExtendedResources;
use tokio::sync::watch;

use crate::door::FormerDevice;

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

/// The inventory with devices under the names that they had.
fn with_former<'i>(inventory: &'i Inventory, former: &[FormerDevice]) -> Cow<'i, Inventory> {
    if former.is_empty() {
        return Cow::Borrowed(inventory);
    }
    let mut all = inventory.clone();
    all.devices.extend(former.iter().map(|former| former.device.clone()));
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
    PublishedOffers {
        units: units.collect(),
        drivers: published.drivers.clone(),
        incomplete: published.incomplete.clone(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_attributes_that_identify_a_device_are_read() {
        assert_eq!(afd_apiserver::slices::USED_ATTRIBUTES, afd_kubelet::IDENTIFYING_ATTRIBUTES);
    }
}
