//! Links between the devices of a node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Known};

/// A direct link between two devices of the node, listed once for each pair (`a` < `b`).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Link {
    /// One end.
    pub a: DeviceId,
    /// The other end.
    pub b: DeviceId,
    /// Its type.
    pub kind: LinkKind,
    /// The kernel's cost of the link (KFD: 15 for one XGMI hop); smaller is nearer.
    pub weight: Known<u32>,
    /// Maximum bandwidth in one direction.
    pub bandwidth_bytes_per_second: Known<u64>,
}

/// Type of a link; the order is from slow to fast.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// PCI Express, through the host or a switch.
    Pcie,
    /// Ethernet ports of the devices themselves.
    Roce,
    /// Xe Link.
    Xelink,
    /// Infinity Fabric between GPUs.
    Xgmi,
    /// NVLink.
    Nvlink,
    /// Inter-chip interconnect.
    Ici,
}

impl LinkKind {
    /// The value of the label `interconnect`.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkKind::Pcie => "pcie",
            LinkKind::Roce => "roce",
            LinkKind::Xelink => "xelink",
            LinkKind::Xgmi => "xgmi",
            LinkKind::Nvlink => "nvlink",
            LinkKind::Ici => "ici",
        }
    }
}
