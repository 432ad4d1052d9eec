//! A vendor's library: where it is, how it is queried, and what is reported of one that does not work.
//!
//! The library is queried by a process of its own, `afd probe <vendor>` ([`LibraryProcess`]). What it reports is data
//! ([`LibraryReport`]); what the kernel reports never depends on it. The parts, in the order in which a vendor's crate uses them:
//!
//! | part | of the vendor | generic |
//! |---|---|---|
//! | status codes | a table of (number, name, reason), [`StatusTable`] | [`StatusCode`]: names, reasons, JSON |
//! | C calls | `ffi.rs`: signatures | [`ffi`](crate::ffi): loading, buffers, `call!` and variants of it for numbers, strings, structs and handles |
//! | names of calls | one [`LibraryCall`] constant per call | the spelling in reports |
//! | sampled values | a table of [`LibraryRow`](crate::row::LibraryRow)s | [`query`](crate::row::query) for the process, `reading` for the interpreter |
//! | the querying process | `discover` and `sample`, each of which returns a report | `afd_host::child::serve` |
//! | the library | one [`LibrarySpec`] constant | the search, problems |
//! | the probe | facts and readings from a report, as pure functions | [`Enrichment`]: when to query, what to keep, when to restart, release |
//!
//! A probe with a library has an `Option<Enrichment<_>>` and calls it so:
//!
//! ```text
//! fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
//!     let mut findings = /* what the kernel reports */;
//!     if let Some(enrichment) = &mut self.enrichment {
//!         enrichment.discover(host, &mut findings, is_suspended);
//!         if let Some(report) = enrichment.report() { interpret::enrich(&mut findings, report); }
//!     }
//!     findings
//! }
//! fn sample(&mut self, host: &Host, now: Instant) -> Sampling {
//!     let mut sampling = /* what the kernel reports */;
//!     if let Some(enrichment) = &mut self.enrichment
//!         && enrichment.sample(host, SAMPLE, &mut sampling, is_suspended)
//!     {
//!         readings::add(&mut sampling, enrichment.sampled());
//!     }
//!     sampling
//! }
//! ```
//!
//! It returns the enrichment as its process, by which it is released and recorded; `library` is its `status`: what
//! the library last did, which changes while a request is pending as well. A vendor that discovers again for a reason of its own
//! sets `sampling.rediscover`. Events are taken by `enrichment.events()` before a sample and before a discovery; one that changes
//! what a discovery shows sets `sampling.has_news` ([`events`] has what forwards them). What only an answer of this moment says,
//! such as which devices the library does not list, is read where `enrichment.is_fresh()`.

mod enrichment;
pub mod events;
pub(crate) mod load_error;
mod process;
mod responsiveness;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use afd_host::{Host, child::RequestError};
use afd_model::{Device, DeviceId, Missing, Problem};

pub use self::{
    enrichment::Enrichment,
    process::{DeviceNodes, DriverInterfaces, LibraryProcess, QueriedSource},
};
use crate::{
    answers::LibraryCall,
    report::{LibraryReport, Retention, UnitOf},
    status::{StatusCode, StatusTable},
};

/// Where distributions put libraries under a root.
pub const DIRECTORIES: [&str; 9] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/lib",
    // NixOS.
    "/run/opengl-driver/lib",
];

/// How many of the directories in which a library is not are named in a problem, which the annotation of the Node has.
const NAMED_PLACES: usize = 3;

/// The request for all that does not change while the devices are there.
pub const DISCOVER: &str = "discover";
/// The request for what changes, on the handles of the last discovery. A vendor may have further requests.
pub const SAMPLE: &str = "sample";

