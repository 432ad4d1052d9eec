use afd_model::{Device, Health, HostFacts, Inventory, Known, Partitioning, PciAddress, Variant, Vendor};

use super::*;
use crate::labels::LabelOptions;

fn device(bus: u8) -> Device {
    Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
}

/// A host with 128 GiB, a device that is whole and healthy, and one of which nothing is told.
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

fn rules(require: &str) -> Rules {
    let mut rules = Rules::default();
    let text = format!(
        "[[path]]\nname = 'p'\ntitle = 'P'\n[[requirement]]\npaths = ['p']\nrequire = \"{require}\"\nreason = 'R'\n\
         message = 'has {{node.count}}, {{node.healthy}}'\n"
    );
    assert_eq!(rules.add("test", &text), []);
    rules
}

fn holds(require: &str) -> Option<bool> {
    let rules = rules(require);
    rules.ask(&inventory(), false)[0].answer().ready()
}

#[test]
fn what_is_not_known_leaves_an_answer_open_unless_the_rest_decides() {
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
fn lists_are_answered_as_far_as_their_elements_are_known() {
    assert_eq!(holds("node.devices.exists(d, d.healthy)"), Some(true));
    assert_eq!(holds("node.devices.exists(d, d.memory_bytes < 1)"), None);
    assert_eq!(holds("node.devices.all(d, d.memory_bytes < 1)"), Some(false));
    assert_eq!(holds("node.devices.all(d, d.healthy)"), None);
    assert_eq!(holds("size(node.devices.filter(d, d.healthy)) >= 1"), None);
    assert_eq!(holds("size(node.devices.filter(d, has(d.healthy) && d.healthy)) == 1"), Some(true));
    assert_eq!(holds("node.devices[0].healthy && node.devices[1].id == '0000:02:00.0'"), Some(true));
    assert_eq!(holds("node.vendor in ['nvidia', 'amd']"), Some(true));
    assert_eq!(holds("node.model in ['nvidia', 'amd']"), None);
}

#[test]
fn a_fact_that_is_not_known_is_named() {
    let rules = rules("node.count == 2 && node.host.rdma_device_files > 0");
    assert_eq!(rules.ask(&inventory(), false)[0].missing(), ["node.host.rdma_device_files is not known"]);
}

#[test]
fn a_message_has_the_values() {
    let rules = rules("node.count > 2");
    let verdicts = rules.ask(&inventory(), false);
    let messages: Vec<&str> = verdicts[0].unmet().map(|outcome| outcome.message.as_str()).collect();
    assert_eq!(messages, ["has 2, unknown"]);
}

#[test]
fn a_requirement_of_others_is_not_asked() {
    let mut rules = Rules::default();
    let text = "[[path]]\nname = 'p'\ntitle = 'P'\n[[requirement]]\npaths = ['p']\nwhen = \"node.vendor == 'nvidia'\"\n\
                require = 'false'\nreason = 'R'\nmessage = 'm'\n";
    assert_eq!(rules.add("test", text), []);
    assert_eq!(rules.ask(&inventory(), false)[0].answer(), PathAnswer::Ready);
    let nobody = Inventory::default();
    assert_eq!(
        rules.ask(&nobody, false)[0].answer(),
        PathAnswer::Unknown,
        "without devices there is no vendor"
    );
}

#[test]
fn failed_devices_are_not_usable_and_those_of_which_nobody_tells_are() {
    let lost = Device { health: Health::failed("GpuLost", ""), ..device(3) };
    let whole = |device| Device { partitioning: Known::Value(Partitioning::Whole), ..device };
    let inventory =
        Inventory { devices: vec![whole(device(1)), whole(device(2)), lost], ..Inventory::default() };
    let answer = |require| rules(require).ask(&inventory, false)[0].answer();
    assert_eq!(answer("node.usable == 2 && node.failed == 1"), PathAnswer::Ready);
    assert_eq!(answer("node.healthy == 2"), PathAnswer::Unknown);
}

#[test]
fn a_node_without_accelerators_gets_no_label() {
    let options = LabelOptions::default();
    let rules = Rules::built_in();
    let told = |inventory: &Inventory| labels(inventory, &rules.ask(inventory, false), &options);
    assert!(told(&Inventory::default()).is_empty());
    let of_amd = told(&inventory());
    assert_eq!(of_amd.get("accelerator.llm-d.ai/path.agentic-serving").map(String::as_str), Some("false"));
    assert!(
        !of_amd.contains_key("accelerator.llm-d.ai/path.optimized-baseline"),
        "it is not known what is whole"
    );
}

#[test]
fn every_field_of_the_view_can_be_asked() {
    for record in view::Record::ALL {
        for field in record.fields() {
            let of = match record {
                view::Record::Node => format!("has(node.{})", field.name),
                view::Record::Device => format!("node.devices.all(x, has(x.{}))", field.name),
                view::Record::Partition => {
                    format!("node.devices.all(d, d.partitions.all(x, has(x.{})))", field.name)
                }
                view::Record::Port => format!("node.ports.all(x, has(x.{}))", field.name),
                view::Record::Host => format!("has(node.host.{})", field.name),
            };
            assert!(holds(&of).is_some(), "{of}");
        }
    }
}
