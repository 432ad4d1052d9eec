//! What the host has beside its accelerators that a pod on it can use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, Missing};

/// What the host has for its pods.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Memory of the host in bytes, as the kernel may use it: all of it, not what is free now.
    pub memory_bytes: Known<u64>,
    /// Device files of RDMA devices that a process can open (`/dev/infiniband/uverbs<N>`).
    pub rdma_device_files: Known<u32>,
}

impl HostFacts {
    /// Nobody has told anything yet.
    pub fn unknown() -> HostFacts {
        let unknown = Missing::NotExposed;
        HostFacts { memory_bytes: unknown.into(), rdma_device_files: unknown.into() }
    }
}
