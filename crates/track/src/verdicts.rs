//! Facts and health of one device, as far as they are believed now.

use std::time::Duration;

use afd_model::{
    Device, EVIDENCE_UNREADABLE, Fact, Health, HealthReason, HealthState, LibraryStatus, MaintenanceKind,
    Missing, reason::ReasonClass,
};

use crate::{conditions::class, graces::Graces, presence::TrackedDevice, vendor::VendorTrack};

/// A fabric that is not up: a failure after a grace only.
const FABRIC_NOT_READY: &str = "FabricNotReady";
/// A device without its driver: a failure after a grace only.
const DRIVER_MISSING: &str = "DriverMissing";
/// The health follows the workload: the last verdict survives for a while.
const WORKLOAD_RESET: &str = "WorkloadReset";
/// The device sleeps: the last verdict survives.
const SUSPENDED: &str = "Suspended";
/// The library that would judge the device does not answer.
const LIBRARY_NOT_RESPONDING: &str = "LibraryNotResponding";

/// Facts that the configuration of a node decides. Labels of them expire when no source reports them for long.
const CONFIGURATION: [Fact; 2] = [Fact::Partitioning, Fact::RuntimeVersion];

/// What decides how long the facts and verdicts of a vendor's devices are believed.
pub(crate) struct VendorView<'v> {
    pub(crate) vendor: &'v VendorTrack,
    pub(crate) maintenance: Option<MaintenanceKind>,
    /// Whether a device of the vendor is gone, and not yet for long enough.
    pub(crate) is_any_leaving: bool,
    pub(crate) now: Duration,
    pub(crate) graces: &'v Graces,
}

impl VendorView<'_> {
    /// Whether the library must be released: an own handle makes a reset fail.
    pub(crate) fn must_release(&self) -> bool {
        self.vendor.is_announced()
    }
}

impl TrackedDevice {
    /// The device as it is believed to be now.
    pub(crate) fn believed(&mut self, view: &VendorView<'_>) -> Device {
        let mut device = self.observed.clone();
        self.believe_facts(&mut device, view);
        self.believe_health(&mut device, view);
        device
    }

    /// Fills in what was known of facts that a source may still supply; marks those of which nothing was known.
    fn believe_facts(&mut self, device: &mut Device, view: &VendorView<'_>) {
        let is_outstanding = view.maintenance.is_some() || view.vendor.is_outstanding(view.now, view.graces);
        if view.is_any_leaving && self.known.linked_devices.is_known() {
            // It counts as there, and so do its links.
            device.linked_devices = self.known.linked_devices;
        }
        let mut any_configuration = false;
        for fact in Fact::ALL {
            let may_come = match (fact, device.missing(fact)) {
                (Fact::Health, _) => false,
                (Fact::VendorFacts, _) => is_outstanding && device.vendor_facts.is_none(),
                (_, Some(reason)) => reason.is_undecided() || is_outstanding,
                (_, None) => false,
            };
            if !may_come {
                continue;
            }
            if CONFIGURATION.contains(&fact) {
                any_configuration = true;
                let since = *self.undecided_since.get_or_insert(view.now);
                if view.now.saturating_sub(since) >= view.graces.configuration {
                    continue;
                }
            }
            device.fill(fact, &self.known);
            if device.missing(fact).is_some() || fact == Fact::VendorFacts && device.vendor_facts.is_none() {
                device.undecided.insert(fact);
            }
        }
        if !any_configuration {
            self.undecided_since = None;
        }
        let undecided = std::mem::take(&mut device.undecided);
        self.known.clone_from(device);
        device.undecided = undecided;
    }

