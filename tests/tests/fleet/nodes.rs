//! Nodes as the agents of fixture hosts would maintain them.

use std::{fs, time::Duration};

use afd_agent::tracker::tracked_vendors;
use afd_derive::{condition, labels::DEFAULT_PREFIX, offer::Offered, paths::PathRules, report};
use afd_model::{Decision, Inventory, LibraryStatus, OfferVerdict, Offers};
use afd_tests::fixture::Fixture;
use afd_track::{Observation, Track, TrackOptions, VendorObservation};
use serde_json::{Map, Value, json};

/// A Node: its name, the host, its zone and its instance type.
const NODES: [(&str, &str, &str, &str); 13] = [
    ("gaudi-1", "gaudi2-x8", "b", "dl1.24xlarge"),
    ("gb200-1", "nvidia-gb200x4-clique", "a", "p6e-gb200.36xlarge"),
    ("gb200-2", "nvidia-gb200x4-clique", "a", "p6e-gb200.36xlarge"),
    ("h100-1", "nvidia-h100x8-nvml", "a", "p5.48xlarge"),
    ("h100-2", "nvidia-h100x8-nvml", "a", "p5.48xlarge"),
    ("h100-3", "nvidia-h100x8-nvml", "a", "p5.48xlarge"),
    ("h100-4", "nvidia-h100x8-nvml", "a", "p5.48xlarge"),
    ("h100-lost", "nvidia-h100x8-one-lost", "a", "p5.48xlarge"),
    ("h100-unread", "nvidia-h100x8", "a", "p5.48xlarge"),
    ("max1550-1", "intel-max1550-x2", "a", "bare-metal"),
    ("mi300x-1", "amd-mi300x8-spx", "a", "bare-metal"),
    ("mi300x-2", "amd-mi300x8-spx", "a", "bare-metal"),
    ("tpu-1", "tpu-v6e-x8", "b", "ct6e-standard-8t"),
];
/// The Nodes whose driver differs from that of their host.
const OTHER_DRIVERS: [(&str, &str); 2] = [("h100-4", "580.95.05"), ("mi300x-2", "6.12.12")];

/// The output of `kubectl get nodes -o json`.
pub(crate) fn list() -> Value {
    let mut items: Vec<Value> =
        NODES.iter().map(|(name, host, zone, kind)| node(name, host, zone, kind)).collect();
    items.push(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "cpu-1", "labels": { "kubernetes.io/hostname": "cpu-1" } },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "" }] },
    }));
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items })
}

fn node(name: &str, host: &str, zone: &str, instance_type: &str) -> Value {
    let fixture = Fixture::named(host);
    let read =
        |file: &str| fs::read_to_string(fixture.expected(file)).expect("the expected file can be read");
    let inventory: Inventory = serde_json::from_str(&read("inventory.json")).expect("it is an inventory");
    let mut labels: Map<String, Value> = read("labels.txt")
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    labels.extend(
        [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("topology.kubernetes.io/zone", zone),
            ("node.kubernetes.io/instance-type", instance_type),
        ]
        .map(|(key, value)| (key.to_owned(), json!(value))),
    );
    let report =
        report::report(&inventory, &Offered::default(), &PathRules::built_in().verdicts(&inventory, false));
    let mut report: Value = serde_json::from_str(&report).expect("it is JSON");
    if let Some((_, version)) = OTHER_DRIVERS.iter().find(|(node, _)| *node == name) {
        labels.insert(format!("{DEFAULT_PREFIX}/driver-version"), json!(version));
        if name == "h100-4" {
            report["firmware"] = json!(["96.00.99.00.01"]);
        }
    }
    let is_tainted = labels[&format!("{DEFAULT_PREFIX}/vendor")] == "nvidia";
    let taint = json!({ "key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule" });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {
                format!("{DEFAULT_PREFIX}/report"): report.to_string(),
                format!("{DEFAULT_PREFIX}/managed-by"): "afd/afd",
            },
        },
        "spec": { "taints": if is_tainted { json!([taint]) } else { json!([]) } },
        "status": { "conditions": conditions(&inventory) },
    })
}

/// The conditions two hours after the machine and the agent started, while everything is offered.
fn conditions(inventory: &Inventory) -> Vec<Value> {
    let options =
        TrackOptions { prefix: DEFAULT_PREFIX.to_owned(), has_node: true, ..TrackOptions::default() };
    let mut track = Track::new(options, tracked_vendors());
    let library = VendorObservation { library: LibraryStatus::Answering, ..VendorObservation::default() };
    let node = afd_model::NodeFacts::default();
    for minutes in 0..120 {
        track.observe(&Observation {
            now: Duration::from_secs(60 * (minutes + 1)),
            boot_id: Some("boot"),
            inventory: Some(inventory),
            vendors: tracked_vendors().map(|vendor| (vendor.probe, library)).collect(),
            node: Some(&node),
            ..Observation::default()
        });
        track.observe_offers(Some(&Offers::default()));
        track.conditions(&OfferVerdict::Complete);
    }
    let shown = track.conditions(&OfferVerdict::Complete);
    let (ready, problem) = condition::kinds(DEFAULT_PREFIX);
    let decided = [(ready, shown.ready), (problem, shown.problem)].into_iter().filter_map(|(kind, state)| {
        let Decision::Decided(condition) = state else { return None };
        let status = condition.status.as_str();
        Some(json!({ "type": kind, "status": status, "reason": condition.reason, "message": condition.message }))
    });
    decided.collect()
}
