use afd_model::{
    AllocationMechanism, DeviceLink, Direction, Engine, ExpectedDevices, FactSet, LinkCounter, LinkEnd,
    LinkErrorKind, LinkKind, LinkLayer, LinkValue, MissingDevice, NicPort, NicProtocol, PciAddress, PciId,
    Product, Quantity, Reading, Rows, Variant, Vendor,
};
use prometheus::{Encoder, TextEncoder};

use super::*;

fn device(bus: u8) -> Device {
    Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
}

fn rendered(inventory: &Inventory, samples: &[Sample], problems: &[Problem]) -> String {
    let mut text = Vec::new();
    let sampling = Sampling { samples: samples.to_vec(), problems: problems.to_vec(), ..Sampling::default() };
    TextEncoder::new()
        .encode(
            &families(inventory, &sampling, &InCluster::default(), &[], SeriesDetail::default()),
            &mut text,
        )
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
fn the_values_of_links_replace_their_sums_on_request() {
    let link = |number: u32, end: LinkEnd| DeviceLink { kind: LinkKind::Xgmi, tile: None, number, end };
    let (first, second) = (link(0, LinkEnd::Device(device(2).id)), link(1, LinkEnd::Unknown));
    let received = LinkValue::Bytes(Direction::Receive);
    let readings = [
        (Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Receive), 3.0),
        (Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Transmit), 9.0),
        (Quantity::Link(first, received), 1.0),
        (Quantity::Link(second, received), 2.0),
        (Quantity::Link(first, LinkValue::Up), 1.0),
        (Quantity::Link(second, LinkValue::Errors(LinkErrorKind::Crc)), 0.0),
    ];
    let readings = readings.map(|(quantity, value)| Reading { quantity, value }).to_vec();
    let samples = vec![Sample { unit: address(1).into(), readings }];
    let sampling = Sampling { samples, ..Sampling::default() };
    let inventory = Inventory { devices: vec![device(1)], ..Inventory::default() };
    let shown = |detail| {
        let mut text = Vec::new();
        let families = families(&inventory, &sampling, &InCluster::default(), &[], detail);
        TextEncoder::new().encode(&families, &mut text).expect("families are complete");
        let text = String::from_utf8(text).expect("the exposition format is UTF-8");
        let subject = "vendor=\"amd\",device=\"0000:01:00.0\",uuid=\"\",partition=\"\",";
        let lines = text.lines().filter_map(|line| line.strip_prefix("accelerator_device_link_"));
        lines.map(|line| line.replace(subject, "")).collect::<Vec<_>>()
    };
    let transmitted = r#"bytes_total{type="xgmi",direction="transmit"} 9"#;
    assert_eq!(
        shown(SeriesDetail::default()),
        [r#"bytes_total{type="xgmi",direction="receive"} 3"#, transmitted]
    );
    assert_eq!(
        shown(SeriesDetail { per_link: true }),
        [
            r#"up{type="xgmi",link="0",peer="0000:02:00.0"} 1"#,
            r#"bytes_total{type="xgmi",direction="receive",link="0",peer="0000:02:00.0"} 1"#,
            r#"bytes_total{type="xgmi",direction="receive",link="1",peer=""} 2"#,
            transmitted,
            r#"errors_total{type="xgmi",kind="crc",link="1",peer=""} 0"#,
        ]
    );
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

fn product(device: Device, name: &str) -> Device {
    let product = Product {
        name: name.to_owned(),
        model: Missing::Unrecognized.into(),
        architecture: Missing::Unrecognized.into(),
    };
    Device { product: Known::Value(product), ..device }
}

fn in_cluster(inventory: &Inventory, cluster: &InCluster<'_>) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families(inventory, &Sampling::default(), cluster, &[], SeriesDetail::default()), &mut text)
        .expect("families are complete");
    String::from_utf8(text).expect("the exposition format is UTF-8")
}

const ID: (PciId, PciId) = (PciId(0x1002), PciId(0x74a1));

fn missing(id: Option<(PciId, PciId)>) -> MissingDevice {
    MissingDevice {
        id: "missing-1".to_owned(),
        probe: "amd".to_owned(),
        vendor_id: id.map(|id| id.0),
        device_id: id.map(|id| id.1),
        product: None,
        uuid: Some("u-7".to_owned()),
        last_id: None,
        message: "it was at 0000:09:00.0".to_owned(),
    }
}

#[test]
fn a_missing_device_has_its_health_and_counts_and_nothing_else() {
    let mut present = product(device(1), "A 1");
    (present.pci.vendor_id, present.pci.device_id) = (Known::Value(ID.0), Known::Value(ID.1));
    let inventory =
        Inventory { devices: vec![present], missing: vec![missing(Some(ID))], ..Inventory::default() };
    let expected = [ExpectedDevices { probe: "amd".to_owned(), id: Some(ID), count: 2 }];
    let text = in_cluster(&inventory, &InCluster { expected: Some(&expected), ..InCluster::default() });
    let subject = "vendor=\"amd\",device=\"missing-1\",uuid=\"u-7\",partition=\"\"";
    assert!(text.contains(&format!("accelerator_device_health{{{subject},state=\"failed\"}} 1")), "{text}");
    assert!(
        text.contains(&format!("accelerator_device_health_reason{{{subject},reason=\"DeviceMissing\"}} 1"))
    );
    assert_eq!(text.matches("missing-1").count(), HealthState::ALL.len() + 1);
    let count = |state, number| {
        let line =
            format!("accelerator_devices{{vendor=\"amd\",product=\"A 1\",state=\"{state}\"}} {number}\n");
        assert!(text.contains(&line), "{line}{text}");
    };
    count("present", 1);
    count("expected", 2);
    count("missing", 1);
    assert!(!text.contains("state=\"allocat") && text.matches("accelerator_devices{").count() == 3, "{text}");
}

#[test]
fn devices_are_counted_by_product_as_far_as_they_are_known() {
    let healthy = Device { health: Health::healthy(), ..product(device(1), "A 1") };
    let inventory = Inventory {
        devices: vec![healthy, product(device(2), "A 1"), product(device(3), "B 2")],
        ..Inventory::default()
    };
    let held = [Allocation {
        unit: device(2).id.into(),
        namespace: "ns".to_owned(),
        pod: "pod".to_owned(),
        container: "c".to_owned(),
        resource: "amd.com/gpu".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    }];
    let allocatable = BTreeMap::from([(device(1).id, true), (device(2).id, false)]);
    let text = in_cluster(
        &inventory,
        &InCluster { allocations: Some(&held), allocatable: Some(&allocatable), ..InCluster::default() },
    );
    let counts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("accelerator_devices{vendor=\"amd\",product="))
        .collect();
    assert_eq!(
        counts,
        [
            "\"A 1\",state=\"allocatable\"} 1",
            "\"A 1\",state=\"allocated\"} 1",
            "\"A 1\",state=\"healthy\"} 1",
            "\"A 1\",state=\"present\"} 2",
            "\"B 2\",state=\"allocated\"} 0",
            "\"B 2\",state=\"present\"} 1",
        ]
    );
}

