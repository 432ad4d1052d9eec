//! AMD GPUs: what the kernel reports (PCI, the attributes of amdgpu, the topology of KFD), and what AMD SMI or ROCm SMI add.
//!
//! Vendor specifics:
//!
//! - Three layers report a device, and any may be missing: PCI always, the attributes of amdgpu with the driver, KFD where the
//!   device cgroup of the reader allows the render node. A fact that one layer lacks is often in another one.
//! - An Instinct of the MI300 family can be partitioned. KFD has a node for each partition; the partition number is in the
//!   function bits of its `location_id`. The first partition is the PCI device, the others have a platform device
//!   (`amdgpu_xcp_N`, `amdgpu_xcp.N` on older kernels). There may be more platform devices than partitions: only those count
//!   whose render minor a KFD node has.
//! - A device that does not expose its mode is unpartitioned only if no product of its architecture can be partitioned.
//! - Many Radeon boards, and the Instincts MI25 to MI60, have a PCIe switch. The link of the device is that of the upstream
//!   port of the switch.
//! - The PCI domain matters: four MI300A have the same bus in four domains. So does the function: two virtual functions of a
//!   guest may be in one slot, and a function that is a device is no partition of another one.
//! - A library, if there is one, is queried by a process of its own (`afd probe amd`) for facts that the kernel does not
//!   report ([`smi`]). What the kernel reports never depends on it. While a device is suspended the library is not queried,
//!   since it would wake the device.
//! - Error records and the feature versions of firmware are in debugfs, which only root may read ([`cper`]); nothing else needs
//!   privilege.
//! - The health of a device, and its sources, are the table [`health::RULES`].
//! - ES1000 and other display controllers, and all cards before GCN, have the same vendor id and are not accelerators.

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
    AmdQuantity, Device, DeviceId, Findings, IncidentRecord, Known, Missing, PciAddress, Product, Quantity,
    Reading, Sample, Sampling, UnitId, Variant, Vendor, VendorFacts,
};
use afd_probe::{
    Facts, PciBus, PciFunction, Probe, ProbeProcess, device,
    library::{Enrichment, SAMPLE},
    pci::{self, numbered},
    products::unrecognized,
};

use crate::{
    health::{HealthEvidence, history::HealthHistory},
    interpret::{PartitionTopology, XcpDevice},
    kfd::processes::KfdProcessMemory,
    products::AmdProductRow,
    smi::{SmiStatuses, readings},
    sysfs::sampling::AmdSource,
    throttle_time::ThrottleTime,
};

const NAME: &str = "amd";
const VENDOR_ID: u16 = 0x1002;
/// VGA, 3D and other display controllers, and processing accelerators.
const CLASSES: [u16; 4] = [0x0300, 0x0302, 0x0380, 0x1200];

/// Values that are sampled on request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AmdOptions {
    /// The memory used by each process.
    pub per_process: bool,
    /// The values of each XGMI link.
    pub per_link: bool,
    /// The values that only AMD's exporter publishes.
    pub exporter: bool,
}

/// The probe of AMD GPUs.
#[derive(Debug, Default)]
pub struct Amd {
    options: AmdOptions,
    sources: Vec<AmdSource>,
    /// The device or partition of each KFD node, by the GPU id that KFD gives the node.
    units_by_kfd_id: BTreeMap<u64, UnitId>,
    /// What earlier discoveries learnt for the health of each device.
    histories: BTreeMap<DeviceId, HealthHistory>,
    throttle_times: BTreeMap<DeviceId, ThrottleTime>,
    enrichment: Option<Enrichment<SmiStatuses>>,
}

impl Amd {
    /// A probe that reads the kernel's files only.
    pub fn new(options: AmdOptions) -> Amd {
        Amd { options, ..Amd::default() }
    }

