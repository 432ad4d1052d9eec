//! Which chips the values of a runtime are of. Pure.
//!
//! A runtime numbers its devices over the whole slice, and no source joins these numbers with PCI addresses. What is certain is
//! the set: the devices of a container's runtime are the chips that the container holds. Within it the numbers follow the order
//! of the chips by NUMA node and PCI address, as GKE's device plugin orders them; that a value is of this chip and not of another
//! one of the same container is a convention.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Allocation, DeviceId, Engine, PodNetworks, Quantity, Reading};

use crate::report::{RuntimeContainer, RuntimeQuantity, RuntimeValue};

/// A chip, in the order of GKE's device plugin.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct OrderedChip {
    /// Its NUMA node; chips without one come first.
    pub(crate) numa_node: Option<u32>,
    /// Its address.
    pub(crate) id: DeviceId,
    /// Its TensorCores.
    pub(crate) cores: usize,
    /// Whether containers can have parts of the chips of a host. GKE requires of all generations but 7x that one has them all.
    pub(crate) is_shareable: bool,
}

/// Values of the devices of containers, and what is known of the servers that sent them.
#[derive(Debug, Default)]
pub(crate) struct SourceValues {
    /// Those that name no container come from the runtimes of the host itself.
    pub(crate) values: Vec<RuntimeValue>,
    /// Whether they come from the exporter, which reports each container with the values of the host.
    pub(crate) is_of_exporter: bool,
    /// Ports of a container's runtimes, or of those of the host, at which nothing has answered where others may have.
    pub(crate) silent: BTreeMap<Option<RuntimeContainer>, Vec<u16>>,
}

/// The readings of chips, and why some values are of none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attributed {
    pub(crate) readings: Vec<(DeviceId, Reading)>,
    /// The first reason, if there is one.
    pub(crate) problem: Option<String>,
}

/// The values of the devices of a container. A device can have none.
type DeviceValues = BTreeMap<RuntimeQuantity, BTreeMap<u64, Option<f64>>>;

/// Attributes values to chips. `allocations` is what the kubelet reports. Values that come from the runtimes of the host itself
/// name no container: they are of the only one that holds chips, or of a process that needs none. Where it is not known which chips
/// a container or process has, its values count only if it must have all of the host: it is the only one, and has a device for each
/// TensorCore or a generation whose hosts are not shared. Where nothing listens at some ports of its runtimes, the others must have
/// a device for each TensorCore as well. `pods` have networks of their own or not: the runtimes of the host are not those of the
/// former.
pub(crate) fn attribute(
    sources: &SourceValues,
    chips: &[OrderedChip],
    allocations: Option<&[Allocation]>,
    pods: &PodNetworks,
) -> Attributed {
    let values = &sources.values;
    let mut chips = chips.to_vec();
    chips.sort_unstable();
    let shares_network = |allocation: &&Allocation| {
        let pod = pods.get(&(allocation.namespace.clone(), allocation.pod.clone()));
        pod.is_none_or(|pod| pod.address.is_none())
    };
    let of_host: Option<Vec<Allocation>> =
        allocations.map(|all| all.iter().filter(shares_network).cloned().collect());
    let containers: BTreeSet<Option<&RuntimeContainer>> =
        values.iter().map(|value| value.container.as_ref()).collect();
    let mut attributed = Attributed::default();
    for container in &containers {
        let is_only = containers.len() == 1;
        let allocations = if container.is_some() { allocations } else { of_host.as_deref() };
        let (held, is_known) = match chips_of(*container, is_only, &chips, allocations) {
            Ok(Some(held)) => (held, true),
            Ok(None) => (chips.clone(), false),
            Err(reason) => {
                attributed.fail(|| reason.to_owned());
                continue;
            }
        };
        let mut devices = DeviceValues::new();
        for value in values.iter().filter(|value| value.container.as_ref() == *container) {
            let accepted = value.value.filter(|number| value.quantity.accepts(*number));
            if accepted != value.value {
                attributed
                    .fail(|| format!("{:?}: a value that no device can have was dropped", value.quantity));
            }
            devices.entry(value.quantity).or_default().entry(value.device).or_insert(accepted);
        }
        // The exporter reports each container with these values of all chips: right where one holds them all.
        let repeats = |quantity: RuntimeQuantity| sources.is_of_exporter && quantity.is_of_host();
        let own = devices.iter().filter(|(quantity, _)| !repeats(**quantity));
        let count = own.map(|(_, values)| values.len()).max().unwrap_or_default();
        let has_all = count >= held.iter().map(|chip| chip.cores).sum();
        if !is_known && !has_all && held.iter().any(|chip| chip.is_shareable) {
            attributed.fail(|| {
                format!("which chips a container holds is not known, and its {count} devices may be those of some of them")
            });
            continue;
        }
        if let Some(ports) = sources.silent.get(&container.cloned()).filter(|_| !has_all) {
            attributed.fail(|| {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!(
                    "nothing listens at port {}, and of which chips the other runtimes are is not certain",
                    ports.join(", ")
                )
            });
            continue;
        }
        if !is_only || held.len() < chips.len() {
            devices.retain(|quantity, _| !repeats(*quantity));
        }
        attributed.add(&devices, &held, repeats);
    }
    attributed
}

