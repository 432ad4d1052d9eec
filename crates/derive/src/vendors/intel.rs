//! Intel's GPUs.

use afd_model::{Device, Variant, Vendor};

use super::{
    Offering, Redactions, VFIO_DRIVERS, VendorRecord, accel_node,
    offering::{ResourceQuery, units},
};

pub(super) static INTEL: VendorRecord = VendorRecord {
    probe: "intel",
    vendor: Vendor::Intel,
    variant: Variant::Xpu,
    guide_variants: &[],
    title: "Intel GPUs",
    label_examples: &[
        ("product", "Intel-Data-Center-GPU-Max-1550"),
        ("model", "Max-1550"),
        ("architecture", "xe-hpc"),
    ],
    offers: Offering {
        dra_driver: "gpu.intel.com",
        resources: &["gpu.intel.com/i915", "gpu.intel.com/xe"],
        unit_counts,
    },
    plugin_options: &[],
    labels: None,
    metrics: None,
    device_node: accel_node,
    uevent_subsystems: &["drm"],
    redactions: Redactions::NONE,
    library: None,
    network: None,
    mounts: &[],
    pci_vendors: &[0x8086],
    passthrough_drivers: VFIO_DRIVERS,
    maintenance: &[],
};

/// The resource has the name of the kernel driver. Of a device with virtual functions only these are offered.
fn unit_counts(query: &ResourceQuery<'_>) -> Vec<u64> {
    let driver = query.resource.rsplit('/').next();
    let is_offered = |device: &Device| device.driver.value().map(String::as_str) == driver;
    vec![query.sum(|device| if is_offered(device) { units(device) } else { 0 })]
}
