//! Which devices are believed to be there, and what was last known of each.

use std::{collections::BTreeMap, time::Duration};

use afd_model::{Device, DeviceId, Health, Known, PartitionName};

use crate::graces::Graces;

/// The devices that are believed to be there, by id.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    pub(crate) devices: BTreeMap<DeviceId, TrackedDevice>,
    /// Tentative verdicts when an earlier agent ended.
    pub(crate) earlier: BTreeMap<DeviceId, (String, Duration)>,
}

/// One device over time.
#[derive(Debug)]
pub(crate) struct TrackedDevice {
    /// As it was observed last.
    pub(crate) observed: Device,
    /// What was ever known of it.
    pub(crate) known: Device,
    /// Since when it has been there without a break.
    pub(crate) present_since: Duration,
    /// Since when the kernel has not had it.
    pub(crate) absent_since: Option<Duration>,
    /// The last verdict that a source confirmed.
    pub(crate) verdict: Option<Health>,
    /// The same for each partition.
    pub(crate) partition_verdicts: Vec<(PartitionName, Health)>,
    /// Since when its verdict is one that counts after a grace only, with its code.
    pub(crate) tentative: Option<(String, Duration)>,
    /// Since when it has had fewer partitions than are believed.
    pub(crate) fewer_partitions_since: Option<Duration>,
    /// Since when a fact of its configuration has been undecided.
    pub(crate) undecided_since: Option<Duration>,
}

impl TrackedDevice {
    fn new(device: Device, now: Duration) -> TrackedDevice {
        TrackedDevice {
            known: device.clone(),
            observed: device,
            present_since: now,
            absent_since: None,
            verdict: None,
            partition_verdicts: Vec::new(),
            tentative: None,
            fewer_partitions_since: None,
            undecided_since: None,
        }
    }

    /// Whether a device that is observed at the same address is another one.
    fn is_replaced_by(&self, device: &Device) -> bool {
        differs(&self.known.pci.device_id, &device.pci.device_id) || differs(&self.known.uuid, &device.uuid)
    }

    fn observe(&mut self, device: &Device, now: Duration, graces: &Graces) {
        if self.is_replaced_by(device) {
            *self = TrackedDevice::new(device.clone(), now);
            return;
        }
        self.absent_since = None;
        self.observed = device.clone();
        // Another mode is an answer; partitions alone may be made again by the driver.
        let is_reconfigured = device.partitioning == self.known.partitioning;
        if is_reconfigured && device.partitions.len() < self.known.partitions.len() {
            let since = *self.fewer_partitions_since.get_or_insert(now);
            if now.saturating_sub(since) < graces.reconfiguration {
                self.observed.partitions.clone_from(&self.known.partitions);
                return;
            }
        }
        self.fewer_partitions_since = None;
    }

    /// Whether another device fills its place in what is expected: a physical one that is not there by chance.
    pub(crate) fn is_expected_to_stay(&self) -> bool {
        let device = &self.observed;
        !(device.integrated || device.virtual_function || device.pci.removable)
    }
}

/// Whether both are known and not the same.
fn differs<T: PartialEq>(own: &Known<T>, other: &Known<T>) -> bool {
    own.value().zip(other.value()).is_some_and(|(own, other)| own != other)
}

impl Presence {
    /// Takes in a discovery. Devices that it lacks are removed once they have been absent for the grace.
    pub(crate) fn observe(&mut self, devices: &[Device], now: Duration, graces: &Graces) {
        for device in devices {
            match self.devices.get_mut(&device.id) {
                Some(tracked) => tracked.observe(device, now, graces),
                None => {
                    let mut tracked = TrackedDevice::new(device.clone(), now);
                    tracked.tentative = self.earlier.remove(&device.id);
                    self.devices.insert(device.id, tracked);
                }
            }
        }
        let grace = graces.removal_at(now);
        self.devices.retain(|id, tracked| {
            if devices.iter().any(|device| device.id == *id) {
                return true;
            }
            // It has another address now.
            let uuid = tracked.known.uuid.value();
            if uuid.is_some_and(|uuid| devices.iter().any(|device| device.uuid.value() == Some(uuid))) {
                return false;
            }
            let since = *tracked.absent_since.get_or_insert(now);
            now.saturating_sub(since) < grace
        });
    }

