//! Facts that only Google's TPUs have, from the metadata of their machine and from their Node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// The slice to which a TPU chip belongs, as the metadata of its machine and its Node describe it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TpuSlice {
    /// Generation and form, as Google's labels name it: `tpu-v5-lite-podslice`.
    pub accelerator: Known<String>,
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
    /// What the hosts of the slice have in common and no other slice of the cluster has.
    pub identity: Known<String>,
    /// Whether the platform itself labels the Node with its TPUs; not known without a Node.
    pub labelled_by_platform: Known<bool>,
}

impl TpuSlice {
    /// Takes over what another source knows and this one does not.
    pub fn complete_with(&mut self, other: TpuSlice) {
        self.accelerator.fill(|| other.accelerator);
        self.accelerator_type.fill(|| other.accelerator_type);
        self.topology.fill(|| other.topology);
        self.chips_per_host.fill(|| other.chips_per_host);
        self.hosts.fill(|| other.hosts);
        self.worker.fill(|| other.worker);
        self.ici_resiliency.fill(|| other.ici_resiliency);
        self.identity.fill(|| other.identity);
        self.labelled_by_platform.fill(|| other.labelled_by_platform);
    }

    /// The chips of the whole slice.
    pub fn chips(&self) -> Option<u32> {
        let sizes = self.topology.value()?.split('x');
        sizes.map(|size| size.parse::<u32>().ok()).try_fold(1_u32, |chips, size| chips.checked_mul(size?))
    }
}
