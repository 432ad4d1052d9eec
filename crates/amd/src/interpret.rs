//! From what amdgpu and KFD tell to the device, its partitions and its links, and in [`library`] from what a library reports.
//! Pure.

pub(crate) mod library;

use std::collections::BTreeMap;

use afd_model::{
    Device, DeviceId, Handle, HandleKind, Known, Link, LinkKind, MemorySource, Missing, Partition,
    PartitionName, Partitioning, UnitId, VendorFacts, XcpComputeMode,
};

use crate::{
    kfd::{self, Node},
    products::AmdProductRow,
    sysfs::Attributes,
};

/// What there is of partitions on the node.
pub(crate) struct Parts<'a> {
    /// KFD's nodes.
    pub(crate) nodes: &'a [Node],
    /// Platform devices by render minor.
    pub(crate) xcp_devices: &'a BTreeMap<u64, XcpDevice>,
}

/// The platform device of a partition.
#[derive(Clone, Debug)]
pub(crate) struct XcpDevice {
    /// `amdgpu_xcp_3`.
    pub(crate) name: String,
    /// The number of its DRM card.
    pub(crate) card: Option<u64>,
}

/// Fills in what amdgpu's attributes and the table tell.
pub(crate) fn attributes(device: &mut Device, attributes: Attributes, row: Option<&AmdProductRow>) {
    device.memory_source = attributes.vram_bytes.map(|_| MemorySource::Drm);
    device.memory_bytes = attributes.vram_bytes;
    device.serial = attributes.serial;
    device.firmware_version = attributes.vbios;
    device.compute = Known::from_option(row.map(|row| row.facts.compute.to_owned()), Missing::Unrecognized);
    device.link_domain = attributes.hive_id.map(|id| id.to_string());
    identify(device, attributes.unique_id);
    if !device.partitioning.is_known() {
        let memory = attributes.memory_mode;
        device.partitioning = attributes.compute_mode.map(|compute| Partitioning::Xcp { compute, memory });
    }
}

fn identify(device: &mut Device, unique_id: Known<u64>) {
    if let Known::Value(id) = unique_id {
        device.handles.push(Handle::new(HandleKind::UniqueId, format!("{id:016x}")));
    }
    let device_id = device.pci.device_id;
    device.uuid = unique_id.and_then(|id| device_id.map(|device_id| uuid(id, 0, device_id.0)));
    if let Known::Value(uuid) = &device.uuid {
        device.handles.push(Handle::new(HandleKind::Uuid, uuid.as_str()));
    }
}

/// The UUID that AMD SMI gives a device: its unique id, partition and PCI device id in the form of a UUID.
fn uuid(unique_id: u64, partition: u8, device_id: u16) -> String {
    let id = format!("{unique_id:016x}");
    format!("{}{partition:02x}{device_id:04x}-0000-1000-80{}-{}", &id[..2], &id[2..4], &id[4..])
}

/// Fills in what KFD tells of a device: partitions, and what amdgpu's attributes did not tell.
pub(crate) fn partitions(device: &mut Device, parts: &Parts<'_>) {
    let mut nodes: Vec<&Node> = parts.nodes.iter().filter(|node| same_slot(node, device)).collect();
    nodes.sort_by_key(|node| (node.partition, node.render_minor, node.number));
    let Some(first) = nodes.first() else { return };
    if let Some(isa) = first.gfx_target_version.and_then(kfd::isa) {
        device.compute = Known::Value(isa);
    }
    if !device.uuid.is_known() {
        identify(device, Known::from_option(first.unique_id, Missing::NotExposed));
    }
    if !device.link_domain.is_known() {
        device.link_domain =
            Known::from_option(first.hive_id.map(|id| id.to_string()), Missing::NotAvailable);
    }
    if !device.memory_bytes.is_known() {
        let total = nodes.iter().map(|node| node.memory_bytes.value().copied()).sum::<Option<u64>>();
        if let Some(total) = total.filter(|_| device.memory_bytes.missing() == Some(Missing::NotExposed)) {
            device.memory_bytes = Known::Value(total);
            device.memory_source = Known::Value(MemorySource::Kfd);
        }
    }
    compute_units(device, &nodes);
    let cut = matches!(&device.partitioning, Known::Value(Partitioning::Xcp { compute, .. }) if *compute != XcpComputeMode::Spx);
    match nodes[..] {
        [node] if !cut => device.handles.extend(handles(node, parts.xcp_devices)),
        _ if matches!(device.partitioning, Known::Value(Partitioning::Sriov { .. })) => {}
        _ => device.partitions = xcps(device, &nodes, parts.xcp_devices),
    }
}

