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
//! - The driver resets the device after each workload, which is no fault: its health is then unknown, with the reason
//!   `WorkloadReset`. The health and its sources are the table [`health::RULES`].
//! - HLML, if it is there, is queried by a process of its own (`afd probe gaudi`) for what sysfs does not report ([`hlml`]).
//!   It fails for a device that is being reset. Where it is not installed, the process asks the driver itself ([`control`]). What
//!   sysfs reports depends on neither.

pub mod control;
pub mod health;
pub mod hlml;
mod incidents;
mod interpret;
mod products;
mod sysfs;
mod unlisted;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use afd_host::{Host, child::Launcher};
use afd_model::{
    Device, DeviceId, ErrorCountRecord, Findings, IncidentRecord, LibraryStatus, Sample, Sampling,
};
use afd_probe::{
    Facts, PciBus, Probe, ProbeProcess, device,
    library::{DriverInterfaces, Enrichment, SAMPLE},
};

use crate::{
    control::throttle::ThrottledPeriods,
    health::{GaudiEvidence, GaudiHistory, LibraryEvidence},
    hlml::{HlmlStatuses, calls::REGISTER_EVENTS, readings},
    incidents::GaudiIncidents,
    sysfs::GaudiSource,
};

const NAME: &str = "gaudi";
const VENDOR_ID: u16 = 0x1da3;

/// The probe of Gaudi devices.
#[derive(Debug, Default)]
pub struct Gaudi {
    sources: Vec<GaudiSource>,
    histories: BTreeMap<DeviceId, GaudiHistory>,
    /// What the library last reported for the health of each device.
    library_evidence: BTreeMap<DeviceId, LibraryEvidence>,
    /// Devices that HLML does not list.
    unlisted: BTreeSet<DeviceId>,
    /// The ports of each device, and whether they leave the server.
    ports: BTreeMap<DeviceId, BTreeMap<u8, bool>>,
    /// Critical errors, by the library's events.
    incidents: GaudiIncidents,
    /// For how long the clocks of each device were lowered.
    throttled: BTreeMap<DeviceId, ThrottledPeriods>,
    /// The largest number of devices that were there at one time: that of the board.
    count: usize,
    enrichment: Option<Enrichment<HlmlStatuses>>,
}

impl Gaudi {
    /// A probe that also queries HLML in processes that `launcher` starts. The library is looked up under `root`, or under the
    /// host root.
    #[must_use]
    pub fn with_library(launcher: Launcher, root: Option<PathBuf>) -> Gaudi {
        Gaudi { enrichment: Some(Enrichment::new(&hlml::LIBRARY, launcher, root)), ..Gaudi::default() }
    }

    /// Adds what the library reported to the findings of the kernel.
    fn enrich(&mut self, host: &Host, findings: &mut Findings) {
        let Some(enrichment) = &mut self.enrichment else { return };
        for event in enrichment.events() {
            self.incidents.add(&event, &mut Sampling::default());
        }
        let nodes = sysfs::control_nodes(host, &findings.devices);
        enrichment.set_driver(DriverInterfaces { nodes, ..DriverInterfaces::default() });
        enrichment.discover(host, findings, false);
        let Some(report) = enrichment.report() else {
            self.library_evidence.clear();
            return;
        };
        let is_fresh = enrichment.is_fresh();
        if is_fresh {
            // A device that this report lacks has no evidence.
            self.library_evidence.clear();
        }
        for device in &mut findings.devices {
            let Some(reported) = report.device(device.id.0, hlml::unit_of) else { continue };
            interpret::library::enrich(device, &report.system, &reported.answers);
            self.ports.insert(device.id, hlml::ports(&reported.answers).into_iter().collect());
            if is_fresh {
                let is_watched = reported.answers.known::<u64>(REGISTER_EVENTS).is_known();
                self.incidents.watched(device.id, is_watched);
                self.library_evidence.insert(device.id, LibraryEvidence::of(&reported.answers));
            }
        }
        if is_fresh {
            let unlisted = unlisted::unlisted(&findings.devices, report).into_iter();
            self.library_evidence.extend(unlisted.map(|device| (device, LibraryEvidence::unlisted())));
        }
        findings.problems.extend(self.incidents.problem());
    }

    /// Adds which devices are connected with each other, by their ports.
    fn connect(&mut self, findings: &mut Findings) {
        self.count = self.count.max(findings.devices.len());
        let mut connected = Vec::new();
        if let Some(report) = self.enrichment.as_ref().and_then(Enrichment::report) {
            for device in &mut findings.devices {
                let Some(reported) = report.device(device.id.0, hlml::unit_of) else { continue };
                let are_unused = self.histories.get(&device.id).is_some_and(GaudiHistory::are_ports_unused);
                device.interconnect.fill(|| interpret::library::interconnect(&reported.answers, are_unused));
                connected.extend((!are_unused).then_some((device.id, &reported.answers)));
            }
        }
        findings.links = interpret::library::links(&connected, self.count);
        sysfs::connect_cards(&mut findings.devices);
    }

