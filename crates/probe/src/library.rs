//! A vendor's library and the process that asks it (`afd probe <vendor>`).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{Child, Launcher, RequestError},
};
use afd_model::{Missing, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where distributions put libraries beneath a root.
pub const DIRECTORIES: [&str; 7] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib",
];

/// The library and its process.
#[derive(Debug)]
pub struct Library {
    launcher: Launcher,
    vendor: &'static str,
    found: Option<Found>,
    restarts: u64,
}

#[derive(Debug)]
struct Found {
    path: PathBuf,
    child: Child,
    events: Vec<Value>,
}

impl Library {
    /// The library of the vendor whose probe has this name.
    pub fn new(launcher: Launcher, vendor: &'static str) -> Library {
        Library { launcher, vendor, found: None, restarts: 0 }
    }

    /// What the library at a path answers; nothing if there is none, and then the process ends. One at another path is a
    /// new one: a driver that was replaced has its library elsewhere.
    ///
    /// # Errors
    /// When there is no answer (yet).
    pub fn ask<R: DeserializeOwned>(
        &mut self,
        path: Option<PathBuf>,
        ask: &'static str,
        deadline: Duration,
    ) -> Result<Option<R>, RequestError> {
        let Some(path) = path else {
            self.end();
            return Ok(None);
        };
        if self.found.as_ref().is_none_or(|found| found.path != path) {
            self.end();
            let arguments: [OsString; 4] =
                ["probe".into(), self.vendor.into(), "--library".into(), path.clone().into()];
            self.found = Some(Found { path, child: self.launcher.child(arguments), events: Vec::new() });
        }
        let found = self.found.as_mut().expect("it was just found");
        let answer = found.child.request(ask, deadline);
        found.events.extend(found.child.events());
        let value = answer?;
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| RequestError::Ended(format!("it does not speak our language: {error}")))
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.collect();
        self.found.as_mut().map(|found| std::mem::take(&mut found.events)).unwrap_or_default()
    }

    /// Whether there are events to be taken.
    pub fn has_events(&mut self) -> bool {
        self.collect();
        self.found.as_ref().is_some_and(|found| !found.events.is_empty())
    }

    /// Ends the process for good, whoever waits for it; whether it has ended.
    pub fn release(&mut self) -> bool {
        self.found.as_mut().is_none_or(|found| found.child.release())
    }

    /// Ends the process; another one is started when the library is asked again.
    pub fn end(&mut self) {
        if let Some(found) = self.found.take() {
            self.restarts += found.child.restarts();
        }
    }

    /// How often the process had to be started again.
    pub fn restarts(&self) -> u64 {
        self.restarts + self.found.as_ref().map_or(0, |found| found.child.restarts())
    }

    fn collect(&mut self) {
        if let Some(found) = &mut self.found {
            found.events.extend(found.child.events());
        }
    }
}

/// The first of the files that is in one of the directories of a root: every file is looked for everywhere before the
/// next one.
pub fn find(root: &Host, directories: &[String], files: &[&str]) -> Option<PathBuf> {
    files.iter().find_map(|file| {
        directories.iter().find_map(|directory| root.real_path(&format!("{directory}/{file}")).ok())
    })
}

/// Why a library did not answer, as a problem of a probe. An answer that is still to come is none.
pub fn problem(probe: &str, library: &str, error: &RequestError) -> Option<Problem> {
    match error {
        RequestError::Pending => None,
        RequestError::Released => Some(of(probe, library, Missing::Released, error.to_string())),
        _ => Some(unusable(probe, library, error.to_string())),
    }
}

/// The library is there and does not work.
pub fn unusable(probe: &str, library: &str, message: String) -> Problem {
    of(probe, library, Missing::Unreadable, message)
}

/// A problem of a library as a whole.
pub fn of(probe: &str, library: &str, reason: Missing, message: String) -> Problem {
    Problem { probe: probe.to_owned(), device: None, fact: library.to_owned(), reason, path: None, message }
}
