//! Facts that only Google's TPUs have, from the metadata of their machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// The slice to which a TPU chip belongs, as the metadata of its machine describe it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TpuSlice {
    /// Generation and size of the whole slice: `v5litepod-16`.
    pub accelerator_type: Known<String>,
    /// Chips of the whole slice in each dimension: `4x4`.
    pub topology: Known<String>,
    /// Chips of each of its hosts.
    pub chips_per_host: Known<u32>,
    /// Its hosts.
    pub hosts: Known<u32>,
    /// The number of this host in it.
    pub worker: Known<u32>,
    /// Whether the slice works on without some of its links.
    pub ici_resiliency: Known<bool>,
}
