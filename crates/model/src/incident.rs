//! Errors that stay open until there is evidence that they ended, in the form in which they are remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Device, DeviceId};

/// A load of a driver for a device: what differs once the driver was loaded again, or another device is in the place. What was
/// never read is none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DriverLoad {
    /// PCI vendor and device id of the device: `10de:2330`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
    /// UUID of the device, or what its driver has in place of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Version of the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The binding of the device to the driver, a number that is unique in a boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_binding: Option<u64>,
}

impl DriverLoad {
    /// That of a device as it was discovered.
    pub fn of(device: &Device, driver_binding: Option<u64>) -> DriverLoad {
        DriverLoad {
            pci_id: device.pci.id(),
            uuid: device.uuid.value().cloned(),
            driver_version: device.driver_version.value().cloned(),
            driver_binding,
        }
    }

    /// Takes over what was read now. Returns whether it is another load: what could not be read now is no difference.
    pub fn update(&mut self, now: DriverLoad) -> bool {
        let is_another = self.differs(&now);
        let before = std::mem::replace(self, now);
        self.fill(before);
        is_another
    }

    /// Takes over from a record what was not read yet. Returns whether the record is of the same load; nothing is taken over from
    /// that of another one.
    pub fn adopt(&mut self, record: DriverLoad) -> bool {
        let is_same = !self.differs(&record);
        if is_same {
            self.fill(record);
        }
        is_same
    }

    fn differs(&self, other: &DriverLoad) -> bool {
        fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
        }
        differ(&self.pci_id, &other.pci_id)
            || differ(&self.uuid, &other.uuid)
            || differ(&self.driver_version, &other.driver_version)
            || differ(&self.driver_binding, &other.driver_binding)
    }

    fn fill(&mut self, from: DriverLoad) {
        self.pci_id = self.pci_id.take().or(from.pci_id);
        self.uuid = self.uuid.take().or(from.uuid);
        self.driver_version = self.driver_version.take().or(from.driver_version);
        self.driver_binding = self.driver_binding.or(from.driver_binding);
    }
}

/// One open error of a device or partition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IncidentRecord {
    /// Name of the probe that reported it.
    pub probe: String,
    /// The device.
    pub device: DeviceId,
    /// The load of the driver that reported it.
    #[serde(flatten)]
    pub load: DriverLoad,
    /// The partition, as the probe names it, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The reason of the health that it causes: `Xid48`.
    pub code: String,
    /// When it was first seen, in seconds since 1970. Who stores it writes the time; a probe only keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<i64>,
    /// The resets that the driver had counted when it was noted, where a reset ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets: Option<u64>,
}

/// How often a device reported each error since its driver was loaded, in the form in which it is remembered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorCountRecord {
    /// Name of the probe that counts.
    pub probe: String,
    /// The device.
    pub device: DeviceId,
    /// The load of the driver that reported the errors.
    #[serde(flatten)]
    pub load: DriverLoad,
    /// How often, by the number of the error.
    pub counts: BTreeMap<u32, u64>,
    /// The number of the last one.
    pub last: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(uuid: Option<&str>, version: Option<&str>, driver_binding: Option<u64>) -> DriverLoad {
        DriverLoad {
            pci_id: Some("10de:2330".to_owned()),
            uuid: uuid.map(str::to_owned),
            driver_version: version.map(str::to_owned),
            driver_binding,
        }
    }

    #[test]
    fn what_could_not_be_read_is_no_difference_and_is_kept() {
        let mut known = load(Some("a"), Some("580"), Some(7));
        assert!(!known.update(DriverLoad::default()));
        assert!(!known.update(load(None, Some("580"), None)));
        assert_eq!(known, load(Some("a"), Some("580"), Some(7)));
        for now in [load(Some("b"), None, None), load(None, Some("590"), None), load(None, None, Some(8))] {
            assert!(known.clone().update(now.clone()), "{now:?}");
        }
    }

    #[test]
    fn a_record_fills_what_was_not_read_yet_unless_it_is_of_another_load() {
        let mut known = load(None, Some("580"), None);
        assert!(!known.adopt(load(Some("a"), Some("590"), Some(7))));
        assert_eq!(known, load(None, Some("580"), None));
        assert!(known.adopt(load(Some("a"), None, Some(7))));
        assert_eq!(known, load(Some("a"), Some("580"), Some(7)));
    }
}
