//! What is believed of a node over time: the stage between the inventory and what is derived from it.
//!
//! Probes report what the kernel and the vendors' libraries say at one moment. [`Track`] decides how long something is believed
//! after its source changed or fell silent: when a device counts as removed, when a verdict expires, which devices are missing,
//! whether the driver is being worked on, and what the conditions of the Node are. It is pure: it opens no file, calls nothing
//! and has no clock; the time is an argument.
//!
//! All times are times since boot that run through a suspension of the machine (`CLOCK_BOOTTIME`).

mod believing;
mod conditions;
mod directives;
mod expected;
mod faults;
mod graces;
mod instance_types;
mod judging;
mod machine;
mod memory;
mod node;
mod offers;
mod presence;
mod problems;
mod state;
mod vendor;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use afd_model::{
    Condition, Decision, DeviceId, ExpectedDevices, Inventory, MissingDevice, NodeFacts, Offers,
};

pub use self::{
    directives::AdminExpectation,
    faults::ConfirmedFault,
    graces::Graces,
    state::SavedState,
    vendor::{TrackedVendor, VendorObservation},
};
use self::{
    expected::{GoneDevice, PciKind},
    faults::FaultTrack,
    node::NodeTrack,
    offers::OfferTrack,
    presence::Presence,
    problems::ProblemTrack,
    vendor::VendorTrack,
};

/// How a node is tracked.
#[derive(Clone, Debug, Default)]
pub struct TrackOptions {
    /// The graces.
    pub graces: Graces,
    /// Prefix of our own keys, without the slash.
    pub prefix: String,
    /// Whether integrated GPUs count.
    pub include_integrated: bool,
    /// Reasons of other classes than faults of devices that turn the condition `Problem`.
    pub problem_reasons: Vec<String>,
    /// What is expected where the Node has no annotation `expect`.
    pub expect: Option<AdminExpectation>,
    /// Whether there is a Node to be written.
    pub has_node: bool,
}

/// What is observed at one time.
#[derive(Debug, Default)]
pub struct Observation<'o> {
    /// The time since boot.
    pub now: Duration,
    /// The wall time in seconds since 1970, if the clock can be trusted.
    pub wall: Option<i64>,
    /// The id of this boot, if it can be read.
    pub boot_id: Option<&'o str>,
    /// The result of a discovery, if there was one.
    pub inventory: Option<&'o Inventory>,
    /// The library and the maintenance of each vendor, by the name of its probe.
    pub vendors: BTreeMap<&'static str, VendorObservation>,
    /// The Node, once it was read.
    pub node: Option<&'o NodeFacts>,
}

/// What is believed now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Believed {
    /// The devices that the kernel has, with what is known of them, and the missing ones.
    pub inventory: Arc<Inventory>,
    /// The same with devices that the kernel lacks for too short a time, and without problems that may not last.
    pub for_node: Arc<Inventory>,
    /// Whether the Node can be written: what it says of the devices has been compared with the kernel for long enough.
    pub is_settled: bool,
    /// Whether the Node describes this machine, so that what is undecided stays.
    pub inherits: bool,
    /// The annotation `expected`.
    pub memory: Decision<String>,
    /// How many devices are expected; none before the Node was read.
    pub expected: Option<Vec<ExpectedDevices>>,
    /// The vendors whose library must be released, by the name of the probe.
    pub released: BTreeSet<&'static str>,
}

/// The conditions of the Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    /// Whether every expected device can take work.
    pub ready: Decision<Condition>,
    /// Whether a device has a confirmed fault.
    pub problem: Decision<Condition>,
    /// The devices with a confirmed fault: the reasons by device. A fault counts until it has been gone for a while, like the
    /// condition: a source that is silent neither keeps it forever nor ends it at once.
    pub failed: Decision<BTreeMap<DeviceId, String>>,
}

