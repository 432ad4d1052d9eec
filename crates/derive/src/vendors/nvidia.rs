//! NVIDIA's GPUs.

mod device_plugin;
mod labels;
mod metrics;
mod options;

use afd_model::{Device, HandleKind, Known, MaintenanceKind, Partitioning, Variant, Vendor};

pub(super) use self::options::NvidiaOptions;
use super::{
    MaintenanceSignal, Offering, Redactions, SecretForm, SignalPlace, SignalValues, VendorLibrary,
    VendorRecord, accel_node,
    host_mount::{USR, directory},
    library::{MAX_DATA_BYTES, MAX_RESIDENT_BYTES},
    offering::ResourceQuery,
};

pub(super) static NVIDIA: VendorRecord = VendorRecord {
    probe: "nvidia",
    vendor: Vendor::Nvidia,
    variant: Variant::Gpu,
    guide_variants: &[],
    title: "NVIDIA GPUs",
    label_examples: &[
        ("product", "NVIDIA-H100-80GB-HBM3"),
        ("model", "H100"),
        ("architecture", "hopper"),
        ("compute", "9.0"),
    ],
    offers: Offering {
        dra_driver: "gpu.nvidia.com",
        dra_health: None,
        // The plugins for virtual machines name a resource by the chip and the product, in upper case (`GA102GL_A10`), or by the
        // vGPU type (`GRID_T4-4Q`, `NVIDIA_A40-48Q`), unless they are given a common name.
        resources: &[
            "nvidia.com/gpu",
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-*",
            "nvidia.com/pgpu",
            "nvidia.com/vgpu",
            "nvidia.com/AD*",
            "nvidia.com/G*",
            "nvidia.com/NVIDIA_*",
            "nvidia.com/TU*",
        ],
        unit_counts,
    },
    plugin_options: device_plugin::PLUGIN_OPTIONS,
    labels: Some(labels::LABELS),
    metrics: Some(metrics::METRICS),
    further_metrics: &[],
    device_node,
    uevent_subsystems: &[],
    redactions: Redactions {
        lines: &[("GPU UUID", SecretForm::Text)],
        calls: &["nvmlDeviceGetUUID", "nvmlDeviceGetSerial"],
        // The NVLink domain: a rack.
        fields: &["clusterUuid"],
        uuid_prefixes: &["GPU-", "MIG-"],
        ..Redactions::NONE
    },
    library: Some(VendorLibrary {
        fact: "nvml",
        title: "NVML",
        root_option: "nvidia-driver-root",
        root_help: "A root with NVIDIA's driver, if it is not under the host root: / where a container runtime injected \
                    the library. The known places are searched under it; several roots are separated by :",
        chart_value: Some("nvidia.driverRoot"),
        reports_uuids: true,
        environment: &[],
        max_resident_bytes: MAX_RESIDENT_BYTES,
        max_data_bytes: MAX_DATA_BYTES,
        read_paths: &["/proc/driver/nvidia", "/proc/driver/nvidia-caps", "/etc/nvidia"],
        shared_folders: &[],
        opens_counters: false,
        // NVML has it make device files that are missing.
        programs: &["/usr/bin/nvidia-modprobe"],
        device_files: &["/dev/nvidiactl", "/dev/nvidia*", "/dev/nvidia-caps/*"],
    }),
    network: None,
    mounts: &[directory("/proc/driver", "what the driver reports of its GPUs"), USR],
    pci_vendors: &[0x10de],
    compute_drivers: &["nvidia"],
    platform_drivers: &["dxgkrnl", "nvgpu"],
    host_drivers: &[],
    has_online_memory,
    obstacle,
    passthrough_drivers: &["vfio-pci", "pci-stub", "nvgrace_gpu_vfio_pci"],
    // The upgrade controller of the GPU operator (k8s-operator-libs, package `upgrade`), its driver manager
    // (k8s-driver-manager) and its MIG manager (mig-parted), which pause the other operands while they unload the driver or
    // reset GPUs. Before these states (`upgrade-required`, `cordon-required`, `wait-for-jobs-required`) workloads may run for
    // hours. The first signal that is set names the work.
    maintenance: &[
        MaintenanceSignal {
            place: SignalPlace::Label,
            key: "nvidia.com/gpu-driver-upgrade-state",
            values: SignalValues::OneOf(&[
                "pod-deletion-required",
                "drain-required",
                "node-maintenance-required",
                "post-maintenance-required",
                "pod-restart-required",
                "validation-required",
            ]),
            kind: MaintenanceKind::DriverUpgrade,
        },
        MaintenanceSignal {
            place: SignalPlace::Label,
            key: "nvidia.com/mig.config.state",
            values: SignalValues::OneOf(&["pending", "rebooting"]),
            kind: MaintenanceKind::Reconfiguring,
        },
        MaintenanceSignal {
            place: SignalPlace::Label,
            key: "nvidia.com/gpu.deploy.*",
            values: SignalValues::Containing("paused-for-mig-change"),
            kind: MaintenanceKind::Reconfiguring,
        },
        MaintenanceSignal {
            place: SignalPlace::Label,
            key: "nvidia.com/gpu.deploy.*",
            values: SignalValues::Containing("paused-for-"),
            kind: MaintenanceKind::DriverUpgrade,
        },
    ],
};

