//! The conditions of the Node: what is believed of the devices, as one verdict.

use afd_model::{
    Condition, ConditionStatus, Decision, Device, DeviceId, Fact, HealthState, MaintenanceKind,
    MissingDevice,
    reason::{ReasonClass, class_of},
};

use crate::{
    faults::{FaultVerdict, ObservedFault},
    offers::OfferCause,
};

/// Kubernetes accepts 32 KiB; a message for people is shorter.
const MAX_MESSAGE_BYTES: usize = 1024;

/// What the conditions are made from.
pub(crate) struct ConditionInputs<'i> {
    /// The devices that count.
    pub(crate) devices: Vec<&'i Device>,
    /// How many devices are given to virtual machines.
    pub(crate) passed_through: usize,
    /// The missing devices that count.
    pub(crate) missing: Vec<&'i MissingDevice>,
    /// Maintenance of each vendor that has any, with the name of its probe. Faults of its devices do not count meanwhile.
    pub(crate) maintenance: Vec<(&'static str, MaintenanceKind)>,
    /// The devices of those vendors.
    pub(crate) maintained: Vec<DeviceId>,
    /// What the offers mean.
    pub(crate) offers: OfferCause,
    /// What the faults mean.
    pub(crate) faults: FaultVerdict,
    /// Whether a library that has not answered may still report a fault.
    pub(crate) is_library_outstanding: bool,
}

/// The class of the first reason of a device that is not healthy. A reason that the table lacks is a fault of the device.
pub(crate) fn class(device: &Device) -> ReasonClass {
    let code = device.health.reasons.first().map(|reason| reason.code.as_str());
    code.and_then(class_of).unwrap_or(ReasonClass::DeviceFault)
}

impl ConditionInputs<'_> {
    /// The condition `Ready`.
    pub(crate) fn ready(&self) -> Decision<Condition> {
        if self.is_empty() {
            return Decision::Absent;
        }
        let missing = self
            .missing
            .iter()
            .filter(|missing| self.maintenance.iter().all(|(probe, _)| *probe != missing.probe));
        if missing.clone().next().is_some() {
            let messages = missing.map(|missing| (missing.id.as_str(), missing.message.clone()));
            return decided(ConditionStatus::False, "DeviceMissing", sentences(messages));
        }
        if let Some(condition) = self.failed(|class| class == ReasonClass::DeviceFault) {
            return condition;
        }
        if let Some((probe, kind)) = self.maintenance.first() {
            let message = match kind {
                MaintenanceKind::DriverUpgrade => "the driver is being replaced",
                MaintenanceKind::Reconfiguring => "the devices are being reconfigured",
                MaintenanceKind::DriverInstalling => "no driver is bound yet; it may still be installed",
            };
            return decided(ConditionStatus::Unknown, kind.reason(), format!("{probe}: {message}"));
        }
        if let Some(condition) = self.failed(|class| class == ReasonClass::Driver) {
            return condition;
        }
        if self.devices.iter().any(|device| device.undecided.contains(Fact::Health)) {
            return Decision::Undecided;
        }
        self.unknown_health().or_else(|| self.failed(|_| true)).unwrap_or_else(|| self.by_offers())
    }

    /// The condition `Problem`.
    pub(crate) fn problem(&self, problem_reasons: &[String]) -> Decision<Condition> {
        if self.is_empty() {
            return Decision::Absent;
        }
        if let FaultVerdict::Problem(faults) = &self.faults {
            return problem(faults);
        }
        if let OfferCause::Incomplete(message) = &self.offers
            && problem_reasons.iter().any(|reason| reason == "NotAllocatable")
        {
            return decided(ConditionStatus::True, "NotAllocatable", message.clone());
        }
        let is_undecided = self.faults == FaultVerdict::Undecided
            || self.is_library_outstanding
            || self.is_verdict_outstanding();
        if is_undecided {
            return Decision::Undecided;
        }
        decided(ConditionStatus::False, "NoDeviceFault", "no fault of a device is known".to_owned())
    }

    /// Whether the verdict on a device is not decided, or does not count in maintenance.
    pub(crate) fn is_verdict_outstanding(&self) -> bool {
        !self.maintenance.is_empty()
            || self.devices.iter().any(|device| device.undecided.contains(Fact::Health))
    }

    fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.missing.is_empty() && self.passed_through == 0
    }

    fn in_state(&self, state: HealthState) -> impl Iterator<Item = &Device> + Clone {
        self.devices.iter().copied().filter(move |device| device.health.state == state)
    }

    /// `False` if a device has failed for a reason of a class.
    fn failed(&self, is_of_class: fn(ReasonClass) -> bool) -> Option<Decision<Condition>> {
        let failed = self.in_state(HealthState::Failed).filter(|device| {
            is_of_class(class(device))
                && !device.undecided.contains(Fact::Health)
                && !self.maintained.contains(&device.id)
        });
        let first = failed.clone().next()?;
        Some(decided(ConditionStatus::False, code(first), reasons(failed)))
    }

    fn unknown_health(&self) -> Option<Decision<Condition>> {
        let unknown = self.in_state(HealthState::Unknown);
        let first = unknown.clone().next()?;
        let message = if first.health.reasons.is_empty() {
            format!(
                "the health of {} of {} devices is not reported; the vendor's library may be missing or not visible to \
                 the agent",
                unknown.count(),
                self.devices.len()
            )
        } else {
            reasons(unknown)
        };
        let reason = first.health.reasons.first().map_or("HealthUnknown", |reason| reason.code.as_str());
        Some(decided(ConditionStatus::Unknown, reason, message))
    }

    fn by_offers(&self) -> Decision<Condition> {
        let count = self.devices.len();
        if count == 0 {
            let message = format!("all {} devices are given to virtual machines", self.passed_through);
            return decided(ConditionStatus::True, "Passthrough", message);
        }
        match &self.offers {
            OfferCause::Undecided => return Decision::Undecided,
            OfferCause::Incomplete(message) => {
                return decided(ConditionStatus::False, "NotAllocatable", message.clone());
            }
            OfferCause::Unknown => {
                let message = "the API server has not reported which devices are offered to pods";
                return decided(ConditionStatus::Unknown, "OfferUnknown", message.to_owned());
            }
            OfferCause::None | OfferCause::Duplicate(_) => {}
        }
        let degraded = self.in_state(HealthState::Degraded);
        if degraded.clone().next().is_some() {
            return decided(ConditionStatus::True, "Degraded", reasons(degraded));
        }
        match &self.offers {
            OfferCause::Duplicate(message) => decided(ConditionStatus::True, "OfferedTwice", message.clone()),
            _ => {
                let message = format!("all accelerators ({count}) can take work");
                decided(ConditionStatus::True, "AllHealthy", message)
            }
        }
    }
}

