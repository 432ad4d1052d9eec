//! What a probe could not learn, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Missing};

/// A fact that a probe could not learn although it should be there. A problem is data: the device stays and
/// everything else about it is right.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Problem {
    /// The probe that met it: `nvidia`, `amd`, `intel`, `gaudi`, `tpu`, `rdma` or `pci`.
    pub probe: String,
    /// The device that it concerns, if it is one device's.
    pub device: Option<DeviceId>,
    /// The fact that is missing now, e.g. `memory_bytes`.
    pub fact: String,
    /// The kind of reason.
    pub reason: Missing,
    /// Where it was looked for, beneath the host root.
    pub path: Option<String>,
    /// What was wrong, for people.
    pub message: String,
}
