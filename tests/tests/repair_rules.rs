//! The rules for repair systems in `daemonset/repair`, applied to the conditions that the node of each fixture gets: they concern the
//! nodes with a confirmed fault, and no other node.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests read files of the repository")]

use std::{collections::BTreeMap, fs, time::Duration};

use afd_agent::tracker::tracked_vendors;
use afd_derive::{condition, labels::DEFAULT_PREFIX};
use afd_model::{Decision, HealthState, Inventory, LibraryStatus, OfferVerdict, Offers};
use afd_tests::{
    fixture::{self, Fixture},
    workspace,
};
use afd_track::{Observation, Track, TrackOptions, VendorObservation};
use cel::{Context, Program};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The fixtures with a confirmed fault. Each has a device that has failed, or one without a driver.
const FAULTY: [&str; 6] = [
    "amd-mi325x8-unwell",
    "gaudi3-x8",
    "intel-b580-wedged",
    "nvidia-a100x2-no-driver",
    "nvidia-h100x8-one-lost",
    "tpu-v6e-x4-no-driver",
];

/// What a node shows, so that a rule can be applied to it.
struct ShownNode {
    name: String,
    labels: BTreeMap<String, String>,
    /// Status by type.
    conditions: BTreeMap<String, &'static str>,
    has_failed_device: bool,
}

impl ShownNode {
    /// The node of a fixture, two hours after the machine and the agent started.
    fn of(fixture: &Fixture) -> ShownNode {
        let inventory = fs::read(fixture.expected("inventory.json")).expect("there is an inventory");
        let inventory: Inventory = serde_json::from_slice(&inventory).expect("it is an inventory");
        // A node without an accelerator has none.
        let labels = fs::read_to_string(fixture.expected("labels.txt")).unwrap_or_default();
        let labels = labels.lines().filter_map(|line| line.split_once('='));
        let options =
            TrackOptions { prefix: DEFAULT_PREFIX.to_owned(), has_node: true, ..TrackOptions::default() };
        let mut track = Track::new(options, tracked_vendors());
        let library = VendorObservation { library: LibraryStatus::Answering, ..VendorObservation::default() };
        let node = afd_model::NodeFacts::default();
        for minutes in 0..120 {
            track.observe(&Observation {
                now: Duration::from_secs(60 * (minutes + 1)),
                boot_id: Some("boot"),
                inventory: Some(&inventory),
                vendors: tracked_vendors().map(|vendor| (vendor.probe, library)).collect(),
                node: Some(&node),
                ..Observation::default()
            });
            track.observe_offers(Some(&Offers::default()));
            track.conditions(&OfferVerdict::default());
        }
        let shown = track.conditions(&OfferVerdict::default());
        let (ready, problem) = condition::kinds(DEFAULT_PREFIX);
        let conditions =
            [(ready, shown.ready), (problem, shown.problem)].into_iter().filter_map(|(kind, state)| {
                match state {
                    Decision::Decided(condition) => Some((kind, condition.status.as_str())),
                    _ => None,
                }
            });
        ShownNode {
            name: fixture.name.clone(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            conditions: conditions.collect(),
            has_failed_device: inventory
                .devices
                .iter()
                .any(|device| device.health.state == HealthState::Failed),
        }
    }

    fn object(&self) -> Value {
        let conditions =
            self.conditions.iter().map(|(kind, status)| json!({ "type": kind, "status": status }));
        json!({ "status": { "conditions": conditions.collect::<Vec<_>>() } })
    }
}

fn nodes() -> Vec<ShownNode> {
    fixture::all().iter().map(ShownNode::of).collect()
}

fn file<T: DeserializeOwned>(name: &str) -> T {
    let path = workspace().join("daemonset/repair").join(name);
    let text = fs::read_to_string(&path).expect("the file can be read");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The nodes of which a test holds.
fn names(nodes: &[ShownNode], holds: impl Fn(&ShownNode) -> bool) -> Vec<&str> {
    nodes.iter().filter(|node| holds(node)).map(|node| node.name.as_str()).collect()
}

/// What the Node Readiness Controller does: it taints the selected nodes that lack a required status.
fn taints(rule: &Value, node: &ShownNode) -> bool {
    let strings = |value: &Value| -> BTreeMap<String, String> {
        serde_json::from_value(value.clone()).expect("names and values")
    };
    let selector = strings(&rule["spec"]["nodeSelector"]["matchLabels"]);
    let conditions = rule["spec"]["conditions"].as_array().expect("there are conditions");
    selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && conditions.iter().any(|condition| {
            let status = condition["type"].as_str().and_then(|kind| node.conditions.get(kind).copied());
            status != condition["requiredStatus"].as_str()
        })
}

#[test]
fn the_readiness_rule_taints_the_nodes_with_a_confirmed_fault_alone() {
    let nodes = nodes();
    let mut rule: Value = file("node-readiness-rule.yaml");
    assert_eq!(rule["spec"]["dryRun"], true, "an admin looks first");
    assert_eq!(names(&nodes, |node| taints(&rule, node)), FAULTY);
    assert!(names(&nodes, |node| taints(&rule, node) && !node.has_failed_device).is_empty());
    // The rule that looks right is wrong.
    rule["spec"]["conditions"] =
        json!([{ "type": format!("{DEFAULT_PREFIX}/Ready"), "requiredStatus": "True" }]);
    assert!(names(&nodes, |node| taints(&rule, node)).len() > FAULTY.len() + 5);
}

#[test]
fn the_policy_of_nvsentinel_matches_the_nodes_with_a_confirmed_fault_alone() {
    let values: Value = file("nvsentinel-values.yaml");
    let policy = &values["kubernetes-object-monitor"]["policies"][0];
    let expression = policy["predicate"]["expression"].as_str().expect("there is a predicate");
    let program = Program::compile(expression).expect("it is CEL");
    let matches = |node: &ShownNode| {
        let mut context = Context::default();
        context.add_variable("resource", node.object()).expect("JSON is a value");
        program.execute(&context).expect("it is evaluated") == cel::Value::Bool(true)
    };
    assert_eq!(names(&nodes(), matches), FAULTY);
}
