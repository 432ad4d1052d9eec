//! The names by which AMD's device plugin and DRA driver allocate devices and partitions.
//!
//! The device plugin uses the PCI address of a device and the name of the platform device of a partition; every release of the
//! DRA driver uses `gpu-<card>-<render minor>`. The first partition is the PCI device for both.

use afd_model::{Device, Handle, HandleKind};
use afd_probe::pci::numbered;

use super::PartitionTopology;

/// Adds the names of what can be allocated: the partitions, or the unpartitioned device.
pub(crate) fn add(device: &mut Device, topology: &PartitionTopology<'_>) {
    if device.driver.value().is_none_or(|driver| driver != "amdgpu") {
        return;
    }
    let address = device.id.to_string();
    let card = number(&device.handles, HandleKind::DrmCard, "card");
    let minor = number(&device.handles, HandleKind::DrmRender, "renderD");
    if device.partitions.is_empty() {
        device.handles.extend(names(&address, card, minor));
        return;
    }
    for partition in &mut device.partitions {
        let names = match number(&partition.handles, HandleKind::DrmRender, "renderD") {
            Some(own) if minor == Some(own) => names(&address, card, minor),
            Some(own) => match topology.xcp_devices.get(&u64::from(own)) {
                Some(xcp) => names(&xcp.name, xcp.card, Some(own)),
                None => Vec::new(),
            },
            None => Vec::new(),
        };
        partition.handles.extend(names);
    }
}

/// The number in a DRM node of a device or partition.
fn number(handles: &[Handle], kind: HandleKind, prefix: &str) -> Option<u32> {
    handles.iter().filter(|handle| handle.kind == kind).find_map(|handle| numbered(&handle.value, prefix))
}

fn names(plugin: &str, card: Option<u32>, minor: Option<u32>) -> Vec<Handle> {
    let dra = card.zip(minor).map(|(card, minor)| format!("gpu-{card}-{minor}"));
    let plugin = Handle::new(HandleKind::DevicePlugin, plugin);
    std::iter::once(plugin).chain(dra.map(|name| Handle::new(HandleKind::Dra, name))).collect()
}
