//! Intel's Gaudi accelerators.

use afd_model::{Variant, Vendor};

use super::{Offering, Redactions, VFIO_DRIVERS, VendorRecord, accel_node, offering::whole_devices};

pub(super) static GAUDI: VendorRecord = VendorRecord {
    probe: "gaudi",
    vendor: Vendor::Intel,
    variant: Variant::Hpu,
    title: "Intel Gaudi accelerators",
    label_examples: &[("product", "Intel-Gaudi-3"), ("model", "Gaudi3"), ("architecture", "gaudi3")],
    offers: Offering {
        dra_driver: "gaudi.intel.com",
        resources: &["habana.ai/gaudi"],
        unit_counts: whole_devices,
    },
    plugin_options: &[],
    labels: None,
    metrics: None,
    device_node: accel_node,
    uevent_subsystems: &["accel"],
    redactions: Redactions::NONE,
    library: None,
    network: None,
    mounts: &[],
    pci_vendors: &[0x1da3],
    passthrough_drivers: VFIO_DRIVERS,
    maintenance: &[],
};
