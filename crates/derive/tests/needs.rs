//! The facts that labels declare are all that they need: on every fixture, a fact that no source supplies changes no label
//! that is decided.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests read fixtures")]

use std::{collections::BTreeMap, fs, path::Path};

use afd_derive::{
    compat::{self, CompatOptions, CompatSwitches},
    decided::DecidedKeys,
    labels::{self, LabelOptions},
    paths::{self, PathRules},
    vendors::{PluginOptionValue, VENDORS, VendorOptions},
};
use afd_model::{Decision, Device, Fact, Health, HealthState, Inventory, Known, Missing};

/// The inventories of the fixture hosts, by their names.
fn inventories() -> Vec<(String, Inventory)> {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/hosts");
    let hosts =
        fs::read_dir(hosts).expect("the fixtures can be listed").map(|host| host.expect("it can be read"));
    let read = |host: fs::DirEntry| {
        let text = fs::read_to_string(host.path().join("expected/inventory.json")).ok()?;
        let inventory = serde_json::from_str(&text).expect("an expected inventory is valid");
        Some((host.file_name().to_string_lossy().into_owned(), inventory))
    };
    let inventories: Vec<_> = hosts.filter_map(read).collect();
    assert!(inventories.len() > 30, "only {} fixtures have an inventory", inventories.len());
    inventories
}

/// Configurations of a plugin: nothing is shared, and both GPUs and MIG devices may be.
const CONFIGURATIONS: [&str; 2] = [
    "version: v1\n",
    "version: v1\nflags:\n  migStrategy: mixed\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n",
];

/// Each setting of each option of the vendors' plugins, and the defaults.
fn vendor_options() -> Vec<VendorOptions> {
    let mut all = vec![VendorOptions::default()];
    for option in VENDORS.into_iter().flat_map(|record| record.plugin_options) {
        let mut add = |apply: &dyn Fn(&mut VendorOptions)| {
            let mut options = VendorOptions::default();
            apply(&mut options);
            all.push(options);
        };
        match &option.value {
            PluginOptionValue::Choice { values, apply } => {
                values.iter().for_each(|(value, _)| add(&|options| apply(options, value)));
            }
            PluginOptionValue::File { apply } => {
                CONFIGURATIONS.iter().for_each(|text| {
                    add(&|options| apply(options, text).expect("it is in the plugin's format"))
                });
            }
        }
    }
    all
}

/// Removes a fact of a device, as if no source had supplied it yet.
fn remove(device: &mut Device, fact: Fact) {
    fn pending<T>(fact: &mut Known<T>) {
        *fact = Missing::Pending.into();
    }
    match fact {
        Fact::Product => pending(&mut device.product),
        Fact::Model | Fact::Architecture => {
            if let Known::Value(product) = &mut device.product {
                pending(if fact == Fact::Model { &mut product.model } else { &mut product.architecture });
            }
        }
        Fact::NumaNode => pending(&mut device.numa_node),
        Fact::Driver => pending(&mut device.driver),
        Fact::DriverVersion => pending(&mut device.driver_version),
        Fact::RuntimeVersion => pending(&mut device.runtime_version),
        Fact::FirmwareVersion => pending(&mut device.firmware_version),
        Fact::Memory => {
            pending(&mut device.memory_bytes);
            pending(&mut device.memory_source);
        }
        Fact::Compute => pending(&mut device.compute),
        Fact::Uuid => pending(&mut device.uuid),
        Fact::Serial => pending(&mut device.serial),
        Fact::Partitioning => {
            pending(&mut device.partitioning);
            device.partitions.clear();
        }
        Fact::LogicalDevices => pending(&mut device.logical_devices),
        Fact::Interconnect => pending(&mut device.interconnect),
        Fact::LinkedDevices => pending(&mut device.linked_devices),
        Fact::LinkDomain => pending(&mut device.link_domain),
        Fact::FabricDomain => pending(&mut device.fabric_domain),
        Fact::FabricPartition => pending(&mut device.fabric_partition),
        Fact::VendorFacts => device.vendor_facts = None,
        Fact::Health => device.health = Health::unknown(),
    }
    device.undecided.insert(fact);
}

