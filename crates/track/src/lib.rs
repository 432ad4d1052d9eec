//! What is believed of a node over time: the stage between the inventory and what is derived from it.
//!
//! Probes report what the kernel and the vendors' libraries say at one moment. [`Track`] decides how long something is believed
//! after its source changed or fell silent: when a device counts as removed, when a verdict expires, which devices are missing,
//! whether the driver is being worked on, and what the conditions of the Node are. It is pure: it opens no file, calls nothing
//! and has no clock; the time is an argument.
//!
//! All times are times since boot that run through a suspension of the machine (`CLOCK_BOOTTIME`).

mod conditions;
mod directives;
mod expected;
mod faults;
mod graces;
mod instance_types;
mod machine;
mod memory;
mod node;
mod offers;
mod presence;
mod state;
mod vendor;
mod verdicts;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use afd_model::{
    Condition, Decision, Device, ExpectedDevices, HealthState, Inventory, LibraryStatus, MissingDevice,
    NodeFacts, OfferVerdict, Offers, Problem,
};

use self::{
    conditions::ConditionInputs,
    expected::{GoneDevice, PciKind, PresentDevice},
    faults::{FaultTrack, FaultVerdict, ObservedFault},
    node::NodeTrack,
    offers::{OfferCause, OfferTrack},
    presence::Presence,
    vendor::VendorTrack,
    verdicts::VendorView,
};
pub use self::{
    directives::AdminExpectation,
    graces::Graces,
    state::SavedState,
    vendor::{TrackedVendor, VendorObservation},
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
    pub inventory: Inventory,
    /// The same with devices that the kernel lacks for too short a time.
    pub for_node: Inventory,
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
}

/// What is believed of a node.
#[derive(Debug)]
pub struct Track {
    options: TrackOptions,
    /// When the agent was started.
    started: Option<Duration>,
    last: Duration,
    presence: Presence,
    vendors: Vec<VendorTrack>,
    node: NodeTrack,
    offers: OfferTrack,
    faults: FaultTrack,
    /// The last discovery without its devices.
    surroundings: Inventory,
    /// Devices that were there since the agent was started.
    gone: Vec<GoneDevice>,
    /// How many devices that the Node remembers are not there, and since when, for an earlier agent as well.
    lacking: Option<(usize, Duration)>,
    believed: Believed,
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
            last: Duration::ZERO,
            presence: Presence::default(),
            vendors: vendors.collect(),
            node: NodeTrack::new(expect),
            offers: OfferTrack::default(),
            faults: FaultTrack::default(),
            surroundings: Inventory::default(),
            gone: Vec::new(),
            lacking: None,
            believed: Believed::default(),
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

    /// What is believed after the last observation.
    pub fn believed(&self) -> &Believed {
        &self.believed
    }

    /// Takes in what is offered now, none before the API server has reported all of it; returns the offers that are believed.
    pub fn observe_offers(&mut self, offers: Option<&Offers>) -> Option<&Offers> {
        self.offers.observe(offers, self.last, &self.options.graces);
        self.offers.accepted()
    }

    /// The conditions after the last observation, with the verdict on the offers that are believed.
    pub fn conditions(&mut self, verdict: &OfferVerdict) -> Conditions {
        let (now, graces) = (self.last, self.options.graces);
        self.is_offered =
            *verdict != OfferVerdict::Unknown && !matches!(verdict, OfferVerdict::Incomplete(_));
        let offers = match self.options.has_node {
            true => self.offers.judge(verdict, now, &graces),
            false => OfferCause::None,
        };
        let faults = self.judge_faults();
        if !self.believed.is_settled {
            return Conditions::default();
        }
        let inputs = self.condition_inputs(offers, faults);
        Conditions { ready: inputs.ready(), problem: inputs.problem(&self.options.problem_reasons) }
    }

    /// Whether the machine got devices of other kinds in place of the earlier ones since the last call.
    pub fn take_refitted(&mut self) -> bool {
        std::mem::take(&mut self.is_refitted)
    }

