//! What the kernel reports about a TPU chip: PCI, its IOMMU group and the accel class of Google's driver.

use afd_model::{
    Device, Handle, HandleKind, Known, MemorySource, Missing, Partitioning, PciAddress, Product, Variant,
    Vendor,
};
use afd_probe::{Facts, PciBus, PciFunction, device, pci::numbered};

use crate::{
    health,
    products::{self, GoogleDeviceKind, TpuGeneration},
};

const ACCEL_CLASS: &str = "/sys/class/accel";
const VFIO_DRIVER: &str = "vfio-pci";

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
    let nodes: Vec<_> = chip.iter().map(|function| (function.address, handles(facts, function))).collect();
    device.health = health::verdict(&device, generation, &nodes);
    device.handles.extend(nodes.into_iter().flat_map(|(_, handles)| handles));
    let names = allocatable_names(&device, generation);
    device.handles.extend(names);
    (device, generation)
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

/// The handles of a function: its VFIO group, or the accel node of Google's driver.
fn handles(facts: &mut Facts<'_>, function: &PciFunction) -> Vec<Handle> {
    let mut handles = Vec::new();
    let driver = facts.link_name("driver", &function.attribute("driver"));
    if driver.value().is_some_and(|name| name == VFIO_DRIVER)
        && let Known::Value(group) = facts.link_name("vfio_group", &function.attribute("iommu_group"))
    {
        handles.push(Handle::new(HandleKind::VfioGroup, group));
    }
    let names = facts.names("accel_node", &function.attribute("accel"));
    let mut nodes: Vec<String> = names.into_iter().filter(|name| numbered(name, "accel").is_some()).collect();
    if nodes.is_empty() {
        let names = facts.names("accel_node", ACCEL_CLASS);
        let is_of_function = |name: &String| {
            let parent = facts.link_name("accel_node", &format!("{ACCEL_CLASS}/{name}/device"));
            parent.value().is_some_and(|name| name.parse() == Ok(function.address))
        };
        nodes = names
            .into_iter()
            .filter(|name| numbered(name, "accel").is_some())
            .filter(is_of_function)
            .collect();
    }
    handles.extend(nodes.into_iter().map(|name| Handle::new(HandleKind::Accel, name)));
    handles
}