/// Labels with the values as they are known, and what is decided of them.
#[derive(Default)]
struct Labelled {
    known: BTreeMap<String, String>,
    decided: DecidedKeys,
}

impl Labelled {
    fn extend(&mut self, known: BTreeMap<String, String>, decided: DecidedKeys) {
        self.known.extend(known);
        self.decided.extend(decided);
    }
}

fn own_options() -> LabelOptions {
    LabelOptions { include_integrated: true, ..LabelOptions::default() }
}

/// Our own labels, those of paths included.
fn own(inventory: &Inventory, rules: &PathRules) -> Labelled {
    let (options, verdicts) = (own_options(), rules.verdicts(inventory, true));
    let mut labelled = Labelled::default();
    labelled.extend(
        labels::labels(inventory, &options, Decision::Absent),
        labels::decided_labels(inventory, &options, Decision::Absent),
    );
    labelled.extend(
        paths::labels(inventory, &verdicts, &options),
        paths::decided_labels(inventory, &verdicts, &options),
    );
    labelled
}

/// The labels in the vendors' spellings.
fn of_vendors(inventory: &Inventory, vendors: &VendorOptions) -> Labelled {
    let switches = CompatSwitches::default().auto_on();
    let compat = CompatOptions { switches, vendors: vendors.clone() };
    Labelled {
        known: compat::labels(inventory, &own_options(), &compat),
        decided: compat::decided_labels(inventory, &own_options(), &compat),
    }
}

/// Checks that without a fact of the chosen devices every label is as before, or undecided.
fn check(name: &str, inventory: &Inventory, choose: impl Fn(usize) -> bool) {
    let without = |fact| {
        let mut without = inventory.clone();
        for (_, device) in without.devices.iter_mut().enumerate().filter(|(number, _)| choose(*number)) {
            if device.health.state != HealthState::Failed {
                remove(device, fact);
            }
        }
        without
    };
    let rules = PathRules::built_in();
    check_labels(name, without, |inventory| own(inventory, &rules), inventory);
    for options in vendor_options() {
        check_labels(name, without, |inventory| of_vendors(inventory, &options), inventory);
    }
}

fn check_labels(
    name: &str,
    without: impl Fn(Fact) -> Inventory,
    labelled: impl Fn(&Inventory) -> Labelled,
    inventory: &Inventory,
) {
    let before = labelled(inventory).known;
    for fact in Fact::ALL {
        let decided = labelled(&without(fact)).decided;
        for key in before.keys().chain(decided.values.keys()) {
            let (before, now) = (before.get(key), decided.values.get(key));
            assert!(
                before == now || decided.undecided.contains(key),
                "{name}: {key} is {now:?} without {fact:?} and {before:?} with it; its row does not declare the fact",
            );
        }
        for key in decided.values.keys() {
            assert!(!decided.undecided.contains(key), "{name}: {key} has a value and is undecided");
        }
    }
}

#[test]
fn no_label_changes_without_a_fact_that_its_row_does_not_declare() {
    for (name, inventory) in inventories() {
        check(&name, &inventory, |_| true);
    }
}

#[test]
fn no_label_changes_without_a_fact_of_one_device_alone() {
    for (name, inventory) in inventories() {
        check(&name, &inventory, |number| number == 0);
    }
}

#[test]
fn what_is_decided_is_all_that_is_known_where_every_source_has_answered() {
    let rules = PathRules::built_in();
    for (name, inventory) in inventories() {
        let Labelled { known, decided } = own(&inventory, &rules);
        let mut labelled = of_vendors(&inventory, &VendorOptions::default());
        labelled.extend(known, decided);
        let Labelled { known, decided } = labelled;
        for (key, value) in &known {
            let as_known = decided.values.get(key) == Some(value);
            assert!(as_known || decided.undecided.contains(key), "{name}: {key} is lost");
        }
        if name != "unhappy" {
            assert!(decided.undecided.is_empty(), "{name}: {:?}", decided.undecided);
        }
    }
}
