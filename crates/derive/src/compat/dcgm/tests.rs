use afd_model::{AllocationMechanism, PciAddress, Reading, Variant};

use super::*;

/// dcgm-exporter's families (release 4.8, etc/default-counters.csv and dcp-metrics-included.csv).
const DEFAULT_LIST: [&str; 25] = [
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_RESERVED",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
];

#[test]
fn every_family_of_the_default_list_is_published_in_its_place() {
    assert_eq!(FAMILIES.map(|family| family.name), DEFAULT_LIST);
}

#[test]
fn an_xid_says_what_it_means() {
    let address = PciAddress { domain: 0, bus: 3, device: 0, function: 0 };
    let device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
    let labels = |number: f64, meaning| {
        let quantity = NvidiaQuantity::LastXid { meaning }.into();
        let readings = vec![Reading { quantity, value: number }];
        let sample = Sample { unit: device.id.into(), readings };
        let labels = xid_labels(&Subject { device: &device, partition: None, sample: &sample });
        labels.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(labels(79.0, "the GPU has fallen off the bus"), ["79", "the GPU has fallen off the bus"]);
    assert_eq!(labels(0.0, ""), ["0", "No Error"]);
    assert_eq!(labels(4711.0, ""), ["4711", "Unknown Error"]);
}

#[test]
fn every_vendor_tells_how_busy_it_is_and_nothing_else() {
    let address = PciAddress { domain: 0, bus: 3, device: 0, function: 0 };
    let device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    let sample = Sample {
        unit: device.id.into(),
        readings: vec![
            Reading { quantity: Quantity::Utilization(Engine::Compute), value: 0.29 },
            Reading { quantity: Quantity::PowerWatts, value: 300.0 },
        ],
    };
    let inventory = Inventory { devices: vec![device], ..Inventory::default() };
    let families = families(&inventory, &[sample], &[], Some("node-7"));
    assert_eq!(families.len(), 1);
    assert_eq!(families[0].name(), GPU_UTIL);
    let metric = &families[0].get_metric()[0];
    assert!((metric.get_gauge().get_value() - 29.0).abs() < f64::EPSILON);
    let label =
        |name: &str| metric.get_label().iter().find(|pair| pair.name() == name).map(|pair| pair.value());
    assert_eq!((label("pod"), label("Hostname"), label("gpu")), (Some(""), Some("node-7"), Some("0")));
}

#[test]
fn a_shared_device_has_a_sample_for_each_pod_that_holds_it() {
    let address = PciAddress { domain: 0, bus: 3, device: 0, function: 0 };
    let device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    let readings = vec![Reading { quantity: Quantity::Utilization(Engine::Compute), value: 0.5 }];
    let sample = Sample { unit: device.id.into(), readings };
    let hold = |pod: &str| Allocation {
        unit: device.id.into(),
        namespace: "serving".to_owned(),
        pod: pod.to_owned(),
        container: "vllm".to_owned(),
        resource: "amd.com/gpu".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    };
    let allocations = [hold("b"), hold("a")];
    let inventory = Inventory { devices: vec![device], ..Inventory::default() };
    let families = families(&inventory, &[sample], &allocations, None);
    let pods: Vec<String> = families[0]
        .get_metric()
        .iter()
        .filter_map(|metric| metric.get_label().iter().find(|pair| pair.name() == "pod"))
        .map(|pair| pair.value().to_owned())
        .collect();
    assert_eq!(pods, ["a", "b"]);
}