/// A vendor's library.
pub struct LibrarySpec<T: StatusTable> {
    /// The name of the probe, and of the vendor in `afd probe <vendor>`.
    pub probe: &'static str,
    /// The library as the fact of a problem.
    pub fact: &'static str,
    /// The files that may be it, preferred first. Each is looked up everywhere before the next one.
    pub files: &'static [&'static str],
    /// Lists of directories under a root, in their order: [`DIRECTORIES`] and the vendor's own. A component `*` stands for every
    /// folder, the last one by name first.
    pub directories: &'static [&'static [&'static str]],
    /// Roots under the host in which the library may be, in their order: `""` is the host's own. They are looked up under roots
    /// that are given by an option as well, which are the only ones then.
    pub roots: &'static [&'static str],
    /// Drivers whose devices need it: where one is bound and the library is not there, that is a problem. Empty where other sources
    /// report what matters.
    pub needed_by: &'static [&'static str],
    /// The interfaces that the files may have.
    pub interfaces: &'static [LibraryInterface],
    /// The drivers of the devices that the library enumerates; empty: any.
    pub drivers: &'static [&'static str],
    /// Whether the library enumerates devices when it is initialised and never again, so that other devices or partitions need
    /// another process.
    pub enumerates_once: bool,
    /// The time for the first discovery of a process, which initialises the library.
    pub start_deadline: Duration,
    /// The time for each later discovery.
    pub discover_deadline: Duration,
    /// The time for a sample.
    pub sample_deadline: Duration,
    /// Which unit answers are about.
    pub unit_of: UnitOf<T>,
    /// What stays when a call or a device fails later.
    pub retains: Retention,
    /// What may be the cause where the library cannot be initialised.
    pub init_advice: fn(StatusCode<T>) -> &'static str,
}

/// One C interface of a vendor's library.
#[derive(Clone, Copy, Debug)]
pub struct LibraryInterface {
    /// The call that initialises it, as a report names it.
    pub init: &'static str,
    /// Calls on the system without which a report says nothing of the devices.
    pub required: &'static [LibraryCall],
    /// Its name for people.
    pub title: &'static str,
    /// The file of a recording that holds its reports.
    pub recording: &'static str,
}

impl<T: StatusTable> fmt::Debug for LibrarySpec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibrarySpec").field("probe", &self.probe).finish_non_exhaustive()
    }
}

impl<T: StatusTable> LibrarySpec<T> {
    /// The path of the library: under one of the roots if they are given, separated by `:`, else under the host.
    pub fn find(&self, host: &Host, roots: Option<&Path>) -> Option<PathBuf> {
        let Some(roots) = roots else { return self.find_under(host) };
        self.find_in(roots).map(|(_, path)| path)
    }

    /// The first of the given roots in which the library is, and its path.
    fn find_in(&self, roots: &Path) -> Option<(PathBuf, PathBuf)> {
        // Opened each time: a driver container that is replaced mounts another root at the same place.
        std::env::split_paths(roots).find_map(|root| {
            let path = self.find_under(&Host::open(&root).ok()?)?;
            Some((root, path))
        })
    }

    fn find_under(&self, host: &Host) -> Option<PathBuf> {
        let directories: Vec<String> =
            self.directories().flat_map(|directory| expanded(host, &directory)).collect();
        let path = |file: &str| {
            directories.iter().find_map(|directory| host.real_path(&format!("{directory}/{file}")).ok())
        };
        self.files.iter().find_map(|file| path(file))
    }

