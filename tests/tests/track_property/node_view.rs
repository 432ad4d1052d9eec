//! The Node as a user reads it.

use std::collections::{BTreeMap, BTreeSet};

use afd_derive::labels::DEFAULT_PREFIX;
use afd_publish::{node::FIELD_MANAGER, testing::FakeNode};
use serde_json::{Map, Value};

/// The parts of a Node that the agent writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeView {
    /// All labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Keys of the labels that the agent owns.
    pub(crate) owned: BTreeSet<String>,
    /// Status and reason of each condition, by the end of its type.
    conditions: BTreeMap<String, (String, String)>,
    /// The annotation `expected`.
    pub(crate) memory: Option<RememberedMachine>,
    version: u64,
}

/// What the annotation `expected` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RememberedMachine {
    /// The hash that identifies the machine.
    pub(crate) machine: String,
    /// How many devices of each PCI id are expected.
    pub(crate) devices: BTreeMap<String, u64>,
    text: String,
}

impl NodeView {
    /// Reads a Node.
    pub(crate) fn of(node: &FakeNode) -> NodeView {
        let json = node.to_json();
        let metadata = &json["metadata"];
        let managed = metadata["managedFields"].as_array().into_iter().flatten();
        let ours = managed.filter(|entry| entry["manager"] == FIELD_MANAGER && entry["subresource"] == "");
        let keys = ours.flat_map(|entry| object(&entry["fieldsV1"]["f:metadata"]["f:labels"]).into_iter());
        let owned = keys.filter_map(|(key, _)| Some(key.strip_prefix("f:")?.to_owned())).collect();
        let conditions = json["status"]["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.map(|condition| {
            let kind = text(&condition["type"]);
            let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
            (kind, (text(&condition["status"]), text(&condition["reason"])))
        });
        let memory = metadata["annotations"][format!("{DEFAULT_PREFIX}/expected")].as_str();
        NodeView {
            labels: strings(&metadata["labels"]),
            owned,
            conditions: conditions.collect(),
            memory: memory.map(RememberedMachine::parse),
            version: node.version(),
        }
    }

    /// The status of a condition.
    pub(crate) fn status(&self, kind: &str) -> Option<&str> {
        self.conditions.get(kind).map(|(status, _)| status.as_str())
    }

    /// The reason of a condition.
    pub(crate) fn reason(&self, kind: &str) -> Option<&str> {
        self.conditions.get(kind).map(|(_, reason)| reason.as_str())
    }

    /// How many devices the labels of all products count.
    pub(crate) fn counted(&self) -> u64 {
        self.counted_of("")
    }

    /// How many devices the label of a product counts whose name ends so.
    pub(crate) fn counted_of(&self, model: &str) -> u64 {
        let is_product = |key: &str| key.contains("/product.") && key.ends_with(model);
        let products = self.labels.iter().filter(|(key, _)| is_product(key));
        products.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
    }

    /// Whether it is the same version of the Node.
    pub(crate) fn is_version_of(&self, other: &NodeView) -> bool {
        self.version == other.version
    }

    /// Whether a Node is still of this version.
    pub(crate) fn is_of(&self, node: &FakeNode) -> bool {
        self.version == node.version()
    }

    /// Whether anything differs that the agent writes, times and messages aside.
    pub(crate) fn differs(&self, other: &NodeView) -> bool {
        NodeView { version: 0, ..self.clone() } != NodeView { version: 0, ..other.clone() }
    }
}

impl RememberedMachine {
    fn parse(annotation: &str) -> RememberedMachine {
        let json: Value = serde_json::from_str(annotation).expect("the agent writes JSON");
        let devices = json["devices"].as_array().into_iter().flatten();
        let devices = devices.map(|device| (text(&device["id"]), device["n"].as_u64().unwrap_or_default()));
        RememberedMachine {
            machine: text(&json["machine"]),
            devices: devices.collect(),
            text: annotation.to_owned(),
        }
    }
}

/// The labels in the body of a write.
pub(crate) fn written_labels(body: &Value) -> BTreeMap<String, String> {
    strings(&body["metadata"]["labels"])
}

/// The types of the conditions in the body of a write.
pub(crate) fn written_conditions(body: &Value) -> Vec<String> {
    let conditions = body["status"]["conditions"].as_array().into_iter().flatten();
    conditions.map(|condition| text(&condition["type"])).collect()
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    object(value).iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
