//! What a probe could not read, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Missing};

/// A fact that a probe could not read although it should be there. A problem is data: the device stays, with everything
/// else that is known of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Problem {
    /// The probe that reports it: a vendor's, or `pci`, `rdma` or `node`.
    pub probe: String,
    /// The device that it concerns, if it is one device's.
    pub device: Option<DeviceId>,
    /// The fact that is missing now, e.g. `memory_bytes`.
    pub fact: String,
    /// The reason.
    pub reason: Missing,
    /// Path of the source, under the host root.
    pub path: Option<String>,
    /// Description for people.
    pub message: String,
}
