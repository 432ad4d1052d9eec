//! The stage `track` in the loop: feeds it what is observed, and saves what must survive a restart.

use std::{collections::BTreeMap, path::Path, time::Duration};

use afd_derive::vendors::VENDORS;
use afd_host::Host;
use afd_model::{Inventory, NodeFacts, OfferVerdict, Offers};
use afd_track::{Believed, Conditions, Observation, Track, TrackOptions, TrackedVendor, VendorObservation};

use crate::{clock, probes::Probes, state_file::StateFile};

/// What is believed of the node, with the clocks and the file that it needs.
#[derive(Debug)]
pub struct Tracker {
    track: Track,
    boot_id: Option<String>,
    state: Option<StateFile>,
}

impl Tracker {
    /// Continues from what an earlier agent saved in `state_dir`.
    pub fn new(host: &Host, options: TrackOptions, state_dir: Option<&Path>) -> Tracker {
        let vendors = VENDORS.iter().map(|record| TrackedVendor {
            probe: record.probe,
            vendor: record.vendor,
            variant: record.variant,
            pci_vendors: record.pci_vendors,
            passthrough_drivers: record.passthrough_drivers,
        });
        let mut tracker = Tracker {
            track: Track::new(options, vendors),
            boot_id: clock::boot_id(host),
            state: state_dir.map(StateFile::new),
        };
        if let Some(state) = tracker.state.as_ref().and_then(StateFile::read) {
            let boot_id = tracker.boot_id().to_owned();
            tracker.track.restore(state, &boot_id);
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

    /// What is believed after the last observation.
    pub fn believed(&self) -> &Believed {
        self.track.believed()
    }

    /// Takes in the offers; returns those that are believed.
    pub fn observe_offers(&mut self, offers: Option<&Offers>) -> Option<&Offers> {
        self.track.observe_offers(offers)
    }

    /// The conditions, with the verdict on the offers that are believed. Ends an observation.
    pub fn conditions(&mut self, verdict: &OfferVerdict) -> Conditions {
        let conditions = self.track.conditions(verdict);
        if let Some(state) = &mut self.state {
            state.write(self.track.save(self.boot_id.as_deref().unwrap_or_default()));
        }
        conditions
    }

    /// Whether the machine got devices of other kinds in place of the earlier ones since the last call.
    pub fn take_refitted(&mut self) -> bool {
        self.track.take_refitted()
    }

    /// Accepts that missing devices stay away; returns their ids.
    pub fn forget(&mut self, id: Option<&str>) -> Vec<String> {
        self.track.forget(id).into_iter().map(|missing| missing.id).collect()
    }

    /// When, since boot, what is believed may change by time alone.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.track.next_deadline()
    }
}