impl Attributed {
    fn fail(&mut self, reason: impl FnOnce() -> String) {
        self.problem.get_or_insert_with(reason);
    }

    /// Adds the values of a container to its chips. `repeats` are quantities whose devices have other numbers.
    fn add(
        &mut self,
        devices: &DeviceValues,
        held: &[OrderedChip],
        repeats: impl Fn(RuntimeQuantity) -> bool,
    ) {
        let mut by_chip: BTreeMap<DeviceId, Vec<Reading>> = BTreeMap::new();
        for (quantity, values) in devices {
            // A device that another quantity has and this one does not is one without a value.
            let alike = devices.iter().filter(|(other, _)| repeats(**other) == repeats(*quantity));
            let all = alike
                .map(|(_, values)| values)
                .filter(|other| values.keys().all(|id| other.contains_key(id)));
            let all: Vec<u64> =
                all.max_by_key(|other| other.len()).unwrap_or(values).keys().copied().collect();
            match by_rank(*quantity, values, &all, held) {
                Some(readings) => {
                    readings
                        .into_iter()
                        .for_each(|(chip, reading)| by_chip.entry(chip).or_default().push(reading));
                }
                None => self.fail(|| {
                    let (devices, held) = (values.len(), held.len());
                    format!("a container with {held} chips of this host is reported with {devices} devices")
                }),
            }
        }
        for (chip, readings) in &mut by_chip {
            let value =
                |of| readings.iter().find(|reading| reading.quantity == of).map(|reading| reading.value);
            let (used, total) = (value(Quantity::MemoryUsedBytes), value(Quantity::MemoryTotalBytes));
            if used.zip(total).is_some_and(|(used, total)| used > total) {
                self.fail(|| format!("{chip}: more memory in use than there is was dropped"));
                let is_memory = |of| matches!(of, Quantity::MemoryUsedBytes | Quantity::MemoryTotalBytes);
                readings.retain(|reading| !is_memory(reading.quantity));
            }
        }
        // In the order of the chips.
        for chip in held {
            let readings = by_chip.remove(&chip.id).unwrap_or_default();
            self.readings.extend(readings.into_iter().map(|reading| (chip.id, reading)));
        }
    }
}

/// The chips whose values those of a container are; none if that is not known. An error is the reason why they are of no chips.
fn chips_of(
    container: Option<&RuntimeContainer>,
    is_only: bool,
    chips: &[OrderedChip],
    allocations: Option<&[Allocation]>,
) -> Result<Option<Vec<OrderedChip>>, &'static str> {
    match (container, allocations) {
        (Some(container), Some(allocations)) => Ok(Some(held_by(container, chips, allocations))),
        (None, Some(allocations)) if is_held(chips, allocations) => {
            let container = only_holder(chips, allocations).ok_or(
                "several containers hold TPUs, and the runtimes of this host do not say whose values they report",
            )?;
            Ok(Some(held_by(&container, chips, allocations)))
        }
        _ if is_only => Ok(None),
        _ => Err("several containers use TPUs, and which of them holds which chip is not known"),
    }
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

/// The containers that hold chips, each as often as it holds one.
pub(crate) fn holders(
    chips: &[OrderedChip],
    allocations: &[Allocation],
) -> impl Iterator<Item = RuntimeContainer> {
    let is_of_chip = |allocation: &&Allocation| chips.iter().any(|chip| chip.id == allocation.unit.device);
    allocations.iter().filter(is_of_chip).map(|allocation| RuntimeContainer {
        namespace: allocation.namespace.clone(),
        pod: allocation.pod.clone(),
        container: allocation.container.clone(),
    })
}

/// The chips that a container holds, in their order.
pub(crate) fn held_by(
    container: &RuntimeContainer,
    chips: &[OrderedChip],
    allocations: &[Allocation],
) -> Vec<OrderedChip> {
    let holds = |chip: &&OrderedChip| {
        allocations.iter().any(|allocation| {
            allocation.unit.device == chip.id
                && allocation.namespace == container.namespace
                && allocation.pod == container.pod
                && allocation.container == container.container
        })
    };
    chips.iter().filter(holds).copied().collect()
}

/// One value for each chip, or one for each of the two TensorCores of a chip; else none is certain. `all` are the devices of the
/// container in their order. A chip of which a value is missing has none.
fn by_rank(
    quantity: RuntimeQuantity,
    values: &BTreeMap<u64, Option<f64>>,
    all: &[u64],
    held: &[OrderedChip],
) -> Option<Vec<(DeviceId, Reading)>> {
    let per_chip = all.len().checked_div(held.len())?;
    if per_chip * held.len() != all.len() || !(1..=2).contains(&per_chip) {
        return None;
    }
    // Either it is reported by chip, under numbers that other quantities have for cores, or half of the cores are missing.
    if values.len() < all.len() && values.len() == held.len() {
        return None;
    }
    let of_chip = |(chip, devices): (&OrderedChip, &[u64])| {
        let values: Option<Vec<f64>> = devices.iter().map(|id| values.get(id).copied().flatten()).collect();
        let sum: f64 = values?.iter().sum();
        let value = if quantity.adds_up() { sum } else { sum / per_chip as f64 };
        Some((chip.id, reading(quantity, value)))
    };
    Some(held.iter().zip(all.chunks(per_chip)).filter_map(of_chip).collect())
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
