//! The stage `track` in the loop: feeds it what is observed, and saves what must survive a restart.

use std::{collections::BTreeMap, path::Path, time::Duration};

use afd_derive::vendors::VENDORS;
use afd_host::Host;
use afd_model::{ErrorCountRecord, Inventory, NodeFacts, OfferVerdict, Offers};
use afd_track::{
    Believed, Conditions, ConfirmedFault, Observation, Track, TrackOptions, TrackedVendor, VendorObservation,
};

use crate::{
    clock,
    probes::Probes,
    state_file::{AgentState, StateFile},
};

/// What is believed of the node, with the clocks and the file that it needs.
#[derive(Debug)]
pub struct Tracker {
    track: Track,
    boot_id: Option<String>,
    state: Option<StateFile>,
    /// The counts of an earlier agent, until the probes continue them.
    error_counts: Vec<ErrorCountRecord>,
    /// See [`Tracker::may_end_for`].
    ended_for: BTreeMap<String, String>,
}

/// What the stage `track` knows of each vendor.
pub fn tracked_vendors() -> impl Iterator<Item = TrackedVendor> {
    VENDORS.iter().map(|record| TrackedVendor {
        probe: record.probe,
        vendor: record.vendor,
        variant: record.variant,
        pci_vendors: record.pci_vendors,
        passthrough_drivers: record.passthrough_drivers,
        host_drivers: record.host_drivers,
    })
}

impl Tracker {
    /// Continues from what an earlier agent saved in `state_dir`.
    pub fn new(host: &Host, options: TrackOptions, state_dir: Option<&Path>) -> Tracker {
        let mut tracker = Tracker {
            track: Track::new(options, tracked_vendors()),
            boot_id: clock::boot_id(host),
            state: state_dir.map(StateFile::new),
            error_counts: Vec::new(),
            ended_for: BTreeMap::new(),
        };
        let saved = tracker.state.as_ref().and_then(StateFile::read);
        if let Some(saved) = saved.filter(|saved| saved.boot_id == tracker.boot_id()) {
            let boot_id = tracker.boot_id().to_owned();
            tracker.track.restore(saved.track, &boot_id);
            tracker.error_counts = saved.error_counts;
            tracker.ended_for = saved.ended_for;
        }
        tracker
    }

    /// Takes in the result of a discovery, if there was one, the libraries and the Node.
    pub fn observe(
        &mut self,
        inventory: Option<&Inventory>,
        probes: &Probes,
        node: Option<&NodeFacts>,
    ) -> &Believed {
        let vendors = VENDORS.iter().map(|record| {
            let (library, restarts) = probes.library(record.probe);
            let signal = node.and_then(|node| record.announced_maintenance(node));
            (record.probe, VendorObservation { library, restarts, signal })
        });
        let observation = Observation {
            now: clock::since_boot(),
            wall: clock::wall(),
            boot_id: self.boot_id.as_deref(),
            inventory,
            vendors: vendors.collect::<BTreeMap<_, _>>(),
            node,
        };
        self.track.observe(&observation)
    }

    /// The id of the running boot; empty where it cannot be read.
    pub fn boot_id(&self) -> &str {
        self.boot_id.as_deref().unwrap_or_default()
    }

    /// Whether the library of a probe must not be queried before the Node is read.
    pub fn is_released_at_start(&self, probe: &str) -> bool {
        self.track.is_released_at_start(probe, clock::since_boot())
    }

    /// What is believed after the last observation.
    pub fn believed(&self) -> &Believed {
        self.track.believed()
    }

    /// Takes in the offers; returns those that are believed.
    pub fn observe_offers(&mut self, offers: Option<&Offers>) -> Option<&Offers> {
        self.track.observe_offers(offers)
    }

    /// The conditions, with the verdict on the offers that are believed.
    pub fn conditions(&mut self, verdict: &OfferVerdict) -> Conditions {
        self.track.conditions(verdict)
    }

    /// The confirmed faults of devices, as the conditions have them.
    pub fn confirmed_faults(&self) -> &[ConfirmedFault] {
        self.track.confirmed_faults()
    }

    /// The counts of an earlier agent, once.
    pub fn take_error_counts(&mut self) -> Vec<ErrorCountRecord> {
        std::mem::take(&mut self.error_counts)
    }

    /// Saves what must survive a restart of the container; whether the next agent will know it.
    pub fn save(&mut self, probes: &Probes) -> bool {
        let boot_id = self.boot_id().to_owned();
        let Some(file) = &mut self.state else { return false };
        let track = self.track.save(&boot_id);
        let ended_for = self.ended_for.clone();
        file.write(AgentState { boot_id, track, error_counts: probes.error_counts(), ended_for })
    }

    /// Whether the agent may end so that its container is created again, with a library for this driver: once per version of the
    /// driver and boot, and only where the next agent will know. That it ends is saved.
    pub fn may_end_for(&mut self, probe: &str, driver_version: &str, probes: &Probes) -> bool {
        if self.ended_for.get(probe).is_some_and(|ended| ended == driver_version) {
            return false;
        }
        let earlier = self.ended_for.insert(probe.to_owned(), driver_version.to_owned());
        let is_saved = self.save(probes);
        if !is_saved {
            match earlier {
                Some(earlier) => drop(self.ended_for.insert(probe.to_owned(), earlier)),
                None => drop(self.ended_for.remove(probe)),
            }
        }
        is_saved
    }

    /// Whether the machine got devices of other kinds in place of the earlier ones since the last call.
    pub fn take_refitted(&mut self) -> bool {
        self.track.take_refitted()
    }

    /// Accepts that missing devices stay away; returns their ids.
    ///
    /// # Errors
    /// See [`Track::forget`].
    pub fn forget(&mut self, id: Option<&str>) -> Result<Vec<String>, String> {
        Ok(self.track.forget(id)?.into_iter().map(|missing| missing.id).collect())
    }

    /// When, since boot, what is believed may change by time alone.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.track.next_deadline()
    }
}
