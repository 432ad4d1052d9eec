//! Where the library is, and the process that asks it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{AskError, Child, Launcher},
};
use afd_model::{Missing, Problem};
use serde_json::Value;

use crate::{
    NAME,
    nvml::answers::{Code, Report},
};

const FILE: &str = "libnvidia-ml.so.1";
/// Where distributions and NVIDIA's installer put it beneath a root with a driver.
const DIRECTORIES: [&str; 7] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib",
];
/// Roots of drivers beneath the host: its own, the GPU operator's driver container's, GKE's.
const ROOTS: [&str; 2] = ["", "/run/nvidia/driver"];
const GKE_DIRECTORY: &str = "/home/kubernetes/bin/nvidia/lib64";

/// The library and its process.
#[derive(Debug)]
pub(crate) struct Library {
    launcher: Launcher,
    driver_root: Option<PathBuf>,
    found: Option<Found>,
    released: bool,
    restarts: u64,
}

#[derive(Debug)]
struct Found {
    path: PathBuf,
    child: Child,
    events: Vec<Value>,
}

impl Library {
    pub(crate) fn new(launcher: Launcher, driver_root: Option<PathBuf>) -> Library {
        Library { launcher, driver_root, found: None, released: false, restarts: 0 }
    }

    /// What the library answers; nothing if there is no GPU for it or it is not there.
    pub(crate) fn ask(
        &mut self,
        host: &Host,
        gpus: bool,
        ask: &'static str,
        deadline: Duration,
    ) -> Result<Option<Report>, AskError> {
        if self.released {
            return Err(AskError::Released);
        }
        let path = if gpus { self.find(host) } else { None };
        let Some(path) = path else {
            self.forget();
            return Ok(None);
        };
        if self.found.as_ref().is_none_or(|found| found.path != path) {
            // A driver that was replaced has its library elsewhere, or there was none before.
            self.forget();
            let arguments: [OsString; 4] =
                ["probe".into(), NAME.into(), "--library".into(), path.clone().into()];
            self.found = Some(Found { path, child: self.launcher.child(arguments), events: Vec::new() });
        }
        let found = self.found.as_mut().expect("it was just found");
        let answer = found.child.ask(ask, deadline);
        found.events.extend(found.child.events());
        let value = answer?;
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| AskError::Ended(format!("it does not speak our language: {error}")))
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        self.collect();
        self.found.as_mut().map(|found| std::mem::take(&mut found.events)).unwrap_or_default()
    }

    /// Whether there are events to be taken.
    pub(crate) fn has_events(&mut self) -> bool {
        self.collect();
        self.found.as_ref().is_some_and(|found| !found.events.is_empty())
    }

    /// What is the matter if it is not there: it was there before, or somebody said where it is. A node without it is well.
    pub(crate) fn absence(&self, was_there: bool) -> Option<Problem> {
        let message = match &self.driver_root {
            _ if was_there => {
                format!("{FILE} is no longer there; what it told last of what does not move stays")
            }
            Some(root) => format!("{FILE} is not beneath the driver root {}", root.display()),
            None => return None,
        };
        Some(of_library(Missing::NotExposed, message))
    }

    /// Ends the process until the library is taken back; whether it has ended.
    pub(crate) fn release(&mut self) -> bool {
        self.released = true;
        self.found.as_mut().is_none_or(|found| found.child.release())
    }

    /// Lets the library be asked again, wherever it is then.
    pub(crate) fn take_back(&mut self) {
        self.released = false;
        self.forget();
    }

    /// How often the process had to be started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts + self.found.as_ref().map_or(0, |found| found.child.restarts())
    }

    fn collect(&mut self) {
        if let Some(found) = &mut self.found {
            found.events.extend(found.child.events());
        }
    }

    fn forget(&mut self) {
        if let Some(found) = self.found.take() {
            self.restarts += found.child.restarts();
        }
    }

    fn find(&self, host: &Host) -> Option<PathBuf> {
        let in_directory = |root: &Host, directory: &str| root.real_path(&format!("{directory}/{FILE}")).ok();
        if let Some(root) = &self.driver_root {
            // Opened anew each time: a driver container that is replaced mounts another root at the same place.
            let root = Host::open(root).ok()?;
            return DIRECTORIES.iter().find_map(|directory| in_directory(&root, directory));
        }
        let beneath_host =
            ROOTS.iter().flat_map(|root| DIRECTORIES.map(|directory| format!("{root}{directory}")));
        beneath_host.chain([GKE_DIRECTORY.to_owned()]).find_map(|directory| in_directory(host, &directory))
    }
}

/// An answer that is still to come is no problem.
pub(crate) fn problem(error: &AskError) -> Option<Problem> {
    match error {
        AskError::Pending => None,
        AskError::Released => Some(of_library(Missing::Released, error.to_string())),
        _ => Some(of_library(Missing::Unreadable, error.to_string())),
    }
}

fn of_library(reason: Missing, message: String) -> Problem {
    Problem { probe: NAME.to_owned(), device: None, fact: "nvml".to_owned(), reason, path: None, message }
}

/// The library is there and does not work.
pub(crate) fn init_problem(code: Code) -> Problem {
    let advice = match code {
        Code::LIB_RM_VERSION_MISMATCH => "library and kernel driver are of different versions",
        Code::NO_PERMISSION => "the device files /dev/nvidia* may not be opened",
        Code(9) => "the kernel driver is not loaded, or its device files are not visible here",
        _ => "see the kernel log",
    };
    of_library(Missing::Unreadable, format!("NVML cannot be initialised: {code}; {advice}"))
}
