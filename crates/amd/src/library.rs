//! Where AMD's libraries are, and what is said of one that does not work.

use std::{path::PathBuf, time::Duration};

use afd_host::{
    Host,
    child::{Launcher, RequestError},
};
use afd_model::{DeviceId, Missing, Problem};
use afd_probe::library::{self, DIRECTORIES};

use crate::{
    NAME,
    smi::answers::{Answers, Code, Report},
};

/// AMD SMI goes before ROCm SMI. ROCm's own packages have the plain name; distributions have it in their packages for
/// developers alone, so that the versions are looked for as well.
const FILES: [&str; 10] = [
    "libamd_smi.so",
    "libamd_smi.so.27",
    "libamd_smi.so.26",
    "libamd_smi.so.25",
    "libamd_smi.so.24",
    "librocm_smi64.so",
    "librocm_smi64.so.7",
    "librocm_smi64.so.6",
    "librocm_smi64.so.5",
    "librocm_smi64.so.1",
];
/// Where ROCm's own packages put their libraries.
const ROCM_DIRECTORIES: [&str; 2] = ["/opt/rocm/lib", "/opt/rocm/lib64"];
/// The library in a problem.
const FACT: &str = "smi";

/// The library and its process.
#[derive(Debug)]
pub(crate) struct Library {
    process: library::Library,
    rocm_root: Option<PathBuf>,
}

impl Library {
    pub(crate) fn new(launcher: Launcher, rocm_root: Option<PathBuf>) -> Library {
        Library { process: library::Library::new(launcher, NAME), rocm_root }
    }

    /// What the library answers; nothing if it is not there.
    pub(crate) fn ask(
        &mut self,
        host: &Host,
        ask: &'static str,
        deadline: Duration,
    ) -> Result<Option<Report>, RequestError> {
        let directories: Vec<String> =
            ROCM_DIRECTORIES.into_iter().chain(DIRECTORIES).map(str::to_owned).collect();
        let path = match &self.rocm_root {
            // Opened anew each time, since another one may be mounted at the same place.
            Some(root) => Host::open(root).ok().and_then(|root| library::find(&root, &directories, &FILES)),
            None => library::find(host, &directories, &FILES),
        };
        self.process.ask(path, ask, deadline)
    }

    /// Ends the process, so that the next one finds out anew which devices there are.
    pub(crate) fn end(&mut self) {
        self.process.end();
    }

    /// How often the process had to be started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.process.restarts()
    }
}

/// An answer that is still to come is no problem.
pub(crate) fn problem(error: &RequestError) -> Option<Problem> {
    library::problem(NAME, FACT, error)
}

/// The library is there and cannot be initialised.
pub(crate) fn init_problem(library: &str, code: &Code) -> Problem {
    let message =
        format!("{library} cannot be initialised: {code}; KFD or the device files may not be visible here");
    library::unusable(NAME, FACT, message)
}

/// Calls on one device that failed although the part should have them, as one problem for each reason: what they tell is
/// often one file that cannot be opened.
pub(crate) fn failures(device: DeviceId, answers: &Answers) -> Vec<Problem> {
    let mut by_reason: Vec<(Missing, Vec<String>)> = Vec::new();
    for (call, code) in answers.errors() {
        let told = format!("{call} {code}");
        let reason = Missing::from(code);
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, calls)) => calls.push(told),
            None => by_reason.push((reason, vec![told])),
        }
    }
    let problems = by_reason.into_iter().filter(|(reason, _)| reason.is_problem());
    problems
        .map(|(reason, calls)| Problem {
            probe: NAME.to_owned(),
            device: Some(device),
            fact: FACT.to_owned(),
            reason,
            path: None,
            message: format!("the library refused: {}", calls.join(", ")),
        })
        .collect()
}
