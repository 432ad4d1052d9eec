//! Intel's Gaudi accelerators.

mod labels;
mod metrics;

use afd_model::{Variant, Vendor};

use super::{
    Offering, Redactions, VFIO_DRIVERS, VendorLibrary, VendorRecord, accel_node,
    host_mount::USR,
    library::{MAX_DATA_BYTES, MAX_RESIDENT_BYTES},
    offering::whole_devices,
};

pub(super) static GAUDI: VendorRecord = VendorRecord {
    probe: "gaudi",
    vendor: Vendor::Intel,
    variant: Variant::Hpu,
    guide_variants: &[],
    title: "Intel Gaudi accelerators",
    label_examples: &[("product", "Intel-Gaudi-3"), ("model", "Gaudi3"), ("architecture", "gaudi3")],
    offers: Offering {
        dra_driver: "gaudi.intel.com",
        dra_health: None,
        resources: &["habana.ai/gaudi"],
        unit_counts: whole_devices,
    },
    plugin_options: &[],
    labels: Some(labels::LABELS),
    metrics: Some(metrics::METRICS),
    further_metrics: &[],
    device_node: accel_node,
    uevent_subsystems: &["accel"],
    redactions: Redactions { calls: &["hlml_device_get_serial", "hlml_device_get_uuid"], ..Redactions::NONE },
    library: Some(VendorLibrary {
        fact: "hlml",
        title: "HLML",
        root_option: "habana-root",
        root_help: "A root with HLML in usr/lib/habanalabs, if it is not under the host root: / where the image has it",
        chart_value: Some("gaudi.driverRoot"),
        reports_uuids: true,
        environment: &[],
        max_resident_bytes: MAX_RESIDENT_BYTES,
        max_data_bytes: MAX_DATA_BYTES,
        read_paths: &[],
        shared_folders: &[],
        opens_counters: false,
        programs: &[],
        // HLML opens the control nodes alone: who opens a compute node claims the device.
        device_files: &["/dev/accel/accel_controlD*", "/dev/hl_controlD*"],
    }),
    network: None,
    mounts: &[USR],
    pci_vendors: &[0x1da3],
    compute_drivers: &["habanalabs"],
    platform_drivers: &[],
    host_drivers: &[],
    has_online_memory: |_| false,
    obstacle: |_| None,
    passthrough_drivers: VFIO_DRIVERS,
    maintenance: &[],
};
