use afd_model::{Device, Health, HostFacts, Inventory, Known, NumaNode, Partitioning};

use super::*;
use crate::{
    labels::LabelOptions,
    vendors::{VENDORS, bare_device as device},
};

/// A host with 128 GiB, a device that is unpartitioned and healthy, and one of which nothing is known.
fn inventory() -> Inventory {
    let whole = Device {
        partitioning: Known::Value(Partitioning::Whole),
        health: Health::healthy(),
        memory_bytes: Known::Value(1 << 36),
        ..device(1)
    };
    let host = HostFacts { memory_bytes: Known::Value(1 << 37), ..HostFacts::default() };
    Inventory { devices: vec![whole, device(2)], host, ..Inventory::default() }
}

fn rules(require: &str) -> PathRules {
    let mut rules = PathRules::default();
    let text = format!(
        "[[path]]\nname = 'p'\ntitle = 'P'\n[[requirement]]\npaths = ['p']\nrequire = \"{require}\"\nreason = 'R'\n\
         message = 'has {{node.count}}, {{node.healthy}}'\n"
    );
    assert_eq!(rules.add("test", &text), []);
    rules
}

fn holds(require: &str) -> Option<bool> {
    let rules = rules(require);
    rules.verdicts(&inventory(), false)[0].answer().ready()
}

#[test]
fn an_unknown_fact_leaves_the_answer_unknown_unless_other_operands_decide() {
    assert_eq!(holds("node.healthy >= 1"), None);
    assert_eq!(holds("node.healthy >= 1 && node.count > 2"), Some(false));
    assert_eq!(holds("node.count > 2 && node.healthy >= 1"), Some(false));
    assert_eq!(holds("node.healthy >= 1 && node.count == 2"), None);
    assert_eq!(holds("node.healthy >= 1 || node.count == 2"), Some(true));
    assert_eq!(holds("node.count == 2 || node.healthy >= 1"), Some(true));
    assert_eq!(holds("!(node.healthy >= 1)"), None);
    assert_eq!(holds("node.healthy >= 1 ? true : true"), None);
    assert_eq!(holds("has(node.healthy)"), Some(false));
    assert_eq!(holds("has(node.host.memory_bytes) && node.host.memory_bytes >= 68719476736"), Some(true));
}

#[test]
fn lists_are_evaluated_as_far_as_their_elements_are_known() {
    assert_eq!(holds("node.devices.exists(d, d.healthy)"), Some(true));
    assert_eq!(holds("node.devices.exists(d, d.memory_bytes < 1)"), None);
    assert_eq!(holds("node.devices.all(d, d.memory_bytes < 1)"), Some(false));
    assert_eq!(holds("node.devices.all(d, d.healthy)"), None);
    assert_eq!(holds("size(node.devices.filter(d, d.healthy)) >= 1"), None);
    assert_eq!(holds("size(node.devices.filter(d, has(d.healthy) && d.healthy)) == 1"), Some(true));
    assert_eq!(holds("node.devices[0].healthy && node.devices[1].id == '0000:02:00.0'"), Some(true));
    assert_eq!(holds("node.variant in ['gpu', 'tpu']"), Some(true));
    assert_eq!(holds("node.model in ['a', 'b']"), None);
}

#[test]
fn an_unknown_fact_is_named() {
    let rules = rules("node.count == 2 && node.host.rdma_device_files > 0");
    assert_eq!(
        rules.verdicts(&inventory(), false)[0].missing(),
        ["node.host.rdma_device_files is not known"]
    );
}

#[test]
fn a_message_has_the_values() {
    let rules = rules("node.count > 2");
    let verdicts = rules.verdicts(&inventory(), false);
    let messages: Vec<&str> = verdicts[0].unmet().map(|outcome| outcome.message.as_str()).collect();
    assert_eq!(messages, ["has 2, unknown"]);
}

#[test]
fn a_requirement_of_other_nodes_does_not_apply() {
    let mut rules = PathRules::default();
    let text = "[[path]]\nname = 'p'\ntitle = 'P'\n[[requirement]]\npaths = ['p']\nwhen = \"node.variant == 'hpu'\"\n\
                require = 'false'\nreason = 'R'\nmessage = 'm'\n";
    assert_eq!(rules.add("test", text), []);
    assert_eq!(rules.verdicts(&inventory(), false)[0].answer(), PathAnswer::Ready);
    let empty = Inventory::default();
    assert_eq!(
        rules.verdicts(&empty, false)[0].answer(),
        PathAnswer::Unknown,
        "without devices there is no vendor"
    );
}

#[test]
fn failed_devices_are_not_usable_and_those_of_unknown_health_are() {
    let lost = Device { health: Health::failed("GpuLost", ""), ..device(3) };
    let whole = |device| Device { partitioning: Known::Value(Partitioning::Whole), ..device };
    let inventory =
        Inventory { devices: vec![whole(device(1)), whole(device(2)), lost], ..Inventory::default() };
    let answer = |require| rules(require).verdicts(&inventory, false)[0].answer();
    assert_eq!(answer("node.usable == 2 && node.failed == 1"), PathAnswer::Ready);
    assert_eq!(answer("node.healthy == 2"), PathAnswer::Unknown);
}

