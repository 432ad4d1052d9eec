//! What of a pod is ours, and what should be. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU64,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    FIELD_MANAGER,
    keys::{BridgeKeys, KEYS, MARKED, MARKER},
    node::{BridgedNode, WantedLabel},
};

/// A set of keys, by their places.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct KeySet(u16);

impl KeySet {
    pub(crate) fn insert(&mut self, key: usize) {
        self.0 |= 1 << key;
    }

    pub(crate) fn has(self, key: usize) -> bool {
        self.0 & (1 << key) != 0
    }

    pub(crate) fn with(self, other: KeySet) -> KeySet {
        KeySet(self.0 | other.0)
    }

    /// The keys of these names.
    pub(crate) fn named<'n>(names: impl IntoIterator<Item = &'n str>, keys: &BridgeKeys) -> KeySet {
        let mut set = KeySet::default();
        for name in names {
            keys.keys.iter().position(|key| key.pod == name).into_iter().for_each(|key| set.insert(key));
        }
        set
    }
}

/// The keys of a pod with their values, by who owns them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodKeys<'p> {
    /// The values that the bridge owns, alone or with others.
    pub(crate) owned: [Option<&'p str>; KEYS],
    /// The keys that others have set: the template of the pod, a user, the scheduler. They are left alone.
    pub(crate) foreign: KeySet,
}

impl<'p> PodKeys<'p> {
    /// The keys in the metadata of a pod. A key whose owner is not recorded is foreign.
    pub(crate) fn new(metadata: &'p ObjectMeta, keys: &BridgeKeys) -> PodKeys<'p> {
        let mut pod = PodKeys::default();
        let (mut ours, mut others) = (KeySet::default(), KeySet::default());
        for entry in metadata.managed_fields.iter().flatten() {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            let labels = fields.and_then(|fields| fields.get("f:metadata")?.get("f:labels")?.as_object());
            let names = labels.into_iter().flat_map(|labels| labels.keys());
            let set = KeySet::named(names.filter_map(|name| name.strip_prefix("f:")), keys);
            // What was written under our name by another kind of write does not give way to an apply.
            let is_ours = entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply");
            let owners = if is_ours { &mut ours } else { &mut others };
            *owners = owners.with(set);
        }
        for (place, key) in keys.keys.iter().enumerate() {
            let value = metadata.labels.as_ref().and_then(|labels| labels.get(&key.pod));
            let Some(value) = value else { continue };
            if ours.has(place) {
                pod.owned[place] = Some(value);
            }
            if others.has(place) || !ours.has(place) {
                pod.foreign.insert(place);
            }
        }
        pod
    }

    /// The values that the bridge should own. Keys that are `reserved`, or foreign, are not among them. Without a Node what is
    /// there stays.
    pub(crate) fn desired<'d>(
        &self,
        node: Option<&'d BridgedNode>,
        reserved: KeySet,
        keys: &BridgeKeys,
    ) -> [Option<&'d str>; KEYS]
    where
        'p: 'd,
    {
        desired(self.foreign, reserved, node, keys, self.owned, |value| value)
    }

    /// What is kept of them.
    pub(crate) fn digest(&self) -> PodDigest {
        PodDigest { owned: self.owned.map(|value| value.map(digest)), foreign: self.foreign }
    }

    /// Whether anything is ours.
    pub(crate) fn has_owned(&self) -> bool {
        self.owned.iter().any(Option::is_some)
    }
}

/// The labels of an apply that owns these values.
pub(crate) fn labels<'d>(
    desired: &[Option<&'d str>; KEYS],
    keys: &'d BridgeKeys,
) -> BTreeMap<&'d str, &'d str> {
    let pairs = keys.keys.iter().zip(desired);
    pairs.filter_map(|(key, value)| Some((key.pod.as_str(), (*value)?))).collect()
}

/// What is kept of the keys of a pod: enough to know whether it has to be written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PodDigest {
    owned: [Option<NonZeroU64>; KEYS],
    foreign: KeySet,
}

impl PodDigest {
    /// Whether the bridge owns something else than it should.
    pub(crate) fn differs(&self, node: Option<&BridgedNode>, reserved: KeySet, keys: &BridgeKeys) -> bool {
        desired(self.foreign, reserved, node, keys, self.owned, digest) != self.owned
    }

    /// Whether anything is ours.
    pub(crate) fn has_owned(&self) -> bool {
        self.owned.iter().any(Option::is_some)
    }
}

fn digest(value: &str) -> NonZeroU64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    NonZeroU64::MIN.saturating_add(hasher.finish())
}

