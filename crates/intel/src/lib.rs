//! Intel GPUs: Data Center GPU Max and Flex, Arc, and integrated GPUs, with the driver i915 or xe.
//!
//! Peculiarities:
//!
//! - A GPU is identified by PCI alone: Intel's display functions, with any driver. NPUs, QAT, Xeon Phi and audio
//!   functions are not GPUs. The ids 0be0, 0be1 and 0be5 belong to two products and are in no table.
//! - Upstream drivers report the memory size by ioctl only, which needs the device node. Otherwise it comes from i915's
//!   `lmem_total_bytes` (of one tile), the product table, or a BAR of the full size.
//! - On Arc, Flex and Battlemage the GPU is behind a PCIe switch on the board, and its own link files always report 2.5 GT/s
//!   x1. The relevant link is that of the switch's upstream port.
//! - Virtual functions on the host are partitions; there is no other partitioning. A virtual function in a guest has the
//!   id of the physical GPU, so the memory size of the table is that of the physical GPU.
//! - An idle GPU has an actual clock of 0 MHz, which is a valid value.

mod interpret;
mod products;
mod sysfs;

use std::{collections::BTreeMap, time::Instant};

use afd_host::Host;
use afd_model::{Device, DeviceId, Findings, Sample, Sampling};
use afd_probe::{Facts, PciBus, Probe};

use crate::sysfs::sampling::{IntelSource, energy::EnergyCounter};

const NAME: &str = "intel";
const VENDOR_ID: u16 = 0x8086;

/// The probe of Intel GPUs.
#[derive(Debug, Default)]
pub struct Intel {
    sources: Vec<IntelSource>,
    /// The energy counter of each GPU, which keeps its file as long as the GPU is there.
    energies: BTreeMap<DeviceId, EnergyCounter>,
}

impl Probe for Intel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        let functions = bus.devices(host, VENDOR_ID, |function| sysfs::is_gpu(bus, function));
        let devices: Vec<Device>;
        (devices, self.sources) =
            functions.into_iter().map(|function| sysfs::describe(&mut facts, bus, function)).unzip();
        self.energies.retain(|id, _| devices.iter().any(|device| device.id == *id));
        for source in &self.sources {
            facts.about(Some(source.device));
            source.choose_energy(&mut facts, self.energies.entry(source.device).or_default());
        }
        Findings { devices, problems: facts.into_problems(), ..Findings::default() }
    }

    fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let mut samples = Vec::new();
        for source in &self.sources {
            facts.about(Some(source.device));
            let readings = source.read(&mut facts, now, self.energies.get_mut(&source.device));
            samples.push(Sample { unit: source.device.into(), readings });
        }
        Sampling { samples, problems: facts.into_problems(), ..Sampling::default() }
    }
}

#[cfg(test)]
mod tests;