    fn believe_health(&mut self, device: &mut Device, view: &VendorView<'_>) {
        let code = device.health.reasons.first().map(|reason| reason.code.clone());
        let grace_until = self.grace_until(device, code.as_deref(), view);
        match device.health.state {
            HealthState::Unknown => {}
            HealthState::Failed if grace_until.is_some_and(|until| view.now < until) => {}
            // What depends on the driver is no verdict while it is being replaced.
            HealthState::Failed if view.maintenance.is_some() && is_of_driver(device) => {}
            _ => {
                self.verdict = Some(device.health.clone());
                let partitions = device.partitions.iter();
                self.partition_verdicts =
                    partitions.map(|partition| (partition.name, partition.health.clone())).collect();
                return;
            }
        }
        // No source has confirmed a verdict now.
        if view.maintenance.is_some() && code.as_deref() != Some(SUSPENDED) {
            let reason = view.maintenance.map(MaintenanceKind::reason).unwrap_or_default();
            device.health = unknown(reason, "the driver or the devices are being worked on");
            device.undecided.insert(Fact::Health);
            // A verdict of before is none of what the driver or the device is afterwards.
            self.verdict = None;
            self.partition_verdicts.clear();
            return;
        }
        let is_believed = grace_until.is_none_or(|until| view.now < until);
        let has_source = grace_until.is_some() || code.as_deref() == Some(SUSPENDED);
        match (&self.verdict, has_source && is_believed) {
            (Some(verdict), true) => {
                device.health.clone_from(verdict);
                for (name, health) in &self.partition_verdicts {
                    let partition = device.partitions.iter_mut().find(|partition| partition.name == *name);
                    if let Some(partition) = partition {
                        partition.health.clone_from(health);
                    }
                }
            }
            (None, true) => {
                device.undecided.insert(Fact::Health);
            }
            (_, false) => {
                self.verdict = None;
                match view.vendor.library() {
                    _ if code.is_some() => {}
                    LibraryStatus::Starting | LibraryStatus::Silent => {
                        let message = "the vendor's library does not answer; see the kernel log, and reset the device or \
                                       restart the node if it hangs in the driver";
                        device.health = unknown(LIBRARY_NOT_RESPONDING, message);
                    }
                    LibraryStatus::Released => {
                        let message = format!(
                            "its driver was released longer ago than any maintenance takes; run `afd release {} --end`",
                            view.vendor.vendor.probe
                        );
                        device.health = unknown(MaintenanceKind::DriverUpgrade.reason(), &message);
                    }
                    LibraryStatus::Unused | LibraryStatus::NotFound | LibraryStatus::Answering => {}
                }
            }
        }
    }

    /// Until when the present state of a device is not a verdict, if it is one that counts after a grace only.
    fn grace_until(
        &mut self,
        device: &Device,
        code: Option<&str>,
        view: &VendorView<'_>,
    ) -> Option<Duration> {
        let grace = match code {
            Some(FABRIC_NOT_READY) => view.graces.fabric,
            Some(WORKLOAD_RESET) => view.graces.workload,
            Some(EVIDENCE_UNREADABLE) => view.graces.library,
            _ => {
                // Without an answer the state may be what it was.
                if code.is_some() || device.health.state != HealthState::Unknown {
                    self.tentative = None;
                }
                let is_unbound = device.driver.missing() == Some(Missing::DriverNotBound);
                return match code {
                    Some(DRIVER_MISSING) if is_unbound => view.vendor.driver_expected_until(view.graces),
                    None if device.health.state == HealthState::Unknown => {
                        view.vendor.verdicts_expire_at(view.graces)
                    }
                    _ => None,
                };
            }
        };
        let code = code.unwrap_or_default();
        let since = match &self.tentative {
            Some((own, since)) if own == code => *since,
            _ => view.now,
        };
        self.tentative = Some((code.to_owned(), since));
        Some(since + grace)
    }
}

fn is_of_driver(device: &Device) -> bool {
    matches!(class(device), ReasonClass::Driver | ReasonClass::Library | ReasonClass::Fabric)
}

fn unknown(code: &str, message: &str) -> Health {
    Health {
        state: HealthState::Unknown,
        reasons: vec![HealthReason { code: code.to_owned(), message: message.to_owned() }],
    }
}
