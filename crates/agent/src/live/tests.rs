use afd_derive::{
    paths::PathRules,
    series::{InCluster, SeriesDetail},
};
use afd_model::{
    Allocation, AllocationMechanism, ConditionStatus, Decision, Engine, PartitionName, PciAddress, Product,
    Quantity, Reading, Sampling, Sensor, Variant, Vendor,
};

use super::*;

const GIB: u64 = 1 << 30;

/// A device of which much is known.
pub(crate) fn device(bus: u8, name: &str) -> Device {
    let product = Product {
        name: name.to_owned(),
        model: Missing::Unrecognized.into(),
        architecture: Missing::Unrecognized.into(),
    };
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    Device {
        product: Known::Value(product),
        driver: Known::Value("driver".to_owned()),
        memory_bytes: Known::Value(80 * GIB),
        health: Health::healthy(),
        ..Device::bare(address, Vendor::Nvidia, Variant::Gpu)
    }
}

fn sample(unit: UnitId, utilization: f64) -> Sample {
    let readings = [
        (Quantity::Utilization(Engine::Memory), 0.01),
        (Quantity::Utilization(Engine::Compute), utilization),
        (Quantity::MemoryUsedBytes, 20.0 * GIB as f64),
        (Quantity::PowerWatts, 350.0),
        (Quantity::PowerLimitWatts, 700.0),
        (Quantity::TemperatureCelsius(Sensor::Memory), 90.0),
        (Quantity::TemperatureCelsius(Sensor::Junction), 45.0),
    ];
    Sample {
        unit,
        readings: readings.into_iter().map(|(quantity, value)| Reading { quantity, value }).collect(),
    }
}

/// What is known of a node with these devices; the first one is sampled and held by a pod.
pub(crate) fn report(inventory: &Inventory) -> LiveReport {
    let problem = Problem {
        probe: "pci".to_owned(),
        device: inventory.devices.get(1).map(|device| device.id),
        fact: "power_watts".to_owned(),
        reason: Missing::NotPermitted,
        path: Some("/sys/power".to_owned()),
        message: "permission denied".to_owned(),
    };
    report_of(inventory, vec![problem])
}

/// The same, with these problems of the sample.
fn report_of(inventory: &Inventory, problems: Vec<Problem>) -> LiveReport {
    let first = inventory.devices.first().map(|device| UnitId::from(device.id));
    let sampling = Sampling {
        samples: first.into_iter().map(|unit| sample(unit, 0.35)).collect(),
        problems,
        ..Sampling::default()
    };
    let held = first.map(|unit| Allocation {
        unit,
        namespace: "serving".to_owned(),
        pod: "vllm-0".to_owned(),
        container: "vllm".to_owned(),
        resource: "example.com/gpu".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    });
    let allocations: Vec<Allocation> = held.into_iter().collect();
    let conditions = Conditions {
        ready: Decision::Decided(Condition {
            status: ConditionStatus::False,
            reason: "GpuLost".to_owned(),
            message: "1 of 3 devices has failed".to_owned(),
        }),
        problem: Decision::Undecided,
        failed: Decision::Undecided,
    };
    let rules = PathRules::built_in();
    let paths = rules.verdicts(inventory, false);
    LiveReport::new(LiveInputs {
        page: PageInputs {
            inventory,
            paths: &paths,
            sampling: &sampling,
            cluster: InCluster { allocations: Some(&allocations), ..InCluster::default() },
            door: crate::render::DoorPage::default(),
            detail: SeriesDetail::default(),
        },
        conditions: Some(&conditions),
        node: Some("gpu-7"),
        sampled_at: Some(1_764_395_412.25),
        interval: Duration::from_secs(5),
        stale_after: Duration::from_secs(40),
    })
}

