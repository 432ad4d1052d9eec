//! The probe of NVIDIA GPUs: what the kernel reports, enriched by what NVML reports.
//!
//! What is peculiar to this vendor:
//!
//! - A GPU is a function of class 0300 or 0302. NVSwitches (0680), audio (0403), USB (0c03) and UCSI (0c80) functions of
//!   the same vendor are not.
//! - The driver reports model, UUID, VBIOS and minor number of each GPU in `/proc/driver/nvidia/gpus/<address>/information`,
//!   world-readable and without a library. Memory, MIG, ECC, utilisation, power and NVLink need NVML.
//! - NVML runs in a process of its own (`afd probe nvidia`), which is started only if there is a GPU and a library. It holds the
//!   driver open, so it is ended before the driver is replaced. Without it the kernel's facts go on, the static facts of its last
//!   report stay, and samples are absent. XIDs are counted by the probe, so their counters go on as well.
//! - A GPU is there if the kernel has it. NVML adds facts to it, or refuses it, which is a verdict.
//! - One device id can be sold under several names, which the board's subsystem id distinguishes; so the name that the driver
//!   reports takes precedence over the table's, and is that of a GPU with the same ids of which it reports none.

mod handles;
mod health;
mod inaccessible;
mod incidents;
mod interpret;
mod library;
mod links;
pub mod nvml;
mod peering;
mod platform;
mod processes;
mod procfs;
mod products;
mod readings;
mod sysfs;
mod vgpu;
mod watch;
mod xid;
mod xid_counts;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use afd_host::{Host, child::Launcher};
use afd_model::{
    Device, DeviceId, ErrorCountRecord, Findings, Health, IncidentRecord, Known, LibraryStatus, PciAddress,
    Sample, Sampling,
};
use afd_probe::{Facts, PciBus, PciFunction, Probe, ProbeProcess, device, library::Enrichment, pci};

use self::{
    health::{GpuHealthEvidence, HealthSigns},
    incidents::Incidents,
    links::NvlinkEnds,
    nvml::{
        SampledExtras,
        report::{NvmlStatus, accessible, address, text},
        table::call,
    },
};

const NAME: &str = "nvidia";
/// The loaded kernel module.
const MODULE: &str = "/sys/module/nvidia";

/// How NVML is queried.
#[derive(Debug, Default)]
pub struct NvmlOptions {
    /// The root under which the library is; the host's own if there is none.
    pub driver_root: Option<PathBuf>,
    /// Whether to sample the memory of each process.
    pub per_process: bool,
    /// Whether to sample the values of each NVLink.
    pub per_link: bool,
}

/// The probe of NVIDIA GPUs.
#[derive(Debug, Default)]
pub struct Nvidia {
    functions: Vec<PciFunction>,
    /// The GPUs of the last discovery.
    gpus: Vec<PciAddress>,
    nvml: Option<Enrichment<NvmlStatus>>,
    extras: SampledExtras,
    link_ends: NvlinkEnds,
    incidents: Incidents,
    /// GPUs that NVML did not list or refused when it last answered a discovery.
    inaccessible: BTreeMap<PciAddress, Health>,
    /// What the samples of a GPU say of its health.
    signs: BTreeMap<PciAddress, HealthSigns>,
}

impl Nvidia {
    /// A probe that queries NVML as well, in processes that `launcher` starts.
    pub fn with_library(launcher: Launcher, options: NvmlOptions) -> Nvidia {
        Nvidia {
            nvml: Some(Enrichment::new(&library::SPEC, launcher, options.driver_root)),
            extras: SampledExtras { processes: options.per_process, links: options.per_link },
            ..Nvidia::default()
        }
    }