/// The memory of a GPU beside a Grace processor, which the driver has online; NVML reports it as address translation services. The
/// model decides only where NVML does not report it.
fn has_online_memory(device: &Device) -> bool {
    if let Some(mode) = device.nvidia().and_then(|facts| facts.addressing_mode.value()) {
        return mode == "ats";
    }
    let model = device.product.value().and_then(|product| product.model.value());
    model.is_some_and(|model| ["GH200", "GB200", "GB300"].contains(&model.as_str()))
}

/// Compute modes and virtualisation modes with which no program of this node can compute.
fn obstacle(device: &Device) -> Option<&'static str> {
    let facts = device.nvidia()?;
    let is = |fact: &Known<String>, values: &[&str]| {
        fact.value().is_some_and(|value| values.contains(&value.as_str()))
    };
    if is(&facts.compute_mode, &["prohibited"]) {
        Some(
            "its compute mode is prohibited, so that no program can use it; set another one with nvidia-smi -c 0",
        )
    } else if is(&facts.virtualization, &["host_vgpu", "host_vsga"]) {
        Some(
            "its driver is the vGPU manager, which computes nothing on the host; use virtual machines with vGPUs",
        )
    } else {
        None
    }
}

/// `nvidia0`.
fn device_node(device: &Device) -> Option<String> {
    device.handle(HandleKind::Minor).map(|minor| format!("nvidia{minor}")).or_else(|| accel_node(device))
}

/// With the MIG strategy `mixed` MIG devices have resources of their own, `mig-1g.10gb`; with `single` they are offered
/// under the name of whole GPUs, and with `none` their GPUs are offered instead.
fn unit_counts(query: &ResourceQuery<'_>) -> Vec<u64> {
    const MIG: &str = "nvidia.com/mig-";
    const OF_CONTAINERS: &str = "nvidia.com/gpu";
    if !query.resource.starts_with(MIG) && !query.resource.starts_with(OF_CONTAINERS) {
        // How many devices are given to virtual machines, and as how many vGPUs, is up to the settings of their plugin.
        return Vec::new();
    }
    let name = query.resource.strip_suffix(".shared").unwrap_or(query.resource);
    if let Some(profile) = name.strip_prefix(MIG) {
        let of_profile = |device: &Device| {
            let profiles = device.partitions.iter().filter_map(|partition| partition.profile.value());
            profiles.filter(|own| own.replace('+', ".") == profile).count()
        };
        return vec![query.sum(of_profile)];
    }
    let without_mig =
        query.sum(|device| usize::from(device.partitioning.value() != Some(&Partitioning::Mig)));
    if query.resources_of_node.iter().any(|name| name.starts_with(MIG)) {
        return vec![without_mig];
    }
    let single = without_mig + query.sum(|device| device.partitions.len());
    let none = query.devices.len() as u64;
    if single == none { vec![none] } else { vec![single, none] }
}

#[cfg(test)]
mod tests {
    use afd_model::{Inventory, NodeFacts, NvidiaFacts, Product, VendorFacts};

    use super::*;
    use crate::paths::PathRules;

