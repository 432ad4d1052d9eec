//! What the host offers to pods besides its accelerators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, Missing};

/// What the host offers to pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    /// Memory of the host in bytes, as the kernel may use it: all of it, not what is free now.
    pub memory_bytes: Known<u64>,
    /// Device files of RDMA devices that a process can open (`/dev/infiniband/uverbs<N>`).
    pub rdma_device_files: Known<u32>,
    /// Threads that a core of the processors runs: the logical CPUs are so many times the cores.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub threads_per_core: Known<u32>,
    /// Memory that the kernel has set aside as huge pages of any size, in bytes.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub hugepages_bytes: Known<u64>,
    /// Size of all local NVMe disks together, in bytes: without disks of a network that look like one.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub local_nvme_bytes: Known<u64>,
    /// How much memory a container may lock, in bytes, where its pod does not say so; the largest number is no limit.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub locked_memory_bytes: Known<u64>,
    /// Whether RDMA ports carry traffic while pods that hold RDMA devices keep their accelerators busy; missing while there are none.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub rdma_carries_traffic: Known<bool>,
    /// The distribution.
    #[serde(default, skip_serializing_if = "Known::is_not_exposed")]
    pub os: Known<OsRelease>,
}

impl HostFacts {
    /// Why facts are not known, of those that are not.
    pub fn missing(&self) -> impl Iterator<Item = Missing> + use<> {
        let reasons = [
            self.memory_bytes.missing(),
            self.rdma_device_files.missing(),
            self.threads_per_core.missing(),
            self.hugepages_bytes.missing(),
            self.local_nvme_bytes.missing(),
            self.locked_memory_bytes.missing(),
            self.rdma_carries_traffic.missing(),
            self.os.missing(),
        ];
        reasons.into_iter().flatten()
    }
}

/// A distribution, as `/etc/os-release` identifies it (os-release(5)).
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OsRelease {
    /// `ubuntu`, `rhel`.
    pub id: String,
    /// Distributions that it is like, the closest first.
    pub id_like: Vec<String>,
    /// `24.04`.
    pub version: Option<String>,
    /// `coreos`.
    pub variant: Option<String>,
}
