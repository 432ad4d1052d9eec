//! What survives a restart of the agent on the same node without being written to the Node: when graces began.

use std::{collections::BTreeMap, time::Duration};

use afd_model::{DeviceId, MaintenanceKind};
use serde::{Deserialize, Serialize};

use crate::{Track, faults::FaultTimes, vendor::AnnouncedMaintenance};

/// When graces began, in seconds since boot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedState {
    /// The boot that the times are of.
    boot_id: String,
    /// Since when verdicts are unconfirmed, by the name of the probe.
    unconfirmed: BTreeMap<String, u64>,
    /// The fault of a device or a library.
    #[serde(default)]
    known_faults: BTreeMap<String, SavedFault>,
    /// The maintenance that is announced, by the name of the probe.
    #[serde(default)]
    maintenance: BTreeMap<String, SavedMaintenance>,
    /// Since when a device is in a state that counts after a grace only, with the code of that state.
    tentative: Vec<(DeviceId, String, u64)>,
    /// Since when offers are incomplete.
    incomplete_offers: Option<u64>,
    /// How many devices that the Node remembers are not there, and since when.
    lacking: Option<(usize, u64)>,
}

/// When a fault began and ended, and whether it was a problem.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct SavedFault {
    since: u64,
    ended: Option<u64>,
    is_problem: bool,
}

/// Announced maintenance, and when its signal ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct SavedMaintenance {
    kind: MaintenanceKind,
    since: u64,
    signal_ended: Option<u64>,
}

impl Track {
    /// What a later agent continues from.
    pub fn save(&self, boot_id: &str) -> SavedState {
        let unconfirmed = self.vendors.iter().filter_map(|vendor| {
            Some((vendor.vendor.probe.to_owned(), vendor.unconfirmed_since()?.as_secs()))
        });
        let faults = self.faults.times().into_iter().map(|(subject, times)| {
            let FaultTimes { since, ended, is_problem } = times;
            let ended = ended.map(|ended| ended.as_secs());
            (subject, SavedFault { since: since.as_secs(), ended, is_problem })
        });
        let maintenance = self.vendors.iter().filter_map(|vendor| {
            let AnnouncedMaintenance { kind, since, signal_ended } = vendor.announced_maintenance()?;
            let signal_ended = signal_ended.map(|ended| ended.as_secs());
            let saved = SavedMaintenance { kind, since: since.as_secs(), signal_ended };
            Some((vendor.vendor.probe.to_owned(), saved))
        });
        let tentative = self.presence.devices.iter().filter_map(|(id, tracked)| {
            let (code, since) = tracked.tentative.as_ref()?;
            Some((*id, code.clone(), since.as_secs()))
        });
        SavedState {
            boot_id: boot_id.to_owned(),
            unconfirmed: unconfirmed.collect(),
            known_faults: faults.collect(),
            maintenance: maintenance.collect(),
            tentative: tentative.collect(),
            incomplete_offers: self.offers.incomplete_since().map(|since| since.as_secs()),
            lacking: self.lacking.map(|(count, since)| (count, since.as_secs())),
        }
    }

    /// Continues from what an earlier agent saved in the same boot. Before the first observation.
    pub fn restore(&mut self, state: SavedState, boot_id: &str) {
        if state.boot_id != boot_id {
            return;
        }
        for vendor in &mut self.vendors {
            if let Some(since) = state.unconfirmed.get(vendor.vendor.probe) {
                vendor.restore(since_boot(*since));
            }
            if let Some(saved) = state.maintenance.get(vendor.vendor.probe) {
                let SavedMaintenance { kind, since, signal_ended } = *saved;
                let (since, signal_ended) = (since_boot(since), signal_ended.map(since_boot));
                vendor.restore_maintenance(AnnouncedMaintenance { kind, since, signal_ended });
            }
        }
        let faults = state.known_faults.into_iter().map(|(subject, fault)| {
            let SavedFault { since, ended, is_problem } = fault;
            (subject, FaultTimes { since: since_boot(since), ended: ended.map(since_boot), is_problem })
        });
        self.faults.restore(faults.collect());
        let tentative = state.tentative.into_iter();
        self.presence.earlier = tentative.map(|(id, code, since)| (id, (code, since_boot(since)))).collect();
        self.lacking = state.lacking.map(|(count, seconds)| (count, since_boot(seconds)));
        self.offers.restore(state.incomplete_offers.map(since_boot));
    }
}

/// A time since boot that was saved. No machine runs longer than 136 years, and graces can be added to that.
fn since_boot(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(u32::MAX.into()))
}