    /// Initialises HLML again where it lacks another device: it enumerates the devices when it is initialised, and may lack one
    /// that was being reset then.
    fn enumerate_again(&mut self, evidence: &BTreeMap<DeviceId, GaudiEvidence>) {
        let Some(enrichment) = self.enrichment.as_mut().filter(|enrichment| enrichment.is_fresh()) else {
            return;
        };
        let unlisted = evidence.iter().filter(|(_, evidence)| evidence.is_unlisted());
        let unlisted: BTreeSet<DeviceId> = unlisted.map(|(device, _)| *device).collect();
        if !unlisted.is_subset(&self.unlisted) {
            enrichment.enumerate_again();
        }
        self.unlisted = unlisted;
    }

    /// What is known for the health of each device. The status is read after the library was asked: calls that failed because
    /// a reset had begun are then seen as such.
    fn evidence(&self, facts: &mut Facts<'_>) -> BTreeMap<DeviceId, GaudiEvidence> {
        let is_fresh = self.enrichment.as_ref().is_some_and(Enrichment::is_fresh);
        // An answer of a library that has fallen silent, or was removed, is no evidence any more.
        let is_answering = self.library() == LibraryStatus::Answering;
        let of_source = |source: &GaudiSource| {
            facts.about(Some(source.device));
            let library = self.library_evidence.get(&source.device).filter(|_| is_answering);
            let evidence = GaudiEvidence {
                status: source.status(facts),
                library: library.cloned().unwrap_or_default(),
                is_answering,
                is_fresh,
                resets: source.resets(facts),
                has_critical_error: false,
            };
            (source.device, evidence)
        };
        self.sources.iter().map(of_source).collect()
    }
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
        let mut findings = Findings { devices, ..Findings::default() };
        let is_there = |device: &DeviceId| findings.devices.iter().any(|other| other.id == *device);
        self.library_evidence.retain(|device, _| is_there(device));
        self.ports.retain(|device, _| is_there(device));
        self.throttled.retain(|device, _| is_there(device));
        self.incidents.retain(is_there);
        self.enrich(host, &mut findings);
        let mut evidence = self.evidence(&mut facts);
        for device in &findings.devices {
            let Some(evidence) = evidence.get_mut(&device.id) else { continue };
            let binding = device::driver_binding(host, device.id);
            self.incidents.discovered(device, binding, evidence.is_operational(), evidence.resets);
            evidence.has_critical_error = self.incidents.is_open(device.id);
        }
        self.enumerate_again(&evidence);
        // The library answers no call for a device in reset.
        let is_in_reset = |device: &DeviceId| evidence.get(device).is_some_and(GaudiEvidence::is_in_reset);
        findings.problems.retain(|problem| !problem.device.as_ref().is_some_and(is_in_reset));
        health::judge(&mut findings.devices, &evidence, &mut self.histories, Instant::now());
        self.connect(&mut findings);
        findings.problems.extend(facts.into_problems());
        findings
    }

    fn sample(&mut self, host: &Host, _now: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let sample = |source: &GaudiSource| {
            facts.about(Some(source.device));
            Sample { unit: source.device.into(), readings: source.read(&mut facts) }
        };
        let samples = self.sources.iter().map(sample).collect();
        let mut sampling = Sampling { samples, problems: facts.into_problems(), ..Sampling::default() };
        for event in self.enrichment.iter_mut().flat_map(Enrichment::events) {
            self.incidents.add(&event, &mut sampling);
        }
        if let Some(enrichment) = &mut self.enrichment
            && enrichment.sample(host, SAMPLE, &mut sampling, false)
        {
            let is_external = |device, port| self.ports.get(&device)?.get(&port).copied();
            let (devices, sampled) = (enrichment.devices(), enrichment.sampled());
            readings::add(&mut sampling, devices, sampled, is_external, &mut self.throttled);
        }
        // Also while the library does not answer.
        for (device, reading) in self.incidents.readings() {
            let mut samples = sampling.samples.iter_mut();
            if let Some(sample) = samples.find(|sample| sample.unit == device.into()) {
                sample.readings.push(reading);
            }
        }
        sampling
    }

    fn incidents(&self) -> Vec<IncidentRecord> {
        self.incidents.records()
    }

    fn restore_incidents(&mut self, records: Vec<IncidentRecord>) {
        self.incidents.restore(records);
    }

    fn error_counts(&self) -> Vec<ErrorCountRecord> {
        self.incidents.count_records()
    }

    fn restore_error_counts(&mut self, records: Vec<ErrorCountRecord>) {
        self.incidents.restore_counts(records);
    }

    fn clear_incidents(&mut self, device: DeviceId) -> bool {
        self.incidents.close(device)
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
