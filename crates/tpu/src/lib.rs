//! Google TPUs.
//!
//! Peculiarities:
//!
//! - A TPU is identified by its device id only: its PCI class is not that of an accelerator, and Google's vendor id is also
//!   used by network cards, disks and fabrics. An unknown id is reported as a problem and not counted.
//! - A chip of 7x has two functions in one slot, each with an IOMMU group of its own; the lowest is the device. The number of
//!   devices that a framework sees per chip depends on the generation.
//! - From v5e on the driver is vfio-pci and the device node is that of the IOMMU group; v2 to v4 have Google's own driver
//!   and `/dev/accel<N>`, a class that other vendors use, too.
//! - Sysfs exposes no changing values but the PCIe link: utilization and used memory are reported by the runtime in the
//!   workload. libtpu is never loaded.

mod health;
mod products;
mod sysfs;

use std::time::Instant;

use afd_host::Host;
use afd_model::{Findings, Known, LinkKind, Sample, Sampling};
use afd_probe::{Facts, PciBus, PciFunction, Probe, pci};

const NAME: &str = "tpu";
const VENDOR_ID: u16 = 0x1ae0;

/// The probe of TPUs.
#[derive(Debug, Default)]
pub struct Tpu {
    functions: Vec<PciFunction>,
}

impl Probe for Tpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        let mut devices = Vec::new();
        self.functions.clear();
        let mut has_ici = Vec::new();
        for chip in sysfs::chips(&mut facts, bus, VENDOR_ID) {
            let Some(function) = chip.first() else { continue };
            let (device, generation) = sysfs::describe(&mut facts, bus, function, &chip);
            has_ici.push(generation.is_some_and(|generation| generation.facts.has_ici));
            devices.push(device);
            self.functions.push((*function).clone());
        }
        // The only chip of a host may have links to other hosts, but none to a device of this node.
        if has_ici.iter().filter(|has_ici| **has_ici).count() >= 2 {
            for (device, _) in devices.iter_mut().zip(has_ici).filter(|(_, has_ici)| *has_ici) {
                device.interconnect = Known::Value(LinkKind::Ici);
            }
        }
        Findings { devices, problems: facts.into_problems(), ..Findings::default() }
    }

    fn sample(&mut self, host: &Host, _now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let sample = |function: &PciFunction| {
            let device = function.address.into();
            facts.about(Some(device));
            Sample { unit: device.into(), readings: pci::link_readings(&mut facts, function) }
        };
        let samples = self.functions.iter().map(sample).collect();
        Sampling { samples, problems: facts.into_problems(), ..Sampling::default() }
    }
}

#[cfg(test)]
mod tests;
