//! Google's TPUs.

use afd_model::{Variant, Vendor};

use super::{
    HostMount, MountCondition, NetworkSource, Offering, Redactions, VendorNetwork, VendorRecord, accel_node,
    host_mount::directory, offering::whole_devices,
};

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
    further_metrics: &[],
    device_node: accel_node,
    uevent_subsystems: &["accel", "vfio"],
    redactions: Redactions { binary_files: &["tpu-env"], ..Redactions::NONE },
    library: None,
    network: Some(NETWORK),
    mounts: &[HostMount {
        when: MountCondition::Value("tpu.metadata"),
        ..directory("/etc/tpu", "the slice to which the machine belongs; Google's images off GKE have it")
    }],
    pci_vendors: &[0x1ae0],
    passthrough_drivers: &[],
    maintenance: &[],
};

/// Utilization and memory in use are reported by the runtime within the workload, and by what queries it.
const NETWORK: VendorNetwork = VendorNetwork {
    sources: &[NetworkSource {
        name: "exporter",
        option: "tpu-exporter",
        help: "Address of the exporter of GKE's TPU device plugin on this node, for utilization and used memory; off: do not \
               query it. Queried if the node has a TPU [default: 127.0.0.1:2112]",
        default: "127.0.0.1:2112",
        chart_value: "tpu.exporter",
    }],
    max_resident_bytes: 32 << 20,
    max_data_bytes: 64 << 20,
};