    /// The same, which also queries AMD's library in processes that `launcher` starts. The library is looked up under
    /// `rocm_root`, or under the host root.
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
        let addresses: Vec<PciAddress> = functions.iter().map(|function| function.address).collect();
        let kfd = kfd::topology(&mut facts, &addresses);
        let xcp_devices = xcp_devices(&mut facts);
        let mut findings = Findings::default();
        self.sources.clear();
        for function in functions {
            let mut device = describe(&mut facts, bus, function);
            let topology =
                PartitionTopology { nodes: &kfd.nodes, unread: kfd.unread, xcp_devices: &xcp_devices };
            interpret::partitions(&mut device, &topology);
            if let Some(row) = row_of(function, &device) {
                interpret::model(&mut device, row);
            }
            interpret::unpartitioned(&mut device);
            interpret::names::add(&mut device, &topology);
            let link = sysfs::link_function(bus, function);
            device.pci.link = pci::pcie_link(&mut facts, link, "current");
            device.pci.max_link = pci::pcie_link(&mut facts, link, "max");
            self.sources.push(AmdSource::find(&mut facts, function, link, &device));
            findings.devices.push(device);
        }
        findings.links = interpret::links::links(&mut findings.devices, &kfd);
        self.units_by_kfd_id = interpret::units_by_kfd_id(&findings.devices);
        let evidence: BTreeMap<DeviceId, HealthEvidence> = self
            .sources
            .iter()
            .filter_map(|source| Some((source.device(), source.health_evidence(&mut facts)?)))
            .collect();
        for device in &mut findings.devices {
            let Some(HealthEvidence { records, .. }) = evidence.get(&device.id) else { continue };
            if let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts {
                facts.error_records = records.as_ref().map(|records| records.len() as u32);
            }
        }
        let is_suspended = self.is_any_suspended(&mut facts);
        facts.about(None);
        findings.problems = facts.into_problems();
        if let Some(enrichment) = &mut self.enrichment {
            enrichment.discover(host, &mut findings, is_suspended);
            if let Some(report) = enrichment.report() {
                interpret::library::enrich(&mut findings, report);
            }
        }
        health::judge(&mut findings.devices, evidence, &mut self.histories, kfd.unread.is_none());
        self.throttle_times.retain(|device, _| self.histories.contains_key(device));
        findings
    }

    /// The attributes of amdgpu are world-readable. EPERM means that the device is suspended or being reset: the value is not
    /// available now, and no permission is missing.
    fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let mut samples = Vec::new();
        for source in &self.sources {
            let throttle_time = self.throttle_times.entry(source.device()).or_default();
            samples.extend(source.sample(&mut facts, throttle_time, now, self.options));
        }
        if self.options.per_process {
            facts.about(None);
            let processes = kfd::processes::memory(&mut facts);
            samples.extend(processes.iter().filter_map(|process| self.process_sample(process)));
        }
        let is_suspended = self.is_any_suspended(&mut facts);
        let mut problems = facts.into_problems();
        problems.retain(|problem| problem.reason != Missing::NotPermitted);
        let mut sampling = Sampling { samples, problems, ..Sampling::default() };
        if let Some(enrichment) = &mut self.enrichment
            && enrichment.sample(host, SAMPLE, &mut sampling, is_suspended)
        {
            let readings = readings::of_report(enrichment.devices(), enrichment.sampled());
            let is_complete = readings::is_complete(enrichment.sampled());
            // Where the kernel exposes all of it, the library is sampled once after each discovery. A call that failed says
            // nothing of that: it is repeated with the next sample.
            if !readings::add(&mut sampling, readings) && is_complete {
                enrichment.pause_sampling();
            }
        }
        sampling
    }

    fn process(&self) -> Option<&dyn ProbeProcess> {
        self.enrichment.as_ref().map(|own| own as &dyn ProbeProcess)
    }

    fn process_mut(&mut self) -> Option<&mut dyn ProbeProcess> {
        self.enrichment.as_mut().map(|own| own as &mut dyn ProbeProcess)
    }

    fn incidents(&self) -> Vec<IncidentRecord> {
        self.histories.iter().filter_map(|(device, history)| history.incident(*device)).collect()
    }

    fn restore_incidents(&mut self, records: Vec<IncidentRecord>) {
        for record in records.into_iter().filter(|record| record.probe == NAME) {
            self.histories.entry(record.device).or_default().restore(record);
        }
    }

    fn clear_incidents(&mut self, device: DeviceId) -> bool {
        self.histories.get_mut(&device).is_some_and(HealthHistory::clear)
    }
}

impl Amd {
    fn is_any_suspended(&self, facts: &mut Facts<'_>) -> bool {
        self.sources.iter().any(|source| source.is_suspended(facts))
    }

    fn process_sample(&self, process: &KfdProcessMemory) -> Option<Sample> {
        let unit = *self.units_by_kfd_id.get(&process.gpu_id)?;
        let quantity = Quantity::ProcessMemoryUsedBytes(process.pid);
        let mut readings = vec![Reading { quantity, value: process.bytes as f64 }];
        if let Some(units) = process.compute_units.filter(|_| self.options.exporter) {
            let quantity = AmdQuantity::ProcessComputeUnits(process.pid).into();
            readings.push(Reading { quantity, value: units as f64 });
        }
        Some(Sample { unit, readings })
    }
}

fn is_gpu(function: &PciFunction) -> bool {
    let id = function.device_id();
    let is_listed = id.is_some_and(|id| products::find(id, None).is_some());
    let has_class = function.class().is_some_and(|class| CLASSES.contains(&class));
    let is_display = id.is_some_and(products::is_display_only);
    is_listed || has_class && !is_display
}

/// The device of a function, without its partitions.
fn describe(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> Device {
    let mut device = device::begin(facts, bus, function, Vendor::Amd, Variant::Gpu);
    let row = row_of(function, &device);
    device.product = match row {
        Some(row) => Known::Value(row.product()),
        None => product_of_driver(facts, function),
    };
    device.integrated = row.is_some_and(|row| row.facts.integrated);
    device.display_only = row.is_some_and(products::is_display_card);
    device.virtual_function = row.is_some_and(|row| row.facts.virtual_function);
    interpret::attributes(&mut device, sysfs::attributes(facts, function), row);
    device.vendor_facts = Some(VendorFacts::Amd(Box::new(vendor_facts::read(facts, function, &device))));
    device
}

fn row_of(function: &PciFunction, device: &Device) -> Option<&'static AmdProductRow> {
    products::find(function.device_id()?, device.pci.revision.value().copied())
}

/// A product that is not in the table, as the driver names it.
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

/// The platform devices of partitions, by their render minor.
fn xcp_devices(facts: &mut Facts<'_>) -> BTreeMap<u64, XcpDevice> {
    const PLATFORM: &str = "/sys/devices/platform";
    let names = facts.names("partitions", PLATFORM);
    names
        .into_iter()
        .filter(|name| name.starts_with("amdgpu_xcp"))
        .filter_map(|name| {
            let nodes = facts.names("partitions", &format!("{PLATFORM}/{name}/drm"));
            let number = |prefix: &str| nodes.iter().find_map(|node| numbered(node, prefix));
            Some((number("renderD")?.into(), XcpDevice { name, card: number("card") }))
        })
        .collect()
}

#[cfg(test)]
mod tests;
