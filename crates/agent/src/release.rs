//! Releasing vendors' drivers so that they can be replaced: the requests, and the loop's part that fulfils them.
//!
//! A driver is released while something on the Node announces work on it, or did when an earlier agent ended and the Node was not
//! read yet, and after `afd release <vendor>` until `--end`,
//! until another version of the driver is loaded, or until announced work is over. Each vendor's driver is released on its own.

use std::{collections::BTreeMap, sync::Arc};

use afd_derive::vendors::{VENDORS, VendorRecord};
use afd_model::Inventory;
use tokio::sync::watch;

use crate::probes::Probes;

/// The release of each vendor's driver, as requested and as it is. Clones share it.
#[derive(Clone)]
pub struct Releases {
    drivers: Arc<BTreeMap<&'static str, DriverRelease>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The release of one vendor's driver.
struct DriverRelease {
    record: &'static VendorRecord,
    requests: watch::Sender<ReleaseRequests>,
    state: watch::Sender<ReleaseState>,
}

/// Who requests that a driver is released.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct ReleaseRequests {
    /// An operator, by `afd release`.
    operator: bool,
    /// Something on the Node announces work on the driver.
    announced: bool,
    /// It did when an earlier agent ended, and the Node was not read yet.
    expected: bool,
}

impl ReleaseRequests {
    fn any(self) -> bool {
        self.operator || self.announced || self.expected
    }
}

/// Whether the agent holds a driver open.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ReleaseState {
    /// It may.
    #[default]
    Held,
    /// It does not.
    Released,
    /// These processes were killed and have not ended: they hang in the driver.
    Hanging(Vec<u32>),
}

impl ReleaseState {
    /// The state of a driver that is released while these processes live.
    fn released(living: Vec<u32>) -> ReleaseState {
        if living.is_empty() { ReleaseState::Released } else { ReleaseState::Hanging(living) }
    }
}

impl Releases {
    /// No release is requested yet. `wake` wakes the loop.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Releases {
        let release = |record: &&'static VendorRecord| {
            let requests = watch::Sender::new(ReleaseRequests::default());
            let state = watch::Sender::new(ReleaseState::default());
            (record.probe, DriverRelease { record, requests, state })
        };
        let drivers = VENDORS.iter().filter(|record| record.library.is_some()).map(release).collect();
        Releases { drivers: Arc::new(drivers), wake }
    }

    /// An operator requests that the driver of a probe is released, or reacquired. Returns whether none had requested it before.
    pub fn request(&self, probe: &str, release: bool) -> bool {
        self.update(probe, |requests| requests.operator = release)
    }

    /// Whether work on the driver is announced. When it is over, an operator's request for it is, too.
    pub fn announce(&self, probe: &str, announced: bool) {
        self.update(probe, |requests| {
            requests.operator &= announced || !requests.announced;
            requests.announced = announced;
        });
    }

    /// Whether work on the driver may be announced on the Node, which was not read yet.
    pub fn expect(&self, probe: &str, expected: bool) {
        self.update(probe, |requests| requests.expected = expected);
    }

    /// Whether the release of the driver of a probe is requested.
    pub fn is_requested(&self, probe: &str) -> bool {
        self.drivers.get(probe).is_some_and(|driver| driver.requests.borrow().any())
    }

    /// Waits until the state of a driver is as requested; none if the probe has no library.
    pub async fn settled(&self, probe: &str) -> Option<ReleaseState> {
        let mut state = self.drivers.get(probe)?.state.subscribe();
        loop {
            let now = state.borrow_and_update().clone();
            // The sender is alive as long as `self`.
            if (now != ReleaseState::Held) == self.is_requested(probe) || state.changed().await.is_err() {
                return Some(now);
            }
        }
    }

    /// Changes the requests for a driver. Returns whether they are others now.
    fn update(&self, probe: &str, change: impl FnOnce(&mut ReleaseRequests)) -> bool {
        let Some(driver) = self.drivers.get(probe) else { return false };
        let changed = driver.requests.send_if_modified(|requests| {
            let before = *requests;
            change(requests);
            *requests != before
        });
        if changed {
            (self.wake)();
        }
        changed
    }
}

/// The loop's part: releases and reacquires drivers as requested.
pub struct ReleaseController {
    releases: Releases,
    /// The driver at the time of the release, by probe; only of drivers that are released.
    released: BTreeMap<&'static str, ReleasedDriver>,
}

/// A driver at the time of its release.
enum ReleasedDriver {
    /// There was no discovery yet.
    Undiscovered,
    /// Its version, if one was loaded.
    Version(Option<String>),
}

