//! Intel GPUs: Data Center GPU Max and Flex, Arc, and integrated GPUs, with the driver i915 or xe.
//!
//! Peculiarities:
//!
//! - A GPU is identified by PCI alone: Intel's display functions, with any driver. NPUs, QAT, Xeon Phi and audio
//!   functions are not GPUs. The ids 0be0, 0be1 and 0be5 belong to two products and are in no table.
//! - Upstream drivers report the memory size by ioctl only, which needs the device node. Otherwise it comes from xe's
//!   `physical_vram_size_bytes`, i915's `lmem_total_bytes` (both of one tile), the product table, or a BAR of the full size.
//! - On Arc, Flex and Battlemage the GPU is behind a PCIe switch on the board, and its own link files always report 2.5 GT/s
//!   x1. The relevant link is that of the switch's upstream port. DG1, Max and Crescent Island are on boards with and without one.
//! - Virtual functions on the host are partitions; there is no other partitioning. A virtual function in a guest has the
//!   id of the physical GPU: the memory size of the table counts only where something says that the function is the whole GPU.
//! - An idle GPU has an actual clock of 0 MHz, which is a valid value.
//! - Level Zero, if it is there, is queried by a process of its own (`afd probe intel`) for what the kernel does not report
//!   ([`levelzero`]). What the kernel reports never depends on it. While a GPU is suspended the library is not queried, since its
//!   initialisation opens the nodes of all GPUs and would wake it; if others are awake, that is a problem of the suspended one. A GPU
//!   that is integrated into the processor of a node with other GPUs does not count, since it always sleeps, nor does one without
//!   a node, as of a virtual machine.
//! - The kernel wakes a suspended GPU for most files, too: those are not read then (`sysfs/sampling.rs`).
//! - Where Level Zero is not there, or does not report the memory of a GPU, the process asks xe or i915 on the render nodes
//!   ([`drm`]); a node of a suspended GPU is not opened. Where Level Zero reports no engines, the utilization is that by the
//!   counters of the driver, if the process may open them ([`counters`]), or else that by the engine time of all clients
//!   (`clients.rs`), if all processes of the node can be read.

mod clients;
pub mod counters;
pub mod drm;
pub mod health;
mod interpret;
pub mod levelzero;
mod links;
mod problems;
mod products;
mod sysfs;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use afd_host::{Host, child::Launcher};
use afd_model::{
    Device, DeviceId, DriverLoad, Engine, Findings, IncidentRecord, LibraryStatus, PciAddress, Problem,
    Quantity, Reading, Sample, Sampling, UnitId, XelinkPort,
};
use afd_probe::{
    Facts, PciBus, PciFunction, Probe, ProbeProcess, device,
    library::{DriverInterfaces, Enrichment, SAMPLE},
};

use crate::{
    clients::EngineClients,
    health::{IntelEvidence, IntelHistory, SysmanEvidence},
    levelzero::{
        LevelZeroReport, SysmanStatuses,
        readings::{AddedReadings, KernelReadings, is_memory_hidden},
    },
    sysfs::sampling::{IntelSource, energy::EnergyCounter},
};

const NAME: &str = "intel";
const VENDOR_ID: u16 = 0x8086;

/// Values of the library that are sampled on request.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntelOptions {
    /// The values of each port of Xe Link.
    pub per_link: bool,
    /// The values of components, for the metrics of Intel's own exporters.
    pub exporter: bool,
}

