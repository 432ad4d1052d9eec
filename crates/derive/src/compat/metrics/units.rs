//! What a vendor's exporter counts as one device.

use afd_model::{Device, HandleKind, Partition, Quantity, Reading, Sample, UnitId};

use super::CompatInput;
use crate::vendors::VendorRecord;

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

    /// Memory of the device or partition in bytes.
    pub(crate) fn memory_bytes(&self) -> Option<f64> {
        let bytes = self.partition.map_or(self.device.memory_bytes, |partition| partition.memory_bytes);
        bytes.into_value().map(|bytes| bytes as f64)
    }
}

/// The partitions of the vendor's devices, and the devices without partitions, in the order of their addresses. Readings of a
/// partitioned device are those of its first partition as well.
pub(crate) fn allocatable_units<'i>(record: &VendorRecord, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let devices = input.inventory.devices.iter().filter(|device| record.covers(device));
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
pub(crate) fn whole_units<'i>(record: &VendorRecord, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let devices = input.inventory.devices.iter().filter(|device| record.covers(device));
    let units = devices.enumerate().map(|(number, device)| {
        let readings = readings_of(input.samples, device.id.into());
        ExporterUnit { number, device, partition: None, node: input.node, own: readings.len(), readings }
    });
    units.collect()
}

/// A number of each device of the inventory: the index by the library of `record`'s devices, and for the others the numbers that
/// are left, in order.
fn numbers(record: &VendorRecord, devices: &[Device]) -> Vec<usize> {
    let indexed: Vec<Option<usize>> = devices
        .iter()
        .map(|device| device.handle(HandleKind::Index).filter(|_| record.covers(device))?.parse().ok())
        .collect();
    let mut left = (0..).filter(|number| !indexed.contains(&Some(*number)));
    indexed.iter().map(|index| index.or_else(|| left.next()).unwrap_or_default()).collect()
}

/// Every device and every partition of any vendor that was sampled, in the order of the inventory and of the samples.
pub(crate) fn sampled_units<'i>(record: &VendorRecord, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let mut units = Vec::new();
    let numbers = numbers(record, &input.inventory.devices);
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

fn readings_of(samples: &[Sample], unit: UnitId) -> Vec<Reading> {
    let own = samples.iter().filter(|sample| sample.unit == unit);
    own.flat_map(|sample| sample.readings.clone()).collect()
}
