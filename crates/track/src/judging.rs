//! From what is believed of the devices to the conditions: what counts, and which faults there are.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{
    Decision, Device, DeviceId, Fact, HealthState, LibraryStatus, MissingDevice, OTHER_DRIVER, OfferVerdict,
    reason::ReasonClass,
};

use crate::{
    Conditions, Track,
    conditions::{self, ConditionInputs},
    expected::PciKind,
    faults::{ConfirmedFault, FaultVerdict, ObservedFault},
    offers::OfferCause,
    vendor::VendorTrack,
};

impl Track {
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
            self.confirmed_faults.clear();
            return Conditions::default();
        }
        self.settled_at.get_or_insert(now);
        let inputs = self.condition_inputs(offers, faults);
        let failed = self.failed_devices(&inputs);
        Conditions { ready: inputs.ready(), problem: inputs.problem(&self.options.problem_reasons), failed }
    }

    /// The devices with a confirmed fault of their own. Not decided while the verdict on a device is not, in maintenance, and while
    /// the only faults are not confirmed. A library that is silent for longer than its grace leaves health unknown, which is no fault.
    ///
    /// An agent that has just begun confirms one fault after the other. An earlier agent may have confirmed all of them, so that
    /// nothing is decided while one has begun, for as long as a fault takes.
    fn failed_devices(&self, inputs: &ConditionInputs<'_>) -> Decision<BTreeMap<DeviceId, String>> {
        let problems = self.faults.of_devices().filter(|(_, is_problem)| *is_problem);
        let devices =
            problems.filter_map(|(fault, _)| Some((DeviceId(fault.device.parse().ok()?), fault.reason)));
        let failed: BTreeMap<DeviceId, String> = devices.collect();
        let has_begun = self.settled_at.is_none_or(|settled| self.last < settled + self.options.graces.fault);
        let mut faults = self.faults.of_devices();
        let may_be_more = match failed.is_empty() {
            true => faults.next().is_some(),
            false => has_begun && faults.any(|(_, is_problem)| !is_problem),
        };
        if inputs.is_verdict_outstanding() || may_be_more || self.faults.has_earlier() {
            Decision::Undecided
        } else if failed.is_empty() {
            Decision::Absent
        } else {
            Decision::Decided(failed)
        }
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
        let open = inputs.devices.iter().filter(|device| device.undecided.contains(Fact::Health));
        let silent = self.vendors.iter().filter(|vendor| vendor.is_outstanding(now, &graces));
        let open: BTreeSet<String> = open
            .map(|device| device.id.to_string())
            .chain(silent.map(|vendor| vendor.vendor.probe.to_owned()))
            .collect();
        drop(inputs);
        let is_settled = self.believed.is_settled;
        let verdict = self.faults.observe(
            &faults,
            |subject| frozen.contains(subject),
            |subject| !is_settled || open.contains(subject),
            now,
            &graces,
        );
        let confirmed: &[ObservedFault] = match &verdict {
            FaultVerdict::Problem(faults) => faults,
            FaultVerdict::None | FaultVerdict::Undecided => &[],
        };
        let confirmed = confirmed.iter().filter(|fault| !frozen.contains(&fault.subject));
        self.confirmed_faults = confirmed.filter_map(ObservedFault::of_device).collect();
        verdict
    }

    /// The confirmed faults of devices after the last call of [`Track::conditions`].
    pub fn confirmed_faults(&self) -> &[ConfirmedFault] {
        &self.confirmed_faults
    }
}

/// Without devices that cannot compute beside others of another product that can: a display card, or one without its driver.
pub(crate) fn without_bystanders(devices: Vec<&Device>) -> Vec<&Device> {
    let can_compute = |device: &&Device| {
        let has_other_driver = device.health.reasons.iter().any(|reason| reason.code == OTHER_DRIVER);
        device.driver.is_known() && !device.display_only && !has_other_driver
    };
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