/// A node with a busy device, one with a partition that has failed, and a missing one.
pub(crate) fn inventory() -> Inventory {
    let mut failed = device(0x29, "Accelerator X80");
    failed.health = Health::failed("GpuLost", "the device has fallen off the bus; replace it");
    let mut partition =
        Partition::bare(failed.id, PartitionName::Mig { gpu_instance: 3, compute_instance: 0 });
    partition.profile = Known::Value("1g.10gb".to_owned());
    failed.partitions.push(partition);
    let missing = afd_model::MissingDevice {
        id: "missing-1".to_owned(),
        probe: "pci".to_owned(),
        vendor_id: None,
        device_id: None,
        product: Some("Accelerator X80".to_owned()),
        uuid: None,
        last_id: None,
        message: "was at 0000:39:00.0".to_owned(),
    };
    Inventory {
        devices: vec![device(0x19, "Accelerator X80"), failed],
        missing: vec![missing],
        ..Inventory::default()
    }
}

#[test]
fn a_report_has_the_values_of_the_engine_and_of_the_die() {
    let report = report(&inventory());
    let values = &report.devices[0].values;
    assert_eq!(values.utilization_ratio, Known::Value(0.35));
    assert_eq!(values.temperature_celsius, Known::Value(45.0), "not that of the memory");
    assert_eq!(values.memory_total_bytes, Known::Value(80.0 * GIB as f64));
    assert_eq!(report.devices[0].pods, Known::Value(vec!["serving/vllm-0".to_owned()]));
    assert_eq!(report.devices[1].pods, Known::Value(Vec::new()));
    assert_eq!(report.conditions.len(), 1, "what is not decided is not shown");
    let summary: Vec<String> = report.summary().into_iter().map(|(_, text)| text).collect();
    assert_eq!(summary, ["2 devices", "1 missing", "1 failed", "1 healthy"]);
}

#[test]
fn what_is_not_known_has_the_reason_of_its_problem() {
    let mut inventory = inventory();
    inventory.devices.push(Device {
        driver: Missing::DriverNotBound.into(),
        memory_bytes: Missing::DriverNotBound.into(),
        ..device(0x49, "Accelerator X80")
    });
    let report = report(&inventory);
    let [_, second, third] = &report.devices[..] else { panic!("there are three devices") };
    assert_eq!(second.values.power_watts.missing(), Some(Missing::NotPermitted));
    assert_eq!(second.values.temperature_celsius.missing(), Some(Missing::NotExposed));
    assert_eq!(third.values.utilization_ratio.missing(), Some(Missing::DriverNotBound));
    assert_eq!(report.problems, ["pci 0000:29:00.0 power_watts: /sys/power: permission denied"]);
}

#[test]
fn the_reason_is_that_of_the_fact_itself_and_of_the_first_one() {
    let inventory = inventory();
    let missing = |facts: &[(&str, Missing)]| {
        let problem = |(fact, reason): &(&str, Missing)| Problem {
            probe: "pci".to_owned(),
            device: Some(inventory.devices[1].id),
            fact: (*fact).to_owned(),
            reason: *reason,
            path: None,
            message: String::new(),
        };
        let report = report_of(&inventory, facts.iter().map(problem).collect());
        let values = &report.devices[1].values;
        [values.power_watts.missing(), values.power_limit_watts.missing()]
    };
    let limit = ("power_limit_watts", Missing::NotPermitted);
    assert_eq!(missing(&[limit]), [Some(Missing::NotExposed), Some(Missing::NotPermitted)]);
    let facts = [("energy", Missing::Malformed), limit, ("power_watts", Missing::NotAvailable)];
    assert_eq!(missing(&facts), [Some(Missing::NotAvailable), Some(Missing::NotPermitted)]);
}

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let report = report(&inventory());
    let json = serde_json::to_value(&report).expect("a report is JSON");
    let read: LiveReport = serde_json::from_value(json).expect("it is a report");
    assert_eq!(read, report);
    let of_another_version = serde_json::json!({ "node": "gpu-7", "later": [1] });
    let read: LiveReport = serde_json::from_value(of_another_version).expect("fields may be added");
    assert_eq!(read.node.as_deref(), Some("gpu-7"));
}
