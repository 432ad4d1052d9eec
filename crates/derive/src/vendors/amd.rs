//! AMD's GPUs.

mod labels;
mod metrics;

use afd_model::{Device, MaintenanceKind, Partitioning, Variant, Vendor};

use super::{
    MaintenanceSignal, Offering, Redactions, SecretForm, SignalPlace, SignalValues, VFIO_DRIVERS,
    VendorLibrary, VendorRecord, accel_node,
    host_mount::{HostMount, MountCondition, USR, directory},
    library::{MAX_DATA_BYTES, MAX_RESIDENT_BYTES},
    offering::{ResourceQuery, units},
};

pub(super) static AMD: VendorRecord = VendorRecord {
    probe: "amd",
    vendor: Vendor::Amd,
    variant: Variant::Gpu,
    guide_variants: &[],
    title: "AMD GPUs",
    label_examples: &[
        ("product", "AMD-Instinct-MI300X"),
        ("model", "MI300X"),
        ("architecture", "cdna3"),
        ("compute", "gfx942"),
    ],
    offers: Offering {
        dra_driver: "gpu.amd.com",
        dra_health: None,
        // Partitions may have a resource of their mode, `amd.com/cpx_nps4`.
        resources: &[
            "amd.com/gpu",
            "amd.com/spx_*",
            "amd.com/dpx_*",
            "amd.com/tpx_*",
            "amd.com/qpx_*",
            "amd.com/cpx_*",
            // To virtual machines.
            "amd.com/gpu_pf",
            "amd.com/gpu_vf",
        ],
        unit_counts,
    },
    plugin_options: &[],
    labels: Some(labels::LABELS),
    metrics: Some(metrics::METRICS),
    further_metrics: &[],
    device_node: accel_node,
    uevent_subsystems: &["drm", "kfd", "platform"],
    redactions: Redactions {
        files: &[("unique_id", SecretForm::Text), ("xgmi_hive_id", SecretForm::Decimal)],
        lines: &[("unique_id", SecretForm::Decimal), ("hive_id", SecretForm::Decimal)],
        binary_files: &["amdgpu_ring_cper"],
        calls: &["amdsmi_get_gpu_device_uuid", "rsmi_dev_unique_id_get"],
        fields: &["asic_serial"],
        ..Redactions::NONE
    },
    library: Some(VendorLibrary {
        fact: "smi",
        title: "AMD SMI or ROCm SMI",
        root_option: "rocm-root",
        root_help: "A root with AMD SMI or ROCm SMI, if it is not under the host root: / where the image has it",
        chart_value: Some("amd.driverRoot"),
        reports_uuids: true,
        environment: &[],
        max_resident_bytes: MAX_RESIDENT_BYTES,
        max_data_bytes: MAX_DATA_BYTES,
        // The names of products, for libdrm.
        read_paths: &["/usr/share/libdrm", "/opt/amdgpu/share/libdrm", "/opt/rocm"],
        // Both libraries lock each device by a file there, and cannot be initialised without.
        shared_folders: &["/dev/shm"],
        opens_counters: false,
        programs: &[],
        device_files: &["/dev/kfd", "/dev/dri/card*", "/dev/dri/renderD*"],
    }),
    network: None,
    mounts: &[
        USR,
        HostMount {
            when: MountCondition::LibraryOnHost,
            ..directory("/opt", "the library, where ROCm's own packages have installed it")
        },
        HostMount {
            when: MountCondition::Value("amd.debugfs"),
            ..directory(
                "/sys/kernel/debug",
                "feature versions of the firmware and error records, for user 0 alone",
            )
        },
    ],
    pci_vendors: &[0x1002],
    compute_drivers: &["amdgpu"],
    platform_drivers: &[],
    host_drivers: &["gim"],
    has_online_memory: |_| false,
    obstacle: |_| None,
    passthrough_drivers: VFIO_DRIVERS,
    // The upgrade state of AMD's GPU operator, and the taint under which its Device Config Manager changes partitions. A
    // node waits in `Upgrade-Required` and `Upgrade-Not-Started` for as long as workloads run.
    maintenance: &[
        MaintenanceSignal {
            place: SignalPlace::Label,
            key: "operator.amd.com/gpu-driver-upgrade-state",
            values: SignalValues::OneOf(&[
                "Upgrade-Started",
                "Upgrade-In-Progress",
                "Install-In-Progress",
                "Reboot-In-Progress",
            ]),
            kind: MaintenanceKind::DriverUpgrade,
        },
        MaintenanceSignal {
            place: SignalPlace::Taint,
            key: "amd-dcm",
            values: SignalValues::Any,
            kind: MaintenanceKind::Reconfiguring,
        },
    ],
};

/// A partition is offered as a device is, under the common resource or under that of its modes.
fn unit_counts(query: &ResourceQuery<'_>) -> Vec<u64> {
    let resource_of_mode = |device: &Device| match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            memory.value().map(|memory| format!("amd.com/{compute}_{memory}").to_lowercase())
        }
        _ => None,
    };
    let has_own_resource = |device: &Device| {
        resource_of_mode(device).is_some_and(|name| query.resources_of_node.contains(&name.as_str()))
    };
    if matches!(query.resource, "amd.com/gpu_pf" | "amd.com/gpu_vf") {
        return Vec::new();
    }
    let is_offered = |device: &Device| match query.resource {
        "amd.com/gpu" => !has_own_resource(device),
        name => resource_of_mode(device).as_deref() == Some(name),
    };
    vec![query.sum(|device| if is_offered(device) { units(device) } else { 0 })]
}
