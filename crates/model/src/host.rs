//! What the host offers to pods besides its accelerators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// What the host offers to pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Memory of the host in bytes, as the kernel may use it: all of it, not what is free now.
    pub memory_bytes: Known<u64>,
    /// Device files of RDMA devices that a process can open (`/dev/infiniband/uverbs<N>`).
    pub rdma_device_files: Known<u32>,
}
