//! The health of a chip as the kernel reports it: all of its functions are there, and each has a device node. Pure.
//!
//! Healthy means no more than GKE's device plugin means by it: the chip is present and bound. No source reports errors of a chip.
//! The node is that of its IOMMU group, or of Google's driver, as sysfs has them. Files of `/dev` count where the agent can see
//! them; its container has no `/dev` of the host.

use afd_model::{Device, Handle, Health, HealthState, PciAddress};

use crate::products::TpuGeneration;

/// What is known of the device node of a PCI function.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DeviceNode {
    /// It has at least one.
    Present(Vec<Handle>),
    /// It has none.
    Absent,
    /// Sysfs has it, but the file is missing.
    WithoutFile(Vec<Handle>),
    /// It could not be read whether it has one.
    Unread,
}

impl DeviceNode {
    /// The names of the node.
    pub(crate) fn handles(self) -> Vec<Handle> {
        match self {
            DeviceNode::Present(handles) | DeviceNode::WithoutFile(handles) => handles,
            DeviceNode::Absent | DeviceNode::Unread => Vec::new(),
        }
    }
}

/// The verdict on a chip, of which `nodes` has the device nodes by function. A chip of an unknown generation has none, and neither
/// has one whose nodes could not be read.
pub(crate) fn verdict(
    device: &Device,
    generation: Option<&TpuGeneration>,
    nodes: &[(PciAddress, DeviceNode)],
) -> Health {
    if device.health.state == HealthState::Failed {
        return driver_missing(device, generation);
    }
    let Some(generation) = generation else { return Health::unknown() };
    let without_node = nodes.iter().find_map(|(function, node)| {
        let what = match node {
            DeviceNode::Absent => "has no device node",
            DeviceNode::WithoutFile(_) => "has a device node whose file is missing",
            DeviceNode::Present(_) | DeviceNode::Unread => return None,
        };
        let message = format!(
            "function {function} {what}, so that no pod can be given the chip; \
             check its driver, the IOMMU and the image of the machine"
        );
        Some(Health::failed("DeviceNodeMissing", message))
    });
    let expected = generation.facts.functions;
    let incomplete = (nodes.len() < expected).then(|| {
        let message = format!(
            "the chip has {} of its {expected} PCI functions, so that a core is lost; \
             see the kernel log, and restart or repair the machine",
            nodes.len()
        );
        Health::degraded("ChipIncomplete", message)
    });
    let verdicts: Vec<Health> = without_node.into_iter().chain(incomplete).collect();
    if verdicts.is_empty() && nodes.iter().any(|(_, node)| *node == DeviceNode::Unread) {
        return Health::unknown();
    }
    Health::worst_of(verdicts)
}

/// Without a driver, and what to do about it: vfio-pci is no driver of the vendor that could be loaded.
fn driver_missing(device: &Device, generation: Option<&TpuGeneration>) -> Health {
    if !generation.is_some_and(|generation| generation.facts.has_vfio) {
        return device.health.clone();
    }
    let message = "no kernel driver is bound to the device; the image of a TPU machine binds vfio-pci when it starts: \
                   use the image for this generation of TPU, and check the kernel log";
    Health::failed("DriverMissing", message)
}
