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
//! - Sysfs exposes no changing values but the PCIe link. Utilization and used memory are reported by the runtime in the workload,
//!   and by the exporter of GKE's device plugin, which queries it; a process of its own reads them ([`sources`]). libtpu is never
//!   loaded.

mod exporter;
mod health;
mod holding;
mod http;
pub mod metadata;
mod products;
pub mod report;
pub mod sources;
mod sysfs;

use std::time::Instant;

use afd_host::{
    Host,
    child::{DroppedMessages, Launcher},
};
use afd_model::{Allocation, Device, Findings, Known, LinkKind, Missing, Sample, Sampling, VendorFacts};
use afd_probe::{Facts, PciBus, PciFunction, Probe, pci};

use crate::{
    holding::OrderedChip,
    sources::{SourceAddresses, TpuSources},
};

const NAME: &str = "tpu";
const VENDOR_ID: u16 = 0x1ae0;

/// The probe of TPUs.
#[derive(Debug, Default)]
pub struct Tpu {
    functions: Vec<PciFunction>,
    chips: Vec<OrderedChip>,
    sources: Option<TpuSources>,
    /// Which containers hold the chips, as far as the kubelet reports it.
    allocations: Option<Vec<Allocation>>,
}

impl Tpu {
    /// A probe that queries sources outside of the kernel, by processes of `launcher`.
    pub fn with_sources(launcher: &Launcher, addresses: SourceAddresses) -> Tpu {
        Tpu { sources: Some(TpuSources::new(launcher, &addresses)), ..Tpu::default() }
    }

    /// Adds what the sources report to the samples of the kernel.
    fn sample_sources(&mut self, now: Instant, sampling: &mut Sampling) {
        let Some(sources) = &mut self.sources else { return };
        if self.chips.is_empty() {
            sources.end();
            return;
        }
        sampling.library_answered = sources.sample(now);
        sampling.problems.extend(sources.problems());
        let attributed = holding::attribute(sources.values(), &self.chips, self.allocations.as_deref());
        sampling.problems.extend(attributed.problem.map(sources::problem));
        for (chip, reading) in attributed.readings {
            let sample = sampling.samples.iter_mut().find(|sample| sample.unit == chip.into());
            sample.into_iter().for_each(|sample| sample.readings.push(reading));
        }
    }
}

impl Probe for Tpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        let mut devices = Vec::new();
        self.functions.clear();
        self.chips.clear();
        let mut has_ici = Vec::new();
        for chip in sysfs::chips(&mut facts, bus, VENDOR_ID) {
            let Some(function) = chip.first() else { continue };
            let (device, generation) = sysfs::describe(&mut facts, bus, function, &chip);
            has_ici.push(generation.is_some_and(|generation| generation.facts.has_ici));
            self.chips.push(OrderedChip { numa_node: device.numa_node.value().copied(), id: device.id });
            devices.push(device);
            self.functions.push((*function).clone());
        }
        // The only chip of a host may have links to other hosts, but none to a device of this node.
        if has_ici.iter().filter(|has_ici| **has_ici).count() >= 2 {
            for (device, _) in devices.iter_mut().zip(has_ici).filter(|(_, has_ici)| *has_ici) {
                device.interconnect = Known::Value(LinkKind::Ici);
            }
        }
        describe_slice(&mut facts, &mut devices);
        Findings { devices, problems: facts.into_problems(), ..Findings::default() }
    }

    fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let sample = |function: &PciFunction| {
            let device = function.address.into();
            facts.about(Some(device));
            Sample { unit: device.into(), readings: pci::link_readings(&mut facts, function) }
        };
        let samples = self.functions.iter().map(sample).collect();
        let mut sampling = Sampling { samples, problems: facts.into_problems(), ..Sampling::default() };
        self.sample_sources(now, &mut sampling);
        sampling
    }

    fn set_allocations(&mut self, allocations: Option<&[Allocation]>) {
        self.allocations = allocations.map(<[Allocation]>::to_vec);
    }

    fn restarts(&self) -> Option<u64> {
        self.sources.as_ref().map(TpuSources::restarts)
    }

    fn dropped(&self) -> Option<DroppedMessages> {
        self.sources.as_ref().map(TpuSources::dropped)
    }
}

/// Adds what the metadata of the machine say of the slice. Fewer chips than they say are a problem.
fn describe_slice(facts: &mut Facts<'_>, devices: &mut [Device]) {
    if devices.is_empty() {
        return;
    }
    facts.about(None);
    let Known::Value(content) = facts.bytes("slice", metadata::PATH) else { return };
    let Some(slice) = metadata::parse(&String::from_utf8_lossy(&content)) else { return };
    let found = devices.len();
    if let Some(expected) = slice.chips_per_host.value().filter(|expected| found < **expected as usize) {
        let message = format!("the machine has {found} of the {expected} chips that its metadata say");
        let _: Known<()> = facts.missing("devices", Missing::Unreadable, Some(metadata::PATH), message);
    }
    for device in devices {
        device.vendor_facts = Some(VendorFacts::Tpu(Box::new(slice.clone())));
    }
}

#[cfg(test)]
mod tests;
