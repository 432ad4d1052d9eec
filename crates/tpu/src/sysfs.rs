//! What the kernel reports about a TPU chip: PCI, its IOMMU group and the accel class of Google's driver.

use afd_model::{
    Device, Handle, HandleKind, Known, MemorySource, Missing, Partitioning, PciAddress, Product, Variant,
    Vendor,
};
use afd_probe::{Facts, PciBus, PciFunction, device, pci::numbered};

use crate::{
    health::{self, DeviceNode},
    holding::OrderedChip,
    products::{self, GoogleDeviceKind, TpuGeneration},
};

const ACCEL_CLASS: &str = "/sys/class/accel";
const VFIO_DRIVER: &str = "vfio-pci";
/// Files of VFIO groups.
const VFIO_FILES: &str = "/dev/vfio";
/// No host has more chips.
const MAX_CHIPS: u32 = 16;

/// The functions of one chip, lowest first.
pub(crate) type TpuChip<'b> = Vec<&'b PciFunction>;

/// The TPU chips of a host: the functions of one slot are one chip. An unknown Google device is a problem, as it may be a TPU of
/// a new generation.
pub(crate) fn chips<'b>(facts: &mut Facts<'_>, bus: &'b PciBus, vendor_id: u16) -> Vec<TpuChip<'b>> {
    let kind = |function: &PciFunction| function.device_id().map(products::kind);
    for function in bus.of_vendor(vendor_id) {
        if let (Some(GoogleDeviceKind::Unknown), Some(id)) = (kind(function), function.device_id()) {
            let path = function.attribute("device");
            let message = format!("unknown Google device {vendor_id:04x}:{id:04x} at {}", function.address);
            let _: Known<()> = facts.missing("product", Missing::Unrecognized, Some(&path), message);
        }
    }
    let is_tpu = |function: &PciFunction| kind(function) == Some(GoogleDeviceKind::Tpu);
    let mut chips: Vec<TpuChip<'b>> = Vec::new();
    for function in bus.devices(facts.host(), vendor_id, is_tpu) {
        match chips.last_mut() {
            Some(chip) if chip.iter().any(|other| slot(other.address) == slot(function.address)) => {
                chip.push(function);
            }
            _ => chips.push(vec![function]),
        }
    }
    chips
}

fn slot(address: PciAddress) -> (u32, u8, u8) {
    (address.domain, address.bus, address.device)
}

/// The device of a chip, and its generation.
pub(crate) fn describe(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    function: &PciFunction,
    chip: &TpuChip<'_>,
) -> (Device, Option<&'static TpuGeneration>) {
    let mut device = device::begin(facts, bus, function, Vendor::Google, Variant::Tpu);
    // vfio-pci is part of the kernel and no driver of the chip: its version says nothing of a TPU.
    if device.driver.value().is_some_and(|driver| driver == VFIO_DRIVER) {
        device.driver_version = Missing::NotExposed.into();
    }
    let generation = function.device_id().and_then(|id| {
        let subsystem = device.pci.subsystem_device_id.value().map(|id| id.0);
        products::find(id, subsystem)
    });
    device.product = match generation {
        Some(generation) => Known::Value(generation.product()),
        None => unknown_generation(facts, function, &device),
    };
    if let Some(generation) = generation {
        device.memory_bytes = Known::Value(generation.facts.memory_bytes());
        device.memory_source = Known::Value(MemorySource::ProductTable);
        device.logical_devices = Known::Value(generation.facts.logical_devices);
    }
    device.partitioning.fill(|| Known::Value(Partitioning::Whole));
    let nodes: Vec<_> = chip.iter().map(|function| (function.address, node(facts, function))).collect();
    device.health = health::verdict(&device, generation, &nodes);
    device.handles.extend(nodes.into_iter().flat_map(|(_, node)| node.handles()));
    let names = allocatable_names(&device, generation);
    device.handles.extend(names);
    (device, generation)
}

/// The chip as values of its TensorCores are attributed to it. One of an unknown generation is taken for one with most of them.
pub(crate) fn ordered(device: &Device, generation: Option<&TpuGeneration>) -> OrderedChip {
    let facts = generation.map(|generation| generation.facts);
    OrderedChip {
        numa_node: device.numa_node.value().copied(),
        id: device.id,
        cores: facts.map_or(2, |facts| facts.cores),
        is_shareable: facts.is_none_or(|facts| facts.functions > 1),
    }
}

