//! What Kubernetes offers of one vendor's devices.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{
    AllocationMechanism, Device, DeviceId, HealthState, OfferVerdict, OfferedUnit, Offers, PublishedOffers,
    ResourceCount,
};

use super::OfferCount;
use crate::vendors::{ResourceQuery, VendorRecord, can_compute, units};

/// The devices of one vendor, and what is offered of them.
pub(super) struct OffersOfVendor<'a> {
    record: &'static VendorRecord,
    devices: Vec<&'a Device>,
    offers: &'a Offers,
    /// The extended resources that the vendor's plugin has registered.
    resources: BTreeMap<&'a str, ResourceCount>,
    /// The devices that the vendor's DRA driver publishes.
    published: BTreeSet<DeviceId>,
}

impl<'a> OffersOfVendor<'a> {
    /// `None` if no device is of the vendor.
    pub(super) fn new(
        record: &'static VendorRecord,
        devices: &[&'a Device],
        offers: &'a Offers,
    ) -> Option<OffersOfVendor<'a>> {
        let devices: Vec<&Device> = devices.iter().copied().filter(|device| record.covers(device)).collect();
        let resources = offers.resources.iter().flatten();
        let resources = resources
            .filter(|(name, count)| record.offers.makes(name) && count.capacity > 0)
            .map(|(name, count)| (name.as_str(), *count));
        let published = offers.published.iter().flat_map(|published| &published.units);
        let published = published
            .filter(|offered| offered.by == record.offers.dra_driver)
            .map(|offered| offered.unit.device);
        (!devices.is_empty()).then(|| OffersOfVendor {
            record,
            resources: resources.collect(),
            published: published.collect(),
            devices,
            offers,
        })
    }

    /// Whether the vendor's device plugin has registered a resource.
    pub(super) fn has_plugin(&self) -> bool {
        !self.resources.is_empty()
    }

    /// Whether the vendor's DRA driver publishes a device.
    pub(super) fn has_published_devices(&self) -> bool {
        !self.published.is_empty()
    }

    /// Whether it is known what the DRA driver publishes, be it nothing.
    pub(super) fn slices_are_known(&self) -> bool {
        self.offers.published.as_ref().is_some_and(|published| !published.incomplete.contains(self.driver()))
    }

    /// Whether at least a part of each device can be allocated, where that is known. A device that only drives displays is not to be
    /// offered.
    pub(super) fn allocatable(&self) -> BTreeMap<DeviceId, bool> {
        let by_plugin = match &self.offers.ready {
            Some(ready) => Some(self.ready_devices(ready)),
            None if self.offers.resources.is_some() && !self.has_plugin() => Some(BTreeSet::new()),
            None => None,
        };
        let by_driver = self.slices_are_known().then_some(&self.published);
        let is_allocatable = |id: &DeviceId| {
            let known = [by_plugin.as_ref(), by_driver].map(|devices| Some(devices?.contains(id)));
            if known.contains(&Some(true)) { Some(true) } else { (!known.contains(&None)).then_some(false) }
        };
        let offerable = self.devices.iter().filter(|device| !device.display_only);
        offerable.filter_map(|device| Some((device.id, is_allocatable(&device.id)?))).collect()
    }

    /// The vendor's devices among those that the kubelet reports as ready.
    fn ready_devices(&self, ready: &BTreeSet<OfferedUnit>) -> BTreeSet<DeviceId> {
        let own = ready.iter().filter(|offered| self.record.offers.makes(&offered.by));
        own.map(|offered| offered.unit.device).collect()
    }

    pub(super) fn counts(&self) -> Vec<OfferCount> {
        let allocated = |mechanism, name: &str| {
            let held = self.offers.held.as_ref()?;
            Some(held.get(&(mechanism, name.to_owned())).copied().unwrap_or_default())
        };
        let plugin = self.resources.iter().map(|(name, count)| {
            let interpretations = self.unit_counts(name, &self.devices);
            let matching = interpretations.iter().copied().find(|units| *units == count.capacity);
            OfferCount {
                resource: (*name).to_owned(),
                mechanism: AllocationMechanism::DevicePlugin,
                discovered: matching.or_else(|| (interpretations.len() == 1).then(|| interpretations[0])),
                allocatable: count.allocatable,
                allocated: allocated(AllocationMechanism::DevicePlugin, name),
            }
        });
        let driver = self.driver();
        let dra = self.complete_slices().map(|published| OfferCount {
            resource: driver.to_owned(),
            mechanism: AllocationMechanism::Dra,
            discovered: Some(self.devices.iter().map(|device| units(device) as u64).sum()),
            allocatable: published.units.iter().filter(|offered| offered.by == driver).count() as u64,
            allocated: allocated(AllocationMechanism::Dra, driver),
        });
        plugin.chain(dra).collect()
    }

    pub(super) fn verdict(&self) -> OfferVerdict {
        let verdict = match (self.has_plugin(), self.has_published_devices()) {
            (false, false) => self.verdict_without_offers(),
            (true, false) => self.plugin_verdict(),
            (false, true) => self.driver_verdict(),
            (true, true) => self.verdict_of_both(),
        };
        match verdict {
            // A slice that was not read may publish the devices that nothing else offers.
            OfferVerdict::Incomplete(_) if !self.slices_are_known() => OfferVerdict::Unknown,
            verdict => verdict,
        }
    }

