//! What is believed of one vendor's driver and library, and whether they are being worked on.

use std::time::Duration;

use afd_model::{Device, LibraryStatus, MaintenanceKind, Missing, Variant, Vendor};

use crate::graces::Graces;

/// One vendor's kind of device, as far as time matters.
#[derive(Clone, Copy, Debug)]
pub struct TrackedVendor {
    /// Name of its probe.
    pub probe: &'static str,
    /// The vendor.
    pub vendor: Vendor,
    /// The kind of device.
    pub variant: Variant,
    /// PCI vendor ids of its devices.
    pub pci_vendors: &'static [u16],
    /// Drivers that give a device to virtual machines.
    pub passthrough_drivers: &'static [&'static str],
    /// Drivers of the vendor that do so as well.
    pub host_drivers: &'static [&'static str],
}

impl TrackedVendor {
    /// Whether a device is of this vendor and kind.
    pub(crate) fn covers(&self, device: &Device) -> bool {
        (device.vendor, device.variant) == (self.vendor, self.variant)
    }

    /// Whether a device is given to virtual machines.
    pub(crate) fn is_passed_through(&self, device: &Device) -> bool {
        let mut drivers = self.passthrough_drivers.iter().chain(self.host_drivers);
        device.driver.value().is_some_and(|driver| drivers.any(|own| own == driver))
    }
}

/// What is observed of a vendor at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct VendorObservation {
    /// What its library last did.
    pub library: LibraryStatus,
    /// How often the process that queries the library was started again.
    pub restarts: u64,
    /// The maintenance that the Node or an operator announces.
    pub signal: Option<MaintenanceKind>,
}

/// Maintenance that a signal announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnouncedMaintenance {
    pub(crate) kind: MaintenanceKind,
    pub(crate) since: Duration,
    pub(crate) signal_ended: Option<Duration>,
}

/// What is believed of one vendor.
#[derive(Debug)]
pub(crate) struct VendorTrack {
    pub(crate) vendor: TrackedVendor,
    observed: VendorObservation,
    started: Duration,
    /// Whether the library has answered since the agent was started.
    has_answered: bool,
    /// Since when nothing was confirmed when an earlier agent ended; until the first observation.
    earlier: Option<Duration>,
    /// Since when no source has confirmed the verdicts.
    unconfirmed_since: Option<Duration>,
    /// The number of restarts when the library fell silent.
    restarts_before: u64,
    /// Since when a device has had no driver; zero is the boot.
    unbound_since: Option<Duration>,
    /// Whether a device was seen with a driver since the agent was started.
    was_bound: bool,
    maintenance: Option<AnnouncedMaintenance>,
    /// Since when an operator has had the driver released.
    released_since: Option<Duration>,
    /// What a signal announced when an earlier agent ended; until the Node was read.
    earlier_maintenance: Option<AnnouncedMaintenance>,
    /// What the present signal announced, once that has lasted longer than any maintenance.
    exhausted: Option<AnnouncedMaintenance>,
}

impl VendorTrack {
    pub(crate) fn new(vendor: TrackedVendor, now: Duration) -> VendorTrack {
        VendorTrack {
            vendor,
            observed: VendorObservation::default(),
            started: now,
            has_answered: false,
            earlier: None,
            unconfirmed_since: None,
            restarts_before: 0,
            unbound_since: None,
            was_bound: false,
            maintenance: None,
            released_since: None,
            earlier_maintenance: None,
            exhausted: None,
        }
    }