/// The names of a chip in GKE's device plugin and in the DRA driver: its accel node or its VFIO group. On TPU 7x, which
/// the DRA driver does not support, the device plugin uses the PCI slot; either group names the chip as well.
fn allocatable_names(device: &Device, generation: Option<&TpuGeneration>) -> Vec<Handle> {
    let plugin_name = |name: &str| Handle::new(HandleKind::DevicePlugin, name);
    if generation.is_some_and(|generation| generation.facts.functions > 1) {
        let address = device.id.to_string();
        let slot = address.rsplit_once('.').map(|(slot, _function)| plugin_name(slot));
        let groups = device.handles.iter().filter(|handle| handle.kind == HandleKind::VfioGroup);
        return slot.into_iter().chain(groups.map(|group| plugin_name(&group.value))).collect();
    }
    let is_node = |handle: &&Handle| matches!(handle.kind, HandleKind::Accel | HandleKind::VfioGroup);
    let names = |node: &Handle| {
        [HandleKind::DevicePlugin, HandleKind::Dra].map(|kind| Handle::new(kind, node.value.as_str()))
    };
    device.handles.iter().filter(is_node).flat_map(names).collect()
}

/// Why the generation is unknown: the subsystem id is missing or unknown.
fn unknown_generation(facts: &mut Facts<'_>, function: &PciFunction, device: &Device) -> Known<Product> {
    if function.device_id().is_some_and(products::needs_subsystem) {
        return device.pci.subsystem_device_id.and_then(|id| {
            let path = function.attribute("subsystem_device");
            facts.missing(
                "product",
                Missing::Unrecognized,
                Some(&path),
                format_args!("unknown TPU board {id}"),
            )
        });
    }
    Missing::Unrecognized.into()
}

/// The device node of a function: that of its VFIO group, or the accel node of Google's driver.
fn node(facts: &mut Facts<'_>, function: &PciFunction) -> DeviceNode {
    let driver = facts.link_name("driver", &function.attribute("driver"));
    let is_vfio = driver.value().is_some_and(|name| name == VFIO_DRIVER);
    let group = if is_vfio {
        facts.link_name("vfio_group", &function.attribute("iommu_group"))
    } else {
        Known::default()
    };
    let accel = accel_nodes(facts, function);
    let is_unread = |reason: Option<Missing>| reason.is_some_and(|reason| reason != Missing::NotExposed);
    let has_gap = [driver.missing(), group.missing(), accel.missing()].into_iter().any(is_unread);
    let accel = accel.into_value().unwrap_or_default();
    let is_file_missing = group.value().is_some_and(|group| lacks_group_file(facts, group))
        || accel.iter().any(|name| lacks_accel_file(facts, name));
    let group = group.into_value().map(|group| Handle::new(HandleKind::VfioGroup, group));
    let accel = accel.into_iter().map(|name| Handle::new(HandleKind::Accel, name));
    let handles: Vec<Handle> = group.into_iter().chain(accel).collect();
    match (handles.is_empty(), is_file_missing) {
        (true, _) if has_gap => DeviceNode::Unread,
        (true, _) => DeviceNode::Absent,
        (false, true) => DeviceNode::WithoutFile(handles),
        (false, false) => DeviceNode::Present(handles),
    }
}

fn is_accel(name: &str) -> bool {
    numbered(name, "accel").is_some()
}

/// The accel nodes of a function, in its own directory or in that of the class.
fn accel_nodes(facts: &mut Facts<'_>, function: &PciFunction) -> Known<Vec<String>> {
    let own = facts.listing("accel_node", &function.attribute("accel"));
    let own_reason = own.missing();
    let mut nodes: Vec<String> = own.into_value().unwrap_or_default();
    nodes.retain(|name| is_accel(name));
    if !nodes.is_empty() {
        return Known::Value(nodes);
    }
    let class = facts.listing("accel_node", ACCEL_CLASS);
    let mut reasons = vec![own_reason, class.missing()];
    for name in class.into_value().unwrap_or_default().into_iter().filter(|name| is_accel(name)) {
        let parent = facts.link_name("accel_node", &format!("{ACCEL_CLASS}/{name}/device"));
        reasons.push(parent.missing());
        if parent.value().is_some_and(|parent| parent.parse() == Ok(function.address)) {
            nodes.push(name);
        }
    }
    if !nodes.is_empty() {
        return Known::Value(nodes);
    }
    let unread = reasons.into_iter().flatten().find(|reason| *reason != Missing::NotExposed);
    unread.unwrap_or(Missing::NotExposed).into()
}

/// Whether a VFIO group has no file, although other groups have: where none has one, the device files of the host cannot be seen,
/// as in the agent's container.
fn lacks_group_file(facts: &Facts<'_>, group: &str) -> bool {
    let files = facts.host().list(VFIO_FILES).unwrap_or_default();
    let is_group = |file: &String| file.bytes().all(|byte| byte.is_ascii_digit());
    files.iter().any(is_group) && !files.iter().any(|file| file == group)
}

/// The same of an accel node. Other names in `/dev` are not looked at: a recording has what was listed.
fn lacks_accel_file(facts: &Facts<'_>, name: &str) -> bool {
    let has_file = |name: &str| facts.host().exists(&format!("/dev/{name}"));
    !has_file(name) && (0..MAX_CHIPS).any(|number| has_file(&format!("accel{number}")))
}