/// The probe of Intel GPUs.
#[derive(Debug, Default)]
pub struct Intel {
    sources: Vec<IntelSource>,
    /// The energy counter of each GPU, which keeps its file as long as the GPU is there.
    energies: BTreeMap<DeviceId, EnergyCounter>,
    histories: BTreeMap<DeviceId, IntelHistory>,
    /// The devices that the driver has given up, with its load at that time.
    given_up: BTreeMap<DeviceId, DriverLoad>,
    /// What the library last reported for the health of each GPU.
    library_evidence: BTreeMap<DeviceId, SysmanEvidence>,
    /// The virtual functions that are partitions.
    functions: Vec<(PciAddress, UnitId)>,
    enrichment: Option<Enrichment<SysmanStatuses>>,
    /// The devices that the process queries by their drivers.
    queried: BTreeSet<DeviceId>,
    /// The last answers of the library, from which its counters grow.
    before: LevelZeroReport,
    /// The process of these answers.
    counted_by: Option<u64>,
    options: IntelOptions,
    /// The ports of each GPU, with the device at the other end of each as it was last known.
    ports: BTreeMap<DeviceId, Vec<XelinkPort>>,
    /// Whose engine time gives the utilization that the library does not report.
    clients: EngineClients,
}

impl Intel {
    /// A probe that also queries Level Zero in processes that `launcher` starts. The library is looked up under `root`, or under
    /// the host root.
    #[must_use]
    pub fn with_library(launcher: Launcher, root: Option<PathBuf>, options: IntelOptions) -> Intel {
        let enrichment = Some(Enrichment::new(&levelzero::LIBRARY, launcher, root));
        Intel { enrichment, options, ..Intel::default() }
    }

    /// Adds what the library reported to the findings of the kernel.
    fn enrich(&mut self, facts: &mut Facts<'_>, findings: &mut Findings, power: &PowerStates) {
        let host = facts.host();
        let Some(enrichment) = &mut self.enrichment else { return };
        let is_installed = enrichment.is_installed(host);
        let counters = counters::sysfs::find(facts, &findings.devices);
        let (may_count, counted) = (counters::sysfs::may_count(host), !counters.is_empty());
        let nodes = sysfs::render_nodes(host, &findings.devices);
        let mut driver = DriverInterfaces { nodes, counters: if may_count { counters } else { Vec::new() } };
        if !is_installed {
            // A query would wake them. The library is not used at all while one of them sleeps.
            driver.retain(|device| !power.suspended.contains(device));
        }
        self.queried = driver.devices().collect();
        enrichment.set_driver(driver);
        enrichment.discover(host, findings, is_installed && power.is_any_suspended());
        if power.silences_others() && is_installed {
            findings.problems.extend(power.suspended.iter().copied().map(problems::suspension));
        }
        // Of a library that has not answered yet it is not known.
        let lacks_engines = enrichment.report().map_or(!is_installed, |report| {
            !report.devices.iter().any(|device| counters::has_activity(&device.answers))
        });
        findings.problems.extend((counted && !may_count && lacks_engines).then(problems::counters));
        let Some(report) = enrichment.report() else {
            (self.before, self.counted_by) = (LevelZeroReport::default(), None);
            self.library_evidence.clear();
            return;
        };
        interpret::library::enrich(findings, report);
        links::update(&mut self.ports, &findings.devices);
        if enrichment.is_fresh() {
            // Later discoveries are too close to the next sample: the counters grow from sample to sample.
            let generation = enrichment.generation();
            if self.counted_by != generation {
                self.before.clone_from(report);
                self.counted_by = generation;
            }
            // A device that this report lacks has no evidence.
            self.library_evidence.clear();
            for device in &findings.devices {
                if let Some(reported) = report.device(device.id.0, levelzero::unit_of) {
                    self.library_evidence.insert(device.id, SysmanEvidence::of(&reported.answers));
                }
            }
        }
        let hidden = findings.devices.iter().filter(|device| !device.integrated).filter(|device| {
            report
                .device(device.id.0, levelzero::unit_of)
                .is_some_and(|found| is_memory_hidden(&found.answers))
        });
        let problems: Vec<Problem> = hidden.map(|device| problems::memory(device.id)).collect();
        findings.problems.extend(problems);
    }