    /// Adds the GPUs without a PCI function that NVML lists, or listed last. The kernel says that there are some, and not which.
    fn query_platform(&mut self, host: &Host, driver: &str, findings: &mut Findings) {
        let Some(nvml) = &mut self.nvml else { return };
        let listed = |nvml: &Enrichment<NvmlStatus>| {
            nvml.report().map(|report| platform::listed(report, driver)).unwrap_or_default()
        };
        if listed(nvml).is_empty() {
            let mut asked = Findings { devices: vec![platform::unlisted(driver)], ..Findings::default() };
            nvml.discover(host, &mut asked, false);
            findings.problems = asked.problems;
        }
        findings.devices = listed(nvml);
    }

    /// Adds what NVML reports, or reported last, to what the kernel reports.
    fn enrich(&mut self, host: &Host, findings: &mut Findings) {
        let Some(nvml) = &mut self.nvml else { return };
        for event in nvml.events() {
            self.incidents.add(&event);
        }
        nvml.discover(host, findings, false);
        let Some(report) = nvml.report() else { return };
        interpret::enrich(&mut findings.devices, &mut findings.links, report);
        let mut facts = Facts::new(host, NAME);
        sysfs::shared_memory(&mut facts, &mut findings.devices);
        findings.problems.extend(facts.into_problems());
        if nvml.is_fresh() {
            self.inaccessible = inaccessible::verdicts(&findings.devices, report);
            self.link_ends.update(&self.gpus, report);
            for address in &self.gpus {
                let Some(answers) = accessible(report, *address) else { continue };
                self.incidents.watched(*address, watch::is_watched(answers));
                if let Some(action) = HealthSigns::of(answers).recovery_action() {
                    self.incidents.recovery_action(*address, action);
                }
            }
        }
        findings.problems.extend(watch::problems(report, self.incidents.wait_error()));
    }

    fn judge(&mut self, host: &Host, devices: &mut [Device]) {
        let is_loaded = devices.iter().any(|device| device.driver == Known::Value(NAME.to_owned()))
            || host.list(MODULE).is_ok();
        if !is_loaded {
            self.incidents.unloaded();
        }
        // An answer of a library that has fallen silent is no evidence any more.
        let answering = self.nvml.as_ref().filter(|nvml| nvml.status() == LibraryStatus::Answering);
        let report = answering.and_then(Enrichment::report);
        let mismatch = self.nvml.as_ref().and_then(Enrichment::init_error).and_then(health::of_init_error);
        for device in devices {
            self.incidents.discovered(device, device::driver_binding(host, device.id));
            let address = device.id.0;
            // What the kernel reports takes precedence: a GPU without its driver, or one that the driver excludes.
            if device.health != Health::unknown() {
                continue;
            }
            if let Some(mismatch) = &mismatch {
                device.health = mismatch.clone();
            } else {
                let evidence = GpuHealthEvidence {
                    discovered: report.and_then(|report| accessible(report, address)),
                    inaccessible: self.inaccessible.get(&address),
                    sampled: self.signs.get(&address),
                };
                health::judge(device, evidence, &self.incidents);
            }
        }
    }

    /// Adds what NVML samples, and discovers again where the health of a GPU changed.
    fn sample_nvml(&mut self, host: &Host, sampling: &mut Sampling) {
        let Some(nvml) = &mut self.nvml else { return };
        for event in nvml.events() {
            sampling.has_news |= self.incidents.add(&event);
        }
        if !nvml.sample(host, self.extras.request(), sampling, false) {
            return;
        }
        for reported in &nvml.sampled().devices {
            let Some(address) = address(&reported.answers) else { continue };
            readings::add(sampling, address, reported);
            if self.extras.links {
                readings::extend(sampling, address, self.link_ends.readings(address, &reported.answers));
            }
            let discovered = nvml.report().and_then(|report| accessible(report, address));
            if let Some(discovered) = discovered {
                readings::add_static(sampling, address, discovered);
            }
            processes::add(sampling, address, &reported.answers);
            let now = HealthSigns::of(&reported.answers);
            if let Some(action) = now.recovery_action() {
                self.incidents.recovery_action(address, action);
            }
            if let Known::Value(energy) = reported.answers.known(call::ENERGY) {
                sampling.rediscover |= self.incidents.energy(address, energy);
            }
            sampling.rediscover |= match self.signs.get_mut(&address) {
                Some(signs) => signs.update(&now),
                None => {
                    let discovered = discovered.map(HealthSigns::of).unwrap_or_default();
                    let is_changed = discovered.is_changed_by_first(&now);
                    self.signs.insert(address, now);
                    is_changed
                }
            };
        }
    }
}