/// What is believed of a node.
#[derive(Debug)]
pub struct Track {
    options: TrackOptions,
    /// When the agent was started.
    started: Option<Duration>,
    /// When conditions were first decided.
    settled_at: Option<Duration>,
    last: Duration,
    presence: Presence,
    vendors: Vec<VendorTrack>,
    node: NodeTrack,
    offers: OfferTrack,
    faults: FaultTrack,
    confirmed_faults: Vec<ConfirmedFault>,
    problems: ProblemTrack,
    /// The last discovery without its devices.
    surroundings: Inventory,
    /// Devices that were there since the agent was started.
    gone: Vec<GoneDevice>,
    /// How many devices that the Node remembers are not there, and since when, for an earlier agent as well.
    lacking: Option<(usize, Duration)>,
    believed: Believed,
    /// How to expect fewer devices, where that is not learnt.
    how_to_change: Option<String>,
    is_offered: bool,
    is_refitted: bool,
}

impl Track {
    /// Nothing is known yet.
    pub fn new(options: TrackOptions, vendors: impl IntoIterator<Item = TrackedVendor>) -> Track {
        let vendors = vendors.into_iter().map(|vendor| VendorTrack::new(vendor, Duration::ZERO));
        let expect = options.expect.clone().map(|AdminExpectation(expect)| expect);
        Track {
            options,
            started: None,
            settled_at: None,
            last: Duration::ZERO,
            presence: Presence::default(),
            vendors: vendors.collect(),
            node: NodeTrack::new(expect),
            offers: OfferTrack::default(),
            faults: FaultTrack::default(),
            confirmed_faults: Vec::new(),
            problems: ProblemTrack::default(),
            surroundings: Inventory::default(),
            gone: Vec::new(),
            lacking: None,
            believed: Believed::default(),
            how_to_change: None,
            is_offered: true,
            is_refitted: false,
        }
    }

    /// Takes in an observation; returns what is believed after it.
    pub fn observe(&mut self, observation: &Observation<'_>) -> &Believed {
        let now = observation.now;
        self.keep_time(now);
        if let Some(inventory) = observation.inventory {
            self.observe_devices(inventory, now);
        }
        self.observe_vendors(observation);
        self.observe_node(observation);
        self.believed = self.believe(observation);
        &self.believed
    }

    /// Whether the library of a probe must not be queried before the Node is read: when an earlier agent ended, maintenance was
    /// announced.
    pub fn is_released_at_start(&self, probe: &str, now: Duration) -> bool {
        let mut vendors = self.vendors.iter().filter(|vendor| vendor.vendor.probe == probe);
        vendors.any(|vendor| vendor.may_be_announced(now, &self.options.graces))
    }

    /// What is believed after the last observation.
    pub fn believed(&self) -> &Believed {
        &self.believed
    }

    /// Takes in what is offered now, none before the API server has reported all of it; returns the offers that are believed.
    pub fn observe_offers(&mut self, offers: Option<&Offers>) -> Option<&Offers> {
        self.offers.observe(offers, self.last, &self.options.graces);
        self.offers.accepted()
    }

    /// Whether the machine got devices of other kinds in place of the earlier ones since the last call.
    pub fn take_refitted(&mut self) -> bool {
        std::mem::take(&mut self.is_refitted)
    }

    /// Accepts that what is missing now stays away; returns the missing devices. `id` selects one of them.
    ///
    /// # Errors
    /// Only what was learnt can be forgotten. Where another source expects the devices, the error says how to change that.
    pub fn forget(&mut self, id: Option<&str>) -> Result<Vec<MissingDevice>, String> {
        let missing = &self.believed.for_node.missing;
        let is_selected = |missing: &&MissingDevice| id.is_none_or(|id| missing.id == id);
        let forgotten: Vec<MissingDevice> = missing.iter().filter(is_selected).cloned().collect();
        if let Some(how) = self.how_to_change.as_ref().filter(|_| !forgotten.is_empty()) {
            return Err(how.clone());
        }
        for device in &forgotten {
            let kind = device.vendor_id.zip(device.device_id);
            let kind = kind.map(|(vendor, device)| PciKind { vendor, device });
            self.node.forget(kind, device.uuid.as_deref());
            self.gone.retain(|gone| Some(gone.kind) != kind || gone.uuid != device.uuid);
        }
        Ok(forgotten)
    }