    /// Accepts that what is missing now stays away; returns the missing devices. `id` selects one of them.
    pub fn forget(&mut self, id: Option<&str>) -> Vec<MissingDevice> {
        let missing = &self.believed.for_node.missing;
        let is_selected = |missing: &&MissingDevice| id.is_none_or(|id| missing.id == id);
        let forgotten: Vec<MissingDevice> = missing.iter().filter(is_selected).cloned().collect();
        for device in &forgotten {
            let kind = device.vendor_id.zip(device.device_id);
            let kind = kind.map(|(vendor, device)| PciKind { vendor, device });
            self.node.forget(kind, device.uuid.as_deref());
            self.gone.retain(|gone| Some(gone.kind) != kind || gone.uuid != device.uuid);
        }
        forgotten
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
            self.presence.restart(now);
            self.vendors.iter_mut().for_each(|vendor| vendor.restart(now));
            self.offers.restart();
            self.lacking = self.lacking.map(|(count, _)| (count, now));
            self.faults.restart(now);
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
        let is_there = |gone: &GoneDevice| gone.id.is_some_and(|id| self.presence.devices.contains_key(&id));
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
            let devices = devices.filter(|device| own.covers(device));
            vendor.observe(observed, devices, self.is_offered, observation.now, &self.options.graces);
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

    fn believe(&mut self, observation: &Observation<'_>) -> Believed {
        let (now, graces) = (observation.now, self.options.graces);
        let mut devices = Vec::with_capacity(self.presence.devices.len());
        let mut leaving = BTreeSet::new();
        let views: Vec<VendorView<'_>> = self
            .vendors
            .iter()
            .map(|vendor| VendorView {
                vendor,
                maintenance: vendor.maintenance(now, &graces),
                now,
                graces: &graces,
            })
            .collect();
        for (id, tracked) in &mut self.presence.devices {
            let view = views.iter().find(|view| view.vendor.vendor.covers(&tracked.observed));
            devices.push(match view {
                Some(view) => tracked.believed(view),
                None => tracked.observed.clone(),
            });
            if tracked.absent_since.is_some() {
                leaving.insert(*id);
            }
        }
        let released = views.iter().filter(|view| view.must_release()).map(|view| view.vendor.vendor.probe);
        let released = released.collect();
        let present = self.present_devices(&devices);
        let is_settled = self.learn(&present, now, &graces, observation);
        let expectation = self.node.expectation(&self.surroundings, observation.node);
        let mut gone = self.gone.clone();
        gone.extend(self.node.gone(&present));
        let vendors: Vec<TrackedVendor> = self.vendors.iter().map(|vendor| vendor.vendor).collect();
        let missing = if is_settled { expectation.missing(&present, &gone, &vendors) } else { Vec::new() };
        let expected = observation.node.map(|_| expectation.numbers(&present, &vendors));
        drop(present);
        // What is confirmed again soon is not worth a write.
        let is_lasting = |since: &Duration| now.saturating_sub(*since) >= graces.library;
        let unconfirmed = self.vendors.iter().filter_map(VendorTrack::unconfirmed_since).filter(is_lasting);
        let unconfirmed = unconfirmed.min();
        let mut for_node = Inventory { devices, missing, ..self.surroundings.clone() };
        for_node.problems.extend(self.node.problems().cloned());
        let mut inventory = for_node.clone();
        inventory.devices.retain(|device| !leaving.contains(&device.id));
        Believed {
            inventory,
            for_node,
            is_settled,
            inherits: self.node.inherits(),
            memory: self.node.memory(unconfirmed, observation),
            expected,
            released,
        }
    }

    /// The devices that count for expectations.
    fn present_devices<'d>(&self, devices: &'d [Device]) -> Vec<PresentDevice<'d>> {
        let is_expected = |device: &&Device| {
            self.presence.devices.get(&device.id).is_some_and(presence::TrackedDevice::is_expected_to_stay)
        };
        let probe_of = |device: &Device| {
            self.vendors.iter().find(|vendor| vendor.vendor.covers(device)).map(|vendor| vendor.vendor.probe)
        };
        let present = devices.iter().filter(is_expected);
        present.filter_map(|device| Some(PresentDevice { device, probe: probe_of(device)? })).collect()
    }

    /// Raises expectations; returns whether what the Node remembers has been compared with the devices for long enough.
    fn learn(
        &mut self,
        present: &[PresentDevice<'_>],
        now: Duration,
        graces: &Graces,
        observation: &Observation<'_>,
    ) -> bool {
        if !self.options.has_node {
            return true;
        }
        if observation.node.is_none() || !self.node.is_identified() {
            return false;
        }
        let presence = &self.presence;
        let present_since = |present: &PresentDevice<'_>| {
            let tracked = presence.devices.get(&present.device.id)?;
            tracked.absent_since.is_none().then_some(tracked.present_since)
        };
        let there: Vec<PresentDevice<'_>> =
            present.iter().copied().filter(|present| present_since(present).is_some()).collect();
        let expectation = self.node.expectation(&self.surroundings, observation.node);
        let is_complete = expectation.missing(present, &[], &[]).is_empty() && self.node.is_complete(present);
        let lacking = expectation.missing(&there, &[], &[]).len();
        let since = self.lacking.filter(|(before, _)| lacking <= *before).map_or(now, |(_, since)| since);
        self.lacking = (lacking > 0).then_some((lacking, since));
        let has_stayed = |present: &PresentDevice<'_>| {
            present_since(present).is_some_and(|since| now.saturating_sub(since) >= graces.learning)
        };
        self.node.compare_instance_type(present, has_stayed, &self.surroundings, observation);
        if self.node.learn(present, has_stayed) {
            self.is_refitted = true;
        }
        is_complete || self.settles_at(now).is_none_or(|at| now >= at)
    }

    /// Until when devices that the Node remembers may still appear.
    fn settles_at(&self, now: Duration) -> Option<Duration> {
        let lacking = self.lacking.map(|(_, since)| since);
        let since = [self.started, lacking].into_iter().flatten().min();
        since.map(|since| since + self.options.graces.removal_at(now))
    }

    fn counts(&self, device: &Device) -> bool {
        (self.options.include_integrated || !device.integrated) && !self.node.ignores(device)
    }

    fn condition_inputs(&self, offers: OfferCause, faults: FaultVerdict) -> ConditionInputs<'_> {
        let (now, graces) = (self.last, &self.options.graces);
        let all = &self.believed.for_node.devices;
        let vendor_of = |device: &Device| self.vendors.iter().find(|vendor| vendor.vendor.covers(device));
        let is_passed_through =
            |device: &Device| vendor_of(device).is_some_and(|vendor| vendor.vendor.is_passed_through(device));
        let counted: Vec<&Device> = all.iter().filter(|device| self.counts(device)).collect();
        let (given, devices): (Vec<&Device>, Vec<&Device>) =
            counted.into_iter().partition(|device| is_passed_through(device));
        let devices = without_bystanders(devices);
        let missing = self.believed.for_node.missing.iter();
        let missing: Vec<&MissingDevice> =
            missing.filter(|missing| !self.node.ignores_missing(missing)).collect();
        let concerned = |vendor: &&VendorTrack| {
            devices.iter().any(|device| vendor.vendor.covers(device))
                || missing.iter().any(|missing| missing.probe == vendor.vendor.probe)
        };
        let maintenance: Vec<_> = self
            .vendors
            .iter()
            .filter(concerned)
            .filter_map(|vendor| Some((vendor.vendor.probe, vendor.maintenance(now, graces)?)))
            .collect();
        let is_maintained = |device: &&&Device| {
            vendor_of(device).is_some_and(|vendor| vendor.maintenance(now, graces).is_some())
        };
        let is_silent = |vendor: &VendorTrack| {
            vendor.library() != LibraryStatus::NotFound && vendor.library().may_answer_later()
        };
        ConditionInputs {
            passed_through: given.len(),
            maintained: devices.iter().filter(is_maintained).map(|device| device.id).collect(),
            maintenance,
            offers,
            faults,
            is_library_outstanding: self.vendors.iter().filter(concerned).any(is_silent),
            missing,
            devices,
        }
    }

    fn judge_faults(&mut self) -> FaultVerdict {
        let (now, graces) = (self.last, self.options.graces);
        let inputs = self.condition_inputs(OfferCause::None, FaultVerdict::None);
        let mut faults: Vec<ObservedFault> =
            inputs.missing.iter().map(|missing| missing_fault(missing)).collect();
        let failed = inputs.devices.iter().filter(|device| device.health.state == HealthState::Failed);
        faults.extend(failed.filter_map(|device| device_fault(device, &self.options.problem_reasons)));
        for vendor in self.vendors.iter().filter(|vendor| vendor.is_library_lost(now, &graces)) {
            faults.push(ObservedFault {
                subject: vendor.vendor.probe.to_owned(),
                code: "LibraryNotResponding".to_owned(),
                message: "two fresh processes got no answer of the vendor's library; see the kernel log"
                    .to_owned(),
                is_confirmed: true,
            });
        }
        let in_maintenance = self.vendors.iter().filter(|vendor| vendor.maintenance(now, &graces).is_some());
        let maintained: BTreeSet<&str> = in_maintenance.map(|vendor| vendor.vendor.probe).collect();
        let missing = inputs.missing.iter().filter(|missing| maintained.contains(missing.probe.as_str()));
        let frozen: BTreeSet<String> = inputs
            .maintained
            .iter()
            .map(ToString::to_string)
            .chain(missing.map(|missing| missing.id.clone()))
            .chain(maintained.iter().map(|probe| (*probe).to_owned()))
            .collect();
        drop(inputs);
        self.faults.observe(&faults, |subject| frozen.contains(subject), now, &graces)
    }
}