/// The values that the bridge should own, in the form in which those that it owns are given.
fn desired<'d, V: Copy>(
    foreign: KeySet,
    reserved: KeySet,
    node: Option<&'d BridgedNode>,
    keys: &BridgeKeys,
    owned: [Option<V>; KEYS],
    form: impl Fn(&'d str) -> V,
) -> [Option<V>; KEYS] {
    let mut desired = [None; KEYS];
    // Without the marker the pod would not be found again.
    if reserved.has(MARKER) {
        return desired;
    }
    let not_ours = foreign.with(reserved);
    for key in (0..MARKER).filter(|key| !not_ours.has(*key)) {
        desired[key] = match node.map_or(WantedLabel::Keep, |node| node.wanted(key, keys)) {
            WantedLabel::Value(value) => Some(form(value)),
            WantedLabel::Absent => None,
            WantedLabel::Keep => owned[key],
        };
    }
    // By it the pod is found again.
    let is_written = desired.iter().any(Option::is_some);
    desired[MARKER] = (is_written && !not_ours.has(MARKER)).then(|| form(MARKED));
    desired
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata(value: Value) -> ObjectMeta {
        serde_json::from_value(value).expect("they are metadata")
    }

    fn entry(manager: &str, keys: &[&str]) -> Value {
        let fields: serde_json::Map<_, _> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
        json!({ "manager": manager, "operation": "Apply", "fieldsV1": { "f:metadata": { "f:labels": fields } } })
    }

    const ZONE: &str = "topology.kubernetes.io/zone";
    const HOST: &str = "kubernetes.io/hostname";
    const MODEL: &str = "llm-d.ai/accelerator-model";
    const BRIDGE: &str = "p.example/bridge";

    /// The labels that are applied to a pod on a Node, and whether the digest says that they differ.
    fn applied(pod: &Value, node: Option<Value>, reserved: &[&str]) -> (BTreeMap<String, String>, bool) {
        let keys = BridgeKeys::new("p.example", None);
        let pod = metadata(pod.clone());
        let node = node.map(|labels| BridgedNode::new(&metadata(json!({ "labels": labels })), &keys));
        let reserved = KeySet::named(reserved.iter().copied(), &keys);
        let own = PodKeys::new(&pod, &keys);
        let desired = own.desired(node.as_ref(), reserved, &keys);
        let differs = own.digest().differs(node.as_ref(), reserved, &keys);
        assert_eq!(differs, desired != own.owned, "the digest and the values agree");
        let labels = labels(&desired, &keys).into_iter();
        (labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(), differs)
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_new_pod_gets_what_its_node_has_and_a_marker() {
        let node = json!({ HOST: "n", "p.example/present": "true", "p.example/model": "H100" });
        let expected = pairs(&[(HOST, "n"), (MODEL, "H100"), (BRIDGE, "true")]);
        assert_eq!(applied(&json!({}), Some(node), &[]), (expected, true));
        assert_eq!(applied(&json!({}), None, &[]), (pairs(&[]), false), "nothing is known");
    }

    #[test]
    fn keys_of_templates_other_managers_and_selectors_are_left_alone() {
        let node = json!({ HOST: "n", ZONE: "z", "p.example/present": "true", "p.example/model": "H100" });
        let pod = json!({ "labels": { ZONE: "other" }, "managedFields": [entry("kube-controller-manager", &[ZONE])] });
        let expected = pairs(&[(MODEL, "H100"), (BRIDGE, "true")]);
        assert_eq!(applied(&pod, Some(node.clone()), &[HOST]), (expected.clone(), true));
        let unrecorded = json!({ "labels": { ZONE: "other" } });
        assert_eq!(applied(&unrecorded, Some(node.clone()), &[HOST]).0, expected);
        // Another manager applies what we have: it is theirs then.
        let shared = json!({
            "labels": { MODEL: "H100", BRIDGE: "true" },
            "managedFields": [entry(FIELD_MANAGER, &[MODEL, BRIDGE]), entry("user", &[MODEL])],
        });
        assert_eq!(applied(&shared, Some(node), &[HOST, ZONE]), (pairs(&[]), true));
    }

    #[test]
    fn a_pod_that_cannot_have_the_marker_gets_nothing() {
        let node = json!({ HOST: "n" });
        assert_eq!(applied(&json!({}), Some(node.clone()), &[BRIDGE]), (pairs(&[]), false));
        let written = json!({
            "labels": { HOST: "n", BRIDGE: "true" }, "managedFields": [entry(FIELD_MANAGER, &[HOST, BRIDGE])],
        });
        assert_eq!(
            applied(&written, Some(node), &[BRIDGE]),
            (pairs(&[]), true),
            "what was written is removed"
        );
    }

    #[test]
    fn what_is_not_known_stays_and_what_is_decided_goes() {
        let pod = json!({
            "labels": { HOST: "n", MODEL: "H100", BRIDGE: "true" },
            "managedFields": [entry(FIELD_MANAGER, &[HOST, MODEL, BRIDGE])],
        });
        let all = pairs(&[(HOST, "n"), (MODEL, "H100"), (BRIDGE, "true")]);
        assert_eq!(applied(&pod, None, &[]), (all.clone(), false), "the Node is not there");
        assert_eq!(applied(&pod, Some(json!({})), &[]), (all, false), "it is there without labels");
        let without_model = pairs(&[(HOST, "n"), (BRIDGE, "true")]);
        assert_eq!(applied(&pod, Some(json!({ "p.example/present": "true" })), &[]), (without_model, true));
    }
}