    /// All directories under a root of a host.
    fn directories(&self) -> impl Iterator<Item = String> + '_ {
        self.roots.iter().flat_map(|root| {
            self.directories.iter().copied().flatten().map(move |directory| format!("{root}{directory}"))
        })
    }

    /// Why the library could not be initialised, if it could not.
    pub fn init_error(&self, report: &LibraryReport<T>) -> Option<StatusCode<T>> {
        self.interfaces.iter().find_map(|interface| report.system.error(interface.init))
    }

    /// The problem of a report that says nothing of the devices.
    fn refusal(&self, report: &LibraryReport<T>) -> Option<Problem> {
        if let Some(code) = self.init_error(report) {
            return Some(self.init_problem(report, code));
        }
        let required = self.interface(report)?.required;
        let (call, code) = required.iter().find_map(|call| Some((call, report.system.error(*call)?)))?;
        Some(self.problem(code.missing(), format!("the library refused: {call} {code}")))
    }

    /// Whether another interface than one that refused says something of the devices.
    fn is_answered_otherwise(&self, report: &LibraryReport<T>) -> bool {
        self.interfaces.iter().any(|interface| {
            let calls = [LibraryCall::new(interface.init)];
            let mut calls = calls.iter().chain(interface.required);
            report.system.get(interface.init).is_some()
                && calls.all(|call| report.system.error(*call).is_none())
        })
    }

    /// The interface that wrote a report.
    fn interface(&self, report: &LibraryReport<T>) -> Option<&'static LibraryInterface> {
        self.interfaces.iter().find(|interface| report.system.get(interface.init).is_some())
    }

    /// The library is there and cannot be initialised.
    fn init_problem(&self, report: &LibraryReport<T>, code: StatusCode<T>) -> Problem {
        let title = self.interface(report).map_or(self.fact, |interface| interface.title);
        let advice = (self.init_advice)(code);
        self.problem(Missing::Unreadable, format!("{title} cannot be initialised: {code}; {advice}"))
    }

    /// The library is not there, although it was, or a root was given, or one of the devices needs it.
    fn absence(&self, was_there: bool, roots: Option<&Path>, devices: &[Device]) -> Option<Problem> {
        let file = self.files.first().copied().unwrap_or_default();
        if was_there {
            let message = format!("{file} is no longer there; static facts that it reported stay");
            return Some(self.problem(Missing::NotExposed, message));
        }
        let driver = devices.iter().filter_map(|device| device.driver.value());
        let driver = driver.into_iter().find(|driver| self.needed_by.contains(&driver.as_str()));
        if roots.is_none() && driver.is_none() {
            return None;
        }
        let under = roots.map_or("the host root".into(), Path::to_string_lossy);
        let needed = driver.map_or_else(String::new, |driver| {
            format!(", though the driver {driver} is bound, so that most facts of its devices are not known")
        });
        let places: Vec<String> = self.directories().collect();
        tracing::debug!(file, places = %places.join(", "), "the library is in none of these directories");
        let (named, others) = places.split_at(places.len().min(NAMED_PLACES));
        let roots: Vec<&str> =
            self.roots.iter().map(|root| if root.is_empty() { "/" } else { *root }).collect();
        let message = format!(
            "{file} is not under {under}{needed}; searched were {} and {} more directories under {}",
            named.join(", "),
            others.len(),
            roots.join(", ")
        );
        Some(self.problem(Missing::NotExposed, message))
    }

    /// Why there is no report.
    fn failure(&self, error: &RequestError) -> Problem {
        let reason = match error {
            RequestError::Pending => Missing::Pending,
            RequestError::Released => Missing::Released,
            _ => Missing::Unreadable,
        };
        self.problem(reason, error.to_string())
    }

    /// Calls on a device that failed although the device should support them: one problem per reason, since one file that cannot
    /// be opened fails many calls.
    pub fn refused<'a>(
        &self,
        device: DeviceId,
        errors: impl IntoIterator<Item = (&'a str, StatusCode<T>)>,
    ) -> Vec<Problem> {
        let mut by_reason: Vec<(Missing, Vec<String>)> = Vec::new();
        for (call, code) in errors.into_iter().filter(|(_, code)| code.missing().is_problem()) {
            let failed = format!("{call} {code}");
            match by_reason.iter_mut().find(|(reason, _)| *reason == code.missing()) {
                Some((_, calls)) => calls.push(failed),
                None => by_reason.push((code.missing(), vec![failed])),
            }
        }
        let problem = |(reason, calls): (Missing, Vec<String>)| Problem {
            device: Some(device),
            ..self.problem(reason, format!("the library refused: {}", calls.join(", ")))
        };
        by_reason.into_iter().map(problem).collect()
    }

    /// A problem of the library as a whole.
    fn problem(&self, reason: Missing, message: String) -> Problem {
        Problem {
            probe: self.probe.to_owned(),
            device: None,
            fact: self.fact.to_owned(),
            reason,
            path: None,
            message,
        }
    }
}

/// A directory with every folder that a component `*` stands for.
fn expanded(host: &Host, directory: &str) -> Vec<String> {
    let Some((before, after)) = directory.split_once("/*") else { return vec![directory.to_owned()] };
    let mut names = host.list(before).unwrap_or_default();
    names.sort_unstable_by(|left, right| right.cmp(left));
    names.iter().flat_map(|name| expanded(host, &format!("{before}/{name}{after}"))).collect()
}

#[cfg(test)]
mod tests;
