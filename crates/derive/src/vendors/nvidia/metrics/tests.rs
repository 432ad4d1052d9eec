use afd_model::{Allocation, AllocationMechanism, Inventory, PciAddress, Reading, Sample, Variant, Vendor};
use prometheus::proto::MetricFamily;

use super::*;
use crate::compat::{CompatSet, metrics::CompatInput};

fn device(vendor: Vendor) -> Device {
    Device::bare(PciAddress { domain: 0, bus: 3, device: 0, function: 0 }, vendor, Variant::Gpu)
}

fn families(
    device: Device,
    readings: &[(Quantity, f64)],
    allocations: &[Allocation],
    node: Option<&str>,
) -> Vec<MetricFamily> {
    let readings = readings.iter().map(|(quantity, value)| Reading { quantity: *quantity, value: *value });
    let samples = [Sample { unit: device.id.into(), readings: readings.collect() }];
    let inventory = Inventory { devices: vec![device], ..Inventory::default() };
    let set: CompatSet = NVIDIA.probe.parse().expect("the record has a set");
    set.metric_families(&CompatInput { inventory: &inventory, samples: &samples, allocations, node })
}

fn label(family: &MetricFamily, name: &str) -> Vec<String> {
    let labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
    labels.filter(|pair| pair.name() == name).map(|pair| pair.value().to_owned()).collect()
}

#[test]
fn an_xid_has_its_meaning_as_label() {
    let labels = |number: f64, meaning| {
        let quantity = Quantity::LastXid { meaning };
        let families = families(device(Vendor::Nvidia), &[(quantity, number)], &[], None);
        [label(&families[0], "err_code"), label(&families[0], "err_msg")].concat()
    };
    assert_eq!(labels(79.0, "the GPU has fallen off the bus"), ["79", "the GPU has fallen off the bus"]);
    assert_eq!(labels(0.0, ""), ["0", "No Error"]);
    assert_eq!(labels(4711.0, ""), ["4711", "Unknown Error"]);
}

#[test]
fn other_vendors_devices_have_only_how_busy_they_are() {
    let readings = [(Quantity::Utilization(Engine::Compute), 0.29), (Quantity::PowerWatts, 300.0)];
    let families = families(device(Vendor::Amd), &readings, &[], Some("node-7"));
    assert_eq!(
        families.iter().map(MetricFamily::name).collect::<Vec<_>>(),
        [GPU_UTIL.name, GR_ENGINE_ACTIVE.name]
    );
    let metric = &families[0].get_metric()[0];
    assert!((metric.get_gauge().get_value() - 29.0).abs() < f64::EPSILON);
    for (name, value) in [("pod", ""), ("Hostname", "node-7"), ("gpu", "0")] {
        assert_eq!(label(&families[0], name), [value], "{name}");
    }
}

#[test]
fn no_two_devices_have_one_number_and_nvmls_indices_stay() {
    let gpu = |vendor, bus, index: Option<usize>| {
        let mut device =
            Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, vendor, Variant::Gpu);
        device.handles.extend(
            index.map(|index| afd_model::Handle::new(afd_model::HandleKind::Index, index.to_string())),
        );
        device
    };
    let devices = vec![
        gpu(Vendor::Amd, 1, None),
        gpu(Vendor::Nvidia, 2, Some(2)),
        gpu(Vendor::Nvidia, 3, None),
        gpu(Vendor::Nvidia, 4, Some(0)),
        gpu(Vendor::Amd, 5, Some(0)),
    ];
    let quantity = Quantity::Utilization(Engine::Compute);
    let sample =
        |device: &Device| Sample { unit: device.id.into(), readings: vec![Reading { quantity, value: 0.5 }] };
    let samples: Vec<Sample> = devices.iter().map(sample).collect();
    let inventory = Inventory { devices, ..Inventory::default() };
    let set: CompatSet = NVIDIA.probe.parse().expect("the record has a set");
    let input = CompatInput { inventory: &inventory, samples: &samples, allocations: &[], node: None };
    assert_eq!(label(&set.metric_families(&input)[0], "gpu"), ["1", "2", "3", "0", "4"]);
}

#[test]
fn compute_instances_of_one_gpu_instance_are_one_series_unless_pods_distinguish_them() {
    let mut device = device(Vendor::Nvidia);
    let instance = |compute_instance, gpu_instance| {
        let name = afd_model::PartitionName::Mig { gpu_instance, compute_instance };
        let mig = serde_json::json!({
            "gpu_instance": gpu_instance, "compute_instance": compute_instance, "gpu_slices": 3, "compute_slices": 1,
            "copy_engines": 1, "decoders": 1, "encoders": 0, "jpeg_engines": 0, "ofa_engines": 0,
        });
        afd_model::Partition {
            profile: Known::Value("1c.3g.20gb".to_owned()),
            mig: Some(serde_json::from_value(mig).expect("it is an instance")),
            ..afd_model::Partition::bare(device.id, name)
        }
    };
    let partitions = vec![instance(0, 2), instance(1, 2), instance(2, 2), instance(0, 5)];
    let quantity = Quantity::MemoryUsedBytes;
    let samples: Vec<Sample> = partitions
        .iter()
        .map(|partition| Sample {
            unit: partition.id.into(),
            readings: vec![Reading { quantity, value: 1024.0 }],
        })
        .collect();
    let held = Allocation {
        unit: partitions[1].id.into(),
        namespace: "serving".to_owned(),
        pod: "a".to_owned(),
        container: "vllm".to_owned(),
        resource: "nvidia.com/mig-1c.3g.20gb".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    };
    device.partitions = partitions;
    let inventory = Inventory { devices: vec![device], ..Inventory::default() };
    let set: CompatSet = NVIDIA.probe.parse().expect("the record has a set");
    let instances = |allocations: &[Allocation]| {
        let input = CompatInput { inventory: &inventory, samples: &samples, allocations, node: None };
        let family = &set.metric_families(&input)[0];
        [label(family, "GPU_I_ID"), label(family, "pod")]
    };
    assert_eq!(instances(&[]), [vec!["2", "5"], vec!["", ""]]);
    assert_eq!(instances(&[held]), [vec!["2", "2", "5"], vec!["", "a", ""]]);
}

#[test]
fn a_shared_device_has_a_sample_for_each_pod_that_holds_it() {
    let device = device(Vendor::Amd);
    let hold = |pod: &str| Allocation {
        unit: device.id.into(),
        namespace: "serving".to_owned(),
        pod: pod.to_owned(),
        container: "vllm".to_owned(),
        resource: "amd.com/gpu".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    };
    let allocations = [hold("b"), hold("a")];
    let readings = [(Quantity::Utilization(Engine::Compute), 0.5)];
    let families = families(device, &readings, &allocations, None);
    assert_eq!(label(&families[0], "pod"), ["a", "b"]);
}
