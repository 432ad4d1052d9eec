//! The health of a chip as the kernel reports it: all of its functions are there, and each has a device node. Pure.
//!
//! Healthy means no more than GKE's device plugin means by it: the chip is present and bound. No source reports errors of a chip.

use afd_model::{Device, Handle, Health, HealthState, PciAddress};

use crate::products::TpuGeneration;

/// The verdict on a chip, of which `nodes` has the device nodes by function. A chip of an unknown generation has none.
pub(crate) fn verdict(
    device: &Device,
    generation: Option<&TpuGeneration>,
    nodes: &[(PciAddress, Vec<Handle>)],
) -> Health {
    if device.health.state == HealthState::Failed {
        return device.health.clone();
    }
    let Some(generation) = generation else { return Health::unknown() };
    let without_node = nodes.iter().find(|(_, handles)| handles.is_empty()).map(|(function, _)| {
        let message = format!(
            "function {function} has no device node, so that no pod can be given the chip; \
             check its driver, the IOMMU and the image of the machine"
        );
        Health::failed("DeviceNodeMissing", message)
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
    Health::worst_of([without_node, incomplete].into_iter().flatten())
}