    /// What is known for the health of each device.
    fn evidence(&self, facts: &mut Facts<'_>) -> BTreeMap<DeviceId, IntelEvidence> {
        let is_fresh = self.enrichment.as_ref().is_some_and(Enrichment::is_fresh);
        // An answer of a library that has fallen silent, or was removed, is no evidence any more.
        let is_answering = self.library() == LibraryStatus::Answering;
        let is_installed =
            self.enrichment.as_ref().is_some_and(|enrichment| enrichment.is_installed(facts.host()));
        let of_source = |source: &IntelSource| {
            let library = self.library_evidence.get(&source.device).filter(|_| is_answering);
            let library = library.cloned().unwrap_or_default();
            let is_given_up = self.given_up.contains_key(&source.device);
            (
                source.device,
                IntelEvidence {
                    library,
                    is_fresh,
                    has_no_library: !is_installed,
                    is_given_up,
                    ..source.health(facts)
                },
            )
        };
        self.sources.iter().map(of_source).collect()
    }

    /// Adds the utilization by the clients of devices of which the library reports none.
    fn add_clients(&mut self, host: &Host, now: Instant, sampling: &mut Sampling) {
        let is_compute = |reading: &Reading| reading.quantity == Quantity::Utilization(Engine::Compute);
        let mut nodes = BTreeMap::new();
        for source in self.sources.iter().filter(|source| !source.is_integrated) {
            let mut samples = sampling.samples.iter().filter(|sample| sample.unit == source.device.into());
            if !samples.any(|sample| sample.readings.iter().any(is_compute)) && !source.is_suspended {
                nodes.extend(source.nodes.iter().map(|node| (node.as_str(), source.device)));
            }
        }
        // Which files processes have open is nothing to record.
        if nodes.is_empty() || host.is_recording() {
            self.clients = EngineClients::default();
            return;
        }
        let utilization = self.clients.utilization(host, now, &nodes);
        for (device, readings) in
            utilization.iter().filter(|(device, _)| nodes.values().any(|node| node == *device))
        {
            let mut samples = sampling.samples.iter_mut().filter(|sample| sample.unit == (*device).into());
            samples.by_ref().for_each(|sample| sample.readings.extend(readings));
        }
        sampling.problems.extend(self.clients.is_incomplete().then(problems::clients));
    }

    /// Whether a query would wake a device: the library opens the nodes of all.
    fn would_wake(&self, host: &Host, power: &PowerStates) -> bool {
        let is_queried = |device: &DeviceId| self.queried.contains(device);
        let is_installed =
            || self.enrichment.as_ref().is_some_and(|enrichment| enrichment.is_installed(host));
        power.suspended.iter().any(is_queried) || power.is_any_suspended() && is_installed()
    }

    /// Which devices the library would wake, as its initialisation opens the nodes of all.
    fn power_states(&self) -> PowerStates {
        let has_discrete = self.sources.iter().any(|source| !source.is_integrated);
        let counts = |source: &&IntelSource| !has_discrete || !source.is_integrated;
        let mut states = PowerStates::default();
        for source in self.sources.iter().filter(counts).filter(|source| source.has_node) {
            if source.is_suspended {
                states.suspended.push(source.device);
            } else {
                states.has_awake = true;
            }
        }
        states
    }
}

/// Which devices sleep, of those that count.
#[derive(Debug, Default)]
struct PowerStates {
    suspended: Vec<DeviceId>,
    has_awake: bool,
}

impl PowerStates {
    fn is_any_suspended(&self) -> bool {
        !self.suspended.is_empty()
    }

    /// Whether a device is not read because another one sleeps.
    fn silences_others(&self) -> bool {
        self.is_any_suspended() && self.has_awake
    }
}

