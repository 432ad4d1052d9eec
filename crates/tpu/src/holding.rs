//! Which chips the values of a runtime are of. Pure.
//!
//! A runtime numbers its devices over the whole slice, and no source joins these numbers with PCI addresses. What is certain is
//! the set: the devices of a container's runtime are the chips that the container holds. Within it the numbers follow the order
//! of the chips by NUMA node and PCI address, as GKE's device plugin orders them; that a value is of this chip and not of another
//! one of the same container is a convention.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Allocation, DeviceId, Engine, Quantity, Reading};

use crate::report::{RuntimeContainer, RuntimeQuantity, RuntimeValue};

/// A chip, in the order of GKE's device plugin.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct OrderedChip {
    /// Its NUMA node; chips without one come first.
    pub(crate) numa_node: Option<u32>,
    /// Its address.
    pub(crate) id: DeviceId,
}

/// The readings of chips, and why some values are of none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attributed {
    pub(crate) readings: Vec<(DeviceId, Reading)>,
    /// The first reason, if there is one.
    pub(crate) problem: Option<String>,
}

/// Attributes values to chips. `allocations` is what the kubelet reports; without it the only container holds all chips of the
/// host, as GKE requires it of every workload but those that share a host of TPU 7x. Values that come from the runtimes of the
/// host itself name no container: they are of the only one that holds chips, or of a process that needs none.
pub(crate) fn attribute(
    values: &[RuntimeValue],
    chips: &[OrderedChip],
    allocations: Option<&[Allocation]>,
) -> Attributed {
    let mut chips = chips.to_vec();
    chips.sort_unstable();
    let containers: BTreeSet<Option<&RuntimeContainer>> =
        values.iter().map(|value| value.container.as_ref()).collect();
    let mut attributed = Attributed::default();
    for container in &containers {
        let held: Vec<DeviceId> = match (container, allocations) {
            (Some(container), Some(allocations)) => held_by(container, &chips, allocations),
            (None, Some(allocations)) if is_held(&chips, allocations) => {
                match only_holder(&chips, allocations) {
                    Some(container) => held_by(&container, &chips, allocations),
                    None => {
                        attributed.problem.get_or_insert_with(|| {
                        "several containers hold TPUs, and the runtimes of this host do not say whose values they report"
                            .to_owned()
                    });
                        continue;
                    }
                }
            }
            _ if containers.len() == 1 => chips.iter().map(|chip| chip.id).collect(),
            _ => {
                attributed.problem.get_or_insert_with(|| {
                    "several containers use TPUs, and which of them holds which chip is not known".to_owned()
                });
                continue;
            }
        };
        let mut by_quantity: BTreeMap<RuntimeQuantity, BTreeMap<u64, f64>> = BTreeMap::new();
        for value in values.iter().filter(|value| value.container.as_ref() == *container) {
            by_quantity.entry(value.quantity).or_default().entry(value.device).or_insert(value.value);
        }
        for (quantity, values) in by_quantity {
            // Each container is reported with the values of all chips: right where one holds them all.
            let repeats = container.is_some() && quantity.is_of_host();
            if repeats && (containers.len() > 1 || held.len() < chips.len()) {
                continue;
            }
            match by_rank(quantity, &values, &held) {
                Some(readings) => attributed.readings.extend(readings),
                None => {
                    let (devices, held) = (values.len(), held.len());
                    attributed.problem.get_or_insert_with(|| {
                        format!(
                            "a container with {held} chips of this host is reported with {devices} devices"
                        )
                    });
                }
            }
        }
    }
    attributed
}

/// Whether a container holds one of the chips.
fn is_held(chips: &[OrderedChip], allocations: &[Allocation]) -> bool {
    holders(chips, allocations).next().is_some()
}

/// The container that holds chips, if there is only one.
fn only_holder(chips: &[OrderedChip], allocations: &[Allocation]) -> Option<RuntimeContainer> {
    let mut holders = holders(chips, allocations);
    let first = holders.next()?;
    holders.all(|other| other == first).then_some(first)
}

fn holders(chips: &[OrderedChip], allocations: &[Allocation]) -> impl Iterator<Item = RuntimeContainer> {
    let is_of_chip = |allocation: &&Allocation| chips.iter().any(|chip| chip.id == allocation.unit.device);
    allocations.iter().filter(is_of_chip).map(|allocation| RuntimeContainer {
        namespace: allocation.namespace.clone(),
        pod: allocation.pod.clone(),
        container: allocation.container.clone(),
    })
}

/// The chips that a container holds, in their order.
fn held_by(container: &RuntimeContainer, chips: &[OrderedChip], allocations: &[Allocation]) -> Vec<DeviceId> {
    let holds = |chip: &DeviceId| {
        allocations.iter().any(|allocation| {
            allocation.unit.device == *chip
                && allocation.namespace == container.namespace
                && allocation.pod == container.pod
                && allocation.container == container.container
        })
    };
    chips.iter().map(|chip| chip.id).filter(holds).collect()
}

/// One value for each chip, or one for each of the two TensorCores of a chip; else none is certain.
fn by_rank(
    quantity: RuntimeQuantity,
    values: &BTreeMap<u64, f64>,
    held: &[DeviceId],
) -> Option<Vec<(DeviceId, Reading)>> {
    let per_chip = values.len().checked_div(held.len())?;
    if per_chip * held.len() != values.len() || !(1..=2).contains(&per_chip) {
        return None;
    }
    let values: Vec<f64> = values.values().copied().collect();
    let of_chip = |(chip, values): (&DeviceId, &[f64])| {
        let sum: f64 = values.iter().sum();
        let value = if quantity.adds_up() { sum } else { sum / per_chip as f64 };
        (*chip, reading(quantity, value))
    };
    Some(held.iter().zip(values.chunks(per_chip)).map(of_chip).collect())
}

fn reading(quantity: RuntimeQuantity, value: f64) -> Reading {
    let (quantity, value) = match quantity {
        RuntimeQuantity::DutyCycle => (Quantity::Utilization(Engine::Compute), value / 100.0),
        RuntimeQuantity::TensorUtilization => (Quantity::Utilization(Engine::Tensor), value / 100.0),
        RuntimeQuantity::BandwidthUtilization => (Quantity::MemoryBandwidthRatio, value / 100.0),
        RuntimeQuantity::MemoryUsed => (Quantity::MemoryUsedBytes, value),
        RuntimeQuantity::MemoryTotal => (Quantity::MemoryTotalBytes, value),
    };
    Reading { quantity, value }
}

#[cfg(test)]
mod tests;
