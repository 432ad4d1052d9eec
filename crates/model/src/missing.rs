//! Devices that are expected and not there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, PciId};

/// One expected device that is missing. It is not an entry of the devices: it has no address and no facts.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MissingDevice {
    /// Its identity: `missing-1`, counted within the node.
    pub id: String,
    /// Name of the probe that would find it.
    pub probe: String,
    /// PCI vendor id; none where any device of the vendor would do.
    pub vendor_id: Option<PciId>,
    /// PCI device id; none where any device of the vendor would do.
    pub device_id: Option<PciId>,
    /// Marketing name by the product table or as it was last read.
    pub product: Option<String>,
    /// UUID of the device that is gone, if it is known which one it is.
    pub uuid: Option<String>,
    /// Where it was, if it is known which one it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_id: Option<DeviceId>,
    /// What is known of where it was, for people.
    pub message: String,
}

/// How many devices of one PCI id, or of any device of a probe, are expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExpectedDevices {
    /// Name of the probe that finds them.
    pub probe: String,
    /// PCI vendor and device id; none where any device of the probe would do.
    pub id: Option<(PciId, PciId)>,
    /// How many.
    pub count: u64,
}
