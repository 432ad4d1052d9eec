use std::collections::BTreeMap;

use afd_model::{
    Device, Direction, Health, HealthReason, HealthState, Inventory, Known, Missing, PciAddress, Reading,
    Sample, Variant, Vendor, VendorFacts, XelinkPort,
};

use super::{super::INTEL, *};
use crate::compat::{CompatSet, metrics::CompatInput};

fn gpu(bus: u8, facts: IntelFacts) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    Device {
        vendor_facts: Some(VendorFacts::Intel(Box::new(facts))),
        ..Device::bare(address, Vendor::Intel, Variant::Xpu)
    }
}

fn component(kind: &str, tile: Option<u32>) -> IntelComponent {
    IntelComponent { kind: kind.to_owned(), tile, is_of_system: false }
}

fn tiles(kind: &str) -> Vec<IntelComponent> {
    vec![component(kind, Some(0)), component(kind, Some(1))]
}

/// The series of both pages that have these labels: the family with their values, and the value.
fn series(device: &Device, labels: &[&str], values: &[(IntelValue, u8, f64)]) -> BTreeMap<String, f64> {
    let reading = |(value, component, number): &(IntelValue, u8, f64)| Reading {
        quantity: IntelQuantity { value: *value, component: *component }.into(),
        value: *number,
    };
    let sample = Sample { unit: device.id.into(), readings: values.iter().map(reading).collect() };
    let inventory = Inventory { devices: vec![device.clone()], ..Inventory::default() };
    let set: CompatSet = INTEL.probe.parse().expect("the record has a set");
    let input = CompatInput { inventory: &inventory, samples: &[sample], allocations: &[], node: None };
    let mut series = BTreeMap::new();
    for family in set.metric_families(&input) {
        for metric in family.get_metric() {
            let label = |name: &&str| {
                let own = metric.get_label().iter().find(|label| label.name() == *name);
                own.map(|label| label.value().to_owned())
            };
            let own: Option<Vec<String>> = labels.iter().map(label).collect();
            let Some(own) = own else { continue };
            let value = metric.get_gauge().get_value() + metric.get_counter().get_value();
            let name = format!("{} {}", family.name(), own.join(" "));
            assert_eq!(series.insert(name.trim_end().to_owned(), value), None, "{name} is there twice");
        }
    }
    series
}

#[test]
fn a_value_of_the_device_needs_those_of_all_tiles() {
    use IntelValue::{EngineRatio, MemoryBytes, MemorySize, MemoryUsed};
    let read = MemoryBytes(Direction::Receive);
    let device = gpu(
        1,
        IntelFacts { memory_modules: tiles("hbm"), engines: tiles("compute_all"), ..IntelFacts::default() },
    );
    let all = [
        (read, 0, 10.0),
        (read, 1, 30.0),
        (EngineRatio, 0, 0.5),
        (EngineRatio, 1, 1.0),
        (MemorySize, 0, 100.0),
        (MemorySize, 1, 100.0),
        (MemoryUsed, 0, 50.0),
        (MemoryUsed, 1, 100.0),
    ];
    let complete = series(&device, &["sub_dev", "src"], &all);
    assert_eq!(complete["xpum_memory_read_bytes_total  sum"], 40.0);
    assert_eq!(complete["xpum_engine_group_ratio  avg"], 0.75);
    assert_eq!(complete["xpum_memory_ratio  avg"], 0.75);
    let first: Vec<_> =
        all.into_iter().filter(|(value, tile, _)| *tile == 0 || *value == MemorySize).collect();
    let partial = series(&device, &["sub_dev", "src"], &first);
    assert_eq!(partial["xpum_memory_read_bytes_total 0 direct"], 10.0);
    assert_eq!(partial["xpum_memory_ratio 0 direct"], 0.5);
    let of_device: Vec<_> = partial.keys().filter(|name| name.contains("  ")).collect();
    assert!(of_device.is_empty(), "{of_device:?}");
}

#[test]
fn the_energy_of_the_card_is_not_replaced_by_that_of_tiles() {
    let domains = vec![component("card", None), component("package", Some(0)), component("package", Some(1))];
    let device = gpu(1, IntelFacts { power_domains: domains, ..IntelFacts::default() });
    let energy = |values: &[(u8, f64)]| {
        let values: Vec<_> =
            values.iter().map(|(index, joules)| (IntelValue::Energy, *index, *joules)).collect();
        let mut series = series(&device, &["sub_dev", "src"], &values);
        let mut value = |name: &str| series.remove(&format!("xpum_energy_joules_total  {name}"));
        (value("direct"), value("sum"))
    };
    assert_eq!(energy(&[(0, 9.0), (1, 3.0), (2, 4.0)]), (Some(9.0), None));
    assert_eq!(energy(&[(1, 3.0), (2, 4.0)]), (None, None));
}