impl Probe for Intel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        let functions = bus.devices(host, VENDOR_ID, |function| sysfs::is_gpu(bus, function));
        let earlier = std::mem::take(&mut self.sources);
        let describe = |function: &PciFunction| {
            let earlier = earlier.iter().find(|source| source.device.0 == function.address);
            sysfs::describe(&mut facts, bus, function, earlier)
        };
        let devices: Vec<Device>;
        (devices, self.sources) = functions.into_iter().map(describe).unzip();
        self.energies.retain(|id, _| devices.iter().any(|device| device.id == *id));
        for source in &self.sources {
            facts.about(Some(source.device));
            source.choose_energy(&mut facts, self.energies.entry(source.device).or_default());
        }
        self.library_evidence.retain(|id, _| devices.iter().any(|device| device.id == *id));
        let partitions = devices.iter().flat_map(|device| &device.partitions);
        self.functions = partitions
            .filter_map(|partition| Some((partition.function.value()?.address, partition.id.into())))
            .collect();
        let mut findings = Findings { devices, ..Findings::default() };
        let power = self.power_states();
        self.enrich(&mut facts, &mut findings, &power);
        self.given_up.retain(|id, load| {
            let device = findings.devices.iter().find(|device| device.id == *id);
            let bound = device.zip(device::driver_binding(host, *id));
            bound.is_some_and(|(device, binding)| !load.update(DriverLoad::of(device, Some(binding))))
        });
        let evidence = self.evidence(&mut facts);
        health::judge(&mut findings.devices, &evidence, &mut self.histories);
        findings.problems.extend(facts.into_problems());
        findings
    }

    fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let mut samples = Vec::new();
        self.sources.iter_mut().for_each(|source| source.look(&mut facts));
        let power = self.power_states();
        let is_suspended = self.would_wake(host, &power);
        for source in &self.sources {
            facts.about(Some(source.device));
            let readings = source.read(&mut facts, now, self.energies.get_mut(&source.device));
            samples.push(Sample { unit: source.device.into(), readings });
        }
        let mut sampling = Sampling { samples, problems: facts.into_problems(), ..Sampling::default() };
        if let Some(enrichment) = &mut self.enrichment
            && enrichment.sample(host, SAMPLE, &mut sampling, is_suspended)
            && let Some(discovered) = enrichment.report()
        {
            let kernel = |source: &IntelSource| {
                let counts_energy = self.energies.get(&source.device).is_some_and(EnergyCounter::is_chosen);
                let kernel = KernelReadings { counts_energy, is_integrated: source.is_integrated };
                (source.device.0, source.device.into(), kernel)
            };
            let virtual_functions =
                self.functions.iter().map(|(address, unit)| (*address, *unit, KernelReadings::default()));
            let functions: Vec<_> = self.sources.iter().map(kernel).chain(virtual_functions).collect();
            let added = AddedReadings {
                discovered,
                sampled: enrichment.sampled(),
                before: &self.before,
                ports: self.options.per_link.then_some(&self.ports),
                with_components: self.options.exporter,
            };
            added.add(&mut sampling, &functions);
            self.before.clone_from(enrichment.sampled());
        }
        self.add_clients(host, now, &mut sampling);
        sampling
    }

    fn wedged(&mut self, device: DeviceId, binding: u64) {
        self.given_up.insert(device, DriverLoad { driver_binding: Some(binding), ..DriverLoad::default() });
    }

    fn incidents(&self) -> Vec<IncidentRecord> {
        let own = |id: &DeviceId| self.sources.iter().any(|source| source.device == *id);
        let record = |(device, load): (&DeviceId, &DriverLoad)| IncidentRecord {
            probe: NAME.to_owned(),
            device: *device,
            load: load.clone(),
            partition: None,
            code: health::WEDGED.to_owned(),
            first_seen: None,
            resets: None,
        };
        self.given_up.iter().filter(|(id, _)| own(id)).map(record).collect()
    }

    fn restore_incidents(&mut self, records: Vec<IncidentRecord>) {
        // Without a binding nothing could end it.
        let bound = records.into_iter().filter(|record| record.load.driver_binding.is_some());
        for record in bound.filter(|record| record.code == health::WEDGED) {
            self.given_up.entry(record.device).or_insert(record.load);
        }
    }

    fn clear_incidents(&mut self, device: DeviceId) -> bool {
        self.given_up.remove(&device).is_some()
    }

    fn process(&self) -> Option<&dyn ProbeProcess> {
        self.enrichment.as_ref().map(|own| own as &dyn ProbeProcess)
    }

    fn process_mut(&mut self) -> Option<&mut dyn ProbeProcess> {
        self.enrichment.as_mut().map(|own| own as &mut dyn ProbeProcess)
    }
}

#[cfg(test)]
mod tests;
