//! Google TPUs.
//!
//! What is peculiar about them:
//!
//! - A TPU is known by its device id only: its PCI class is no accelerator's, and Google's vendor id is also on
//!   network cards, disks and fabrics. An id in no list is reported and not counted.
//! - A chip may have several functions in one slot (7x); the lowest is the device. How many devices a framework makes
//!   of a chip is told by the generation.
//! - From v5e on the driver is vfio-pci and the device node that of the IOMMU group; v2 to v4 have Google's own driver
//!   and `/dev/accel<N>`, whose class other vendors use as well.
//! - Nothing but the PCIe link moves in sysfs: load and memory in use are told by the runtime within the workload.
//!   libtpu is never loaded.

mod products;
mod sysfs;

use std::time::Instant;

use afd_host::Host;
use afd_model::{Findings, Known, LinkKind, Sample, Sampling};
use afd_probe::{Facts, PciBus, PciFunction, Probe, pci};

const NAME: &str = "tpu";
const VENDOR_ID: u16 = 0x1ae0;

/// The reader of TPUs.
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
        let mut linked = Vec::new();
        for chip in sysfs::chips(&mut facts, bus, VENDOR_ID) {
            let Some(function) = chip.first() else { continue };
            let (device, generation) = sysfs::describe(&mut facts, bus, function, &chip);
            linked.push(generation.is_some_and(|generation| generation.has_ici));
            devices.push(device);
            self.functions.push((*function).clone());
        }
        // A chip alone on its host may have links to other hosts; to a device of this node it has none.
        if linked.iter().filter(|linked| **linked).count() >= 2 {
            for (device, _) in devices.iter_mut().zip(linked).filter(|(_, linked)| *linked) {
                device.interconnect = Known::Value(LinkKind::Ici);
            }
        }
        Findings { devices, links: Vec::new(), problems: facts.into_problems() }
    }

    fn sample(&mut self, host: &Host, _now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let sample = |function: &PciFunction| {
            let device = function.address.into();
            facts.about(Some(device));
            Sample { unit: device.into(), readings: pci::link_readings(&mut facts, function) }
        };
        let samples = self.functions.iter().map(sample).collect();
        Sampling { samples, problems: facts.into_problems(), rediscover: false }
    }
}

#[cfg(test)]
mod tests;
