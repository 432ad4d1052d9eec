//! Readings from what Level Zero sampled, in base units: of the whole device in AFD's vocabulary, and of each component for the
//! names of Intel's own exporters. A call without a value gives no reading.
//!
//! A device of several tiles has one value: that of the component for the whole device where the library has one, else the mean of
//! shares and the sum of amounts over the tiles, and the maximum of temperatures and clocks.

mod components;
mod device;
mod links;

use std::collections::BTreeMap;

use afd_model::{DeviceId, PciAddress, Quantity, Reading, Sample, Sampling, UnitId, XelinkPort};

pub(crate) use self::device::{is_memory_hidden, share, uncorrectable_errors};
use super::{LevelZeroReport, parts::SampledDevice, unit_of};

/// What the kernel's readings of a device say of the library's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelReadings {
    /// The kernel counts the energy of the device: the library's counter, which may be another one, is not used.
    pub(crate) counts_energy: bool,
    /// The device uses the system's memory.
    pub(crate) is_integrated: bool,
}

/// What is added to readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddedReadings<'a> {
    /// The report of the last discovery.
    pub(crate) discovered: &'a LevelZeroReport,
    /// That of the last sample.
    pub(crate) sampled: &'a LevelZeroReport,
    /// That of the sample before.
    pub(crate) before: &'a LevelZeroReport,
    /// The ports of each device, where the values of each are read.
    pub(crate) ports: Option<&'a BTreeMap<DeviceId, Vec<XelinkPort>>>,
    /// Whether the values of components are read as well.
    pub(crate) with_components: bool,
}

impl AddedReadings<'_> {
    /// Adds the readings of the library to those of the kernel, which stay where both have the quantity. A function is a device, or
    /// a virtual function that is a partition of one.
    pub(crate) fn add(&self, sampling: &mut Sampling, functions: &[(PciAddress, UnitId, KernelReadings)]) {
        for reported in &self.sampled.devices {
            let Some(found) = unit_of(&reported.answers) else { continue };
            let Some((address, unit, kernel)) =
                functions.iter().find(|(address, ..)| found.is_device(*address))
            else {
                continue;
            };
            let Some(discovered) = self.discovered.device(*address, unit_of) else { continue };
            let sampled = SampledDevice {
                discovered: &discovered.answers,
                now: &reported.answers,
                before: self.before.device(*address, unit_of).map(|before| &before.answers),
            };
            let mut added = device::readings(&sampled, *kernel);
            if let Some(ports) = self.ports.and_then(|ports| ports.get(&unit.device)) {
                added.extend(links::readings(&sampled, ports));
            }
            if self.with_components {
                added.extend(components::readings(&sampled));
            }
            add_to(sampling, *unit, added);
        }
    }
}

fn add_to(sampling: &mut Sampling, unit: UnitId, added: Vec<Reading>) {
    let sample = match sampling.samples.iter_mut().find(|sample| sample.unit == unit) {
        Some(sample) => sample,
        None => {
            sampling.samples.push(Sample { unit, readings: Vec::new() });
            sampling.samples.last_mut().expect("a sample was added")
        }
    };
    for reading in added {
        if !sample.readings.iter().any(|known| known.quantity == reading.quantity) {
            sample.readings.push(reading);
        }
    }
}

fn reading(quantity: impl Into<Quantity>, value: f64) -> Reading {
    Reading { quantity: quantity.into(), value }
}

#[cfg(test)]
mod tests;
