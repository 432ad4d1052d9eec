//! The facts of a device as short strings, for tables.

use afd_model::{Device, Known, Partitioning, PciId};

/// The driver and its version.
pub(crate) fn driver(device: &Device) -> String {
    match (&device.driver, &device.driver_version) {
        (Known::Value(driver), Known::Value(version)) => format!("{driver} {version}"),
        (driver, _) => value_or_dash(driver),
    }
}

/// The product, or the PCI ids of an unrecognized one.
pub(crate) fn product(device: &Device) -> String {
    let unrecognized = || {
        let id = |id: &Known<PciId>| id.value().map_or("????".to_owned(), ToString::to_string);
        format!("unrecognized {}:{}", id(&device.pci.vendor_id), id(&device.pci.device_id))
    };
    let name = device.product_name().map_or_else(unrecognized, str::to_owned);
    let integrated = if device.integrated { " (integrated)" } else { "" };
    let function = if device.virtual_function { " (virtual function)" } else { "" };
    name + integrated + function
}

/// The number of partitions and the partitioning mode.
pub(crate) fn partitions(device: &Device) -> String {
    match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            let mode =
                memory.value().map_or_else(|| compute.to_string(), |memory| format!("{compute}/{memory}"));
            format!("{} {mode}", device.partitions.len().max(1))
        }
        Some(Partitioning::Mig) => {
            let mut profiles: Vec<&str> = device
                .partitions
                .iter()
                .map(|partition| partition.profile.value().map_or("?", String::as_str))
                .collect();
            profiles.sort_unstable();
            profiles.dedup();
            format!("{} MIG {}", device.partitions.len(), profiles.join(", "))
        }
        Some(Partitioning::Sriov { functions }) => format!("{functions} SR-IOV"),
        Some(Partitioning::Whole) => "whole".to_owned(),
        None if device.partitions.is_empty() => "-".to_owned(),
        None => device.partitions.len().to_string(),
    }
}

/// A value, or a dash if there is none.
pub(crate) fn value_or_dash<T: ToString>(fact: &Known<T>) -> String {
    fact.value().map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
