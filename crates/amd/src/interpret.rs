//! Interprets what amdgpu and KFD report: the facts of a device, its partitions, its links ([`links`]) and its names in
//! Kubernetes ([`names`]); and what a library reports ([`library`]). Pure.

pub(crate) mod library;
pub(crate) mod links;
pub(crate) mod names;

use std::collections::BTreeMap;

use afd_model::{
    Device, Handle, HandleKind, Known, MemorySource, Missing, Partition, PartitionName, Partitioning, UnitId,
    VendorFacts, XcpComputeMode,
};

use crate::{
    kfd::{self, KfdNode},
    products::{self, AmdProductRow},
    sysfs::AmdAttributes,
};

/// Where the partitions of all devices are found.
pub(crate) struct PartitionTopology<'a> {
    /// The nodes of KFD.
    pub(crate) nodes: &'a [KfdNode],
    /// Why a node could not be read, if one could not.
    pub(crate) unread: Option<Missing>,
    /// The platform devices, by render minor.
    pub(crate) xcp_devices: &'a BTreeMap<u64, XcpDevice>,
}

/// The platform device of a partition.
#[derive(Clone, Debug)]
pub(crate) struct XcpDevice {
    /// `amdgpu_xcp_3`.
    pub(crate) name: String,
    /// The number of its DRM card.
    pub(crate) card: Option<u32>,
}

/// Fills in the attributes of amdgpu and the facts of the product table.
pub(crate) fn attributes(device: &mut Device, attributes: AmdAttributes, row: Option<&AmdProductRow>) {
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
    device.uuid = unique_id.and_then(|id| device_id.map(|device_id| uuid(id, WHOLE, device_id.0)));
    if let Known::Value(uuid) = &device.uuid {
        device.handles.push(Handle::new(HandleKind::Uuid, uuid.as_str()));
    }
}

/// What AMD SMI up to ROCm 7.11, and AMD's exporter with it, write for the partition in the UUID of any device.
const WHOLE: u8 = 0xff;

/// The UUID by which AMD SMI identifies a device: its unique id, partition and PCI device id in the form of a UUID.
fn uuid(unique_id: u64, partition: u8, device_id: u16) -> String {
    let id = format!("{unique_id:016x}");
    format!("{}{partition:02x}{device_id:04x}-0000-1000-80{}-{}", &id[..2], &id[2..4], &id[4..])
}

/// Fills in the partitions, and what the attributes of amdgpu did not report, from KFD.
pub(crate) fn partitions(device: &mut Device, topology: &PartitionTopology<'_>) {
    let mut nodes: Vec<&KfdNode> = topology.nodes.iter().filter(|node| node.device == device.id).collect();
    nodes.sort_by_key(|node| (node.partition, node.render_minor, node.number));
    memory(device, &nodes, topology.unread);
    let Some(first) = nodes.first() else {
        if let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts
            && topology.unread.is_some()
        {
            facts.compute_units = Missing::Unreadable.into();
        }
        return;
    };
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
    compute_units(device, &nodes);
    match nodes[..] {
        [node] if !is_partitioned(device) => device.handles.extend(handles(node, topology.xcp_devices)),
        _ if matches!(device.partitioning, Known::Value(Partitioning::Sriov { .. })) => {}
        _ => device.partitions = xcps(device, &nodes, topology.xcp_devices),
    }
}

/// The memory by KFD, which is what ROCm can allocate: where the DRM driver has no figure (a virtual function) or 0 (MI300A), and
/// of a processor, whose DRM figure is the memory that the firmware sets aside for the display. A figure that could not be read
/// now is not replaced, and no other replaces that of KFD while KFD could not be read.
fn memory(device: &mut Device, nodes: &[&KfdNode], unread: Option<Missing>) {
    let may_be_replaced = match device.memory_bytes.missing() {
        None => device.integrated,
        Some(missing) => !missing.is_undecided(),
    };
    let has_nodes = !nodes.is_empty() || device.driver.value().is_some_and(|driver| driver == "amdgpu");
    if !may_be_replaced || !has_nodes {
        return;
    }
    // The node of a device that is not partitioned is all of it.
    let unread = unread.filter(|_| nodes.len() != 1 || is_partitioned(device));
    let mut of_nodes = nodes.iter().filter_map(|node| node.memory_bytes.missing());
    let total = nodes.iter().try_fold(0_u64, |sum, node| sum.checked_add(*node.memory_bytes.value()?));
    if let Some(missing) = unread.or_else(|| of_nodes.find(|missing| missing.is_undecided())) {
        (device.memory_bytes, device.memory_source) = (missing.into(), missing.into());
    } else if let Some(total) = total.filter(|_| !nodes.is_empty()) {
        device.memory_bytes = Known::Value(total);
        device.memory_source = Known::Value(MemorySource::Kfd);
    }
}

fn is_partitioned(device: &Device) -> bool {
    matches!(device.partitioning, Known::Value(Partitioning::Xcp { compute, .. }) if compute != XcpComputeMode::Spx)
}

fn compute_units(device: &mut Device, nodes: &[&KfdNode]) {
    let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts else { return };
    let units = nodes.iter().try_fold(0_u32, |sum, node| sum.checked_add(node.compute_units?));
    facts.compute_units = Known::from_option(units, Missing::NotExposed);
    let per_unit = nodes.first().and_then(|node| node.simds_per_compute_unit);
    facts.simds_per_compute_unit = Known::from_option(per_unit, Missing::NotExposed);
}

/// Fills in the model of an id that is sold as several ones.
pub(crate) fn model(device: &mut Device, row: &AmdProductRow) {
    let (Some(facts), false) = (device.amd(), row.facts.models.is_empty()) else { return };
    let board_name = facts.board_name.as_ref().map(String::as_str);
    let model = products::model_of_shared_id(row.facts.models, board_name, facts.compute_units);
    if let Known::Value(product) = &mut device.product {
        product.model = model;
    }
}

/// A device that exposes no mode is not partitioned, if no product of its architecture can be.
pub(crate) fn unpartitioned(device: &mut Device) {
    let supports_partitions = |compute: &String| matches!(compute.as_str(), "gfx942" | "gfx950");
    if device.partitioning.missing() == Some(Missing::NotExposed)
        && device.partitions.is_empty()
        && device.compute.value().is_some_and(|compute| !supports_partitions(compute))
    {
        device.partitioning = Known::Value(Partitioning::Whole);
    }
}

/// The partitions of a device, from its nodes in the order of their numbers.
fn xcps(device: &Device, nodes: &[&KfdNode], xcp_devices: &BTreeMap<u64, XcpDevice>) -> Vec<Partition> {
    // Where the nodes have no distinct partition numbers, the order of the render nodes counts.
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

fn handles(node: &KfdNode, xcp_devices: &BTreeMap<u64, XcpDevice>) -> Vec<Handle> {
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

/// Devices and partitions, by the GPU id of their KFD node.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_that_of_amd_smi() {
        assert_eq!(uuid(0xe3a9_f00d_0000_0001, 0, 0x74a1), "e30074a1-0000-1000-80a9-f00d00000001");
        assert_eq!(uuid(0x0b51_0000_dead_beef, WHOLE, 0x740c), "0bff740c-0000-1000-8051-0000deadbeef");
    }
}