/// Without devices that cannot compute beside others of another product that can: a display card without a driver.
fn without_bystanders(devices: Vec<&Device>) -> Vec<&Device> {
    let can_compute = |device: &&Device| device.driver.is_known();
    let computing: Vec<_> = devices.iter().copied().filter(can_compute).map(PciKind::of).collect();
    let is_bystander = |device: &&Device| {
        !can_compute(device) && !computing.is_empty() && !computing.contains(&PciKind::of(device))
    };
    devices.into_iter().filter(|device| !is_bystander(device)).collect()
}

fn missing_fault(missing: &MissingDevice) -> ObservedFault {
    ObservedFault {
        subject: missing.id.clone(),
        code: "DeviceMissing".to_owned(),
        message: missing.message.clone(),
        is_confirmed: true,
    }
}

/// The fault of a failed device, if its reason is of a class that is a problem of the node.
fn device_fault(device: &Device, problem_reasons: &[String]) -> Option<ObservedFault> {
    use afd_model::reason::ReasonClass;

    let code = conditions::code(device);
    let is_problem = match conditions::class(device) {
        ReasonClass::DeviceFault => true,
        _ => code == "DriverMissing" || problem_reasons.iter().any(|reason| reason == code),
    };
    is_problem.then(|| ObservedFault {
        subject: device.id.to_string(),
        code: code.to_owned(),
        message: conditions::message(device),
        // Its own grace is longer and over.
        is_confirmed: code == "DriverMissing",
    })
}

/// A problem of what the Node says.
fn node_problem(fact: &str, reason: afd_model::Missing, message: String) -> Problem {
    Problem {
        probe: "kubernetes".to_owned(),
        device: None,
        fact: fact.to_owned(),
        reason,
        path: None,
        message,
    }
}

#[cfg(test)]
mod tests;
