//! Values of labels that are more than one fact of a device.

use afd_model::{Device, HealthState, Inventory, Partitioning, XcpComputeMode, XcpMemoryMode};

use super::LabelledNode;
use crate::value::{MAX_LENGTH, label_value};

/// The number of devices that are known to be healthy or degraded, if the health of any is known.
pub(super) fn healthy(node: &LabelledNode<'_>) -> Option<String> {
    let known =
        node.devices().map(|device| device.health.state).filter(|state| *state != HealthState::Unknown);
    known.clone().next()?;
    Some(known.filter(|state| *state != HealthState::Failed).count().to_string())
}

/// The number of missing devices, if any is missing.
pub(super) fn missing(inventory: &Inventory) -> Option<String> {
    let missing = inventory.missing.len();
    (missing > 0).then(|| missing.to_string())
}

/// The partitioning mode in which all devices agree, else `mixed`.
pub(super) fn partition(node: &LabelledNode<'_>) -> Option<String> {
    let mut modes = node.devices().filter_map(|device| Some(mode(device, device.partitioning.value()?)));
    let first = modes.next()?;
    if modes.all(|mode| mode == first) { label_value(&first, MAX_LENGTH) } else { Some("mixed".to_owned()) }
}

/// The number of partitions, if there are any: on each device those of the kind of its mode.
pub(super) fn partition_count(node: &LabelledNode<'_>) -> Option<String> {
    let of_mode = |device: &Device| {
        let mode = device.partitioning.value();
        device
            .partitions
            .iter()
            .filter(|partition| mode.is_none_or(|mode| mode.makes(partition.name)))
            .count()
    };
    let count: usize = node.devices().map(of_mode).sum();
    (count > 0).then(|| count.to_string())
}

fn mode(device: &Device, partitioning: &Partitioning) -> String {
    match partitioning {
        Partitioning::Mig => mig_profile(device),
        Partitioning::Whole => "none".to_owned(),
        Partitioning::Sriov { .. } => "sriov".to_owned(),
        Partitioning::Xcp { compute, memory } => match memory.value() {
            Some(XcpMemoryMode::Nps1) | None if *compute == XcpComputeMode::Spx => "none".to_owned(),
            Some(memory) => format!("{compute}-{memory}").to_lowercase(),
            None => compute.as_str().to_lowercase(),
        },
    }
}

/// `mig-1g.10gb`; `mig` for a GPU without MIG devices, or whose driver does not report their profiles.
fn mig_profile(device: &Device) -> String {
    let mut profiles = device.partitions.iter().filter_map(|partition| partition.profile.value());
    match profiles.next() {
        None => "mig".to_owned(),
        Some(first) if profiles.all(|profile| profile == first) => format!("mig-{}", first.replace('+', ".")),
        Some(_) => "mixed".to_owned(),
    }
}

/// The number of logical devices, if it is known for all and differs from the number of devices.
pub(super) fn logical_count(node: &LabelledNode<'_>) -> Option<String> {
    let add = |sum: u32, device: &Device| sum.checked_add(*device.logical_devices.value()?);
    let logical = node.devices().try_fold(0, add)?;
    (logical as usize != node.primary.devices.len()).then(|| logical.to_string())
}