impl Probe for Nvidia {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        self.functions = sysfs::gpus(host, bus);
        let mut described: Vec<(Device, bool)> =
            self.functions.iter().map(|function| sysfs::device(&mut facts, bus, function)).collect();
        described.extend(sysfs::devices_without_function(&mut facts, bus, &self.functions));
        let named: BTreeSet<PciAddress> =
            described.iter().filter(|(_, is_named)| *is_named).map(|(device, _)| device.id.0).collect();
        let mut devices: Vec<Device> = described.into_iter().map(|(device, _)| device).collect();
        facts.about(None);
        let is_driven = |device: &Device| device.driver.value().is_some_and(|driver| driver == NAME);
        if let Some(first) = devices.iter().find(|device| is_driven(device)) {
            let peers = Box::new(peering::read(&mut facts, first.driver_version.value().map(String::as_str)));
            devices.iter_mut().filter(|device| is_driven(device)).for_each(|device| {
                device.peering = Some(peers.clone());
            });
        }
        let platform = if devices.is_empty() { platform::driver(host, bus) } else { None };
        let mut findings = Findings { devices, ..Findings::default() };
        if let Some(driver) = platform {
            self.query_platform(host, driver, &mut findings);
            if findings.devices.is_empty() {
                platform::unexamined(&mut facts, driver);
            }
        }
        findings.problems.extend(facts.into_problems());
        self.gpus = findings.devices.iter().map(|device| device.id.0).collect();
        self.signs.retain(|address, _| self.gpus.contains(address));
        self.inaccessible.retain(|address, _| self.gpus.contains(address));
        self.enrich(host, &mut findings);
        let report = self.nvml.as_ref().and_then(Enrichment::report);
        let is_named_by_library = |address| {
            let answers = report.and_then(|report| accessible(report, address));
            answers.is_some_and(|answers| text(answers, call::NAME).is_known())
        };
        sysfs::adopt_names(&mut findings.devices, |address| {
            named.contains(&address) || is_named_by_library(address)
        });
        sysfs::complete_interconnect(&mut findings.devices);
        sysfs::retract_solved(&mut findings.problems, &findings.devices);
        self.judge(host, &mut findings.devices);
        findings
    }

    fn sample(&mut self, host: &Host, _: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let samples = self
            .functions
            .iter()
            .map(|function| {
                facts.about(Some(function.address.into()));
                let readings = pci::link_readings(&mut facts, function);
                Sample { unit: function.address.into(), readings }
            })
            .filter(|sample| !sample.readings.is_empty())
            .collect();
        let mut sampling = Sampling { samples, problems: facts.into_problems(), ..Sampling::default() };
        self.sample_nvml(host, &mut sampling);
        // Also while NVML does not answer, and of GPUs that it refuses.
        for address in &self.gpus {
            if let Some(xids) = self.incidents.xids(*address) {
                readings::add_xids(&mut sampling, *address, xids);
            }
        }
        sampling
    }

    fn process(&self) -> Option<&dyn ProbeProcess> {
        self.nvml.as_ref().map(|own| own as &dyn ProbeProcess)
    }

    fn process_mut(&mut self) -> Option<&mut dyn ProbeProcess> {
        self.nvml.as_mut().map(|own| own as &mut dyn ProbeProcess)
    }

    fn has_stale_library(&self, host: &Host) -> bool {
        let is_mismatch = |nvml: &&Enrichment<NvmlStatus>| {
            nvml.init_error().and_then(health::of_init_error).is_some() && nvml.is_injected(host)
        };
        self.nvml.as_ref().filter(is_mismatch).is_some()
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
        self.incidents.close(device.0)
    }
}
