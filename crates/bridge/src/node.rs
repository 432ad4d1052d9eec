//! What is kept of a Node. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::keys::{BridgeKeys, MARKER};

/// What a Node says that pods on it get, and which of its devices have failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct BridgedNode {
    pub(crate) uid: Box<str>,
    /// The values by key of the pod.
    values: [Option<Box<str>>; MARKER],
    /// Whether its agent has labelled it.
    has_agent: bool,
    /// The annotation of failed devices.
    pub(crate) failed: Option<Box<str>>,
}

/// What a key of a pod should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WantedLabel<'n> {
    /// This value.
    Value(&'n str),
    /// Absent: the Node's agent says that there is none.
    Absent,
    /// As it is: it is not known whether there is one.
    Keep,
}

/// When the agent of a Node has last written its status, in seconds since 1970: the hourly heartbeat of its conditions.
pub(crate) fn last_heartbeat(metadata: &ObjectMeta, manager: &str) -> Option<i64> {
    let entries = metadata.managed_fields.iter().flatten();
    let own = entries.filter(|entry| entry.manager.as_deref() == Some(manager));
    own.filter_map(|entry| Some(entry.time.as_ref()?.0.as_second())).max()
}

impl BridgedNode {
    /// What the metadata of a Node say.
    pub(crate) fn new(metadata: &ObjectMeta, keys: &BridgeKeys) -> BridgedNode {
        let label = |key: &str| metadata.labels.as_ref()?.get(key).filter(|value| !value.is_empty());
        let annotations = metadata.annotations.as_ref();
        BridgedNode {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            values: std::array::from_fn(|key| label(&keys.keys[key].node).map(|value| value.as_str().into())),
            has_agent: label(&keys.present).is_some(),
            failed: annotations.and_then(|own| own.get(&keys.failed)).map(|text| text.as_str().into()),
        }
    }

    /// What a key of the pods on this Node should be. The label of a Node that has just been created, or whose agent has not labelled
    /// it, is not known.
    pub(crate) fn wanted(&self, key: usize, keys: &BridgeKeys) -> WantedLabel<'_> {
        match &self.values[key] {
            Some(value) => WantedLabel::Value(value),
            None if keys.keys[key].is_decided_by_agent && self.has_agent => WantedLabel::Absent,
            None => WantedLabel::Keep,
        }
    }

    /// Whether pods on it get the same labels as before.
    pub(crate) fn has_same_labels(&self, other: &BridgedNode) -> bool {
        self.values == other.values && self.has_agent == other.has_agent
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RACK: usize = 3;
    const MODEL: usize = 7;

    fn view(labels: Value) -> (BridgedNode, BridgeKeys) {
        let keys = BridgeKeys::new("p.example", None);
        let metadata = json!({ "uid": "1", "labels": labels });
        let metadata = serde_json::from_value(metadata).expect("they are metadata");
        (BridgedNode::new(&metadata, &keys), keys)
    }

    #[test]
    fn a_label_that_the_agent_does_not_set_is_absent_and_without_an_agent_not_known() {
        let wanted = |labels: Value, key: usize| {
            let (view, keys) = view(labels);
            match view.wanted(key, &keys) {
                WantedLabel::Value(value) => value.to_owned(),
                other => format!("{other:?}"),
            }
        };
        let labelled = json!({ "p.example/present": "true", "p.example/fabric-domain": "f" });
        assert_eq!([RACK, MODEL].map(|key| wanted(labelled.clone(), key)), ["f", "Absent"]);
        assert_eq!(wanted(labelled, 0), "Keep", "the kubelet sets the host name");
        assert_eq!([RACK, MODEL].map(|key| wanted(json!({}), key)), ["Keep", "Keep"]);
        assert_eq!(wanted(json!({ "kubernetes.io/hostname": "" }), 0), "Keep", "an empty value says nothing");
    }

    #[test]
    fn a_configured_rack_is_never_withdrawn() {
        let keys = BridgeKeys::new("p.example", Some("example.com/rack"));
        let labels = json!({ "labels": { "p.example/present": "true" } });
        let view = BridgedNode::new(&serde_json::from_value(labels).expect("they are metadata"), &keys);
        assert_eq!(view.wanted(RACK, &keys), WantedLabel::Keep);
    }

    #[test]
    fn the_last_heartbeat_is_that_of_the_agent() {
        let entry = |manager: &str, time: &str| json!({ "manager": manager, "time": time });
        let entries = [entry("afd", "1970-01-01T00:00:05Z"), entry("kubelet", "1970-01-01T00:00:09Z")];
        let metadata =
            serde_json::from_value(json!({ "managedFields": entries })).expect("they are metadata");
        assert_eq!((last_heartbeat(&metadata, "afd"), last_heartbeat(&metadata, "x")), (Some(5), None));
    }
}
