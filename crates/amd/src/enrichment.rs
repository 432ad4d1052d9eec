//! What a library of AMD's adds to the kernel's word: it is asked if there is one, and nothing is missed if not.

use std::{path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{Launcher, RequestError},
};
use afd_model::{Device, DeviceId, Findings, Problem, Sampling};
use serde_json::Value;

use crate::{
    interpret::told,
    library::{self, Library},
    smi::{answers::Report, readings},
};

/// The first discovery initialises the library, which opens every device.
const DISCOVER_DEADLINE: Duration = Duration::from_secs(60);
const SAMPLE_DEADLINE: Duration = Duration::from_secs(10);

/// The library, and what it told last.
#[derive(Debug)]
pub(crate) struct Enrichment {
    library: Library,
    /// The devices, with the number of their partitions, that the library was started for.
    devices: Vec<(DeviceId, usize)>,
    told: Option<Report>,
    /// What it could not tell when it was asked last.
    problems: Vec<Problem>,
    sampled: Report,
    /// Whether the last sample told what no file of the kernel does, or nobody has asked since the last look.
    worthwhile: bool,
}

impl Enrichment {
    pub(crate) fn new(launcher: Launcher, rocm_root: Option<PathBuf>) -> Enrichment {
        Enrichment {
            library: Library::new(launcher, rocm_root),
            devices: Vec::new(),
            told: None,
            problems: Vec::new(),
            sampled: Report::default(),
            worthwhile: true,
        }
    }

    /// There is no device to ask for.
    pub(crate) fn end(&mut self) {
        self.library.end();
        (self.devices, self.told, self.sampled) = (Vec::new(), None, Report::default());
        self.problems.clear();
    }

    /// Joins the library's word, or its last, to the kernel's. While a device sleeps nobody is asked: the library would wake
    /// it.
    pub(crate) fn discover(&mut self, host: &Host, findings: &mut Findings, awake: bool) {
        let driven = |device: &&Device| device.driver.value().is_some_and(|driver| driver == "amdgpu");
        let driven = findings.devices.iter().filter(driven);
        let devices: Vec<_> = driven.map(|device| (device.id, device.partitions.len())).collect();
        if devices.is_empty() {
            self.end();
            return;
        }
        if devices != self.devices {
            // The library finds out which processors there are when it is initialised, and never again.
            self.end();
            self.devices = devices;
        }
        self.worthwhile = true;
        if awake {
            match self.library.ask(host, "discover", DISCOVER_DEADLINE) {
                Ok(Some(report)) => self.take(report, &findings.devices),
                Ok(None) => (self.told, self.problems) = (None, Vec::new()),
                Err(error) => findings.problems.extend(library::problem(&error)),
            }
        }
        findings.problems.extend(self.problems.iter().cloned());
        if let Some(report) = &self.told {
            told::enrich(findings, report);
        }
    }

    /// Takes a report; what was told before stays where this one tells nothing.
    fn take(&mut self, mut report: Report, devices: &[Device]) {
        self.problems = match report.init_error() {
            Some((name, code)) => vec![library::init_problem(name, &code)],
            None => told::refused(devices, &report),
        };
        if let Some(before) = &self.told {
            told::keep(&mut report, before);
        }
        self.told = Some(report);
    }

    /// Adds the moving values that no file of the kernel told. Where it told all, the library is asked once after each look.
    pub(crate) fn sample(&mut self, host: &Host, sampling: &mut Sampling, awake: bool) {
        if self.told.is_none() || !awake || !self.worthwhile {
            return;
        }
        match self.library.ask(host, "sample", SAMPLE_DEADLINE) {
            Ok(Some(report)) => {
                self.worthwhile = readings::add(sampling, readings::told(&self.devices, &report));
                self.sampled = report;
            }
            Ok(None) => sampling.rediscover = true,
            Err(RequestError::Pending) => {}
            Err(error) => sampling.problems.extend(library::problem(&error)),
        }
    }

    /// All that the library told, for a recording.
    pub(crate) fn recording(&self) -> Option<(&'static str, Value)> {
        let mut report = self.told.clone()?;
        for (told, sampled) in report.devices.iter_mut().zip(&self.sampled.devices) {
            told.answers.extend(sampled.answers.clone());
        }
        Some((report.file()?, serde_json::to_value(report).ok()?))
    }

    /// How often the process that asks it had to be started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.library.restarts()
    }
}
