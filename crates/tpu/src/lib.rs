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
//!   and by the exporter of GKE's device plugin, which queries it; the slice is described by the metadata of the machine and by the
//!   Node. A process of its own queries servers ([`servers`]); their last answers are part of a recording. libtpu is never loaded.

pub mod exporter;
mod health;
mod holding;
mod http;
mod latest;
mod machine;
pub mod metadata;
mod node;
mod pods;
mod products;
pub mod report;
pub mod runtime;
pub mod servers;
mod slice;
mod sources;
mod sysfs;

use std::time::Instant;

use afd_host::{Host, child::Launcher};
use afd_model::{
    Allocation, Findings, Health, HealthState, Known, LinkKind, NodeFacts, PodNetworks, Sample, Sampling,
};
use afd_probe::{Facts, PciBus, PciFunction, Probe, ProbeProcess, pci};

use crate::{holding::OrderedChip, node::TpuNode, servers::SourceAddresses, sources::TpuSources};

const NAME: &str = "tpu";
const VENDOR_ID: u16 = 0x1ae0;

/// The probe of TPUs.
#[derive(Debug, Default)]
pub struct Tpu {
    functions: Vec<PciFunction>,
    chips: Vec<OrderedChip>,
    sources: Option<TpuSources>,
    /// What the Node says, once it was read.
    node: Option<TpuNode>,
    /// Which containers hold the chips, as far as the kubelet reports it.
    allocations: Option<Vec<Allocation>>,
    /// How the pods that hold chips are reached.
    pods: PodNetworks,
    /// The port of runtimes within pods; none where these are not queried.
    pod_port: Option<u16>,
}

impl Tpu {
    /// A probe that queries sources outside of the kernel, by processes of `launcher`; at `pod_port` also the runtimes within pods.
    pub fn with_sources(launcher: &Launcher, addresses: SourceAddresses, pod_port: Option<u16>) -> Tpu {
        Tpu { sources: Some(TpuSources::new(launcher, addresses)), pod_port, ..Tpu::default() }
    }

    /// Adds what the sources report to the samples of the kernel.
    fn sample_sources(&mut self, now: Instant, sampling: &mut Sampling) {
        let Some(sources) = &mut self.sources else { return };
        if self.chips.is_empty() {
            sources.end();
            return;
        }
        if let Some((port, allocations)) = self.pod_port.zip(self.allocations.as_deref()) {
            sources.set_pods(pods::find(&self.pods, &self.chips, allocations, port));
        }
        let news = sources.sample(now);
        sampling.library_answered = news.values;
        sampling.rediscover |= news.metadata;
        sampling.problems.extend(sources.problems());
        let attributed =
            holding::attribute(&sources.values(), &self.chips, self.allocations.as_deref(), &self.pods);
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
            self.chips.push(sysfs::ordered(&device, generation));
            devices.push(device);
            self.functions.push((*function).clone());
        }
        // The only chip of a host may have links to other hosts, but none to a device of this node.
        if has_ici.iter().filter(|has_ici| **has_ici).count() >= 2 {
            for (device, _) in devices.iter_mut().zip(has_ici).filter(|(_, has_ici)| *has_ici) {
                device.interconnect = Known::Value(LinkKind::Ici);
            }
        }
        if !devices.is_empty() {
            let found = slice::find(&mut facts, self.sources.as_mut(), self.node.as_ref());
            slice::describe(&mut facts, &found, &mut devices);
            let verdicts = self.node.as_ref().map_or(&[][..], |node| &node.verdicts);
            for device in devices.iter_mut().filter(|device| device.health.state != HealthState::Unknown) {
                let own = std::mem::replace(&mut device.health, Health::unknown());
                device.health = Health::worst_of([own].into_iter().chain(verdicts.iter().cloned()));
            }
        }
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

    fn set_pods(&mut self, pods: &PodNetworks) {
        self.pods.clone_from(pods);
    }

    fn set_node(&mut self, node: &NodeFacts) -> bool {
        let view = Some(TpuNode::new(node));
        let has_changed = self.node != view;
        self.node = view;
        has_changed && !self.chips.is_empty()
    }

    fn process(&self) -> Option<&dyn ProbeProcess> {
        self.sources.as_ref().map(|own| own as &dyn ProbeProcess)
    }
}

#[cfg(test)]
mod tests;
