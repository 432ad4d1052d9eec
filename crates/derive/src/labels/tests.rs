use afd_model::{
    Health, Known, LinkKind, Missing, MissingDevice, Partition, PartitionName, Partitioning, Product,
    XcpComputeMode, XcpMemoryMode,
};

use super::*;
use crate::vendors::bare_device as device;

fn labelled(devices: Vec<Device>) -> BTreeMap<String, String> {
    let inventory = Inventory { devices, ..Inventory::default() };
    labels(&inventory, &LabelOptions::default(), Decision::Absent)
        .into_iter()
        .map(|(key, value)| (key.replace("accelerator.llm-d.ai/", ""), value))
        .collect()
}

fn named(number: u8, name: &str) -> Device {
    let product = Product {
        name: name.to_owned(),
        model: Missing::Unrecognized.into(),
        architecture: Missing::Unrecognized.into(),
    };
    Device { product: Known::Value(product), ..device(number) }
}

#[test]
fn a_node_without_accelerators_gets_no_label() {
    assert!(labelled(Vec::new()).is_empty());
    let integrated = Device { integrated: true, ..device(0) };
    assert!(labelled(vec![integrated]).is_empty());
}

#[test]
fn integrated_devices_count_on_request() {
    let inventory =
        Inventory { devices: vec![Device { integrated: true, ..device(0) }], ..Inventory::default() };
    let options = LabelOptions { include_integrated: true, prefix: "example.com".to_owned() };
    let labels = labels(&inventory, &options, Decision::Absent);
    assert_eq!(labels.get("example.com/present").map(String::as_str), Some("true"));
}

#[test]
fn an_unknown_fact_gives_no_label() {
    let labels = labelled(vec![device(0)]);
    for absent in
        ["product", "memory-mib", "healthy", "partition", "compute", "interconnect", "driver-version"]
    {
        assert!(!labels.contains_key(absent), "{absent} was invented");
    }
    assert_eq!(labels["count"], "1");
    assert_eq!(labels["rdma"], "none");
}

#[test]
fn the_primary_product_has_most_devices_and_the_name_decides_ties() {
    let labels = labelled(vec![named(0, "B 2"), named(1, "A 1"), named(2, "B 2")]);
    assert_eq!((labels["product"].as_str(), labels["count"].as_str()), ("B-2", "2"));
    assert_eq!(labels["homogeneous"], "false");
    assert_eq!((labels["product.A-1"].as_str(), labels["product.B-2"].as_str()), ("1", "2"));
    assert_eq!(labelled(vec![named(0, "B 2"), named(1, "A 1")])["product"], "A-1");
}

#[test]
fn the_healthy_count_is_a_lower_bound_and_absent_without_any_verdict() {
    let healthy = Device { health: Health::healthy(), ..device(0) };
    let failed = Device { health: Health::failed("DriverMissing", ""), ..device(1) };
    assert_eq!(labelled(vec![healthy.clone(), failed.clone()])["healthy"], "1");
    assert_eq!(labelled(vec![healthy, failed.clone(), device(2)])["healthy"], "1");
    assert_eq!(labelled(vec![failed, device(2)])["healthy"], "0");
    assert!(!labelled(vec![device(1), device(2)]).contains_key("healthy"));
}

#[test]
fn devices_that_disagree_give_no_memory_label() {
    let sized = |number, bytes| Device { memory_bytes: Known::Value(bytes), ..device(number) };
    assert_eq!(labelled(vec![sized(0, 1 << 34), device(1)])["memory-mib"], "16384");
    assert!(!labelled(vec![sized(0, 1 << 34), sized(1, 1 << 35)]).contains_key("memory-mib"));
}

#[test]
fn partitions_are_named_by_their_mode() {
    let in_mode = |number, compute, memory| {
        let memory = Known::Value(memory);
        Device { partitioning: Known::Value(Partitioning::Xcp { compute, memory }), ..device(number) }
    };
    let cpx = |number| in_mode(number, XcpComputeMode::Cpx, XcpMemoryMode::Nps4);
    let spx = |number| in_mode(number, XcpComputeMode::Spx, XcpMemoryMode::Nps1);
    assert_eq!(labelled(vec![cpx(0)])["partition"], "cpx-nps4");
    assert_eq!(labelled(vec![spx(0)])["partition"], "none");
    assert_eq!(labelled(vec![cpx(0), spx(1)])["partition"], "mixed");
    let partition = Partition::bare(device(0).id, PartitionName::Xcp(0));
    let partitioned = Device { partitions: vec![partition.clone(), partition], ..device(0) };
    assert_eq!(labelled(vec![partitioned])["partition-count"], "2");
}

#[test]
fn partitions_of_another_kind_are_not_counted() {
    let partition = |name| Partition::bare(device(0).id, name);
    let functions = || [PartitionName::VirtualFunction(0), PartitionName::VirtualFunction(1)].map(partition);
    let instance = partition(PartitionName::Mig { gpu_instance: 1, compute_instance: 0 });
    let xcp = partition(PartitionName::Xcp(0));
    let memory = Known::Value(XcpMemoryMode::Nps4);
    for (partitioning, own, count) in [
        (Partitioning::Mig, vec![instance], "1"),
        (Partitioning::Xcp { compute: XcpComputeMode::Cpx, memory }, vec![xcp.clone(), xcp], "2"),
        (Partitioning::Sriov { functions: 2 }, Vec::new(), "2"),
    ] {
        let partitions = own.into_iter().chain(functions()).collect();
        let mixed = Device { partitioning: Known::Value(partitioning), partitions, ..device(0) };
        assert_eq!(labelled(vec![mixed])["partition-count"], count);
    }
}

