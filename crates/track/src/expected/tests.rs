use afd_model::{Known, Missing, PciAddress, Product, Variant, Vendor};

use super::*;

const VENDORS: [TrackedVendor; 1] = [TrackedVendor {
    probe: "amd",
    vendor: Vendor::Amd,
    variant: Variant::Gpu,
    pci_vendors: &[0x1002],
    passthrough_drivers: &[],
    host_drivers: &[],
}];

fn device(bus: u8, id: u16, uuid: &str) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    let mut device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    device.pci.vendor_id = Known::Value(PciId(0x1002));
    device.pci.device_id = Known::Value(PciId(id));
    device.uuid = Known::Value(uuid.to_owned());
    device
}

fn present(devices: &[Device]) -> Vec<PresentDevice<'_>> {
    devices.iter().map(|device| PresentDevice { device, probe: "amd" }).collect()
}

fn devices(count: u8, id: u16) -> Vec<Device> {
    (0..count).map(|bus| device(bus, id, &format!("uuid-{bus}"))).collect()
}

fn learnt(devices: &[Device]) -> Learnt {
    let mut learnt = Learnt::default();
    learnt.learn(&present(devices), |_| true);
    learnt
}

fn missing(learnt: &Learnt, devices: &[Device]) -> Vec<MissingDevice> {
    let present = present(devices);
    learnt.expectation().missing(&present, &learnt.gone(&present), &VENDORS)
}

#[test]
fn a_device_that_is_gone_is_missing_and_named_by_its_uuid() {
    let learnt = learnt(&devices(8, 0x74a1));
    assert_eq!(missing(&learnt, &devices(8, 0x74a1)), []);
    let gone = missing(&learnt, &devices(7, 0x74a1));
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].id.as_str(), gone[0].probe.as_str()), ("missing-1", "amd"));
    assert_eq!(gone[0].uuid.as_deref(), Some("uuid-7"));
    assert_eq!(missing(&learnt, &[]).len(), 8);
}

#[test]
fn a_device_of_the_same_kind_replaces_another_whatever_its_uuid() {
    let mut learnt = learnt(&devices(8, 0x74a1));
    let replaced: Vec<Device> = (0..8).map(|bus| device(bus + 100, 0x74a1, &format!("new-{bus}"))).collect();
    assert_eq!(missing(&learnt, &replaced), []);
    assert!(!learnt.learn(&present(&replaced), |_| true));
    assert_eq!(missing(&learnt, &replaced[..6]).len(), 2);
}

#[test]
fn what_has_not_been_there_for_long_is_not_expected() {
    let mut learnt = Learnt::default();
    learnt.learn(&present(&devices(8, 0x74a1)), |_| false);
    assert_eq!(missing(&learnt, &[]), []);
    assert_eq!(learnt.to_ids()[0].n, 0, "the kind is named");
}

#[test]
fn a_refitted_machine_is_learnt_again() {
    let mut learnt = learnt(&devices(8, 0x74a1));
    let other = devices(8, 0x75a0);
    assert!(!learnt.learn(&present(&other), |_| false));
    assert_eq!(missing(&learnt, &other).len(), 8);
    assert!(learnt.learn(&present(&other), |_| true));
    assert_eq!(missing(&learnt, &other), []);
    let fewer = devices(4, 0x1234);
    assert!(!learnt.learn(&present(&fewer), |_| true), "the total is not reached");
    assert_eq!(missing(&learnt, &fewer).len(), 8);
}

#[test]
fn an_admin_and_an_instance_type_expect_numbers() {
    let there = devices(7, 0x74a1);
    let present = present(&there);
    let missing = |expectation: Expectation| expectation.missing(&present, &[], &VENDORS).len();
    assert_eq!(missing(Expectation::Admin(Expect::Off)), 0);
    let numbers = |text: &str| Expectation::Admin(Expect::parse(text).expect("it is valid"));
    assert_eq!(missing(numbers("any=8")), 1);
    assert_eq!(missing(numbers("amd/1002:74a1=8")), 1);
    assert_eq!(missing(numbers("amd/1002:74a1=7,any=8")), 1);
    assert_eq!(missing(numbers("amd/1002:74a1=6")), 0);
    let of_type = Expectation::InstanceType { probe: "amd", count: 8, name: "ND96isr_MI300X_v5".to_owned() };
    assert_eq!(missing(of_type), 1);
}

#[test]
fn forgetting_accepts_what_is_there() {
    let mut learnt = learnt(&devices(8, 0x74a1));
    let there = devices(7, 0x74a1);
    learnt.forget(PciKind::parse("1002:74a1").expect("it is an id"), Some("uuid-7"));
    assert_eq!(missing(&learnt, &there), []);
    assert_eq!(missing(&learnt, &there[..6]).len(), 1);
}

#[test]
fn what_was_learnt_survives_in_the_annotation() {
    let learnt = learnt(&named(["A", "A"]));
    assert_eq!(learnt.to_ids()[0].product.as_deref(), Some("A"));
    assert_eq!(Learnt::from_ids(&learnt.to_ids()), learnt);
}

/// Devices of one kind with these names; an empty one is not known.
fn named<const N: usize>(names: [&str; N]) -> Vec<Device> {
    let mut devices = devices(u8::try_from(N).expect("a few"), 0x74a1);
    for (device, name) in devices.iter_mut().zip(names).filter(|(_, name)| !name.is_empty()) {
        device.product = Known::Value(Product {
            name: name.to_owned(),
            model: Missing::Unrecognized.into(),
            architecture: Missing::Unrecognized.into(),
        });
    }
    devices
}

#[test]
fn the_name_that_was_last_read_and_on_which_all_agree_is_remembered() {
    let mut learnt = learnt(&named(["A", ""]));
    let mut name = |devices: &[Device]| {
        learnt.learn(&present(devices), |_| true);
        learnt.to_ids()[0].product.clone()
    };
    assert_eq!(name(&named(["A", ""])).as_deref(), Some("A"));
    assert_eq!(name(&named(["", ""])).as_deref(), Some("A"), "no name is no other name");
    let mut undecided = named(["B", "B"]);
    undecided.iter_mut().for_each(|device| device.undecided.insert(Fact::Product));
    assert_eq!(name(&undecided).as_deref(), Some("A"), "it may still change");
    assert_eq!(name(&named(["B", "B"])).as_deref(), Some("B"));
    assert_eq!(name(&named(["A", "B"])), None);
}

#[test]
fn an_annotation_with_impossible_numbers_costs_little_and_ends_no_agent() {
    let id = |id: &str| ExpectedId { id: id.to_owned(), n: u32::MAX, product: None, handles: Vec::new() };
    let mut learnt = Learnt::from_ids(&[id("1002:74a1"), id("1002:74a2")]);
    let there = devices(1, 0x74a1);
    assert_eq!(missing(&learnt, &there).len(), MAX_MISSING);
    assert!(!learnt.learn(&present(&there), |_| true));
}
