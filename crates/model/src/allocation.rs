//! Which pods hold which devices.

use crate::UnitId;

/// A container's hold on a device or partition. A shared device has several.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Allocation {
    /// The device or partition.
    pub unit: UnitId,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// The extended resource, or `<driver>/<claim>` of a resource claim.
    pub resource: String,
    /// How Kubernetes allocates the device.
    pub mechanism: AllocationMechanism,
}

/// How Kubernetes allocates devices.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AllocationMechanism {
    /// A device plugin.
    DevicePlugin,
    /// Dynamic resource allocation.
    Dra,
}

impl AllocationMechanism {
    /// Whether an extended resource or a DRA driver offers RDMA devices, by the names that llm-d's guides use: `rdma/ib`,
    /// `.../sriov-rdma-vf`, `.../hostdev`, `vpc.amazonaws.com/efa`, `mrdma.*`, `dra.net`.
    pub fn is_rdma(self, by: &str) -> bool {
        let is_dranet = self == AllocationMechanism::Dra && by == "dra.net";
        by.contains("rdma") || by.ends_with("/efa") || by.ends_with("/hostdev") || is_dranet
    }

    /// The value of the metric label `mechanism`.
    pub fn as_str(self) -> &'static str {
        match self {
            AllocationMechanism::DevicePlugin => "device-plugin",
            AllocationMechanism::Dra => "dra",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdma_devices_are_known_by_the_names_that_the_guides_use() {
        let plugin = AllocationMechanism::DevicePlugin;
        for name in [
            "rdma/ib",
            "rdma/roce_gdr",
            "example.com/sriov-rdma-vf",
            "example.com/hostdev",
            "vpc.amazonaws.com/efa",
        ] {
            assert!(plugin.is_rdma(name), "{name}");
        }
        let dra = AllocationMechanism::Dra;
        assert!(dra.is_rdma("mrdma.example.com") && dra.is_rdma("dra.net"));
        assert!(!plugin.is_rdma("dra.net") && !plugin.is_rdma("example.com/gpu") && !plugin.is_rdma("cpu"));
    }
}
