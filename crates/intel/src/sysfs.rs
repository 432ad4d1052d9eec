//! What the kernel reports about an Intel GPU: PCI (`sysfs-bus-pci`), DRM, i915 and xe. Static facts are read here, changing
//! values in [`sampling`].

mod memory;
pub(crate) mod sampling;

use afd_host::Host;
use afd_model::{
    Device, Handle, HandleKind, Known, Missing, Partitioning, PciAddress, PciId, PcieLink, Variant, Vendor,
};
use afd_probe::{Facts, PciBus, PciFunction, device, library::DeviceNodes, products::unrecognized};

use crate::{
    VENDOR_ID,
    interpret::is_display_class,
    products::{self, BoardSwitch, IntelGpu},
    sysfs::sampling::IntelSource,
};

const BRIDGE_CLASS: u16 = 0x0604;

/// Whether an Intel function is a GPU.
///
/// A display function that is in no table and shares the slot of integrated GPUs with another one is the second head of an old one.
/// In another slot it is a device of its own, such as a virtual function in a guest.
pub(crate) fn is_gpu(bus: &PciBus, function: &PciFunction) -> bool {
    let known = function.device_id().and_then(products::find).is_some();
    let display = function.class().is_some_and(is_display_class);
    known || (display && !is_second_head(bus, function))
}

fn is_second_head(bus: &PciBus, function: &PciFunction) -> bool {
    let mut first = function.address;
    first.function = 0;
    let is_of_processors = (first.bus, first.device) == (0, 2);
    is_of_processors
        && function.address.function > 0
        && bus.function(first).is_some_and(|first| {
            first.vendor_id == function.vendor_id && first.class().is_some_and(is_display_class)
        })
}

/// The device of a function, and where to sample it; `earlier` is what was found by the discovery before.
pub(crate) fn describe(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    function: &PciFunction,
    earlier: Option<&IntelSource>,
) -> (Device, IntelSource) {
    let mut device = device::begin(facts, bus, function, Vendor::Intel, Variant::Xpu);
    let gpu = function.device_id().and_then(products::find);
    device.product = match gpu {
        Some(gpu) => Known::Value(products::product(gpu)),
        None => unrecognized(facts, function),
    };
    device.integrated =
        gpu.map_or_else(|| has_address_of_integrated_gpu(function), |gpu| gpu.facts.integrated);
    device.virtual_function = function.physical_function(facts.host()).is_some();
    let link = link_function(bus, function, &device, gpu);
    memory::add(facts, bus, function, &mut device, gpu);
    device.partitioning.fill(|| Known::Value(Partitioning::Whole));
    add_allocatable_names(facts, bus, &mut device);
    let source = IntelSource::find(facts, function, &device, link, earlier);
    [device.pci.link, device.pci.max_link] = source.links;
    (device, source)
}

/// Adds the names of the device, or of its virtual functions, in the device plugin (`card1`) and in the DRA driver
/// (`0000-03-00-0-0x56c0`).
fn add_allocatable_names(facts: &mut Facts<'_>, bus: &PciBus, device: &mut Device) {
    let names = |address: PciAddress, device_id: Option<PciId>, card: Option<&str>| {
        let dra = device_id.map(|id| format!("{}-0x{id}", address.to_string().replace([':', '.'], "-")));
        let plugin = card.map(|card| Handle::new(HandleKind::DevicePlugin, card));
        plugin.into_iter().chain(dra.map(|name| Handle::new(HandleKind::Dra, name))).collect::<Vec<_>>()
    };
    if device.partitions.is_empty() {
        let device_id = device.pci.device_id.value().copied();
        let names = names(device.id.0, device_id, device.handle(HandleKind::DrmCard));
        device.handles.extend(names);
        return;
    }
    for partition in &mut device.partitions {
        let Some(address) = partition.function.value().map(|function| function.address) else { continue };
        let Some(function) = bus.function(address) else { continue };
        let nodes = facts.names("drm_nodes", &function.attribute("drm"));
        let card = nodes.iter().find(|name| name.starts_with("card")).map(String::as_str);
        partition.handles.extend(names(address, function.device_id.value().copied(), card));
    }
}

/// The render nodes of devices that have memory of their own, where they are visible: under the host root, or else in the agent's own
/// container.
pub(crate) fn render_nodes(host: &Host, devices: &[Device]) -> DeviceNodes {
    let container = Host::open("/").ok();
    let node = |device: &Device| {
        let path = format!("/dev/dri/{}", device.handle(HandleKind::DrmRender)?);
        let under = |host: &Host| host.real_path(&path).ok();
        Some((device.id, under(host).or_else(|| under(container.as_ref()?))?))
    };
    devices.iter().filter(|device| !device.integrated).filter_map(node).collect()
}

/// The rule of the kernel: the integrated GPU is 00:02.0, on the root bus.
fn has_address_of_integrated_gpu(function: &PciFunction) -> bool {
    let address = function.address;
    (address.bus, address.device, address.function) == (0, 2, 0) && function.upstream.is_empty()
}

/// The function whose link files report the PCIe link of the board: the GPU itself, or the upstream port of the switch on the
/// board. None if that port is not visible, as in a virtual machine.
fn link_function<'b>(
    bus: &'b PciBus,
    function: &'b PciFunction,
    device: &Device,
    gpu: Option<&IntelGpu>,
) -> Option<&'b PciFunction> {
    let unlisted = if device.integrated { BoardSwitch::Never } else { BoardSwitch::Always };
    let own = match gpu.map_or(unlisted, products::board_switch) {
        BoardSwitch::Always => None,
        BoardSwitch::Sometimes => Some(function),
        BoardSwitch::Never => return Some(function),
    };
    switch_port(bus, function).or(own)
}

/// The upstream port of the switch on the board of a GPU, where it is visible.
fn switch_port<'b>(bus: &'b PciBus, function: &PciFunction) -> Option<&'b PciFunction> {
    let is_port = |port: &&PciFunction| {
        port.vendor_id.value().is_some_and(|id| id.0 == VENDOR_ID) && port.class() == Some(BRIDGE_CLASS)
    };
    bus.ports_above(function).map(|(upstream, _)| upstream).filter(is_port)
}

fn unknown_link() -> PcieLink {
    PcieLink { transfers_per_second: Missing::NotExposed.into(), width: Missing::NotExposed.into() }
}
