//! Where the library is, and what is said of one that does not work.

use std::{path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{Launcher, RequestError},
};
use afd_model::{Missing, Problem};
use afd_probe::library::{DIRECTORIES, LibraryProcess};
use serde_json::Value;

use crate::{
    NAME,
    nvml::answers::{Code, Report},
};

const FILE: &str = "libnvidia-ml.so.1";
/// The library in a problem.
const FACT: &str = "nvml";
/// Roots of drivers beneath the host: its own, the GPU operator's driver container's, GKE's.
const ROOTS: [&str; 2] = ["", "/run/nvidia/driver"];
const GKE_DIRECTORY: &str = "/home/kubernetes/bin/nvidia/lib64";

/// The library and its process.
#[derive(Debug)]
pub(crate) struct Library {
    process: LibraryProcess,
    driver_root: Option<PathBuf>,
    released: bool,
}

impl Library {
    pub(crate) fn new(launcher: Launcher, driver_root: Option<PathBuf>) -> Library {
        Library { process: LibraryProcess::new(launcher, NAME), driver_root, released: false }
    }

    /// What the library answers; nothing if there is no GPU for it or it is not there.
    pub(crate) fn ask(
        &mut self,
        host: &Host,
        gpus: bool,
        ask: &'static str,
        deadline: Duration,
    ) -> Result<Option<Report>, RequestError> {
        if self.released {
            return Err(RequestError::Released);
        }
        let path = if gpus { self.find(host) } else { None };
        self.process.request(path, ask, deadline)
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        self.process.events()
    }

    /// Whether there are events to be taken.
    pub(crate) fn has_events(&mut self) -> bool {
        self.process.has_events()
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
        Some(problem_of(Missing::NotExposed, message))
    }

    /// Ends the process until the library is taken back; whether it has ended.
    pub(crate) fn release(&mut self) -> bool {
        self.released = true;
        self.process.release()
    }

    /// Lets the library be asked again, wherever it is then.
    pub(crate) fn reacquire(&mut self) {
        self.released = false;
        self.process.reacquire();
    }

    /// How often the process had to be started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.process.restarts()
    }

    fn find(&self, host: &Host) -> Option<PathBuf> {
        let beneath = |root: &str| DIRECTORIES.map(|directory| format!("{root}{directory}"));
        if let Some(root) = &self.driver_root {
            // Opened anew each time: a driver container that is replaced mounts another root at the same place.
            return find(&Host::open(root).ok()?, &beneath(""), &[FILE]);
        }
        let directories: Vec<String> =
            ROOTS.into_iter().flat_map(beneath).chain([GKE_DIRECTORY.to_owned()]).collect();
        find(host, &directories, &[FILE])
    }
}

/// An answer that is still to come is no problem.
pub(crate) fn problem(error: &RequestError) -> Option<Problem> {
    match error {
        RequestError::Pending => None,
        RequestError::Released => Some(problem_of(Missing::Released, error.to_string())),
        _ => Some(problem_of(Missing::Unreadable, error.to_string())),
    }
}

/// The library is there and does not work.
pub(crate) fn init_problem(code: Code) -> Problem {
    let advice = match code {
        Code::LIB_RM_VERSION_MISMATCH => "library and kernel driver are of different versions",
        Code::NO_PERMISSION => "the device files /dev/nvidia* may not be opened",
        Code(9) => "the kernel driver is not loaded, or its device files are not visible here",
        _ => "see the kernel log",
    };
    problem_of(Missing::Unreadable, format!("NVML cannot be initialised: {code}; {advice}"))
}

fn find(root: &Host, directories: &[String], files: &[&str]) -> Option<PathBuf> {
    files.iter().find_map(|file| {
        directories.iter().find_map(|directory| root.real_path(&format!("{directory}/{file}")).ok())
    })
}

/// A problem of the library as a whole.
fn problem_of(reason: Missing, message: String) -> Problem {
    Problem { probe: NAME.to_owned(), device: None, fact: FACT.to_owned(), reason, path: None, message }
}
