//! The devices of the node in numbers, by product, and those that are missing.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{DeviceId, Health, HealthState, Inventory, MissingDevice, PciId};

use super::{InCluster, NO_SUBJECT, SeriesByFamily, add_health};
use crate::{
    families::Family,
    vendors::{self, VendorRecord},
};

/// The devices of one product in numbers; a number that is not known is none.
#[derive(Debug, Default)]
struct ProductCounts {
    present: u64,
    expected: Option<u64>,
    missing: Option<u64>,
    with_verdict: bool,
    healthy: u64,
    /// None once it is not known of one device.
    allocatable: Option<u64>,
    allocated: u64,
}

/// Vendor and marketing name, which is empty where it is not known.
type ProductKey = (&'static str, String);

/// Adds the families of the missing devices: their health, and nothing else.
pub(super) fn add_missing(series: &mut SeriesByFamily, missing: &[MissingDevice]) {
    for device in missing {
        let vendor = vendors::by_probe(&device.probe).map_or("", |record| record.vendor.as_str());
        let subject = [vendor, device.id.as_str(), device.uuid.as_deref().unwrap_or_default(), ""];
        add_health(series, &subject, &Health::failed("DeviceMissing", device.message.as_str()));
    }
}

/// Adds `accelerator_devices`.
pub(super) fn add_counts(series: &mut SeriesByFamily, inventory: &Inventory, cluster: &InCluster<'_>) {
    for ((vendor, product), counts) in counts(inventory, cluster) {
        let healthy = (counts.with_verdict || counts.present == 0).then_some(counts.healthy);
        let allocated = cluster.allocations.map(|_| counts.allocated);
        let states = [
            ("present", Some(counts.present)),
            ("expected", counts.expected),
            ("missing", counts.missing),
            ("healthy", healthy),
            ("allocatable", counts.allocatable),
            ("allocated", allocated),
        ];
        for (state, number) in states {
            if let Some(number) = number {
                let own = [("vendor", vendor), ("product", product.as_str()), ("state", state)];
                series.add_with(Family::Devices, NO_SUBJECT, &own, number as f64);
            }
        }
    }
}

fn counts(inventory: &Inventory, cluster: &InCluster<'_>) -> BTreeMap<ProductKey, ProductCounts> {
    let mut products: BTreeMap<ProductKey, ProductCounts> = BTreeMap::new();
    let held: BTreeSet<DeviceId> =
        cluster.allocations.iter().flat_map(|held| held.iter()).map(|held| held.unit.device).collect();
    for device in &inventory.devices {
        let key = (device.vendor.as_str(), device.product_name().unwrap_or_default().to_owned());
        let known = cluster.allocatable.and_then(|devices| devices.get(&device.id));
        let counts =
            products.entry(key).or_insert(ProductCounts { allocatable: Some(0), ..ProductCounts::default() });
        counts.present += 1;
        counts.with_verdict |= device.health.state != HealthState::Unknown;
        counts.healthy +=
            u64::from(matches!(device.health.state, HealthState::Healthy | HealthState::Degraded));
        counts.allocatable =
            counts.allocatable.zip(known).map(|(number, allocatable)| number + u64::from(*allocatable));
        counts.allocated += u64::from(held.contains(&device.id));
    }
    let Some(expected) = cluster.expected else { return products };
    for expected in expected {
        let Some(record) = vendors::by_probe(&expected.probe) else { continue };
        let counts = products.entry(product(inventory, record, expected.id)).or_default();
        *counts.expected.get_or_insert_default() += expected.count;
        counts.missing.get_or_insert_default();
    }
    for missing in &inventory.missing {
        let Some(record) = vendors::by_probe(&missing.probe) else { continue };
        let counts =
            products.entry(product(inventory, record, missing.vendor_id.zip(missing.device_id))).or_default();
        *counts.missing.get_or_insert_default() += 1;
    }
    products
}

/// The product of expected devices: that of a device with this id, present or missing. Without either, that of all devices of
/// the vendor, if they have one in common.
fn product(inventory: &Inventory, record: &VendorRecord, id: Option<(PciId, PciId)>) -> ProductKey {
    let of_vendor = || inventory.devices.iter().filter(|device| record.covers(device));
    let present = of_vendor().find(|device| {
        let own = device.pci.vendor_id.value().copied().zip(device.pci.device_id.value().copied());
        id.is_some() && own == id
    });
    let missing = || {
        let mut missing = inventory.missing.iter().filter(|missing| missing.probe == record.probe);
        missing.find(|missing| missing.vendor_id.zip(missing.device_id) == id)?.product.clone()
    };
    let in_common = || {
        let names: BTreeSet<Option<&str>> = of_vendor().map(|device| device.product_name()).collect();
        let common = names.first().copied().flatten().filter(|_| names.len() == 1 && id.is_none());
        common.map(str::to_owned)
    };
    let name = match present {
        Some(device) => device.product_name().map(str::to_owned),
        None => missing().or_else(in_common),
    };
    (record.vendor.as_str(), name.unwrap_or_default())
}
