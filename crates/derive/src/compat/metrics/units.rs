//! What a vendor's exporter counts as one device.

use afd_model::{Device, Handle, HandleKind, Partition, Quantity, Reading, Sample, UnitId};

use super::CompatInput;
use crate::compat::SetScope;

/// What a vendor's exporter counts as one device: a device or a partition, with its readings.
#[derive(Debug)]
pub struct ExporterUnit<'i> {
    /// Its number on the node. No two devices share one.
    pub(crate) number: usize,
    pub(crate) device: &'i Device,
    pub(crate) partition: Option<&'i Partition>,
    /// Name of the node, where it is known.
    pub(crate) node: Option<&'i str>,
    readings: Vec<Reading>,
    /// How many of the readings, from the front, are its own and not those of the device whose first partition it is.
    own: usize,
}

impl ExporterUnit<'_> {
    pub(crate) fn id(&self) -> UnitId {
        self.partition.map_or_else(|| self.device.id.into(), |partition| partition.id.into())
    }

    /// The value of a quantity, times a factor.
    pub(crate) fn value(&self, quantity: Quantity, factor: f64) -> Option<f64> {
        let reading = self.readings.iter().find(|reading| reading.quantity == quantity)?;
        Some(reading.value * factor)
    }

    /// The same, of the unit's own readings only.
    pub(crate) fn own_value(&self, quantity: Quantity, factor: f64) -> Option<f64> {
        let reading = self.readings[..self.own].iter().find(|reading| reading.quantity == quantity)?;
        Some(reading.value * factor)
    }

    /// The results of a function for the readings that have one.
    pub(crate) fn filter_readings<T>(&self, result: impl Fn(&Quantity, f64) -> Option<T>) -> Vec<T> {
        self.readings.iter().filter_map(|reading| result(&reading.quantity, reading.value)).collect()
    }

    /// The UUID of the device or partition; where it has none, the address of the device, with the name of the partition.
    pub(crate) fn identity(&self) -> String {
        let uuid = |handles: &[Handle]| {
            handles.iter().find(|handle| handle.kind == HandleKind::Uuid).map(|handle| handle.value.clone())
        };
        let address = self.device.id;
        match self.partition {
            None => self.device.uuid.value().cloned().unwrap_or_else(|| address.to_string()),
            Some(part) => uuid(&part.handles).unwrap_or_else(|| format!("{address}/{}", part.name)),
        }
    }

    /// Memory of the device or partition in bytes.
    pub(crate) fn memory_bytes(&self) -> Option<f64> {
        let bytes = self.partition.map_or(self.device.memory_bytes, |partition| partition.memory_bytes);
        bytes.into_value().map(|bytes| bytes as f64)
    }
}

/// The partitions of the vendor's devices, and the devices without partitions, in the order of their addresses. Readings of a
/// partitioned device are those of its first partition as well.
pub(crate) fn allocatable_units<'i>(scope: SetScope, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let devices = input.inventory.devices.iter().filter(|device| scope.covers(device));
    let units = devices.flat_map(|device| {
        let unpartitioned = device.partitions.is_empty().then_some((device, None));
        unpartitioned
            .into_iter()
            .chain(device.partitions.iter().map(move |partition| (device, Some(partition))))
    });
    let units = units.enumerate().map(|(number, (device, partition))| {
        let whole = UnitId::from(device.id);
        let id = partition.map_or(whole, |partition| partition.id.into());
        let is_first = device.partitions.first().is_none_or(|first| UnitId::from(first.id) == id);
        // A value of the partition takes precedence over that of the device: the first one is found.
        let mut readings = readings_of(input.samples, id);
        let own = readings.len();
        if is_first && id != whole {
            readings.extend(readings_of(input.samples, whole));
        }
        ExporterUnit { number, device, partition, node: input.node, readings, own }
    });
    units.collect()
}

