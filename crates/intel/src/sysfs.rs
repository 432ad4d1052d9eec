//! The kernel's word on an Intel GPU: PCI (`sysfs-bus-pci`), DRM, i915 and xe. What does not change while the GPU is
//! there is read here, what moves in [`sampling`].

pub(crate) mod sampling;

use afd_model::{
    Device, HandleKind, Health, Known, MemorySource, Missing, Partitioning, PcieLink, Variant, Vendor,
};
use afd_probe::{Facts, PciBus, PciFunction, device, pci};

use crate::{
    VENDOR_ID,
    interpret::{bar_bytes, is_display_class, memory_by_product},
    products::{self, Gpu},
    sysfs::sampling::Source,
};

const BRIDGE: u16 = 0x0604;

/// Whether a function of Intel's is a GPU of its own.
///
/// A virtual function whose physical function is on this host is a partition of that one. A display function beside
/// another in the same slot that is in no table is the second head of an old integrated GPU.
pub(crate) fn is_device(facts: &Facts<'_>, bus: &PciBus, function: &PciFunction) -> bool {
    let known = function.device_id().and_then(products::find).is_some();
    let display = function.class().is_some_and(is_display_class);
    let is_part =
        function.physical_function(facts.host()).is_some_and(|physical| bus.function(physical).is_some());
    (known || (display && !is_second_head(bus, function))) && !is_part
}

fn is_second_head(bus: &PciBus, function: &PciFunction) -> bool {
    let mut first = function.address;
    first.function = 0;
    function.address.function > 0
        && bus.function(first).is_some_and(|first| {
            first.vendor_id == function.vendor_id && first.class().is_some_and(is_display_class)
        })
}

/// The device that a function is, and where to sample it.
pub(crate) fn describe(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> (Device, Source) {
    let mut device = device::begin(facts, bus, function, Vendor::Intel, Variant::Xpu);
    let gpu = function.device_id().and_then(products::find);
    device.product = match gpu {
        Some(gpu) => Known::Value(gpu.product()),
        None => function.device_id.and_then(|id| {
            let path = function.attribute("device");
            facts.missing(
                "product",
                Missing::Unrecognized,
                Some(&path),
                format_args!("unknown Intel GPU 8086:{id}"),
            )
        }),
    };
    device.integrated = gpu.map_or_else(|| is_where_integrated_gpus_are(function), |gpu| gpu.integrated);
    device.virtual_function = function.physical_function(facts.host()).is_some();
    if let Some((bytes, source)) = memory(facts, function, &device, gpu.as_ref()) {
        device.memory_bytes = Known::Value(bytes);
        device.memory_source = Known::Value(source);
    }
    if !device.partitioning.is_known() {
        device.partitioning = Known::Value(Partitioning::Whole);
    }
    let link = link_function(bus, function, &device, gpu.as_ref());
    (device.pci.link, device.pci.max_link) = match link {
        Some(port) => (pci::pcie_link(facts, port, "current"), pci::pcie_link(facts, port, "max")),
        None => (untold_link(), untold_link()),
    };
    if facts.host().exists(&function.attribute("survivability_mode")) {
        device.health = Health::failed(
            "SurvivabilityMode",
            "the firmware of the GPU failed and the driver keeps it for repair only; flash its firmware anew",
        );
    }
    let source = Source::find(facts, function, &device, link);
    (device, source)
}

/// The kernel's rule: a processor's own GPU is 00:02.0, on the root bus.
fn is_where_integrated_gpus_are(function: &PciFunction) -> bool {
    let address = function.address;
    (address.bus, address.device, address.function) == (0, 2, 0) && function.upstream.is_empty()
}

/// Memory of the device. `lmem_total_bytes` (i915 of Intel's own packages) is that of one tile. An integrated GPU has
/// none of its own.
fn memory(
    facts: &mut Facts<'_>,
    function: &PciFunction,
    device: &Device,
    gpu: Option<&Gpu>,
) -> Option<(u64, MemorySource)> {
    if device.integrated {
        return None;
    }
    if let Some(card) = device.handle(HandleKind::DrmCard) {
        let card = function.attribute(&format!("drm/{card}"));
        if let Known::Value(bytes @ 1..) =
            facts.number::<u64>("memory_bytes", &format!("{card}/lmem_total_bytes"))
        {
            let tiles = sampling::numbered(facts, &format!("{card}/gt"), "gt").len().max(1) as u64;
            return Some((bytes.saturating_mul(tiles), MemorySource::Drm));
        }
    }
    let bar = facts
        .text("memory_bytes", &function.attribute("resource"))
        .value()
        .and_then(|text| bar_bytes(text, 2));
    memory_by_product(gpu?, bar)
}

/// The function whose link files tell how the GPU is attached: its own, or the upstream port of the switch on its
/// card. None where that port is not visible, as in a virtual machine.
fn link_function<'b>(
    bus: &'b PciBus,
    function: &'b PciFunction,
    device: &Device,
    gpu: Option<&Gpu>,
) -> Option<&'b PciFunction> {
    let behind_switch = gpu.map_or(!device.integrated, Gpu::is_behind_own_switch);
    if !behind_switch {
        return Some(function);
    }
    let [.., _slot, upstream_port, _downstream_port] = function.upstream.as_slice() else { return None };
    bus.function(*upstream_port).filter(|port| {
        port.vendor_id.value().is_some_and(|id| id.0 == VENDOR_ID) && port.class() == Some(BRIDGE)
    })
}

fn untold_link() -> PcieLink {
    PcieLink { transfers_per_second: Missing::NotExposed.into(), width: Missing::NotExposed.into() }
}
