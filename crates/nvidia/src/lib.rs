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
//!   report stay, and samples are absent.
//! - One device id can be sold under several names, which the board's subsystem id distinguishes; so the name that the driver
//!   reports takes precedence over the table's.

mod handles;
mod health;
mod incidents;
mod interpret;
mod library;
pub mod nvml;
mod processes;
mod procfs;
mod products;
mod readings;
mod sysfs;
mod vgpu;
mod xid;

use std::{path::PathBuf, time::Instant};

use afd_host::{Host, child::Launcher};
use afd_model::{Device, Findings, Health, Sample, Sampling};
use afd_probe::{Facts, PciBus, PciFunction, Probe, library::Enrichment, pci};
use serde_json::Value;

use self::{
    incidents::Incidents,
    nvml::{
        SAMPLE, SAMPLE_WITH_PROCESSES,
        report::{NvmlReport, NvmlStatus, address, unit_of},
    },
};

const NAME: &str = "nvidia";

/// How NVML is queried.
#[derive(Debug, Default)]
pub struct NvmlOptions {
    /// The root under which the library is; the host's own if there is none.
    pub driver_root: Option<PathBuf>,
    /// Whether to sample the memory of each process.
    pub per_process: bool,
}

/// The probe of NVIDIA GPUs.
#[derive(Debug, Default)]
pub struct Nvidia {
    functions: Vec<PciFunction>,
    nvml: Option<Enrichment<NvmlStatus>>,
    per_process: bool,
    incidents: Incidents,
}

impl Nvidia {
    /// A probe that queries NVML as well, in processes that `launcher` starts.
    pub fn with_library(launcher: Launcher, options: NvmlOptions) -> Nvidia {
        Nvidia {
            nvml: Some(Enrichment::new(&library::SPEC, launcher, options.driver_root)),
            per_process: options.per_process,
            ..Nvidia::default()
        }
    }

    /// Adds what NVML reports, or reported last, to what the kernel reports.
    fn enrich(&mut self, host: &Host, findings: &mut Findings) {
        let Some(nvml) = &mut self.nvml else { return };
        for event in nvml.events() {
            self.incidents.add(&event);
        }
        nvml.discover(host, findings, false);
        let Some(report) = nvml.report() else { return };
        if let Some(code) = library::SPEC.init_error(report) {
            if let Some(health) = health::of_init_error(code) {
                findings.devices.iter_mut().for_each(|device| device.health = health.clone());
            }
            return;
        }
        interpret::enrich(&mut findings.devices, &mut findings.links, report);
        let mut facts = Facts::new(host, NAME);
        sysfs::shared_memory(&mut facts, &mut findings.devices);
        findings.problems.extend(facts.into_problems());
        for device in &mut findings.devices {
            // What the kernel reports takes precedence: a GPU that the driver excludes is not healthy.
            if device.health == Health::unknown()
                && let Some(reported) = report.device(device.id.0, unit_of)
            {
                health::judge(device, &reported.answers, &mut self.incidents);
            }
        }
    }

    /// Adds what NVML samples, and discovers again where the health of a GPU changed.
    fn sample_nvml(&mut self, host: &Host, sampling: &mut Sampling) {
        let Some(nvml) = &mut self.nvml else { return };
        let request = if self.per_process { SAMPLE_WITH_PROCESSES } else { SAMPLE };
        if !nvml.sample(host, request, sampling, false) {
            return;
        }
        sampling.rediscover |=
            nvml.report().is_some_and(|discovered| is_health_changed(discovered, nvml.sampled()));
        for reported in &nvml.sampled().devices {
            let Some(address) = address(&reported.answers) else { continue };
            readings::add(sampling, address, reported, &self.incidents);
            processes::add(sampling, address, &reported.answers);
        }
    }
}

fn is_health_changed(discovered: &NvmlReport, sampled: &NvmlReport) -> bool {
    sampled.devices.iter().any(|now| {
        let before = address(&now.answers).and_then(|address| discovered.device(address, unit_of));
        before.is_some_and(|before| health::is_changed(&before.answers, &now.answers))
    })
}

impl Probe for Nvidia {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        self.functions = sysfs::gpus(host, bus);
        let mut devices: Vec<Device> =
            self.functions.iter().map(|function| sysfs::device(&mut facts, bus, function)).collect();
        devices.extend(sysfs::devices_without_function(&mut facts, bus));
        facts.about(None);
        let mut findings = Findings { devices, links: Vec::new(), problems: facts.into_problems() };
        self.enrich(host, &mut findings);
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
        let mut sampling = Sampling { samples, problems: facts.into_problems(), rediscover: false };
        self.sample_nvml(host, &mut sampling);
        sampling
    }

    fn recording(&self) -> Option<(&'static str, Value)> {
        self.nvml.as_ref()?.recording()
    }

    fn release(&mut self) -> bool {
        self.nvml.as_mut().is_none_or(Enrichment::release)
    }

    fn reacquire(&mut self) {
        if let Some(nvml) = &mut self.nvml {
            nvml.reacquire();
        }
    }

    fn restarts(&self) -> Option<u64> {
        self.nvml.as_ref().map(Enrichment::restarts)
    }
}