#[test]
fn a_node_without_accelerators_gets_no_label() {
    let options = LabelOptions::default();
    let rules = rules("node.count > 2");
    let labels_of = |inventory: &Inventory| labels(inventory, &rules.verdicts(inventory, false), &options);
    assert!(labels_of(&Inventory::default()).is_empty());
    let labels = labels_of(&inventory());
    assert_eq!(labels.get("accelerator.llm-d.ai/path.p").map(String::as_str), Some("false"));
}

#[test]
fn the_built_in_rules_are_valid_and_need_a_device() {
    let rules = PathRules::built_in();
    let verdicts = rules.verdicts(&Inventory::default(), false);
    assert!(verdicts.iter().all(|verdict| verdict.answer() == PathAnswer::NotReady));
}

#[test]
fn cores_are_counted_only_where_the_threads_of_a_core_are_known() {
    let answer = |threads: Known<u32>, require: &str| {
        let mut inventory = inventory();
        inventory.host.threads_per_core = threads;
        let node = |number, cpus: &str| NumaNode { number, cpus: Known::Value(cpus.to_owned()) };
        inventory.numa_nodes = vec![node(0, "0-31,64-95"), node(1, "32-63,96-127"), node(2, "")];
        rules(require).verdicts(&inventory, false)[0].answer().ready()
    };
    assert_eq!(answer(Known::Value(2), "node.host.cores == 64 && node.host.cpus == 128"), Some(true));
    assert_eq!(answer(Known::Value(1), "node.host.cores == 128"), Some(true));
    for threads in [Known::default(), Known::Value(0)] {
        assert_eq!(answer(threads, "node.host.cores >= 1"), None);
        assert_eq!(answer(threads, "node.host.cpus == 128"), Some(true));
    }
}

#[test]
fn every_field_of_the_view_can_be_read() {
    for record in view::ViewRecord::ALL {
        for field in record.fields() {
            let rule = match record {
                view::ViewRecord::Node => format!("has(node.{})", field.name),
                view::ViewRecord::Device => format!("node.devices.all(x, has(x.{}))", field.name),
                view::ViewRecord::Partition => {
                    format!("node.devices.all(d, d.partitions.all(x, has(x.{})))", field.name)
                }
                view::ViewRecord::Port => format!("node.ports.all(x, has(x.{}))", field.name),
                view::ViewRecord::Host => format!("has(node.host.{})", field.name),
            };
            assert!(holds(&rule).is_some(), "{rule}");
        }
    }
}

/// Whether the memory of the devices is too small for a path of one vendor's devices.
fn memory_is_too_small(probe: &str, path: &str, bytes: u64) -> bool {
    let record = VENDORS.into_iter().find(|record| record.probe == probe).expect("there is such a probe");
    let devices = (1..=8).map(|bus| Device {
        vendor: record.vendor,
        variant: record.variant,
        memory_bytes: Known::Value(bytes),
        ..device(bus)
    });
    let inventory = Inventory { devices: devices.collect(), ..Inventory::default() };
    let rules = PathRules::built_in();
    let verdicts = rules.verdicts(&inventory, false);
    let verdict = verdicts.iter().find(|verdict| verdict.path.name == path).expect("there is such a path");
    verdict.unmet().any(|unmet| unmet.requirement.reason == "DeviceMemoryTooSmall")
}

#[test]
fn the_devices_of_a_pod_hold_the_model_of_the_guide() {
    const GIB: u64 = 1 << 30;
    for (probe, path, too_small, enough) in [
        ("nvidia", "optimized-baseline", 24 * GIB, 40 * GIB),
        ("nvidia", "precise-prefix-cache-routing", 32 * GIB, 48 * GIB),
        ("nvidia", "predicted-latency-routing", 16 * GIB, 40 * GIB),
        ("nvidia", "tiered-prefix-cache", 24 * GIB, 80 * GIB),
        ("nvidia", "pd-disaggregation", 48 * GIB, 80 * GIB),
        ("nvidia", "multimodal-serving", 24 * GIB, 40 * GIB),
        ("nvidia", "e-disaggregation", 32 * GIB, 48 * GIB),
        ("nvidia", "wide-ep", 80 * GIB, 141 * GIB),
        ("amd", "optimized-baseline", 32 * GIB, 64 * GIB),
        ("amd", "tiered-prefix-cache", 32 * GIB, 48 * GIB),
        ("amd", "pd-disaggregation", 64 * GIB, 128 * GIB),
        ("intel", "tiered-prefix-cache", 12 * GIB, 24 * GIB),
        ("gaudi", "optimized-baseline", 16 * GIB, 32 * GIB),
    ] {
        assert!(memory_is_too_small(probe, path, too_small), "{probe} {path} {too_small}");
        assert!(!memory_is_too_small(probe, path, enough), "{probe} {path} {enough}");
    }
    for path in ["optimized-baseline", "pd-disaggregation", "multimodal-serving"] {
        assert!(!memory_is_too_small("intel", path, 12 * GIB), "the guide has a small model for {path}");
    }
}