    /// When what is believed may change by time alone.
    pub fn next_deadline(&self) -> Option<Duration> {
        let (now, graces) = (self.last, &self.options.graces);
        let vendors = self.vendors.iter().flat_map(|vendor| {
            [vendor.verdicts_expire_at(graces), vendor.driver_expected_until(graces)].into_iter().flatten()
        });
        let others = [
            self.presence.deadline(now, graces),
            self.offers.deadline(now, graces),
            self.faults.deadline(now, graces),
            self.settled_at.map(|settled| settled + graces.fault),
            self.settles_at(now),
        ];
        vendors.chain(others.into_iter().flatten()).filter(|deadline| *deadline > now).min()
    }

    /// After a time without any observation all graces restart: the machine was suspended.
    fn keep_time(&mut self, now: Duration) {
        let is_first = self.started.is_none();
        let started = *self.started.get_or_insert(now);
        if is_first {
            self.vendors.iter_mut().for_each(|vendor| vendor.restart(now));
        } else if now.saturating_sub(self.last) > self.options.graces.gap && started < now {
            self.started = Some(now);
            self.settled_at = None;
            self.presence.restart(now);
            self.vendors.iter_mut().for_each(|vendor| vendor.restart(now));
            self.offers.restart();
            self.lacking = self.lacking.map(|(count, _)| (count, now));
            self.faults.restart(now);
            self.problems.restart(now);
        }
        self.last = now;
    }

    fn observe_devices(&mut self, inventory: &Inventory, now: Duration) {
        let before: Vec<GoneDevice> = self
            .presence
            .devices
            .values()
            .filter(|tracked| tracked.is_expected_to_stay())
            .filter_map(|tracked| {
                let device = &tracked.known;
                Some(GoneDevice {
                    kind: PciKind::of(device)?,
                    uuid: device.uuid.value().cloned(),
                    id: Some(device.id),
                    product: device.product_name().map(str::to_owned),
                })
            })
            .collect();
        self.presence.observe(&inventory.devices, now, &self.options.graces);
        // As long as a device: what comes and goes is no change of the node.
        self.problems.observe(&inventory.problems, now, self.options.graces.removal);
        let is_there = |gone: &GoneDevice| {
            let of_uuid = gone.uuid.as_deref().is_some_and(|uuid| self.presence.contains_uuid(uuid));
            of_uuid || gone.id.is_some_and(|id| self.presence.devices.contains_key(&id))
        };
        self.gone.extend(before);
        self.gone.retain(|gone| !is_there(gone));
        self.gone.sort_by_key(|gone| gone.id);
        self.gone.dedup_by_key(|gone| gone.id);
        self.surroundings = Inventory { devices: Vec::new(), ..inventory.clone() };
    }

    fn observe_vendors(&mut self, observation: &Observation<'_>) {
        for vendor in &mut self.vendors {
            let observed = observation.vendors.get(vendor.vendor.probe).copied().unwrap_or_default();
            let own = vendor.vendor;
            let devices = self.presence.devices.values().map(|tracked| &tracked.observed);
            let devices = judging::without_bystanders(devices.filter(|device| own.covers(device)).collect());
            let devices = devices.into_iter();
            let knows_node = observation.node.is_some() || !self.options.has_node;
            vendor.observe(
                observed,
                devices,
                self.is_offered,
                knows_node,
                observation.now,
                &self.options.graces,
            );
        }
    }

    fn observe_node(&mut self, observation: &Observation<'_>) {
        let Some(node) = observation.node else { return };
        let waited = observation.now.saturating_sub(self.started.unwrap_or(observation.now));
        let TrackOptions { prefix, graces, .. } = &self.options;
        let devices = self.presence.devices.values().filter(|tracked| tracked.is_expected_to_stay());
        let kinds = devices.filter_map(|tracked| PciKind::of(&tracked.observed)).collect();
        let is_first = self.node.observe(node, prefix, &kinds, observation, waited, graces);
        if !is_first || !self.node.inherits() {
            return;
        }
        // What began before this agent was started goes on.
        for vendor in &mut self.vendors {
            vendor.assume_bound_before(observation.now);
            if let Some(since) = self.node.unconfirmed_since() {
                vendor.restore(since);
            }
        }
    }
}

#[cfg(test)]
mod tests;
