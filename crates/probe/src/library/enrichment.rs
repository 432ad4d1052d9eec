//! When a vendor's library is queried, and which of its reports are kept.

use std::{path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{DroppedMessages, Launcher, RequestError},
};
use afd_model::{Device, DeviceId, Findings, LibraryStatus, Problem, Sampling};
use serde_json::Value;

use super::{
    DISCOVER, DriverInterfaces, LibraryProcess, LibrarySpec, QueriedSource, responsiveness::Responsiveness,
};
use crate::{
    ProbeProcess,
    report::LibraryReport,
    status::{StatusCode, StatusTable},
};

/// A vendor's library, and its last reports. The state of a probe that enriches what the kernel reports by what the library
/// reports.
#[derive(Debug)]
pub struct Enrichment<T: StatusTable> {
    spec: &'static LibrarySpec<T>,
    process: LibraryProcess,
    root: Option<PathBuf>,
    /// By what the process can query the driver itself.
    driver: DriverInterfaces,
    /// The devices that the library knows, with the number of their partitions.
    devices: Vec<(DeviceId, usize)>,
    report: Option<LibraryReport<T>>,
    /// The answer of the last discovery, where the library refused it, be it that the driver answered in its place.
    refused: Option<LibraryReport<T>>,
    /// Whether `report` is the answer of the last discovery.
    is_fresh: bool,
    /// Whether the next report is completed by the last one: not if the driver may have been replaced between them.
    retains: bool,
    /// The process that has initialised the library.
    initialised: Option<u64>,
    /// How many units the library itself reported in its last discovery.
    enumerated: usize,
    sampled: LibraryReport<T>,
    /// What could not be read when the library was last queried.
    problems: Vec<Problem>,
    sampling: SamplingState,
    /// Whether the last sample was left out, because the query would have woken a device.
    is_suspended: bool,
    /// Whether a discovery was requested because a process had no handles.
    is_discovery_requested: bool,
    responsiveness: Responsiveness,
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
            driver: DriverInterfaces::default(),
            devices: Vec::new(),
            report: None,
            refused: None,
            is_fresh: false,
            retains: true,
            initialised: None,
            enumerated: 0,
            sampled: LibraryReport::default(),
            problems: Vec::new(),
            sampling: SamplingState::Unavailable,
            is_suspended: false,
            is_discovery_requested: false,
            responsiveness: Responsiveness::default(),
        }
    }

    /// By what the process queries the driver itself from now on: for what the library does not report, or for all where there is
    /// none.
    pub fn set_driver(&mut self, driver: DriverInterfaces) {
        self.driver = driver;
    }

    /// Queries the library for what does not change, and adds its problems to those of the kernel's findings. What it reported
    /// is then [`Enrichment::report`]: an earlier report where it does not answer now.
    ///
    /// While a device is suspended, the library of a vendor that would wake it is not queried.
    pub fn discover(&mut self, host: &Host, findings: &mut Findings, is_suspended: bool) {
        self.is_fresh = false;
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
                Ok(Some(report)) => {
                    self.take(report, &findings.devices);
                    if self.spec.find(host, self.root.as_deref()).is_none() {
                        self.problems.extend(self.spec.absence(
                            false,
                            self.root.as_deref(),
                            &findings.devices,
                        ));
                    }
                }
                // A driver that is replaced takes its library away for a while.
                Ok(None) => {
                    let was_there = self.report.is_some();
                    let absence = self.spec.absence(was_there, self.root.as_deref(), &findings.devices);
                    self.problems = absence.into_iter().collect();
                    self.sampling = SamplingState::Unavailable;
                }
                Err(error) => findings.problems.extend(self.failure(&error)),
            }
        }
        findings.problems.extend(self.problems.iter().cloned());
        findings.library = self.status();
    }

    /// Whether the library is there, be it that no process may query it now.
    pub fn is_installed(&self, host: &Host) -> bool {
        self.spec.find(host, self.root.as_deref()).is_some()
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
        let refusal = self.spec.refusal(&report);
        let is_refused = refusal.is_some();
        self.problems = refusal.into_iter().collect();
        if is_refused && !self.spec.is_answered_otherwise(&report) {
            if self.spec.init_error(&report).is_some() {
                self.sampling = SamplingState::Unavailable;
            }
            self.refused = Some(report);
            self.responsiveness.refused();
            return;
        }
        self.problems.extend(self.refused_calls(&report, devices));
        self.refused = is_refused.then(|| report.clone());
        self.sampling = SamplingState::Active;
        let unit_of = self.spec.unit_of;
        self.enumerated = report.devices.iter().filter(|device| unit_of(&device.answers).is_some()).count();
        if let Some(earlier) = self.report.as_ref().filter(|_| self.retains) {
            report.retain_missing(earlier, unit_of, &self.spec.retains);
        }
        self.initialised = Some(self.process.generation());
        self.report = Some(report);
        (self.is_fresh, self.retains, self.is_discovery_requested) = (true, true, false);
        self.note_answer();
    }

    /// What the driver answers in place of a library that refuses is no answer of the library.
    fn note_answer(&mut self) {
        match self.refused {
            Some(_) => self.responsiveness.refused(),
            None => self.responsiveness.answered(),
        }
    }

    fn refused_calls(&self, report: &LibraryReport<T>, devices: &[Device]) -> Vec<Problem> {
        let of_device = |device: &Device| {
            let reported = report.device(device.id.0, self.spec.unit_of)?;
            Some(self.spec.refused(device.id, reported.answers.errors()))
        };
        devices.iter().filter_map(of_device).flatten().collect()
    }

    /// Queries the library for what changes; whether it answered. What it reported is then [`Enrichment::sampled`].
    ///
    /// Asks for another discovery where the process or the library is not that of the last one.
    pub fn sample(
        &mut self,
        host: &Host,
        request: &'static str,
        sampling: &mut Sampling,
        is_suspended: bool,
    ) -> bool {
        self.is_suspended = is_suspended;
        if self.sampling != SamplingState::Active || is_suspended {
            return false;
        }
        match self.request(host, request) {
            // A restarted process has no handles until it discovers, and has not called the library.
            Ok(Some(report)) if report.devices.is_empty() => {
                let is_requested = std::mem::replace(&mut self.is_discovery_requested, self.enumerated > 0);
                sampling.rediscover |= self.is_discovery_requested && !is_requested;
                false
            }
            Ok(Some(report)) => {
                self.sampled = report;
                self.note_answer();
                sampling.library_answered = true;
                true
            }
            Ok(None) => {
                sampling.rediscover = true;
                false
            }
            Err(error) => {
                sampling.problems.extend(self.failure(&error));
                false
            }
        }
    }

    /// Notes that there is no answer; the problem that this is.
    fn failure(&mut self, error: &RequestError) -> Option<Problem> {
        match error {
            RequestError::Pending => self.responsiveness.pending(),
            RequestError::Released => {}
            _ => self.responsiveness.failed(),
        }
        let is_normal = self.status() == LibraryStatus::Answering;
        (!is_normal).then(|| self.spec.failure(error))
    }

    fn request(
        &mut self,
        host: &Host,
        request: &'static str,
    ) -> Result<Option<LibraryReport<T>>, RequestError> {
        let deadline = self.deadline(request);
        let response = self.process.request(self.source(host), request, deadline);
        if matches!(response, Ok(None)) {
            self.responsiveness.absent();
        }
        response
    }

    fn source(&self, host: &Host) -> Option<QueriedSource> {
        let driver = || self.driver.clone();
        match self.spec.find(host, self.root.as_deref()) {
            Some(library) => Some(QueriedSource::Library(library, driver())),
            None => (!self.driver.is_empty()).then(|| QueriedSource::Driver(driver())),
        }
    }

    /// Within which time a request has to be answered. A library that has been initialised before has half of the time: two
    /// processes that hang then end within the time after which that is a fault.
    fn deadline(&self, request: &'static str) -> Duration {
        match request {
            DISCOVER if self.is_initialised() => self.spec.discover_deadline,
            DISCOVER if self.initialised.is_some() => self.spec.start_deadline / 2,
            DISCOVER => self.spec.start_deadline,
            _ => self.spec.sample_deadline,
        }
    }

    /// Whether the process that runs has initialised the library.
    fn is_initialised(&self) -> bool {
        self.process.is_running() && self.initialised == Some(self.process.generation())
    }

    /// The process of the last report: a number that grows with each one that is started.
    pub fn generation(&self) -> Option<u64> {
        self.initialised
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
        (self.report, self.refused) = (None, None);
        self.enumerated = 0;
        self.sampled = LibraryReport::default();
        self.problems.clear();
        self.sampling = SamplingState::Unavailable;
        self.responsiveness.reset(LibraryStatus::Unused);
    }

    /// Lets another process enumerate the devices, for a library that does so when it is initialised. Reports stay.
    pub fn enumerate_again(&mut self) {
        self.process.end();
    }

    /// What the library reported when it was last discovered, with what it reported earlier and the spec retains.
    pub fn report(&self) -> Option<&LibraryReport<T>> {
        self.report.as_ref()
    }

    /// Whether [`Enrichment::report`] is the answer of the last discovery, and not an earlier one.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Why the library could not be initialised in the last discovery that it answered, if it could not.
    pub fn init_error(&self) -> Option<StatusCode<T>> {
        self.spec.init_error(self.refused.as_ref()?)
    }

    /// Whether the library is not the host's own, but one that was placed in the container of the agent: by the root in which it is.
    pub fn is_injected(&self, host: &Host) -> bool {
        let found = self.root.as_ref().and_then(|roots| self.spec.find_in(roots));
        found.is_some_and(|(root, _)| !root.starts_with(host.root()))
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
}

impl<T: StatusTable> ProbeProcess for Enrichment<T> {
    fn status(&self) -> LibraryStatus {
        if self.process.is_released() { LibraryStatus::Released } else { self.responsiveness.status() }
    }

    fn is_sampled(&self) -> bool {
        let is_queried = !matches!(
            self.status(),
            LibraryStatus::Unused | LibraryStatus::NotFound | LibraryStatus::Released
        );
        is_queried && self.sampling != SamplingState::Paused && !self.is_suspended
    }

    fn recording(&self) -> Option<(&'static str, Value)> {
        let mut report = self.refused.as_ref().or(self.report.as_ref())?.clone();
        report.extend(&self.sampled, self.spec.unit_of);
        Some((self.spec.interface(&report)?.recording, serde_json::to_value(report).ok()?))
    }

    fn release(&mut self) -> Vec<u32> {
        self.process.release()
    }

    fn reacquire(&mut self) {
        self.process.reacquire();
        self.responsiveness.reset(LibraryStatus::Starting);
        self.retains = false;
    }

    fn restarts(&self) -> u64 {
        self.process.restarts()
    }

    fn dropped(&self) -> DroppedMessages {
        self.process.dropped()
    }
}

#[cfg(test)]
mod tests;
