//! Google's TPUs.

mod labels;
mod metrics;

use afd_model::{Variant, Vendor};

use super::{
    HostMount, MountCondition, NetworkSource, Offering, PodServer, Redactions, VendorNetwork, VendorRecord,
    accel_node, host_mount::directory, offering::whole_devices,
};

pub(super) static TPU: VendorRecord = VendorRecord {
    probe: "tpu",
    vendor: Vendor::Google,
    variant: Variant::Tpu,
    guide_variants: &[("v6e", "tpu-v6e")],
    title: "Google TPUs",
    label_examples: &[("product", "Google-TPU-v6e"), ("model", "v6e"), ("architecture", "trillium")],
    offers: Offering {
        dra_driver: "tpu.google.com",
        dra_health: None,
        resources: &["google.com/tpu"],
        unit_counts: whole_devices,
    },
    plugin_options: &[],
    labels: Some(labels::LABELS),
    metrics: Some(metrics::METRICS),
    further_metrics: &[],
    device_node: accel_node,
    uevent_subsystems: &["accel", "vfio"],
    redactions: Redactions {
        binary_files: &["tpu-env"],
        fields: &["namespace", "pod", "container", "identity"],
        ..Redactions::NONE
    },
    library: None,
    network: Some(NETWORK),
    mounts: &[HostMount {
        when: MountCondition::Value("tpu.metadata"),
        ..directory("/etc/tpu", "the slice to which the machine belongs; Google's images off GKE have it")
    }],
    pci_vendors: &[0x1ae0],
    compute_drivers: &["vfio-pci", "tpu_*"],
    platform_drivers: &[],
    host_drivers: &[],
    has_online_memory: |_| false,
    obstacle: |_| None,
    passthrough_drivers: &[],
    maintenance: &[],
};

/// Utilization and memory in use are reported by the runtime within the workload, and by what queries it; the slice by the metadata
/// server of the machine.
const NETWORK: VendorNetwork = VendorNetwork {
    sources: &[
        NetworkSource {
            name: "exporter",
            option: "tpu-exporter",
            help: "Address of the exporter of GKE's TPU device plugin on this node, for utilization and used memory; off: do not \
                   query it. Queried if the node has a TPU [default: 127.0.0.1:2112]",
            default: "127.0.0.1:2112",
            chart_value: "tpu.exporter",
        },
        NetworkSource {
            name: "runtime",
            option: "tpu-runtime",
            help: "Address of the TPU runtime of a workload that shares the node's network, for utilization and used memory where \
                   the exporter has none; off: do not query it. `tpu-env` of the machine can name other ports \
                   [default: 127.0.0.1:8431]",
            default: "127.0.0.1:8431",
            chart_value: "tpu.runtime",
        },
        NetworkSource {
            name: "metadata",
            option: "tpu-metadata-server",
            help: "Address of the metadata server of the machine, for the slice of its TPUs; off: do not query it. Queried if the \
                   node has a TPU and no `/etc/tpu/tpu-env` [default: 169.254.169.254:80]",
            default: "169.254.169.254:80",
            chart_value: "tpu.metadataServer",
        },
    ],
    // GKE's plugin queries this port of each pod.
    pods: Some(PodServer { port: 8431, ports_variable: "TPU_RUNTIME_METRICS_PORTS" }),
    max_resident_bytes: 32 << 20,
    max_data_bytes: 64 << 20,
};
