//! Google's TPUs.

use afd_model::{Variant, Vendor};

use super::{Offering, Redactions, VendorRecord, accel_node, offering::whole_devices};

pub(super) static TPU: VendorRecord = VendorRecord {
    probe: "tpu",
    vendor: Vendor::Google,
    variant: Variant::Tpu,
    title: "Google TPUs",
    label_examples: &[("product", "Google-TPU-v6e"), ("model", "v6e"), ("architecture", "trillium")],
    offers: Offering {
        dra_driver: "tpu.google.com",
        resources: &["google.com/tpu"],
        unit_counts: whole_devices,
    },
    plugin_options: &[],
    labels: None,
    metrics: None,
    device_node: accel_node,
    uevent_subsystems: &["accel", "vfio"],
    redactions: Redactions::NONE,
    library: None,
    mounts: &[],
    pci_vendors: &[0x1ae0],
    passthrough_drivers: &[],
    maintenance: &[],
};
