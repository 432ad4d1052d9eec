//! The RDMA ports of a node.

use afd_model::{Device, Inventory, Known, Nic, NicPort, NicProtocol, PortState};

/// The RDMA protocol of the node's active ports, `none` if no port is active, `None` if that is not known. Ports that are part of
/// an accelerator do not count.
pub(crate) fn protocol(inventory: &Inventory) -> Option<&'static str> {
    let ports = inventory.nics.iter().filter(|nic| !nic.of_accelerator).flat_map(|nic| &nic.ports);
    let is_active = |port: &&NicPort| port.state.value() == Some(&PortState::Active);
    let unknown =
        ports.clone().any(|port| !port.state.is_known() || is_active(&port) && !port.protocol.is_known());
    let active = ports
        .filter(is_active)
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
        // The protocol of a port that is down does not count.
        let may_be_active = port.state.value().is_none_or(|state| *state == PortState::Active);
        let protocol = port.protocol.missing().filter(|_| may_be_active);
        [port.state.missing(), protocol].iter().flatten().any(|missing| missing.is_undecided())
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

#[cfg(test)]
mod tests {
    use afd_model::Missing;

    use super::*;

    #[test]
    fn a_port_that_is_active_by_an_unread_protocol_is_no_evidence_that_there_is_none() {
        let of = |state: Known<PortState>, protocol: Known<NicProtocol>| {
            let port = NicPort {
                number: 1,
                state,
                link_layer: Known::default(),
                protocol,
                rate_bits_per_second: Known::default(),
            };
            let nic = Nic {
                name: "mlx5_0".to_owned(),
                pci_address: Known::default(),
                vendor_id: Known::default(),
                device_id: Known::default(),
                product: Known::default(),
                driver: Known::default(),
                firmware_version: Known::default(),
                numa_node: Known::default(),
                upstream: Vec::new(),
                virtual_function: false,
                of_accelerator: false,
                ports: vec![port],
            };
            let inventory = Inventory { nics: vec![nic], ..Inventory::default() };
            (super::protocol(&inventory), is_undecided(&inventory))
        };
        let (active, down) = (Known::Value(PortState::Active), Known::Value(PortState::Down));
        assert_eq!(of(active, Known::Value(NicProtocol::Other)), (Some("none"), false));
        assert_eq!(of(active, Missing::Unreadable.into()), (None, true));
        assert_eq!(of(down, Missing::Unreadable.into()), (Some("none"), false));
        assert_eq!(of(Missing::Unreadable.into(), Known::Value(NicProtocol::Other)), (None, true));
    }
}
