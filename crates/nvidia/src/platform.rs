//! GPUs that are no PCI functions of this machine: those of a Windows host that it shares (WSL2), and that of a Jetson. Only NVML lists
//! them; the kernel says no more than that there are some.

use afd_host::Host;
use afd_model::{Device, Known, Missing, PciAddress, PciId, Variant, Vendor};
use afd_probe::{
    Facts, PciBus,
    node::{self, PARAVIRTUAL},
};

use crate::nvml::{
    report::{NvmlReport, address, field},
    table::call,
};

/// The driver of a Jetson's GPU.
const TEGRA: &str = "nvgpu";
const FAMILY: &str = "/sys/devices/soc0/family";

/// The driver of GPUs that have no PCI function of NVIDIA's, if the kernel says that there are such.
pub(crate) fn driver(host: &Host, bus: &PciBus) -> Option<&'static str> {
    let is_paravirtual = node::paravirtual_gpus(host, bus).next().is_some();
    let is_tegra = || {
        host.read(FAMILY).is_ok_and(|family| family.starts_with(b"Tegra"))
            || host.exists("/etc/nv_tegra_release")
    };
    is_paravirtual.then_some(PARAVIRTUAL).or_else(|| is_tegra().then_some(TEGRA))
}

/// The GPUs that NVML lists, bound to such a driver.
pub(crate) fn listed(report: &NvmlReport, driver: &str) -> Vec<Device> {
    let listed = report.devices.iter().filter_map(|reported| {
        let mut device = device(address(&reported.answers)?, driver);
        // Of each the upper half is the device, and the lower one the vendor.
        let ids = |name| field::<u32>(&reported.answers, call::PCI_INFO, name);
        let half = |ids: &Known<u32>, shift: u32| ids.map(|ids| PciId((ids >> shift & 0xffff) as u16));
        let (own, board) = (ids("pciDeviceId"), ids("pciSubSystemId"));
        (device.pci.vendor_id, device.pci.device_id) = (half(&own, 0), half(&own, 16));
        (device.pci.subsystem_vendor_id, device.pci.subsystem_device_id) =
            (half(&board, 0), half(&board, 16));
        Some(device)
    });
    listed.collect()
}

/// A GPU of which NVML has not said anything yet, for which it is queried.
pub(crate) fn unlisted(driver: &str) -> Device {
    device(PciAddress { domain: 0, bus: 0, device: 0, function: 0 }, driver)
}

fn device(address: PciAddress, driver: &str) -> Device {
    let driver = Known::Value(driver.to_owned());
    Device { driver, ..Device::bare(address, Vendor::Nvidia, Variant::Gpu) }
}

/// That a Jetson has a GPU that was not examined. Those of a Windows host are of any vendor: `afd_probe::node` says the same of them.
pub(crate) fn unexamined(facts: &mut Facts<'_>, driver: &str) {
    if driver == TEGRA {
        let message =
            "this is a Jetson (Tegra), whose integrated GPU is no PCI function and was not examined";
        let _: Known<()> = facts.missing("product", Missing::Unrecognized, Some(FAMILY), message);
    }
}
