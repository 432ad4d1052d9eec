//! AMD GPUs: the kernel's word (PCI, amdgpu's attributes, KFD's topology), and what AMD SMI or ROCm SMI add to it.
//!
//! What is peculiar to this vendor:
//!
//! - Three layers tell of a device, and any may be missing: PCI always, amdgpu's attributes with the driver, KFD where the
//!   reader's device cgroup allows the render node. What one layer lacks another often has.
//! - An Instinct of the MI300 family can be cut into partitions. KFD shows each as a node of its own; the partition number
//!   is in the function bits of its `location_id`. The first partition is the PCI device, the others have a platform device
//!   (`amdgpu_xcp_N`, `amdgpu_xcp.N` on older kernels) of which more may exist than are in use: only those count that a
//!   KFD node names by its render minor.
//! - A part without a file that tells its mode is whole only if no part of its kind can be cut.
//! - Many Radeon parts, and the Instincts MI25 to MI60, sit behind a switch on their card. The link that counts is that of
//!   the switch's upstream port.
//! - The PCI domain matters: four MI300A have the same bus in four domains.
//! - A library is asked if there is one, in a process of its own (`afd probe amd`), and tells what the kernel did not:
//!   [`smi`] says what. Nothing that the kernel tells depends on it. Where a device sleeps it is not asked, since it would
//!   wake it.
//! - Records of errors and the feature versions of firmware are in debugfs, for root alone ([`cper`]); nothing else needs
//!   privilege.
//! - What is said of a device's health, and by which source, is the table [`health::RULES`].
//! - ES1000 and its kin on server boards are displays of the same vendor and no accelerators.

pub mod cper;
mod debugfs;
pub mod gpu_metrics;
pub mod health;
mod interpret;
pub mod kfd;
pub mod products;
pub mod smi;
mod sysfs;
mod throttle_time;
mod vendor_facts;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use afd_host::{Host, child::Launcher};
use afd_model::{
    AmdQuantity, Device, DeviceId, Findings, Known, Missing, Product, Quantity, Reading, Sample, Sampling,
    UnitId, Variant, Vendor, VendorFacts,
};
use afd_probe::{
    Facts, PciBus, PciFunction, Probe, device,
    library::{Enrichment, SAMPLE},
    pci::{self, numbered},
    products::unrecognized,
};

use crate::{
    health::Seen,
    interpret::{Parts, XcpDevice},
    kfd::processes::Held,
    smi::{SmiStatuses, readings},
    sysfs::sampling::Place,
    throttle_time::ThrottleTime,
};

const NAME: &str = "amd";
const VENDOR_ID: u16 = 0x1002;
/// VGA, 3D and other display controllers, and processing accelerators.
const CLASSES: [u16; 4] = [0x0300, 0x0302, 0x0380, 0x1200];

/// What is sampled beside the usual values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// The memory of each process.
    pub per_process: bool,
    /// What only AMD's exporter publishes.
    pub exporter: bool,
}

/// The probe of AMD GPUs.
#[derive(Debug, Default)]
pub struct Amd {
    options: Options,
    places: Vec<Place>,
    /// Whose memory a KFD node is: the device and the partition, by KFD's id of the node.
    units_by_kfd_id: BTreeMap<u64, UnitId>,
    /// What the last look saw of the devices' health.
    seen: BTreeMap<DeviceId, Seen>,
    throttled: BTreeMap<DeviceId, ThrottleTime>,
    enrichment: Option<Enrichment<SmiStatuses>>,
}

impl Amd {
    /// A probe that samples what is asked for.
    pub fn new(options: Options) -> Amd {
        Amd { options, ..Amd::default() }
    }

    /// The same, asking AMD's library as well, in processes that `launcher` starts. The library is looked for beneath the
    /// root with ROCm, if there is one, else beneath the host.
    #[must_use]
    pub fn with_library(self, launcher: Launcher, rocm_root: Option<PathBuf>) -> Amd {
        Amd { enrichment: Some(Enrichment::new(&smi::LIBRARY, launcher, rocm_root)), ..self }
    }
}