    #[test]
    fn no_path_counts_gpus_that_no_program_can_use() {
        let gpu = |bus, mode: &str, virtualization: &str| {
            let facts = NvidiaFacts {
                compute_mode: Known::Value(mode.to_owned()),
                virtualization: Known::Value(virtualization.to_owned()),
                ..NvidiaFacts::default()
            };
            let address = afd_model::PciAddress { domain: 0, bus, device: 0, function: 0 };
            Device {
                driver: Known::Value("nvidia".to_owned()),
                partitioning: Known::Value(Partitioning::Whole),
                vendor_facts: Some(VendorFacts::Nvidia(Box::new(facts))),
                ..Device::bare(address, Vendor::Nvidia, Variant::Gpu)
            }
        };
        let reasons = |devices: Vec<Device>| {
            let inventory = Inventory { devices, ..Inventory::default() };
            let rules = PathRules::built_in();
            let verdicts = rules.verdicts(&inventory, false);
            let path = verdicts.iter().find(|verdict| verdict.path.name == "optimized-baseline");
            let unmet = path.expect("there is such a path").unmet();
            unmet.map(|unmet| unmet.requirement.reason.clone()).collect::<Vec<_>>()
        };
        for (mode, virtualization) in
            [("prohibited", "none"), ("default", "host_vgpu"), ("default", "host_vsga")]
        {
            let unusable = |bus| gpu(bus, mode, virtualization);
            assert_eq!(
                reasons(vec![unusable(1), unusable(2), unusable(3)]),
                ["ComputeProhibited", "TooFewDevices"]
            );
            assert_eq!(reasons(vec![unusable(1), gpu(2, "default", "none")]), ["TooFewDevices"]);
        }
        let shared = |bus| gpu(bus, "exclusive_process", "vgpu");
        assert!(reasons(vec![shared(1), shared(2)]).is_empty());
    }

    #[test]
    fn the_model_decides_on_online_memory_only_where_the_addressing_mode_is_not_known() {
        let of = |model: &str, mode: Known<String>| {
            let product = Product {
                name: model.to_owned(),
                model: Known::Value(model.to_owned()),
                architecture: Known::default(),
            };
            let facts = NvidiaFacts { addressing_mode: mode, ..NvidiaFacts::default() };
            has_online_memory(&Device {
                product: Known::Value(product),
                vendor_facts: Some(VendorFacts::Nvidia(Box::new(facts))),
                ..crate::vendors::bare_device(1)
            })
        };
        let mode = |mode: &str| Known::Value(mode.to_owned());
        assert!(of("GH200", Known::default()) && of("H100", mode("ats")));
        assert!(!of("GH200", mode("none")) && !of("GB200", mode("hmm")));
        assert!(!of("H100", Known::default()));
    }

    #[test]
    fn work_is_announced_while_it_is_done_and_not_while_workloads_run() {
        let announced = |key: &str, value: &str| {
            let labels = [(key.to_owned(), value.to_owned())].into();
            NVIDIA.announced_maintenance(&NodeFacts { labels, ..NodeFacts::default() })
        };
        let upgrade = |value| announced("nvidia.com/gpu-driver-upgrade-state", value);
        for value in
            ["pod-deletion-required", "drain-required", "pod-restart-required", "validation-required"]
        {
            assert_eq!(upgrade(value), Some(MaintenanceKind::DriverUpgrade), "{value}");
        }
        for value in ["", "upgrade-required", "wait-for-jobs-required", "upgrade-done", "upgrade-failed"] {
            assert_eq!(upgrade(value), None, "{value}");
        }
        let deploy = |value| announced("nvidia.com/gpu.deploy.device-plugin", value);
        assert_eq!(deploy("paused-for-driver-upgrade"), Some(MaintenanceKind::DriverUpgrade));
        assert_eq!(deploy("true_paused-for-driver-upgrade"), Some(MaintenanceKind::DriverUpgrade));
        assert_eq!(deploy("paused-for-mig-change"), Some(MaintenanceKind::Reconfiguring));
        assert_eq!(deploy("true"), None);
        for (value, kind) in [
            ("pending", Some(MaintenanceKind::Reconfiguring)),
            ("rebooting", Some(MaintenanceKind::Reconfiguring)),
            ("success", None),
            ("failed", None),
        ] {
            assert_eq!(announced("nvidia.com/mig.config.state", value), kind, "{value}");
        }
    }
}
