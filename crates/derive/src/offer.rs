//! What Kubernetes offers, compared with the devices that are present.
//!
//! There are two mechanisms: a device plugin adds extended resources to the Node, a DRA driver publishes ResourceSlices.
//! Both are compared with the inventory, vendor by vendor. A count alone can mislead, since sharing multiplies an extended
//! resource, and a plugin offers either partitions or their devices: devices count as not offered only if no
//! interpretation of the count covers them.

mod health;
mod of_vendor;

use std::collections::BTreeMap;

use afd_model::{AllocationMechanism, Decision, Device, DeviceId, Inventory, OfferVerdict, Offers};

pub use self::health::health_conflicts;
use self::of_vendor::OffersOfVendor;
use crate::vendors::VENDORS;

/// The result of the comparison.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offered {
    /// Devices and offers in numbers, sorted by resource.
    pub counts: Vec<OfferCount>,
    /// How devices are allocated: `device-plugin`, `dra`, `both` or `none`; absent without devices.
    pub allocation: Decision<&'static str>,
    /// Whether at least a part of each device can be allocated; a device of which that is not known is left out.
    pub allocatable: BTreeMap<DeviceId, bool>,
    /// Whether every device that is expected to be offered is offered.
    pub verdict: OfferVerdict,
}

/// One extended resource, or one DRA driver, in numbers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OfferCount {
    /// The extended resource (`example.com/gpu`) or the driver (`gpu.example.com`).
    pub resource: String,
    /// Which of the two it is.
    pub mechanism: AllocationMechanism,
    /// Devices and partitions of the kind that the node has; `None` where that would depend on a guess of the plugin's settings.
    pub discovered: Option<u64>,
    /// How many are allocatable. Sharing multiplies it.
    pub allocatable: u64,
    /// How many are allocated to pods; `None` while the kubelet is not queried.
    pub allocated: Option<u64>,
}

impl Offered {
    /// The same without what is not written to the Node: which devices are allocatable, and how many are allocated.
    #[must_use]
    pub fn without_allocated(&self) -> Offered {
        let mut offered = self.clone();
        offered.allocatable.clear();
        for count in &mut offered.counts {
            count.allocated = None;
        }
        offered
    }
}

/// Compares the offers with the inventory. Integrated GPUs are expected to be offered only with `include_integrated`.
pub fn offered(inventory: &Inventory, offers: &Offers, include_integrated: bool) -> Offered {
    let counts = |device: &&Device| include_integrated || !device.integrated;
    let devices: Vec<&Device> = inventory.devices.iter().filter(counts).collect();
    let vendors: Vec<OffersOfVendor<'_>> =
        VENDORS.into_iter().filter_map(|record| OffersOfVendor::new(record, &devices, offers)).collect();
    let mut counts: Vec<OfferCount> = vendors.iter().flat_map(OffersOfVendor::counts).collect();
    counts.sort();
    Offered {
        counts,
        allocation: allocation(&vendors, offers),
        allocatable: vendors.iter().flat_map(OffersOfVendor::allocatable).collect(),
        verdict: verdict(&vendors),
    }
}

fn allocation(vendors: &[OffersOfVendor<'_>], offers: &Offers) -> Decision<&'static str> {
    if vendors.is_empty() {
        return Decision::Absent;
    }
    let resources_are_known = offers.resources.is_some();
    let slices_are_known = vendors.iter().all(OffersOfVendor::slices_are_known);
    let plugin = vendors.iter().any(OffersOfVendor::has_plugin);
    let dra = vendors.iter().any(OffersOfVendor::has_published_devices);
    match (plugin, dra) {
        (true, true) => Decision::Decided("both"),
        (true, false) if slices_are_known => Decision::Decided("device-plugin"),
        (false, true) if resources_are_known => Decision::Decided("dra"),
        (false, false) if resources_are_known && slices_are_known => Decision::Decided("none"),
        _ => Decision::Undecided,
    }
}

/// `Incomplete` takes precedence over `Unknown`, and that over `Duplicate`.
fn verdict(vendors: &[OffersOfVendor<'_>]) -> OfferVerdict {
    let (mut incomplete, mut duplicate, mut unknown) = (Vec::new(), Vec::new(), false);
    for vendor in vendors {
        match vendor.verdict() {
            OfferVerdict::Complete => {}
            OfferVerdict::Unknown => unknown = true,
            OfferVerdict::Incomplete(message) => incomplete.push(message),
            OfferVerdict::Duplicate(message) => duplicate.push(message),
        }
    }
    match (incomplete.is_empty(), unknown, duplicate.is_empty()) {
        (false, ..) => OfferVerdict::Incomplete(incomplete.join("; ")),
        (true, true, _) => OfferVerdict::Unknown,
        (true, false, false) => OfferVerdict::Duplicate(duplicate.join("; ")),
        (true, false, true) => OfferVerdict::Complete,
    }
}

#[cfg(test)]
mod tests;