#[test]
fn any_device_of_a_vendor_counts_as_the_one_product_that_it_has() {
    let inventory = |devices| Inventory { devices, missing: vec![missing(None)], ..Inventory::default() };
    let expected = [ExpectedDevices { probe: "amd".to_owned(), id: None, count: 2 }];
    let cluster = InCluster { expected: Some(&expected), ..InCluster::default() };
    let text = in_cluster(&inventory(vec![product(device(1), "A 1")]), &cluster);
    assert!(text.contains("product=\"A 1\",state=\"missing\"} 1"), "{text}");
    let text = in_cluster(&inventory(Vec::new()), &cluster);
    for line in ["state=\"healthy\"} 0", "state=\"missing\"} 1", "state=\"expected\"} 2"] {
        assert!(text.contains(&format!("product=\"\",{line}")), "{text}");
    }
}

#[test]
fn a_device_has_no_series_while_its_uuid_is_pending() {
    let mut pending = device(1);
    pending.undecided.insert(Fact::Uuid);
    let inventory = |device| Inventory { devices: vec![device], ..Inventory::default() };
    let text = rendered(&inventory(pending.clone()), &[], &[]);
    assert!(!text.contains("accelerator_device_"), "{text}");
    let unreadable = Device { uuid: Missing::NotPermitted.into(), ..pending.clone() };
    let expired = Device { undecided: FactSet::default(), ..pending };
    for device in [unreadable, expired] {
        assert!(rendered(&inventory(device), &[], &[]).contains("accelerator_device_info"));
    }
}
