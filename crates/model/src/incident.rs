//! Errors that stay open until there is evidence that they ended, in the form in which they are remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DeviceId;

/// One open error of a device or partition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IncidentRecord {
    /// Name of the probe that reported it.
    pub probe: String,
    /// The device.
    pub device: DeviceId,
    /// PCI vendor and device id of the device: `10de:2330`.
    pub pci_id: String,
    /// UUID of the device, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The partition, as the probe names it, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The reason of the health that it causes: `Xid48`.
    pub code: String,
    /// When it was first seen, in seconds since 1970. Who stores it writes the time; a probe only keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<i64>,
    /// Version of the driver that reported it, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The binding of the device to that driver, a number that is unique in a boot, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_binding: Option<u64>,
}

/// How often a device reported each error since its driver was loaded, in the form in which it is remembered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorCountRecord {
    /// Name of the probe that counts.
    pub probe: String,
    /// The device.
    pub device: DeviceId,
    /// UUID of the device, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Version of the driver that reported the errors, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// The binding of the device to that driver, a number that is unique in a boot, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_binding: Option<u64>,
    /// How often, by the number of the error.
    pub counts: BTreeMap<u32, u64>,
    /// The number of the last one.
    pub last: u32,
}