#[test]
fn memory_of_the_system_is_not_that_of_the_gpu() {
    let shared = IntelComponent { is_of_system: true, ..component("ddr", None) };
    let device = gpu(1, IntelFacts { memory_modules: vec![shared], ..IntelFacts::default() });
    let values = [(IntelValue::MemorySize, 0, 100.0), (IntelValue::MemoryUsed, 0, 90.0)];
    let located = series(&device, &["hw_memory_location"], &values);
    assert_eq!(located["hw_memory_usage_bytes system"], 90.0);
    assert!(!located.keys().any(|name| name.contains(" device")), "{located:?}");
    let all = series(&device, &[], &values);
    assert!(!all.keys().any(|name| name.starts_with("xpum_memory")), "{all:?}");
    let own = gpu(1, IntelFacts { memory_modules: vec![component("ddr", None)], ..IntelFacts::default() });
    assert_eq!(series(&own, &[], &values)["xpum_memory_used_bytes"], 90.0);
}

fn port(number: Known<u32>, lanes: Known<u32>) -> XelinkPort {
    let peer = PciAddress { domain: 0, bus: 2, device: 0, function: 0 };
    XelinkPort { number, tile: Some(0), peer: Known::Value(peer.into()), peer_tile: Some(1), lanes }
}

#[test]
fn lanes_and_ports_that_are_not_known_are_not_numbered() {
    let lanes = |ports: Vec<XelinkPort>| -> Vec<String> {
        let device = gpu(1, IntelFacts { ports, ..IntelFacts::default() });
        series(&device, &["lane_count"], &[]).into_keys().filter(|name| name.starts_with("xpum_t")).collect()
    };
    let unknown = || Missing::NotAvailable.into();
    let of = |lanes: u32| port(Known::Value(1), Known::Value(lanes));
    assert_eq!(lanes(vec![of(4), of(4)]), ["xpum_topology_link 8"]);
    assert_eq!(lanes(vec![of(u32::MAX), of(u32::MAX)]), ["xpum_topology_link"]);
    assert_eq!(lanes(vec![of(4), port(Known::Value(1), unknown())]), ["xpum_topology_link"]);
    assert_eq!(lanes(vec![port(unknown(), Known::Value(4))]), Vec::<String>::new());
}

#[test]
fn the_bytes_of_a_link_need_those_of_all_its_ports() {
    let ports = vec![port(Known::Value(1), Known::Value(4)), port(Known::Value(2), Known::Value(4))];
    let device = gpu(1, IntelFacts { ports, ..IntelFacts::default() });
    let sent = IntelValue::PortBytes(Direction::Transmit);
    let bytes =
        |values: &[(IntelValue, u8, f64)]| series(&device, &[], values).remove("xpum_fabric_tx_bytes_total");
    assert_eq!(bytes(&[(sent, 0, 5.0), (sent, 1, 7.0)]), Some(12.0));
    assert_eq!(bytes(&[(sent, 1, 7.0)]), None);
    let up = series(&device, &["description"], &[(IntelValue::PortUp, 1, 1.0)]);
    assert_eq!(up["xpum_xelink_port_status port 2 of tile 0"], 1.0);
}

#[test]
fn a_health_that_is_not_known_has_no_status() {
    let status = |state: HealthState, code: Option<&str>| {
        let mut device = gpu(1, IntelFacts::default());
        let reason = |code: &str| Health::failed(code, String::new()).reasons;
        let reasons: Vec<HealthReason> = code.map(reason).unwrap_or_default();
        device.health = Health { state, reasons };
        let mut series = series(&device, &["hw_type", "hw_state"], &[]);
        let mut value = |state: &str| series.remove(&format!("hw_status gpu {state}"));
        (value("ok"), value("reset_needed"))
    };
    assert_eq!(status(HealthState::Unknown, None), (None, None));
    assert_eq!(status(HealthState::Healthy, None), (Some(1.0), Some(0.0)));
    assert_eq!(status(HealthState::Failed, Some("Wedged")), (Some(0.0), Some(1.0)));
}

#[test]
fn ecc_that_is_not_available_is_not_unknown() {
    let ecc = |ecc_enabled: Known<bool>| -> Vec<String> {
        let device = gpu(1, IntelFacts { ecc_enabled, ..IntelFacts::default() });
        series(&device, &["hw_memory_ecc"], &[])
            .into_keys()
            .filter(|name| name.starts_with("hw_gpu"))
            .collect()
    };
    assert_eq!(ecc(Known::Value(false)), ["hw_gpu_info available"]);
    assert_eq!(ecc(Missing::NotAvailable.into()), ["hw_gpu_info unavailable"]);
    assert_eq!(ecc(Missing::NotPermitted.into()), ["hw_gpu_info unknown"]);
}