impl ReleaseController {
    /// Whether work on the driver of a probe is announced.
    pub fn announce(&self, probe: &str, announced: bool) {
        self.releases.announce(probe, announced);
    }

    /// Whether work on the driver of a probe may be announced.
    pub fn expect(&self, probe: &str, expected: bool) {
        self.releases.expect(probe, expected);
    }

    /// All drivers are held.
    pub fn new(releases: Releases) -> ReleaseController {
        ReleaseController { releases, released: BTreeMap::new() }
    }

    /// Releases and reacquires drivers as currently requested. `inventory` is none before the first discovery.
    pub fn apply(&mut self, probes: &mut Probes, inventory: Option<&Inventory>) {
        let releases = self.releases.clone();
        for (probe, driver) in releases.drivers.iter() {
            let version = inventory.map(|inventory| driver_version(driver.record, inventory));
            match (self.released.get_mut(probe), &version) {
                (Some(old @ ReleasedDriver::Undiscovered), Some(version)) => {
                    *old = ReleasedDriver::Version(version.clone());
                }
                (Some(ReleasedDriver::Version(old)), Some(version))
                    if version.is_some() && version != old =>
                {
                    self.releases.request(probe, false);
                }
                _ => {}
            }
            match (self.released.contains_key(probe), self.releases.is_requested(probe)) {
                (false, true) => {
                    let living = probes.release(probe);
                    let released = version.map_or(ReleasedDriver::Undiscovered, ReleasedDriver::Version);
                    self.released.insert(probe, released);
                    tracing::info!(
                        probe,
                        ?living,
                        "driver released; its samples are absent until it is reacquired"
                    );
                    driver.state.send_replace(ReleaseState::released(living));
                }
                (true, true) if matches!(*driver.state.borrow(), ReleaseState::Hanging(_)) => {
                    let state = ReleaseState::released(probes.release(probe));
                    if state == ReleaseState::Released {
                        tracing::info!(probe, "the processes that hung in the driver have ended");
                    }
                    driver.state.send_replace(state);
                }
                (true, false) => {
                    probes.reacquire(probe);
                    self.released.remove(probe);
                    driver.state.send_replace(ReleaseState::Held);
                    tracing::info!(probe, "driver reacquired");
                }
                _ => {}
            }
        }
    }
}

/// The version of the loaded driver, or of the last one.
fn driver_version(record: &VendorRecord, inventory: &Inventory) -> Option<String> {
    let mut devices = inventory.devices.iter().filter(|device| record.covers(device));
    devices.find_map(|device| device.driver_version.value().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases() -> Releases {
        Releases::new(Arc::new(|| ()))
    }

    /// Two probes with a library.
    fn probes() -> (&'static str, &'static str) {
        let mut probes = VENDORS.iter().filter(|record| record.library.is_some()).map(|record| record.probe);
        let first = probes.next().expect("a vendor has a library");
        (first, probes.next().expect("two vendors have a library"))
    }

    #[test]
    fn a_driver_is_released_while_the_node_or_an_operator_requests_it() {
        let (probe, other) = probes();
        let releases = releases();
        releases.announce(probe, true);
        releases.request(probe, false);
        assert!(releases.is_requested(probe), "the Node still announces the work");
        assert!(!releases.is_requested(other));
        releases.announce(probe, false);
        assert!(!releases.is_requested(probe));
        releases.request(probe, true);
        releases.announce(probe, false);
        assert!(releases.is_requested(probe), "a Node without signals changes nothing");
        releases.expect(probe, true);
        releases.announce(probe, false);
        releases.expect(probe, false);
        assert!(releases.is_requested(probe), "what was only expected ends no request");
        releases.request(probe, false);
        releases.expect(probe, true);
        assert!(releases.is_requested(probe));
    }

    #[test]
    fn the_end_of_announced_work_ends_the_operators_request() {
        let (probe, other) = probes();
        let releases = releases();
        releases.request(probe, true);
        releases.request(other, true);
        releases.announce(probe, true);
        releases.announce(probe, false);
        assert!(!releases.is_requested(probe));
        assert!(releases.is_requested(other), "the work was not on this driver");
    }

    #[test]
    fn a_probe_without_a_library_has_no_driver_to_release() {
        let releases = releases();
        let probe = VENDORS.iter().find(|record| record.library.is_none()).expect("there is one").probe;
        releases.request(probe, true);
        assert!(!releases.is_requested(probe));
    }
}
