//! Metric families as the vendors' own exporters spell them.
//!
//! The names, labels and units are the vendors'; what AFD holds to is its own rule that a value which was not read is an
//! absent series.

use std::collections::BTreeMap;

use afd_model::{Device, Inventory, Partition, Quantity, Reading, Sample, UnitId};
use prometheus::proto::MetricFamily;

use super::{CompatSet, amd};
use crate::{families::Kind, series};

/// A family of a vendor's exporter. All are gauges, as the vendor has them.
#[derive(Clone, Copy, Debug)]
pub struct CompatFamily {
    /// Its name.
    pub name: &'static str,
    /// Labels beside those that all series have.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub help: &'static str,
    pub(super) tell: Tell,
}

/// Series of a family: the values of its own labels, and the value.
pub(super) type Series = Vec<(Vec<String>, f64)>;

/// Where the series of a family come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tell {
    /// One series of the node, without the labels of a unit.
    Node(fn(&[Unit<'_>]) -> f64),
    /// Series of each unit.
    Unit(fn(&Unit<'_>) -> Series),
}

/// Families of a vendor's exporter that are not published.
#[derive(Clone, Copy, Debug)]
pub struct LeftOutFamilies {
    /// Their names.
    pub names: &'static [&'static str],
    /// Why they are left out.
    pub reason: &'static str,
}

/// What a vendor's exporter counts as one device: a partition, or a device that is not cut.
#[derive(Debug)]
pub(super) struct Unit<'i> {
    /// Its place among all units.
    pub(super) number: usize,
    pub(super) device: &'i Device,
    pub(super) partition: Option<&'i Partition>,
    readings: Vec<Reading>,
    /// How many of the readings, from the front, are its own and not those of the device that it is the first part of.
    own: usize,
}

impl Unit<'_> {
    /// The value of a quantity, times a factor.
    pub(super) fn value(&self, quantity: Quantity, factor: f64) -> Option<f64> {
        let reading = self.readings.iter().find(|reading| reading.quantity == quantity)?;
        Some(reading.value * factor)
    }

    /// The same, of the unit's own readings alone.
    pub(super) fn own_value(&self, quantity: Quantity, factor: f64) -> Option<f64> {
        let reading = self.readings[..self.own].iter().find(|reading| reading.quantity == quantity)?;
        Some(reading.value * factor)
    }

    /// What `tell` makes of each reading.
    pub(super) fn each<T>(&self, tell: impl Fn(&Quantity, f64) -> Option<T>) -> Vec<T> {
        self.readings.iter().filter_map(|reading| tell(&reading.quantity, reading.value)).collect()
    }
}

/// The units of a set, in the order of their addresses. What was read of a device that is cut stands with its first
/// partition.
fn units<'i>(set: CompatSet, inventory: &'i Inventory, samples: &[Sample]) -> Vec<Unit<'i>> {
    let devices = inventory.devices.iter().filter(|device| set.is_about(device));
    let parts = devices.flat_map(|device| {
        let whole = device.partitions.is_empty().then_some((device, None));
        whole.into_iter().chain(device.partitions.iter().map(move |part| (device, Some(part))))
    });
    parts
        .enumerate()
        .map(|(number, (device, partition))| {
            let whole = UnitId::from(device.id);
            let unit = partition.map_or(whole, |partition| partition.id.into());
            let first = device.partitions.first().is_none_or(|first| UnitId::from(first.id) == unit);
            let of = |unit: UnitId| {
                let own = move |sample: &&Sample| sample.unit == unit;
                samples.iter().filter(own).flat_map(|sample| sample.readings.clone()).collect::<Vec<_>>()
            };
            // A value of the partition goes before that of the device: it is looked for from the front.
            let mut readings = of(unit);
            let own = readings.len();
            if first && unit != whole {
                readings.extend(of(whole));
            }
            Unit { number, device, partition, readings, own }
        })
        .collect()
}

impl CompatSet {
    /// The families of the set, in the order of the documentation.
    pub fn families(self) -> impl Iterator<Item = &'static CompatFamily> {
        let tables: &[&[CompatFamily]] = match self {
            CompatSet::Amd => &amd::families::TABLES,
            CompatSet::Nvidia => &[],
        };
        tables.iter().copied().flatten()
    }

    /// Families of the vendor's exporter that are not published.
    pub fn left_out_families(self) -> &'static [LeftOutFamilies] {
        match self {
            CompatSet::Amd => &amd::left_out::FAMILIES,
            CompatSet::Nvidia => &[],
        }
    }

    /// Where a series is not as the vendor's exporter has it, and why.
    pub fn metric_differences(self) -> &'static [&'static str] {
        match self {
            CompatSet::Amd => &amd::left_out::METRIC_DIFFERENCES,
            CompatSet::Nvidia => &[],
        }
    }

    /// The labels that all series of a unit have.
    pub fn metric_labels(self) -> &'static [&'static str] {
        match self {
            CompatSet::Amd => &amd::unit::LABELS,
            CompatSet::Nvidia => &[],
        }
    }

    /// The exporter whose names they are.
    pub fn exporter(self) -> &'static str {
        match self {
            CompatSet::Amd => "AMD's device metrics exporter",
            CompatSet::Nvidia => "dcgm-exporter",
        }
    }

    /// The families with the values of the last sampling; none if the node has no device that the set is about.
    pub fn metric_families(self, inventory: &Inventory, samples: &[Sample]) -> Vec<MetricFamily> {
        let units = units(self, inventory, samples);
        if units.is_empty() {
            return Vec::new();
        }
        let common: Vec<Vec<String>> = units.iter().map(amd::unit::label_values).collect();
        let built = self.families().filter_map(|family| {
            let mut series: BTreeMap<Vec<String>, f64> = BTreeMap::new();
            let mut labels: Vec<&str> = Vec::new();
            match family.tell {
                Tell::Node(tell) => drop(series.insert(Vec::new(), tell(&units))),
                Tell::Unit(tell) => {
                    labels.extend(self.metric_labels().iter().chain(family.labels));
                    for (unit, common) in units.iter().zip(&common) {
                        series.extend(
                            tell(unit)
                                .into_iter()
                                .map(|(own, value)| (common.iter().cloned().chain(own).collect(), value)),
                        );
                    }
                }
            }
            (!series.is_empty()).then(|| {
                let labelled = series
                    .into_iter()
                    .map(|(values, value)| (labels.iter().copied().zip(values).collect(), value));
                series::family(family.name, family.help, Kind::Gauge, labelled)
            })
        });
        built.collect()
    }
}

#[cfg(test)]
mod tests;