#[test]
fn products_that_share_a_key_are_counted_together() {
    let long = |end: &str| format!("Example Accelerator of a Company with a Long Name Edition{end}");
    let labels = labelled(vec![named(0, &long(" One")), named(1, &long(" Two")), named(2, &long(" Two"))]);
    let keys: Vec<_> = labels.iter().filter(|(key, _)| key.starts_with("product.")).collect();
    let [(key, count)] = keys[..] else { panic!("there is one key: {keys:?}") };
    assert_eq!((key.len() <= MAX_LENGTH, count.as_str()), (true, "3"));
}

#[test]
fn the_logical_count_is_there_where_it_differs() {
    let chip = |number, logical| Device { logical_devices: Known::Value(logical), ..device(number) };
    assert_eq!(labelled(vec![chip(0, 2), chip(1, 2)])["logical-count"], "4");
    assert!(!labelled(vec![chip(0, 1), chip(1, 1)]).contains_key("logical-count"));
    assert!(!labelled(vec![chip(0, 2), device(1)]).contains_key("logical-count"));
}

#[test]
fn the_fastest_link_is_the_interconnect() {
    let linked = |number, kind| Device { interconnect: Known::Value(kind), ..device(number) };
    assert_eq!(labelled(vec![linked(0, LinkKind::Pcie), linked(1, LinkKind::Xgmi)])["interconnect"], "xgmi");
}

fn missing(number: usize) -> MissingDevice {
    MissingDevice {
        id: format!("missing-{number}"),
        probe: "test".to_owned(),
        vendor_id: None,
        device_id: None,
        product: None,
        uuid: None,
        last_id: None,
        message: String::new(),
    }
}

#[test]
fn missing_devices_are_counted_even_where_none_is_left() {
    let mut inventory = Inventory { missing: vec![missing(1), missing(2)], ..Inventory::default() };
    let missing = |inventory: &Inventory| {
        labels(inventory, &LabelOptions::default(), Decision::Absent)
            .get("accelerator.llm-d.ai/missing")
            .cloned()
    };
    assert_eq!(labels(&inventory, &LabelOptions::default(), Decision::Absent).len(), 1);
    assert_eq!(missing(&inventory).as_deref(), Some("2"));
    inventory.devices = vec![device(0)];
    assert_eq!(missing(&inventory).as_deref(), Some("2"));
    inventory.missing.clear();
    assert_eq!(missing(&inventory), None);
}

fn decided(devices: Vec<Device>, allocation: Decision<&'static str>) -> DecidedKeys {
    let inventory = Inventory { devices, ..Inventory::default() };
    decided_labels(
        &inventory,
        &LabelOptions { prefix: "p".to_owned(), ..LabelOptions::default() },
        allocation,
    )
}

#[test]
fn a_label_is_undecided_while_a_fact_that_it_needs_is() {
    let unread = Device { undecided: [Fact::Memory].into_iter().collect(), ..named(0, "A 1") };
    let sized = Device { memory_bytes: Known::Value(1 << 34), ..named(1, "A 1") };
    let keys = decided(vec![unread.clone(), sized.clone()], Decision::Decided("dra"));
    assert!(keys.undecided.contains("p/memory-mib") && !keys.values.contains_key("p/memory-mib"));
    assert!(!keys.undecided.contains("p/count") && !keys.undecided.contains("p/compute"));
    assert_eq!((keys.values["p/count"].as_str(), keys.values["p/product.A-1"].as_str()), ("2", "2"));
    let lost = Device { health: Health::failed("Lost", ""), ..unread };
    assert_eq!(decided(vec![lost, sized], Decision::Absent).values["p/memory-mib"], "16384");
}

#[test]
fn an_undecided_product_leaves_what_describes_the_primary_product_undecided() {
    let unread = Device { undecided: [Fact::Product].into_iter().collect(), ..device(0) };
    let keys = decided(vec![unread.clone(), named(1, "A 1")], Decision::Absent);
    for key in ["product", "count", "healthy", "homogeneous", "product.A-1", "product.B"] {
        assert!(keys.undecided.contains(&format!("p/{key}")), "{key}");
    }
    assert_eq!(keys.values["p/vendor"], unread.vendor.as_str(), "all products are of one vendor");
    assert_eq!(keys.values["p/present"], "true");
    let other = Device { variant: afd_model::Variant::Hpu, ..device(1) };
    assert!(decided(vec![unread, other], Decision::Absent).undecided.contains("p/vendor"));
}

#[test]
fn the_allocation_is_undecided_until_the_offers_are_known() {
    let keys = |allocation| decided(vec![device(0)], allocation);
    assert!(keys(Decision::Undecided).undecided.contains("p/allocation"));
    assert_eq!(keys(Decision::Decided("none")).values["p/allocation"], "none");
    let absent = keys(Decision::Absent);
    assert!(!absent.undecided.contains("p/allocation") && !absent.values.contains_key("p/allocation"));
}