impl Probe for Amd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let functions = bus.devices(host, VENDOR_ID, is_gpu);
        if functions.is_empty() {
            let mut enrichment = self.enrichment.take();
            enrichment.iter_mut().for_each(Enrichment::end);
            *self = Amd { enrichment, ..Amd::new(self.options) };
            return Findings::default();
        }
        let mut facts = Facts::new(host, NAME);
        let kfd::Topology { nodes, complete } = kfd::topology(&mut facts);
        let xcp_devices = xcp_devices(&mut facts);
        let mut findings = Findings::default();
        self.places.clear();
        for function in functions {
            let mut device = device_of(&mut facts, bus, function);
            let parts = Parts { nodes: &nodes, xcp_devices: &xcp_devices };
            interpret::partitions(&mut device, &parts);
            interpret::wholeness(&mut device);
            interpret::allocatable(&mut device, &parts);
            let link = sysfs::link_function(bus, function);
            device.pci.link = pci::pcie_link(&mut facts, link, "current");
            device.pci.max_link = pci::pcie_link(&mut facts, link, "max");
            self.places.push(Place::of(&mut facts, function, link, &device));
            findings.devices.push(device);
        }
        findings.links = interpret::links(&mut findings.devices, &nodes);
        self.units_by_kfd_id = interpret::units_by_kfd_id(&findings.devices);
        let seen: BTreeMap<_, _> =
            self.places.iter().map(|place| (place.device(), place.observe(&mut facts))).collect();
        for device in &mut findings.devices {
            let Some(Seen { records, .. }) = seen.get(&device.id) else { continue };
            if let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts {
                facts.error_records = records.as_ref().map(|records| records.len() as u32);
            }
        }
        let awake = self.awake(&mut facts);
        facts.about(None);
        findings.problems = facts.into_problems();
        if let Some(enrichment) = &mut self.enrichment {
            enrichment.discover(host, &mut findings, !awake);
            if let Some(report) = enrichment.report() {
                interpret::library::enrich(&mut findings, report);
            }
        }
        health::judge(&mut findings.devices, &seen, &self.seen, complete);
        self.seen = seen;
        self.throttled.retain(|device, _| self.seen.contains_key(device));
        findings
    }

    /// Attributes of amdgpu are readable by everyone. Where one answers EPERM its device sleeps or is being reset: the
    /// value is not known now, and nobody has a permission to mend.
    fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let mut samples = Vec::new();
        for place in &self.places {
            let throttled = self.throttled.entry(place.device()).or_default();
            samples.extend(place.sample(&mut facts, throttled, now, self.options.exporter));
        }
        if self.options.per_process {
            facts.about(None);
            let held = kfd::processes::held(&mut facts);
            samples.extend(held.iter().filter_map(|held| self.process_sample(held)));
        }
        let awake = self.awake(&mut facts);
        let mut problems = facts.into_problems();
        problems.retain(|problem| problem.reason != Missing::NotPermitted);
        let mut sampling = Sampling { samples, problems, rediscover: false };
        if let Some(enrichment) = &mut self.enrichment
            && enrichment.sample(host, SAMPLE, &mut sampling, !awake)
        {
            let readings = readings::of_report(enrichment.devices(), enrichment.sampled());
            // Where the kernel exposes all of it, the library is sampled once after each discovery.
            if !readings::add(&mut sampling, readings) {
                enrichment.pause_sampling();
            }
        }
        sampling
    }

    fn recording(&self) -> Option<(&'static str, serde_json::Value)> {
        self.enrichment.as_ref()?.recording()
    }

    fn release(&mut self) -> bool {
        self.enrichment.as_mut().is_none_or(Enrichment::release)
    }

    fn reacquire(&mut self) {
        self.enrichment.iter_mut().for_each(Enrichment::reacquire);
    }

    fn restarts(&self) -> Option<u64> {
        self.enrichment.as_ref().map(Enrichment::restarts)
    }
}

impl Amd {
    /// Whether no device sleeps.
    fn awake(&self, facts: &mut Facts<'_>) -> bool {
        !self.places.iter().any(|place| place.sleeps(facts))
    }

    fn process_sample(&self, held: &Held) -> Option<Sample> {
        let unit = *self.units_by_kfd_id.get(&held.gpu_id)?;
        let quantity = Quantity::ProcessMemoryUsedBytes(held.pid);
        let mut readings = vec![Reading { quantity, value: held.bytes as f64 }];
        if let Some(units) = held.compute_units.filter(|_| self.options.exporter) {
            let quantity = AmdQuantity::ProcessComputeUnits(held.pid).into();
            readings.push(Reading { quantity, value: units as f64 });
        }
        Some(Sample { unit, readings })
    }
}

fn is_gpu(function: &PciFunction) -> bool {
    let id = function.device_id();
    let named = id.is_some_and(|id| products::find(id, None).is_some());
    let of_class = function.class().is_some_and(|class| CLASSES.contains(&class));
    let display = id.is_some_and(products::is_display_only);
    named || of_class && !display
}

fn device_of(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> Device {
    let mut device = device::begin(facts, bus, function, Vendor::Amd, Variant::Gpu);
    let revision = device.pci.revision.value().copied();
    let row = function.device_id().and_then(|id| products::find(id, revision));
    device.product = match row {
        Some(row) => Known::Value(row.product()),
        None => product_of_driver(facts, function),
    };
    device.integrated = row.is_some_and(|row| row.facts.integrated);
    device.virtual_function = row.is_some_and(|row| row.facts.virtual_function);
    interpret::attributes(&mut device, sysfs::attributes(facts, function), row);
    device.vendor_facts = Some(VendorFacts::Amd(Box::new(vendor_facts::read(facts, function, &device))));
    device
}

/// The product that the table does not know, as the driver names it.
fn product_of_driver(facts: &mut Facts<'_>, function: &PciFunction) -> Known<Product> {
    match sysfs::product_name(facts, function) {
        Known::Value(name) => Known::Value(Product {
            name,
            model: Missing::Unrecognized.into(),
            architecture: Missing::Unrecognized.into(),
        }),
        Known::Missing { .. } => unrecognized(facts, function),
    }
}

/// Platform devices of partitions, by the number of their render node.
fn xcp_devices(facts: &mut Facts<'_>) -> BTreeMap<u64, XcpDevice> {
    const PLATFORM: &str = "/sys/devices/platform";
    let names = facts.names("partitions", PLATFORM);
    names
        .into_iter()
        .filter(|name| name.starts_with("amdgpu_xcp"))
        .filter_map(|name| {
            let nodes = facts.names("partitions", &format!("{PLATFORM}/{name}/drm"));
            let number = |prefix: &str| nodes.iter().find_map(|node| numbered(node, prefix).map(u64::from));
            Some((number("renderD")?, XcpDevice { name, card: number("card") }))
        })
        .collect()
}

#[cfg(test)]
mod tests;