    fn driver(&self) -> &'static str {
        self.record.offers.dra_driver
    }

    fn unit_counts(&self, resource: &str, devices: &[&Device]) -> Vec<u64> {
        let names: Vec<&str> = self.resources.keys().copied().collect();
        let query = ResourceQuery { resource, devices, resources_of_node: &names };
        (self.record.offers.unit_counts)(&query)
    }

    /// The devices that should be offered: those that can compute and have not failed.
    fn expected(&self) -> Vec<&'a Device> {
        let is_expected =
            |device: &&Device| device.health.state != HealthState::Failed && can_compute(device);
        self.devices.iter().copied().filter(is_expected).collect()
    }

    /// What the driver publishes, if there is such a driver and its slices are complete.
    fn complete_slices(&self) -> Option<&'a PublishedOffers> {
        let published = self.offers.published.as_ref()?;
        let driver = self.driver();
        (published.drivers.contains(driver) && !published.incomplete.contains(driver)).then_some(published)
    }

    fn verdict_without_offers(&self) -> OfferVerdict {
        if self.offers.resources.is_none() || !self.slices_are_known() {
            return OfferVerdict::Unknown;
        }
        let expected = self.expected().len();
        if expected == 0 {
            return OfferVerdict::Complete;
        }
        let (vendor, driver) = (self.record.vendor.as_str(), self.driver());
        OfferVerdict::Incomplete(if self.complete_slices().is_some() {
            format!(
                "the DRA driver {driver} publishes none of {expected} devices; check its log on this node"
            )
        } else {
            format!(
                "no device plugin and no DRA driver offers the {expected} devices of {vendor}; install one, or check \
                 whether its pod runs on this node"
            )
        })
    }

    fn plugin_verdict(&self) -> OfferVerdict {
        let expected = self.expected();
        let mut incomplete = Vec::new();
        for (name, count) in &self.resources {
            let fewest = |devices: &[&Device]| self.unit_counts(name, devices).into_iter().min();
            let (Some(present), Some(wanted)) = (fewest(&self.devices), fewest(&expected)) else { continue };
            // With sharing every device is offered the same number of times.
            let shares = match present {
                1.. if count.capacity > present && count.capacity.is_multiple_of(present) => {
                    count.capacity / present
                }
                _ => 1,
            };
            let offered = count.allocatable / shares;
            if offered < wanted {
                incomplete.push(format!(
                    "{wanted} devices have not failed and {offered} are allocatable as {name}{}; check the log of the device \
                     plugin on this node",
                    self.not_ready(name, &expected)
                ));
            }
        }
        if incomplete.is_empty() {
            OfferVerdict::Complete
        } else {
            OfferVerdict::Incomplete(incomplete.join("; "))
        }
    }

    /// Which devices the plugin does not report as ready, where the kubelet knows.
    fn not_ready(&self, resource: &str, expected: &[&Device]) -> String {
        let Some(ready) = &self.offers.ready else { return String::new() };
        let ready: BTreeSet<DeviceId> = ready
            .iter()
            .filter(|offered| offered.by == resource)
            .map(|offered| offered.unit.device)
            .collect();
        let missing = ids(expected, |id| !ready.contains(&id));
        if missing.is_empty() { String::new() } else { format!(" (not {})", missing.join(", ")) }
    }

    fn driver_verdict(&self) -> OfferVerdict {
        if !self.slices_are_known() {
            return OfferVerdict::Unknown;
        }
        let missing = ids(&self.expected(), |id| !self.published.contains(&id));
        if missing.is_empty() {
            return OfferVerdict::Complete;
        }
        OfferVerdict::Incomplete(format!(
            "the DRA driver {} does not publish {}, or has tainted it; check its log on this node",
            self.driver(),
            missing.join(", ")
        ))
    }

    fn verdict_of_both(&self) -> OfferVerdict {
        let driver = self.driver();
        let names = self.resources.keys().copied().collect::<Vec<_>>().join(", ");
        let duplicate = |which: String| {
            OfferVerdict::Duplicate(format!(
                "{which} offered both as {names} by a device plugin and by the DRA driver {driver}, so that two pods may be \
                 given one device; configure only one of the two to offer it"
            ))
        };
        if let Some(ready) = &self.offers.ready {
            let ready = self.ready_devices(ready);
            let both: Vec<String> = ready.intersection(&self.published).map(ToString::to_string).collect();
            if !both.is_empty() {
                return duplicate(format!(
                    "{} {}",
                    both.join(", "),
                    if both.len() == 1 { "is" } else { "are" }
                ));
            }
            let missing = ids(&self.expected(), |id| !ready.contains(&id) && !self.published.contains(&id));
            return if missing.is_empty() {
                OfferVerdict::Complete
            } else {
                OfferVerdict::Incomplete(format!(
                    "neither the device plugin of {names} nor the DRA driver {driver} offers {}; check their logs on this \
                     node",
                    missing.join(", ")
                ))
            };
        }
        // Counts alone show a duplicate only where no device has partitions.
        let unpartitioned = self.devices.iter().all(|device| device.partitions.is_empty());
        let capacity = self.resources.values().fold(0_u64, |sum, count| sum.saturating_add(count.capacity));
        // The driver may also publish devices that do not count here, such as integrated ones.
        let not_published = self.devices.iter().filter(|device| !self.published.contains(&device.id));
        let not_published = not_published.count() as u64;
        if unpartitioned && capacity > not_published {
            return duplicate(format!("of {} devices some are", self.devices.len()));
        }
        OfferVerdict::Complete
    }
}

/// The ids that fulfil a condition.
fn ids(devices: &[&Device], condition: impl Fn(DeviceId) -> bool) -> Vec<String> {
    devices.iter().map(|device| device.id).filter(|id| condition(*id)).map(|id| id.to_string()).collect()
}
