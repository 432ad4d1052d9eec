use afd_model::{
    Health, Known, LinkKind, Missing, Partition, PartitionName, Partitioning, Product, XcpComputeMode,
    XcpMemoryMode,
};

use super::*;
use crate::vendors::bare_device as device;

fn labelled(devices: Vec<Device>) -> BTreeMap<String, String> {
    let inventory = Inventory { devices, ..Inventory::default() };
    labels(&inventory, &LabelOptions::default(), None)
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
    let labels = labels(&inventory, &options, None);
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
fn one_device_of_unknown_health_leaves_the_healthy_count_unknown() {
    let healthy = Device { health: Health::healthy(), ..device(0) };
    let failed = Device { health: Health::failed("DriverMissing", ""), ..device(1) };
    assert_eq!(labelled(vec![healthy.clone(), failed.clone()])["healthy"], "1");
    assert!(!labelled(vec![healthy, failed, device(2)]).contains_key("healthy"));
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
