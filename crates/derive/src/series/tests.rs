use afd_model::{
    Engine, LinkLayer, Missing, NicPort, NicProtocol, PciAddress, Quantity, Reading, Rows, Variant, Vendor,
};
use prometheus::{Encoder, TextEncoder};

use super::*;

fn device(bus: u8) -> Device {
    Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
}

fn rendered(inventory: &Inventory, samples: &[Sample], problems: &[Problem]) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families(inventory, samples, problems, &InCluster::default(), &[]), &mut text)
        .expect("families are complete");
    String::from_utf8(text).expect("the exposition format is UTF-8")
}

fn address(bus: u8) -> PciAddress {
    device(bus).id.0
}

#[test]
fn a_value_that_was_not_read_is_an_absent_series() {
    let inventory = Inventory { devices: vec![device(1)], ..Inventory::default() };
    let text = rendered(&inventory, &[], &[]);
    assert!(text.contains(
        "accelerator_device_info{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\",product=\"\""
    ));
    assert!(text.contains("accelerator_device_health{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\",state=\"unknown\"} 1"));
    assert!(!text.contains("memory") && !text.contains("power"));
}

#[test]
fn a_sample_of_a_device_that_is_gone_is_not_published() {
    let reading = Reading { quantity: Quantity::Utilization(Engine::Compute), value: 0.5 };
    let sample = |bus: u8| Sample { unit: address(bus).into(), readings: vec![reading] };
    let inventory = Inventory { devices: vec![device(1)], ..Inventory::default() };
    let text = rendered(&inventory, &[sample(1), sample(2)], &[]);
    assert_eq!(text.matches("accelerator_device_utilization_ratio{").count(), 1);
    assert!(text.contains("partition=\"\",engine=\"compute\"} 0.5"));
}

#[test]
fn the_state_of_row_remapping_has_families_of_its_own() {
    let reading = |rows, value| Reading { quantity: Quantity::RowsRemapped(rows), value };
    let readings =
        vec![reading(Rows::Correctable, 3.0), reading(Rows::Pending, 1.0), reading(Rows::Failed, 0.0)];
    let samples = [Sample { unit: address(1).into(), readings }];
    let inventory = Inventory { devices: vec![device(1)], ..Inventory::default() };
    let text = rendered(&inventory, &samples, &[]);
    assert!(text.contains("rows_remapped{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\",kind=\"correctable\"} 3"));
    assert!(
        text.contains("row_remap_pending{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\"} 1")
    );
    assert!(
        text.contains("row_remap_failed{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\"} 0")
    );
    assert!(!text.contains("kind=\"pending\"") && !text.contains("kind=\"failed\""));
}

#[test]
fn reasons_of_the_health_state_are_series() {
    let failed = Device { health: Health::failed("DriverMissing", "load it"), ..device(1) };
    let text = rendered(&Inventory { devices: vec![failed], ..Inventory::default() }, &[], &[]);
    assert!(text.contains("accelerator_device_health_reason{vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\",reason=\"DriverMissing\"} 1"));
}

#[test]
fn a_problem_of_both_verbs_is_counted_once() {
    let problem = |path: &str| Problem {
        probe: "amd".to_owned(),
        device: None,
        fact: "memory_bytes".to_owned(),
        reason: Missing::NotPermitted,
        path: Some(path.to_owned()),
        message: String::new(),
    };
    let inventory = Inventory { problems: vec![problem("/a"), problem("/b")], ..Inventory::default() };
    let text = rendered(&inventory, &[], &[problem("/b")]);
    assert!(text.contains("afd_probe_problems{probe=\"amd\",reason=\"not_permitted\"} 2"), "{text}");
}

#[test]
fn the_nearest_accelerator_of_a_nic_shares_its_switch() {
    let behind = |bus: u8, bridges: &[u8]| {
        let mut device = device(bus);
        device.pci.upstream = bridges.iter().map(|bus| address(*bus)).collect();
        device
    };
    let nic = |bridges: &[u8]| Nic {
        name: "mlx5_0".to_owned(),
        pci_address: Known::Value(address(9)),
        vendor_id: Missing::NotExposed.into(),
        device_id: Missing::NotExposed.into(),
        product: Missing::NotExposed.into(),
        driver: Missing::NotExposed.into(),
        firmware_version: Missing::NotExposed.into(),
        numa_node: Missing::NotExposed.into(),
        upstream: bridges.iter().map(|bus| address(*bus)).collect(),
        virtual_function: false,
        of_accelerator: false,
        ports: vec![NicPort {
            number: 1,
            state: Known::Value(PortState::Active),
            link_layer: Known::Value(LinkLayer::Infiniband),
            protocol: Known::Value(NicProtocol::Infiniband),
            rate_bits_per_second: Missing::NotExposed.into(),
        }],
    };
    let inventory = |nic| Inventory {
        devices: vec![behind(1, &[10, 11, 12]), behind(2, &[10, 11, 13]), behind(3, &[20])],
        nics: vec![nic],
        ..Inventory::default()
    };
    let text = rendered(&inventory(nic(&[10, 11, 13])), &[], &[]);
    assert!(
        text.contains(
            "rdma_port_up{nic=\"mlx5_0\",port=\"1\",link_layer=\"infiniband\",device=\"0000:02:00.0\"} 1"
        ),
        "{text}"
    );
    let text = rendered(&inventory(nic(&[10, 11])), &[], &[]);
    assert!(text.contains("link_layer=\"infiniband\",device=\"\"} 1"), "two are equally near: {text}");
    let text = rendered(&inventory(nic(&[])), &[], &[]);
    assert!(text.contains("device=\"\"} 1"), "the PCIe path is not known: {text}");
}
