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
fn other_vendors_devices_have_the_utilization_only() {
    let readings = [(Quantity::Utilization(Engine::Compute), 0.29), (Quantity::PowerWatts, 300.0)];
    let families = families(device(Vendor::Amd), &readings, &[], Some("node-7"));
    assert_eq!(families.iter().map(MetricFamily::name).collect::<Vec<_>>(), [GPU_UTIL.name]);
    let metric = &families[0].get_metric()[0];
    assert!((metric.get_gauge().get_value() - 29.0).abs() < f64::EPSILON);
    for (name, value) in [("pod", ""), ("Hostname", "node-7"), ("gpu", "0")] {
        assert_eq!(label(&families[0], name), [value], "{name}");
    }
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