    /// Whether a device has this UUID.
    pub(crate) fn contains_uuid(&self, uuid: &str) -> bool {
        self.devices.values().any(|tracked| tracked.known.uuid.value().is_some_and(|own| own == uuid))
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self, now: Duration) {
        for tracked in self.devices.values_mut() {
            let optional = [
                &mut tracked.absent_since,
                &mut tracked.fewer_partitions_since,
                &mut tracked.undecided_since,
            ];
            for since in optional.into_iter().flatten() {
                *since = now;
            }
            if let Some((_, since)) = &mut tracked.tentative {
                *since = now;
            }
        }
    }

    /// When the removal of a device can be confirmed.
    pub(crate) fn deadline(&self, now: Duration, graces: &Graces) -> Option<Duration> {
        let grace = graces.removal_at(now);
        self.devices.values().filter_map(|tracked| tracked.absent_since).map(|since| since + grace).min()
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Partition, Partitioning, PciAddress, Variant, Vendor};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UPTIME: Duration = Duration::from_secs(10_000);

    fn device(bus: u8) -> Device {
        Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
    }

    fn buses(presence: &Presence) -> Vec<u8> {
        presence.devices.keys().map(|id| id.0.bus).collect()
    }

    #[test]
    fn a_device_is_removed_by_time_and_not_by_the_number_of_observations() {
        let (mut presence, graces) = (Presence::default(), Graces::default());
        let mut at = |seconds: u32, present: &[u8]| {
            let devices: Vec<Device> = present.iter().map(|bus| device(*bus)).collect();
            presence.observe(&devices, UPTIME + SECOND * seconds, &graces);
            buses(&presence)
        };
        assert_eq!(at(0, &[1, 2]), [1, 2]);
        for second in 1..30 {
            assert_eq!(at(second, &[1]), [1, 2]);
        }
        assert_eq!(at(30, &[1, 2]), [1, 2], "it is back");
        assert_eq!(at(31, &[1]), [1, 2]);
        assert_eq!(at(60, &[1]), [1, 2]);
        assert_eq!(at(61, &[1, 3]), [1, 3]);
    }

    #[test]
    fn partitions_that_go_are_believed_after_a_grace_and_another_mode_at_once() {
        let (mut presence, graces) = (Presence::default(), Graces::default());
        let partitioned = |partitioning: Partitioning, count: u32| {
            let name = |gpu_instance| PartitionName::Mig { gpu_instance, compute_instance: 0 };
            let partitions = (0..count).map(|number| Partition::bare(device(1).id, name(number))).collect();
            Device { partitioning: Known::Value(partitioning), partitions, ..device(1) }
        };
        let mut at = |seconds: u32, partitioning, count| {
            let observed = partitioned(partitioning, count);
            presence.observe(std::slice::from_ref(&observed), UPTIME + SECOND * seconds, &graces);
            let tracked = presence.devices.get_mut(&observed.id).expect("it is there");
            tracked.known = tracked.observed.clone();
            tracked.observed.partitions.len()
        };
        assert_eq!(at(0, Partitioning::Mig, 7), 7);
        assert_eq!(at(1, Partitioning::Mig, 3), 7);
        assert_eq!(at(120, Partitioning::Mig, 3), 7);
        assert_eq!(at(121, Partitioning::Mig, 3), 3);
        assert_eq!(at(122, Partitioning::Whole, 0), 0);
    }

    #[test]
    fn a_device_with_another_uuid_is_another_device() {
        let (mut presence, graces) = (Presence::default(), Graces::default());
        let with_uuid = |uuid: &str| Device { uuid: Known::Value(uuid.to_owned()), ..device(1) };
        presence.observe(&[with_uuid("a")], UPTIME, &graces);
        let id = device(1).id;
        presence.devices.get_mut(&id).expect("it is there").verdict = Some(Health::healthy());
        presence.observe(&[device(1)], UPTIME + SECOND, &graces);
        assert!(presence.devices[&id].verdict.is_some(), "no UUID is no other UUID");
        presence.observe(&[with_uuid("b")], UPTIME + SECOND * 2, &graces);
        assert_eq!(presence.devices[&id].verdict, None);
        assert_eq!(presence.devices[&id].present_since, UPTIME + SECOND * 2);
    }
}
