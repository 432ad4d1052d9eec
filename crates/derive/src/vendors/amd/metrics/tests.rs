use afd_model::{
    AmdQuantity, ErrorDetail, ErrorKind, Health, Inventory, Known, Missing, Partition, PciAddress, Product,
    Reading, Sample, UnitId, Variant, Vendor, XcpComputeMode, XcpMemoryMode,
};
use prometheus::{Encoder, TextEncoder};

use super::{super::AMD, *};
use crate::compat::{CompatSet, metrics::CompatInput};

fn device(bus: u8) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    Device { driver: Known::Value("amdgpu".to_owned()), ..Device::bare(address, Vendor::Amd, Variant::Gpu) }
}

fn partition(number: u32) -> Partition {
    Partition {
        memory_bytes: Known::Value(1 << 30),
        ..Partition::bare(device(1).id, PartitionName::Xcp(number))
    }
}

fn sample(unit: impl Into<UnitId>, readings: &[(Quantity, f64)]) -> Sample {
    let readings = readings.iter().map(|(quantity, value)| Reading { quantity: *quantity, value: *value });
    Sample { unit: unit.into(), readings: readings.collect() }
}

fn families(inventory: &Inventory, samples: &[Sample]) -> Vec<prometheus::proto::MetricFamily> {
    let set: CompatSet = AMD.probe.parse().expect("the record has a set");
    set.metric_families(&CompatInput { inventory, samples, allocations: &[], node: None })
}

/// Lines of the page: the family, the number of the unit, and the value.
fn lines(devices: Vec<Device>, samples: &[Sample]) -> Vec<String> {
    let inventory = Inventory { devices, ..Inventory::default() };
    let mut text = Vec::new();
    TextEncoder::new().encode(&families(&inventory, samples), &mut text).expect("families are complete");
    let text = String::from_utf8(text).expect("the exposition format is UTF-8");
    let short = |line: &str| {
        let (name, rest) = line.split_once('{')?;
        let number = rest.split('"').nth(1)?;
        Some(format!("{name} {number} {}", rest.rsplit(' ').next()?))
    };
    text.lines().filter_map(short).collect()
}

#[test]
fn a_node_without_such_devices_has_no_family() {
    let other = Device { vendor: Vendor::Nvidia, ..device(1) };
    let inventory = Inventory { devices: vec![other], ..Inventory::default() };
    assert!(families(&inventory, &[]).is_empty());
}

#[test]
fn a_device_that_another_driver_has_is_not_listed() {
    let with = |driver: Known<String>, bus| Device { driver, ..device(bus) };
    let named = |name: &str| Known::Value(name.to_owned());
    let devices = vec![
        with(named("vfio-pci"), 1),
        with(Missing::DriverNotBound.into(), 2),
        with(named("gim"), 3),
        with(Missing::Unreadable.into(), 4),
        device(5),
    ];
    let samples: Vec<Sample> =
        devices.iter().map(|device| sample(device.id, &[(Quantity::PowerWatts, 7.0)])).collect();
    assert_eq!(
        lines(devices, &samples),
        ["gpu_power_usage 0 7", "gpu_power_usage 1 7", "gpu_power_usage 2 7"]
    );
}

#[test]
fn a_value_that_was_not_read_is_absent_and_255_is_a_value() {
    let gpu = device(1);
    assert!(lines(vec![gpu.clone()], &[]).is_empty());
    let readings = [
        (Quantity::PowerWatts, 255.0),
        (Quantity::Errors(ErrorKind::EccUncorrectable, ErrorDetail::Block("umc")), 255.0),
        (Quantity::Errors(ErrorKind::EccUncorrectable, ErrorDetail::Block("gfx")), 1.0),
        (AmdQuantity::AllErrors(ErrorKind::EccUncorrectable).into(), 256.0),
    ];
    let samples = [sample(gpu.id, &readings)];
    assert_eq!(
        lines(vec![gpu], &samples),
        [
            "gpu_power_usage 0 255",
            "gpu_ecc_uncorrect_total 0 256",
            "gpu_ecc_uncorrect_gfx 0 1",
            "gpu_ecc_uncorrect_umc 0 255",
        ]
    );
}

#[test]
fn the_generation_decides_the_name_of_the_power() {
    let line_of = |architecture: &str, integrated: bool| {
        let product = Product {
            name: String::new(),
            model: Missing::Unrecognized.into(),
            architecture: Known::Value(architecture.to_owned()),
        };
        let gpu = Device { product: Known::Value(product), integrated, ..device(1) };
        let samples = [sample(gpu.id, &[(Quantity::PowerWatts, 9.0)])];
        lines(vec![gpu], &samples).remove(0)
    };
    let line = |architecture: &str| line_of(architecture, false);
    assert_eq!(line("cdna3"), "gpu_package_power 0 9");
    for older in ["cdna2", "vega", "rdna2", "rdna3", "rdna4"] {
        assert_eq!(line(older), "gpu_average_package_power 0 9", "{older}");
    }
    assert_eq!(line_of("rdna3.5", true), "gpu_power_usage 0 9", "a processor");
}

#[test]
fn the_first_partition_has_the_values_of_the_device_except_its_memory() {
    let partitioning =
        Partitioning::Xcp { compute: XcpComputeMode::Dpx, memory: Known::Value(XcpMemoryMode::Nps1) };
    let gpu = Device {
        partitioning: Known::Value(partitioning),
        partitions: vec![partition(0), partition(1)],
        health: Health::failed("UncorrectableErrors", ""),
        ..device(1)
    };
    let used = |bytes| (Quantity::MemoryUsedBytes, f64::from(bytes));
    let samples = [
        sample(gpu.id, &[(Quantity::PowerWatts, 9.0), used(3 << 20)]),
        sample(gpu.partitions[1].id, &[used(1 << 20)]),
    ];
    let whole = device(9);
    assert_eq!(
        lines(vec![gpu, whole], &samples),
        [
            "gpu_health 0 0",
            "gpu_health 1 0",
            "gpu_power_usage 0 9",
            "gpu_total_vram 0 1024",
            "gpu_total_vram 1 1024",
            "gpu_used_vram 1 1",
            "gpu_free_vram 1 1023",
        ]
    );
}
