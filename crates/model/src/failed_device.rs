//! Devices of DRA drivers that have failed, as an agent writes them to its Node.

use serde::{Deserialize, Serialize};

/// Name of the annotation, after the prefix and its slash.
pub const FAILED_DEVICES: &str = "failed-devices";
/// The version of the form that this program writes.
pub const FAILED_DEVICES_VERSION: u32 = 1;

/// The annotation.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailedDevices {
    /// The version of its form.
    pub v: u32,
    /// The devices, sorted.
    pub devices: Vec<FailedDevice>,
}

/// A device with a confirmed fault, by its names in a ResourceSlice.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct FailedDevice {
    /// The DRA driver.
    pub driver: String,
    /// Its pool.
    pub pool: String,
    /// The generation of the pool in which the device has this name.
    pub generation: i64,
    /// The name of the device.
    pub device: String,
    /// Why it has failed, in CamelCase.
    pub reason: String,
}
