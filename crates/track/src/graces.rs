//! How long something is believed.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The graces. Each is the time for which a fact or verdict stays as it was after its source changed or fell silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Graces {
    /// Until a device that the kernel no longer has counts as removed.
    pub removal: Duration,
    /// The same in the first minutes after boot, when buses are still scanned.
    pub removal_after_boot: Duration,
    /// For how long after boot that holds.
    pub boot: Duration,
    /// Until fewer partitions of a device that is still there are believed: a driver reconfigures it.
    pub reconfiguration: Duration,
    /// Until the verdicts of a library that is being initialised expire.
    pub library_start: Duration,
    /// Until the verdicts of a library that answered before expire.
    pub library: Duration,
    /// Until a library that does not answer is a problem of the node.
    pub library_problem: Duration,
    /// Until a device without its driver has failed: after boot, and after the driver went.
    pub driver: Duration,
    /// Until a fabric that is not up is a failure.
    pub fabric: Duration,
    /// Until devices that Kubernetes does not offer turn the condition.
    pub offer: Duration,
    /// The same in the first minutes after boot.
    pub offer_after_boot: Duration,
    /// Until a smaller offer is believed.
    pub smaller_offer: Duration,
    /// For how long a verdict survives a state that follows the workload.
    pub workload: Duration,
    /// Until a fault of a device is a problem of the node.
    pub fault: Duration,
    /// Until a fault that ended is no longer a problem of the node.
    pub fault_end: Duration,
    /// For how long maintenance goes on after its signal has ended, while the driver or the offers are not back.
    pub maintenance_end: Duration,
    /// The longest maintenance.
    pub maintenance: Duration,
    /// Until the presence of a device raises the expectation.
    pub learning: Duration,
    /// Until undecided labels of configuration are removed.
    pub configuration: Duration,
    /// For how long a Node that describes another boot is waited for.
    pub node: Duration,
    /// A time without any observation after which all graces restart: the machine was suspended.
    pub gap: Duration,
}

impl Default for Graces {
    fn default() -> Graces {
        Graces {
            removal: Duration::from_secs(30),
            removal_after_boot: Duration::from_secs(5 * MINUTE),
            boot: Duration::from_secs(5 * MINUTE),
            reconfiguration: Duration::from_secs(2 * MINUTE),
            // Eight GPUs without persistence mode need 10 to 40 s.
            library_start: Duration::from_secs(2 * MINUTE),
            library: Duration::from_secs(MINUTE),
            library_problem: Duration::from_secs(10 * MINUTE),
            // A driver container that installs needs 3 to 21 minutes.
            driver: Duration::from_secs(30 * MINUTE),
            fabric: Duration::from_secs(10 * MINUTE),
            offer: Duration::from_secs(2 * MINUTE),
            offer_after_boot: Duration::from_secs(5 * MINUTE),
            smaller_offer: Duration::from_secs(30),
            workload: Duration::from_secs(2 * MINUTE),
            fault: Duration::from_secs(2 * MINUTE),
            fault_end: Duration::from_secs(5 * MINUTE),
            maintenance_end: Duration::from_secs(10 * MINUTE),
            maintenance: Duration::from_secs(2 * HOUR),
            learning: Duration::from_secs(10 * MINUTE),
            configuration: Duration::from_secs(24 * HOUR),
            node: Duration::from_secs(5 * MINUTE),
            gap: Duration::from_secs(3 * MINUTE),
        }
    }
}

impl Graces {
    /// The grace of a removal at a time since boot.
    pub(crate) fn removal_at(&self, now: Duration) -> Duration {
        if now < self.boot { self.removal_after_boot } else { self.removal }
    }

    /// The grace of an incomplete offer at a time since boot.
    pub(crate) fn offer_at(&self, now: Duration) -> Duration {
        if now < self.boot { self.offer_after_boot } else { self.offer }
    }
}
