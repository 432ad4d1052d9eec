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
    /// The value of the metric label `mechanism`.
    pub fn as_str(self) -> &'static str {
        match self {
            AllocationMechanism::DevicePlugin => "device-plugin",
            AllocationMechanism::Dra => "dra",
        }
    }
}