/// The vendor's devices with their readings, in the order of their addresses. Partitions count for nothing.
pub(crate) fn whole_units<'i>(scope: SetScope, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let devices = input.inventory.devices.iter().filter(|device| scope.covers(device));
    let units = devices.enumerate().map(|(number, device)| {
        let readings = readings_of(input.samples, device.id.into());
        ExporterUnit { number, device, partition: None, node: input.node, own: readings.len(), readings }
    });
    units.collect()
}

/// A number of each device of the inventory: the index by the library of the devices of the set, and for the others the numbers that
/// are left, in order.
fn numbers(scope: SetScope, devices: &[Device]) -> Vec<usize> {
    let indexed: Vec<Option<usize>> = devices
        .iter()
        .map(|device| device.handle(HandleKind::Index).filter(|_| scope.covers(device))?.parse().ok())
        .collect();
    let mut left = (0..).filter(|number| !indexed.contains(&Some(*number)));
    indexed.iter().map(|index| index.or_else(|| left.next()).unwrap_or_default()).collect()
}

/// Every device and every partition of any vendor that was sampled, in the order of the inventory and of the samples.
pub(crate) fn sampled_units<'i>(scope: SetScope, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let mut units = Vec::new();
    let numbers = numbers(scope, &input.inventory.devices);
    for (number, device) in numbers.into_iter().zip(&input.inventory.devices) {
        for sample in input.samples.iter().filter(|sample| sample.unit.device == device.id) {
            let find = |name| device.partitions.iter().find(|partition: &&Partition| partition.name == name);
            let partition = sample.unit.partition.and_then(find);
            if sample.unit.partition.is_some() != partition.is_some() {
                // The partition is gone since it was sampled.
                continue;
            }
            let readings = sample.readings.clone();
            units.push(ExporterUnit {
                number,
                device,
                partition,
                node: input.node,
                own: readings.len(),
                readings,
            });
        }
    }
    units
}

/// A device or partition that was not sampled.
pub(crate) fn unread_unit<'i>(
    scope: SetScope,
    input: &CompatInput<'i>,
    id: UnitId,
) -> Option<ExporterUnit<'i>> {
    let numbers = numbers(scope, &input.inventory.devices).into_iter();
    let (number, device) =
        numbers.zip(&input.inventory.devices).find(|(_, device)| device.id == id.device)?;
    let partition = match id.partition {
        None => None,
        Some(name) => Some(device.partitions.iter().find(|partition| partition.name == name)?),
    };
    Some(ExporterUnit { number, device, partition, node: input.node, readings: Vec::new(), own: 0 })
}

/// Every device of any vendor, followed by its partitions. What partitions have of their own, the device does not have again.
pub(crate) fn common_units<'i>(_: SetScope, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let mut units = Vec::new();
    for (number, device) in input.inventory.devices.iter().enumerate() {
        let unit = |partition: Option<&'i Partition>, readings: Vec<Reading>| ExporterUnit {
            number,
            device,
            partition,
            node: input.node,
            own: readings.len(),
            readings,
        };
        let parts: Vec<_> = device
            .partitions
            .iter()
            .map(|part| unit(Some(part), readings_of(input.samples, part.id.into())))
            .collect();
        let is_divided = |quantity: Quantity| {
            matches!(
                quantity,
                Quantity::Utilization(_) | Quantity::MemoryUsedBytes | Quantity::MemoryTotalBytes
            ) && parts.iter().any(|part| part.value(quantity, 1.0).is_some())
        };
        let mut readings = readings_of(input.samples, device.id.into());
        readings.retain(|reading| !is_divided(reading.quantity));
        units.push(unit(None, readings));
        units.extend(parts);
    }
    units
}

fn readings_of(samples: &[Sample], unit: UnitId) -> Vec<Reading> {
    let own = samples.iter().filter(|sample| sample.unit == unit);
    own.flat_map(|sample| sample.readings.clone()).collect()
}