    /// Takes in the state of the library and of the drivers of `devices`. `is_offered`: whether the devices are offered;
    /// `knows_node`: whether the Node was read, if there is one.
    pub(crate) fn observe<'d>(
        &mut self,
        observed: VendorObservation,
        devices: impl Iterator<Item = &'d Device> + Clone,
        is_offered: bool,
        knows_node: bool,
        now: Duration,
        graces: &Graces,
    ) {
        self.observe_library(observed, now);
        let is_unbound = |device: &Device| device.driver.missing() == Some(Missing::DriverNotBound);
        let any_unbound = devices.clone().any(is_unbound);
        self.was_bound |= devices.clone().any(|device| device.driver.is_known());
        if any_unbound {
            // Without any driver since boot the grace began at boot.
            let since = if self.was_bound { now } else { Duration::ZERO };
            self.unbound_since.get_or_insert(self.earlier.unwrap_or(since));
        } else if self.unbound_since.take().is_some() {
            // The library is initialised with the driver.
            self.unconfirmed_since = self.unconfirmed_since.map(|_| now);
        }
        self.earlier = None;
        let is_back = !any_unbound && !self.is_outstanding(now, graces) && is_offered;
        if knows_node {
            self.observe_signal(observed.signal, is_back, now, graces);
        }
        // What a signal had released is a maintenance of its own.
        let is_operators = observed.library == LibraryStatus::Released && self.maintenance.is_none();
        self.released_since = is_operators.then(|| self.released_since.unwrap_or(now));
    }

    fn observe_library(&mut self, observed: VendorObservation, now: Duration) {
        let was_released = self.observed.library == LibraryStatus::Released;
        self.observed = observed;
        match observed.library {
            LibraryStatus::Answering | LibraryStatus::Unused => {
                self.has_answered |= observed.library == LibraryStatus::Answering;
                self.unconfirmed_since = None;
                self.restarts_before = observed.restarts;
            }
            // Maintenance; the grace begins when the library is queried again.
            LibraryStatus::Released => self.unconfirmed_since = None,
            LibraryStatus::NotFound | LibraryStatus::Starting | LibraryStatus::Silent => {
                let since = self.earlier.filter(|_| !was_released).unwrap_or(now);
                self.unconfirmed_since.get_or_insert(since);
            }
        }
    }

    fn observe_signal(
        &mut self,
        signal: Option<MaintenanceKind>,
        is_back: bool,
        now: Duration,
        graces: &Graces,
    ) {
        let is_over = |since: Duration| now.saturating_sub(since) >= graces.maintenance;
        let earlier = self.earlier_maintenance.take();
        let earlier = earlier.filter(|earlier| signal.is_some() || !is_over(earlier.since));
        self.maintenance = self.maintenance.or(earlier);
        let Some(kind) = signal else {
            self.exhausted = None;
            let Some(maintenance) = &mut self.maintenance else { return };
            let ended = *maintenance.signal_ended.get_or_insert(now);
            if is_back || now.saturating_sub(ended) >= graces.maintenance_end {
                self.maintenance = None;
            }
            return;
        };
        if self.exhausted.is_some() {
            return;
        }
        let since = self.maintenance.map_or(now, |maintenance| maintenance.since);
        let announced = Some(AnnouncedMaintenance { kind, since, signal_ended: None });
        (self.maintenance, self.exhausted) =
            if is_over(since) { (None, announced) } else { (announced, None) };
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self, now: Duration) {
        self.started = now;
        let graces = [&mut self.unconfirmed_since, &mut self.unbound_since, &mut self.released_since];
        graces.into_iter().flatten().for_each(|since| *since = now);
    }

    /// Continues graces that began before this agent was started.
    pub(crate) fn restore(&mut self, since: Duration) {
        self.earlier = Some(since);
        for own in [&mut self.unconfirmed_since, &mut self.unbound_since].into_iter().flatten() {
            *own = since.min(*own);
        }
    }

    /// Continues announced maintenance that began before this agent was started, if it still goes on.
    pub(crate) fn restore_maintenance(&mut self, announced: AnnouncedMaintenance) {
        self.earlier_maintenance = Some(announced);
    }

    /// The maintenance that a signal announced, also where it has lasted longer than any.
    pub(crate) fn announced_maintenance(&self) -> Option<AnnouncedMaintenance> {
        self.maintenance.or(self.exhausted).or(self.earlier_maintenance)
    }

    /// Whether maintenance was announced when an earlier agent ended, and the Node was not read yet.
    pub(crate) fn may_be_announced(&self, now: Duration, graces: &Graces) -> bool {
        self.earlier_maintenance.is_some_and(|earlier| {
            earlier.signal_ended.is_none() && now.saturating_sub(earlier.since) < graces.maintenance
        })
    }

    /// Since when verdicts are unconfirmed, by a silent library or for want of a driver.
    pub(crate) fn unconfirmed_since(&self) -> Option<Duration> {
        let unbound = self.unbound_since.filter(|_| self.was_bound);
        [self.unconfirmed_since, unbound].into_iter().flatten().min()
    }

    /// A Node of this machine was found: its driver went while no agent was running, not before boot.
    pub(crate) fn assume_bound_before(&mut self, now: Duration) {
        if !self.was_bound {
            self.was_bound = true;
            self.unbound_since = self.unbound_since.map(|_| now);
        }
    }

    /// Whether the library may still supply what is missing now.
    pub(crate) fn is_outstanding(&self, now: Duration, graces: &Graces) -> bool {
        match self.observed.library {
            LibraryStatus::NotFound => {
                self.has_answered || now.saturating_sub(self.started) < graces.library_start
            }
            status => status.may_answer_later(),
        }
    }

    /// When the verdicts that the library should confirm expire.
    pub(crate) fn verdicts_expire_at(&self, graces: &Graces) -> Option<Duration> {
        let grace = match self.observed.library {
            LibraryStatus::Silent => graces.library,
            LibraryStatus::NotFound if self.has_answered => graces.library,
            _ => graces.library_start,
        };
        self.unconfirmed_since.map(|since| since + grace)
    }

    /// Whether the library has been silent for so long, through two fresh processes, that it is a problem of the node.
    pub(crate) fn is_library_lost(&self, now: Duration, graces: &Graces) -> bool {
        let is_long =
            self.unconfirmed_since.is_some_and(|since| now.saturating_sub(since) >= graces.library_problem);
        let fresh_processes = self.observed.restarts.saturating_sub(self.restarts_before);
        is_long && self.observed.library.may_answer_later() && fresh_processes >= 2
    }

    /// When the grace of a device without a driver ends, if there is one.
    pub(crate) fn driver_expected_until(&self, graces: &Graces) -> Option<Duration> {
        self.unbound_since.map(|since| since + graces.driver)
    }

    /// The maintenance that is going on.
    pub(crate) fn maintenance(&self, now: Duration, graces: &Graces) -> Option<MaintenanceKind> {
        let announced = self.maintenance.map(|maintenance| maintenance.kind);
        let released = || {
            let is_released = self.observed.library == LibraryStatus::Released;
            let is_over =
                self.released_since.is_some_and(|since| now.saturating_sub(since) >= graces.maintenance);
            (is_released && !is_over).then_some(MaintenanceKind::DriverUpgrade)
        };
        let installing = || {
            let until = self.driver_expected_until(graces)?;
            (now < until).then_some(MaintenanceKind::DriverInstalling)
        };
        announced.or_else(released).or_else(installing)
    }

    /// Whether a signal announces maintenance now.
    pub(crate) fn is_announced(&self) -> bool {
        self.maintenance.is_some_and(|maintenance| maintenance.signal_ended.is_none())
    }

    /// What the library last did.
    pub(crate) fn library(&self) -> LibraryStatus {
        self.observed.library
    }
}
