//! The energy counter of a GPU, and the power between two of its readings.
//!
//! There are two files: `energy1_input` is that of the card, or of the package where the driver counts no card; `energy2_input` of
//! xe is that of the package. A GPU without one of the counters reports 0 there. They differ, so a counter has one file as long as
//! the GPU is there: a file that cannot be read makes the series absent, and the other one never takes its place.

use std::time::Instant;

use afd_model::Known;
use afd_probe::Facts;

use crate::interpret::watts;

/// In the order of preference.
const FILES: [&str; 2] = ["energy1_input", "energy2_input"];

/// The energy counter of a GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnergyCounter {
    file: Option<&'static str>,
    /// The file with its directory, whose number changes when the driver is loaded again.
    path: String,
    /// The last reading, in microjoules.
    last: Option<(Instant, u64)>,
}

impl EnergyCounter {
    /// Chooses the first file that counts, unless one was chosen before. A preferred file that cannot be read now is waited for.
    pub(crate) fn choose(&mut self, facts: &mut Facts<'_>, directory: &str) {
        let mut files = FILES.into_iter();
        while self.file.is_none()
            && let Some(file) = files.next()
        {
            match facts.number::<u64>("energy", &format!("{directory}/{file}")) {
                Known::Value(0) => {}
                Known::Value(_) => self.file = Some(file),
                Known::Missing { missing } if missing.is_undecided() => return,
                Known::Missing { .. } => {}
            }
        }
        let Some(file) = self.file else { return };
        let path = format!("{directory}/{file}");
        if self.path != path {
            *self = EnergyCounter { file: self.file, path, last: None };
        }
    }

    /// Whether the driver has a file that counts.
    pub(crate) fn is_chosen(&self) -> bool {
        self.file.is_some()
    }

    /// The device sleeps: there is no power over the time until the next reading, which would be that of two states.
    pub(crate) fn pause(&mut self) {
        self.last = None;
    }

    /// The energy in joules, and the power in watts since the last reading.
    pub(crate) fn read(&mut self, facts: &mut Facts<'_>, now: Instant) -> (Option<f64>, Option<f64>) {
        if self.file.is_none() {
            return (None, None);
        }
        let Known::Value(microjoules) = facts.number::<u64>("energy", &self.path) else {
            return (None, None);
        };
        let reading = (now, microjoules);
        let watts = self.last.replace(reading).and_then(|last| watts(last, reading));
        (Some(microjoules as f64 / 1e6), watts)
    }
}
