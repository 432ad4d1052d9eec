//! When a vendor's library is queried, and which of its reports are kept.

use std::path::PathBuf;

use afd_host::{
    Host,
    child::{Launcher, RequestError},
};
use afd_model::{Device, DeviceId, Findings, Problem, Sampling};
use serde_json::Value;

use super::{DISCOVER, LibraryProcess, LibrarySpec};
use crate::{report::LibraryReport, status::StatusTable};

/// A vendor's library, and its last reports. The state of a probe that enriches what the kernel reports by what the library
/// reports.
#[derive(Debug)]
pub struct Enrichment<T: StatusTable> {
    spec: &'static LibrarySpec<T>,
    process: LibraryProcess,
    root: Option<PathBuf>,
    /// The devices that the library knows, with the number of their partitions.
    devices: Vec<(DeviceId, usize)>,
    report: Option<LibraryReport<T>>,
    /// How many units the library itself reported in its last discovery.
    enumerated: usize,
    sampled: LibraryReport<T>,
    /// What could not be read when the library was last queried.
    problems: Vec<Problem>,
    sampling: SamplingState,
}

/// Whether samples are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SamplingState {
    /// The library reported no devices to sample.
    Unavailable,
    /// Samples are taken.
    Active,
    /// No samples are taken until the next discovery.
    Paused,
}

impl<T: StatusTable> Enrichment<T> {
    /// A library that processes of `launcher` query, under `root` if it is given.
    pub fn new(spec: &'static LibrarySpec<T>, launcher: Launcher, root: Option<PathBuf>) -> Enrichment<T> {
        Enrichment {
            spec,
            process: LibraryProcess::new(launcher, spec.probe),
            root,
            devices: Vec::new(),
            report: None,
            enumerated: 0,
            sampled: LibraryReport::default(),
            problems: Vec::new(),
            sampling: SamplingState::Unavailable,
        }
    }

    /// Queries the library for what does not change, and adds its problems to those of the kernel's findings. What it reported
    /// is then [`Enrichment::report`]: an earlier report where it does not answer now.
    ///
    /// While a device is suspended, the library of a vendor that would wake it is not queried.
    pub fn discover(&mut self, host: &Host, findings: &mut Findings, is_suspended: bool) {
        let devices = self.known_devices(&findings.devices);
        if devices.is_empty() {
            self.end();
            return;
        }
        if devices != self.devices && !(self.spec.enumerates_once && self.process.is_released()) {
            if self.spec.enumerates_once {
                self.end();
            }
            self.devices = devices;
        }
        if self.sampling == SamplingState::Paused {
            self.sampling = SamplingState::Active;
        }
        if !is_suspended {
            match self.request(host, DISCOVER) {
                Ok(Some(report)) => self.take(report, &findings.devices),
                // A driver that is replaced takes its library away for a while.
                Ok(None) => {
                    let absence = self.spec.absence(self.report.is_some(), self.root.as_deref());
                    self.problems = absence.into_iter().collect();
                    self.sampling = SamplingState::Unavailable;
                }
                Err(error) => findings.problems.extend(self.spec.failure(&error)),
            }
        }
        findings.problems.extend(self.problems.iter().cloned());
    }

    /// The devices of the drivers that the library works with.
    fn known_devices(&self, devices: &[Device]) -> Vec<(DeviceId, usize)> {
        let drivers = self.spec.drivers;
        let is_known = |device: &&Device| {
            drivers.is_empty()
                || device.driver.value().is_some_and(|driver| drivers.contains(&driver.as_str()))
        };
        devices.iter().filter(is_known).map(|device| (device.id, device.partitions.len())).collect()
    }

    fn take(&mut self, mut report: LibraryReport<T>, devices: &[Device]) {
        (self.problems, self.sampling) = match self.spec.init_error(&report) {
            Some(code) => (vec![self.spec.init_problem(&report, code)], SamplingState::Unavailable),
            None => (self.refused(&report, devices), SamplingState::Active),
        };
        let unit_of = self.spec.unit_of;
        self.enumerated = report.devices.iter().filter(|device| unit_of(&device.answers).is_some()).count();
        if let Some(earlier) = &self.report {
            report.retain_missing(earlier, unit_of, self.spec.retains);
        }
        self.report = Some(report);
    }

    fn refused(&self, report: &LibraryReport<T>, devices: &[Device]) -> Vec<Problem> {
        let of_device = |device: &Device| {
            let reported = report.device(device.id.0, self.spec.unit_of)?;
            Some(self.spec.refused(device.id, reported.answers.errors()))
        };
        devices.iter().filter_map(of_device).flatten().collect()
    }

    /// Queries the library for what changes; whether it answered. What it reported is then [`Enrichment::sampled`].
    ///
    /// Asks for another discovery where an event has arrived, and where the process or the library is not that of the last one.
    pub fn sample(
        &mut self,
        host: &Host,
        request: &'static str,
        sampling: &mut Sampling,
        is_suspended: bool,
    ) -> bool {
        sampling.rediscover |= self.process.has_events();
        if self.sampling != SamplingState::Active || is_suspended {
            return false;
        }
        match self.request(host, request) {
            Ok(Some(report)) => {
                // A restarted process has no handles until it discovers.
                sampling.rediscover |= report.devices.is_empty() && self.enumerated > 0;
                self.sampled = report;
                true
            }
            Ok(None) => {
                sampling.rediscover = true;
                false
            }
            Err(error) => {
                sampling.problems.extend(self.spec.failure(&error));
                false
            }
        }
    }

    fn request(
        &mut self,
        host: &Host,
        request: &'static str,
    ) -> Result<Option<LibraryReport<T>>, RequestError> {
        let deadline =
            if request == DISCOVER { self.spec.discover_deadline } else { self.spec.sample_deadline };
        self.process.request(self.spec.find(host, self.root.as_deref()), request, deadline)
    }

    /// Takes no samples until the next discovery: the kernel exposes all that the library would report.
    pub fn pause_sampling(&mut self) {
        if self.sampling == SamplingState::Active {
            self.sampling = SamplingState::Paused;
        }
    }

    /// Ends the process and forgets everything: there is no device to query the library for.
    pub fn end(&mut self) {
        self.process.end();
        self.devices.clear();
        self.report = None;
        self.enumerated = 0;
        self.sampled = LibraryReport::default();
        self.problems.clear();
        self.sampling = SamplingState::Unavailable;
    }

    /// What the library reported when it was last discovered, with what it reported earlier and the spec retains.
    pub fn report(&self) -> Option<&LibraryReport<T>> {
        self.report.as_ref()
    }

    /// What the library reported when it was last sampled.
    pub fn sampled(&self) -> &LibraryReport<T> {
        &self.sampled
    }

    /// The devices that the library knows, with the number of their partitions.
    pub fn devices(&self) -> &[(DeviceId, usize)] {
        &self.devices
    }

    /// The events of the library since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.process.events()
    }

    /// All that the library reported, for a recording of the node: the name of the file and its content.
    pub fn recording(&self) -> Option<(&'static str, Value)> {
        let mut report = self.report.clone()?;
        report.extend(&self.sampled, self.spec.unit_of);
        Some((self.spec.interface(&report)?.recording, serde_json::to_value(report).ok()?))
    }

    /// Ends the process, so that the driver can be replaced; whether it has ended. Reports stay.
    pub fn release(&mut self) -> bool {
        self.process.release()
    }

    /// Queries the library again after a release.
    pub fn reacquire(&mut self) {
        self.process.reacquire();
    }

    /// How often the process had to be started again.
    pub fn restarts(&self) -> u64 {
        self.process.restarts()
    }
}