fn problem(faults: &[ObservedFault]) -> Decision<Condition> {
    let messages = faults.iter().map(|fault| (fault.subject.as_str(), fault.message.clone()));
    let reason = faults.first().map_or("DeviceUnhealthy", |fault| fault.code.as_str());
    decided(ConditionStatus::True, reason, sentences(messages))
}

fn decided(status: ConditionStatus, reason: &str, message: String) -> Decision<Condition> {
    let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    Decision::Decided(Condition { status, reason: reason.to_owned(), message: message[..end].to_owned() })
}

/// The code of the first reason of a device.
pub(crate) fn code(device: &Device) -> &str {
    device.health.reasons.first().map_or("DeviceUnhealthy", |reason| reason.code.as_str())
}

/// The reasons of one device as a sentence.
pub(crate) fn message(device: &Device) -> String {
    let reasons: Vec<&str> = device.health.reasons.iter().map(|reason| reason.message.as_str()).collect();
    reasons.join(", ")
}

fn reasons<'d>(devices: impl Iterator<Item = &'d Device>) -> String {
    let named: Vec<(String, String)> =
        devices.map(|device| (device.id.to_string(), message(device))).collect();
    sentences(named.iter().map(|(id, message)| (id.as_str(), message.clone())))
}

/// One sentence for each subject, as many as there is room for.
fn sentences<'s>(subjects: impl Iterator<Item = (&'s str, String)>) -> String {
    let mut text = String::new();
    for (number, (subject, message)) in subjects.enumerate() {
        let sentence = format!("{subject}: {message}");
        if text.len() + sentence.len() > MAX_MESSAGE_BYTES - "; and more".len() && number > 0 {
            text += "; and more";
            break;
        }
        if number > 0 {
            text += "; ";
        }
        text += &sentence;
    }
    text
}