fn compute_units(device: &mut Device, nodes: &[&Node]) {
    let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts else { return };
    let units = nodes.iter().map(|node| node.compute_units).sum::<Option<u32>>();
    facts.compute_units = Known::from_option(units, Missing::NotExposed);
    let per_unit = nodes.first().and_then(|node| node.simds_per_compute_unit);
    facts.simds_per_compute_unit = Known::from_option(per_unit, Missing::NotExposed);
}

/// Says that a device is whole where nothing told how it is cut and no part of its kind can be.
pub(crate) fn wholeness(device: &mut Device) {
    let can_be_cut = |compute: &String| matches!(compute.as_str(), "gfx942" | "gfx950");
    if device.partitioning.missing() == Some(Missing::NotExposed)
        && device.partitions.is_empty()
        && device.compute.value().is_some_and(|compute| !can_be_cut(compute))
    {
        device.partitioning = Known::Value(Partitioning::Whole);
    }
}

/// The partitions of a device, by its nodes in the order of their numbers.
fn xcps(device: &Device, nodes: &[&Node], xcp_devices: &BTreeMap<u64, XcpDevice>) -> Vec<Partition> {
    // Where the partition numbers are of no use, the order of the render nodes counts.
    let numbered = nodes.windows(2).all(|pair| pair[0].partition < pair[1].partition);
    nodes
        .iter()
        .enumerate()
        .map(|(order, node)| {
            let number = if numbered { node.partition as usize } else { order };
            let mut handles = handles(node, xcp_devices);
            let ids = node.unique_id.zip(device.pci.device_id.value());
            handles.extend(ids.map(|(unique_id, device_id)| {
                Handle::new(HandleKind::Uuid, uuid(unique_id, number as u8, device_id.0))
            }));
            Partition {
                memory_bytes: node.memory_bytes,
                compute_units: Known::from_option(node.compute_units, Missing::NotExposed),
                numa_node: device.numa_node,
                handles,
                ..Partition::bare(device.id, PartitionName::Xcp(number as u32))
            }
        })
        .collect()
}

/// KFD's nodes know the slot; the function digit is the partition.
fn same_slot(node: &Node, device: &Device) -> bool {
    let (address, own) = (node.address, device.id.0);
    (address.domain, address.bus, address.device) == (own.domain, own.bus, own.device)
}

fn handles(node: &Node, xcp_devices: &BTreeMap<u64, XcpDevice>) -> Vec<Handle> {
    let mut handles = vec![Handle::new(HandleKind::KfdNode, node.number.to_string())];
    if let Some(id) = node.gpu_id {
        handles.push(Handle::new(HandleKind::KfdGpuId, id.to_string()));
    }
    if let Some(minor) = node.render_minor {
        handles.push(Handle::new(HandleKind::DrmRender, format!("renderD{minor}")));
        if let Some(xcp) = xcp_devices.get(&minor) {
            handles.push(Handle::new(HandleKind::XcpDevice, xcp.name.as_str()));
            if let Some(card) = xcp.card {
                handles.push(Handle::new(HandleKind::DrmCard, format!("card{card}")));
            }
        }
    }
    handles
}

