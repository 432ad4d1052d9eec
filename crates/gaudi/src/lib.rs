//! Intel Gaudi (Habana Labs) with the driver habanalabs.
//!
//! Peculiarities:
//!
//! - The driver's attributes are in the PCI directory, in that of the accel node or, on kernels before 6.2, in
//!   `/sys/class/habanalabs/hl<N>`. A node with ten or more devices has two-digit accel numbers.
//! - Sysfs exposes no serial number, UUID or memory size; only the vendor library reports them. The memory size is the
//!   same for every product of a generation.
//! - The second die of a Gaudi 3 (1061) is a function that computes and counts as a device.
//! - The Ethernet ports are RDMA devices of the same PCI function (`hbl_0`, `hlib_0`); if one is up, RoCE is the
//!   interconnect.
//! - The health comes from the attribute `status`. The device is reset after each workload, which is no fault: its health is then
//!   unknown, with the reason `WorkloadReset`.

mod interpret;
mod products;
mod sysfs;

use std::time::Instant;

use afd_host::Host;
use afd_model::{Device, Findings, Sample, Sampling};
use afd_probe::{Facts, PciBus, Probe};

use crate::sysfs::GaudiSource;

const NAME: &str = "gaudi";
const VENDOR_ID: u16 = 0x1da3;

/// The probe of Gaudi devices.
#[derive(Debug, Default)]
pub struct Gaudi {
    sources: Vec<GaudiSource>,
}

impl Probe for Gaudi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        let functions = bus.devices(host, VENDOR_ID, sysfs::is_device);
        let devices: Vec<Device>;
        (devices, self.sources) =
            functions.into_iter().map(|function| sysfs::describe(&mut facts, bus, function)).unzip();
        Findings { devices, problems: facts.into_problems(), ..Findings::default() }
    }

    fn sample(&mut self, host: &Host, _now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let sample = |source: &GaudiSource| {
            facts.about(Some(source.device));
            Sample { unit: source.device.into(), readings: source.read(&mut facts) }
        };
        let samples = self.sources.iter().map(sample).collect();
        Sampling { samples, problems: facts.into_problems(), ..Sampling::default() }
    }
}

#[cfg(test)]
mod tests;
