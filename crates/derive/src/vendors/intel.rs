//! Intel's GPUs.

mod labels;
mod metrics;

use afd_model::{Device, Variant, Vendor};

use super::{
    Offering, Redactions, VFIO_DRIVERS, VendorLibrary, VendorRecord, accel_node,
    host_mount::USR,
    library::{MAX_DATA_BYTES, MAX_RESIDENT_BYTES},
    offering::{HealthAttribute, ResourceQuery, units},
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
        dra_health: Some(HealthAttribute { name: "health", healthy: "Healthy", unhealthy: "Unhealthy" }),
        resources: &["gpu.intel.com/i915", "gpu.intel.com/xe"],
        unit_counts,
    },
    plugin_options: &[],
    labels: Some(labels::LABELS),
    metrics: Some(metrics::XPUM),
    further_metrics: &[metrics::XPUMD],
    device_node: accel_node,
    uevent_subsystems: &["drm"],
    redactions: Redactions { fields: &["serialNumber", "boardNumber"], ..Redactions::NONE },
    library: Some(VendorLibrary {
        fact: "levelzero",
        title: "Level Zero",
        root_option: "intel-root",
        root_help: "A root with Level Zero and Intel's GPU driver for it, if they are not under the host root: / where the image has them",
        chart_value: Some("intel.driverRoot"),
        reports_uuids: false,
        // The driver is chosen by the process itself, by the folder of the library.
        environment: &[],
        max_resident_bytes: MAX_RESIDENT_BYTES,
        max_data_bytes: MAX_DATA_BYTES,
        read_paths: &[],
        shared_folders: &[],
        opens_counters: true,
        programs: &[],
        device_files: &["/dev/dri/card*", "/dev/dri/renderD*"],
    }),
    network: None,
    mounts: &[USR],
    pci_vendors: &[0x8086],
    compute_drivers: &["i915", "xe"],
    platform_drivers: &[],
    host_drivers: &[],
    has_online_memory: |_| false,
    obstacle: |_| None,
    passthrough_drivers: VFIO_DRIVERS,
    maintenance: &[],
};

/// The resource has the name of the kernel driver. Of a device with virtual functions only these are offered.
fn unit_counts(query: &ResourceQuery<'_>) -> Vec<u64> {
    let driver = query.resource.rsplit('/').next();
    let is_offered = |device: &Device| device.driver.value().map(String::as_str) == driver;
    vec![query.sum(|device| if is_offered(device) { units(device) } else { 0 })]
}