/// Names what AMD's device plugin and DRA driver hand out: the partitions, or a device that is not cut. The first partition
/// is the PCI device, for them as for the kernel. Both generations of the DRA driver call a device by its DRM nodes.
pub(crate) fn allocatable(device: &mut Device, parts: &Parts<'_>) {
    if device.driver.value().is_none_or(|driver| driver != "amdgpu") {
        return;
    }
    let address = device.id.to_string();
    let own_minor =
        device.handle(HandleKind::DrmRender).and_then(|node| node.strip_prefix("renderD")?.parse().ok());
    let own_card = device.handle(HandleKind::DrmCard).map(str::to_owned);
    if device.partitions.is_empty() {
        let names = names(&address, own_card.as_deref(), own_minor);
        device.handles.extend(names);
        return;
    }
    for part in &mut device.partitions {
        let find = |kind| part.handles.iter().find(|handle| handle.kind == kind).map(|handle| &handle.value);
        let minor =
            find(HandleKind::DrmRender).and_then(|node| node.strip_prefix("renderD")?.parse::<u64>().ok());
        let names = match minor {
            Some(minor) if own_minor == Some(minor) => names(&address, own_card.as_deref(), Some(minor)),
            Some(minor) => parts.xcp_devices.get(&minor).map_or_else(Vec::new, |xcp| {
                let card = xcp.card.map(|card| format!("card{card}"));
                names(&xcp.name, card.as_deref(), Some(minor))
            }),
            None => Vec::new(),
        };
        part.handles.extend(names);
    }
}

fn names(plugin: &str, card: Option<&str>, minor: Option<u64>) -> Vec<Handle> {
    let mut names = vec![Handle::new(HandleKind::DevicePlugin, plugin)];
    let card = card.and_then(|card| card.strip_prefix("card"));
    if let (Some(card), Some(minor)) = (card, minor) {
        names.push(Handle::new(HandleKind::Dra, format!("gpu-{card}-{minor}")));
    }
    names
}

/// Devices and partitions by the id that KFD gives their node.
pub(crate) fn units_by_kfd_id(devices: &[Device]) -> BTreeMap<u64, UnitId> {
    let id = |handles: &[Handle]| {
        let handle = handles.iter().find(|handle| handle.kind == HandleKind::KfdGpuId)?;
        handle.value.parse().ok()
    };
    let mut units: BTreeMap<u64, UnitId> = BTreeMap::new();
    for device in devices {
        units.extend(id(&device.handles).map(|gpu_id| (gpu_id, UnitId::from(device.id))));
        for partition in &device.partitions {
            units.extend(id(&partition.handles).map(|gpu_id| (gpu_id, UnitId::from(partition.id))));
        }
    }
    units
}

/// XGMI links between devices, and for each device the fastest way to the next one.
pub(crate) fn links(devices: &mut [Device], nodes: &[Node]) -> Vec<Link> {
    let owner = |node: &Node| devices.iter().find(|device| same_slot(node, device)).map(|device| device.id);
    let owners: BTreeMap<u32, DeviceId> =
        nodes.iter().filter_map(|node| Some((node.number, owner(node)?))).collect();
    let mut links: BTreeMap<(DeviceId, DeviceId), Link> = BTreeMap::new();
    for node in nodes {
        for to in &node.links {
            let (Some(from), Some(other)) = (owners.get(&node.number), owners.get(&to.to)) else { continue };
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
            let nearer = |known: &Link| known.weight.value() <= link.weight.value();
            if !links.get(&(a, b)).is_some_and(nearer) {
                links.insert((a, b), link);
            }
        }
    }
    let several = devices.len() > 1;
    for device in devices.iter_mut() {
        let told = owners.values().any(|owner| *owner == device.id);
        let linked = links.keys().any(|(a, b)| *a == device.id || *b == device.id);
        if linked {
            device.interconnect = Known::Value(LinkKind::Xgmi);
        } else if told && several {
            device.interconnect = Known::Value(LinkKind::Pcie);
        }
    }
    links.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_amd_smis() {
        assert_eq!(uuid(0xe3a9_f00d_0000_0001, 0, 0x74a1), "e30074a1-0000-1000-80a9-f00d00000001");
    }
}
