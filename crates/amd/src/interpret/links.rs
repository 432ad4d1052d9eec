//! The links between devices, from the topology of KFD.

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Known, Link, LinkKind, Missing};

use crate::kfd::{KfdNode, KfdTopology};

/// The XGMI links between devices; sets the fastest interconnect of each device. What could not be read may be a link.
pub(crate) fn links(devices: &mut [Device], KfdTopology { nodes, unread }: &KfdTopology) -> Vec<Link> {
    let devices_by_node: BTreeMap<u32, DeviceId> =
        nodes.iter().map(|node| (node.number, node.device)).collect();
    let mut links: BTreeMap<(DeviceId, DeviceId), Link> = BTreeMap::new();
    for node in nodes {
        for to in &node.links {
            let ends = (devices_by_node.get(&node.number), devices_by_node.get(&to.to));
            let (Some(from), Some(other)) = ends else { continue };
            if from == other {
                continue;
            }
            let (a, b) = (*from.min(other), *from.max(other));
            let weight = Known::from_option(
                u32::try_from(to.weight).ok().filter(|weight| *weight > 0),
                Missing::NotAvailable,
            );
            let bandwidth =
                Some(to.max_bandwidth.saturating_mul(1_000_000)).filter(|bandwidth| *bandwidth > 0);
            let link = Link {
                a,
                b,
                kind: LinkKind::Xgmi,
                weight,
                bandwidth_bytes_per_second: Known::from_option(bandwidth, Missing::NotAvailable),
            };
            let is_shorter = |known: &Link| known.weight.value() <= link.weight.value();
            if !links.get(&(a, b)).is_some_and(is_shorter) {
                links.insert((a, b), link);
            }
        }
    }
    let has_peers = devices.len() > 1;
    for device in devices.iter_mut() {
        let mut own = nodes.iter().filter(|node| node.device == device.id).peekable();
        let has_node = own.peek().is_some();
        let unread = own.find_map(|node: &KfdNode| node.unread_link).or(*unread).filter(|_| has_peers);
        device.linked_devices = unread.unwrap_or(Missing::NotExposed).into();
        let is_linked = links.keys().any(|(a, b)| *a == device.id || *b == device.id);
        if is_linked {
            device.interconnect = Known::Value(LinkKind::Xgmi);
        } else if let Some(unread) = unread {
            device.interconnect = unread.into();
        } else if has_node && has_peers {
            device.interconnect = Known::Value(LinkKind::Pcie);
        }
    }
    links.into_values().collect()
}
