//! The RDMA ports of a node.

use afd_model::{Device, Inventory, Known, Nic, NicProtocol, PortState};

/// The RDMA protocol of the node's active ports, `none` if no port is active, `None` if that is not known. Ports that are part of
/// an accelerator do not count.
pub(crate) fn protocol(inventory: &Inventory) -> Option<&'static str> {
    let ports = inventory.nics.iter().filter(|nic| !nic.of_accelerator).flat_map(|nic| &nic.ports);
    let unknown = ports.clone().any(|port| !port.state.is_known());
    let active = ports
        .filter(|port| port.state.value() == Some(&PortState::Active))
        .filter_map(|port| port.protocol.value().copied())
        .filter(|protocol| *protocol != NicProtocol::Other)
        .min();
    match active {
        Some(protocol) => Some(protocol.as_str()),
        None if unknown => None,
        None => Some("none"),
    }
}

/// Whether the protocol may be another one, because a port could not be read.
pub(crate) fn is_undecided(inventory: &Inventory) -> bool {
    let mut ports = inventory.nics.iter().filter(|nic| !nic.of_accelerator).flat_map(|nic| &nic.ports);
    ports.any(|port| {
        [port.state.missing(), port.protocol.missing()].iter().flatten().any(|missing| missing.is_undecided())
    })
}

/// The accelerator that shares most PCIe bridges with a NIC, if it shares one and no other device shares as many.
pub fn nearest_device<'i>(inventory: &'i Inventory, nic: &Nic) -> Option<&'i Device> {
    if nic.of_accelerator {
        return inventory.devices.iter().find(|device| nic.pci_address == Known::Value(device.id.0));
    }
    let shared = |device: &Device| {
        device.pci.upstream.iter().zip(&nic.upstream).take_while(|(left, right)| left == right).count()
    };
    let most = inventory.devices.iter().map(shared).max().filter(|bridges| *bridges > 0)?;
    let mut nearest = inventory.devices.iter().filter(|device| shared(device) == most);
    nearest.next().filter(|_| nearest.next().is_none())
}
