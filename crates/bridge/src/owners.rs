//! The keys in the selector of a pod's owner. A controller that finds a key on its pod that its selector excludes would take the pod
//! for none of its own, and start another.
//!
//! `matchLabels` are labels of the template as well, which are foreign keys anyway; `matchExpressions` can name others.

use std::collections::HashMap;

use afd_apiserver::{ApiCalls, CallError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use serde_json::Value;

use crate::{keys::BridgeKeys, plan::KeySet};

/// The kinds that have a selector of pods, with the version of their API and their resource.
const KINDS: [(&str, &str, &str); 5] = [
    ("ReplicaSet", "apps/v1", "replicasets"),
    ("StatefulSet", "apps/v1", "statefulsets"),
    ("DaemonSet", "apps/v1", "daemonsets"),
    ("Job", "batch/v1", "jobs"),
    (MUTABLE_KIND, "v1", "replicationcontrollers"),
];
/// The one of them whose selector can be changed.
const MUTABLE_KIND: &str = "ReplicationController";
/// How many owners are remembered; then all are read again.
const MAX_OWNERS: usize = 20_000;

/// The keys of selectors by the path and the uid of the owner, of the kinds whose selector never changes. That of a
/// ReplicationController may, and is read each time. By the path as well, since a pod of any namespace may name any uid.
#[derive(Debug, Default)]
pub(crate) struct OwnerSelectors(HashMap<(String, String), KeySet>);

impl OwnerSelectors {
    /// The keys in the selector of the owner of a pod; none of an owner that has no selector or is gone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn reserved(
        &mut self,
        pod: &ObjectMeta,
        keys: &BridgeKeys,
        client: &Client,
        calls: &ApiCalls,
    ) -> Result<KeySet, CallError> {
        let owners = pod.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
        let namespace = pod.namespace.as_deref().unwrap_or_default();
        let Some((owner, path)) = controller.and_then(|owner| Some((owner, path(namespace, owner)?))) else {
            return Ok(KeySet::default());
        };
        let own = (path, owner.uid.clone());
        if let Some(known) = self.0.get(&own) {
            return Ok(*known);
        }
        let request = http::Request::get(&own.0).body(Vec::new()).expect("the path is valid");
        let object = match calls.call("get", "the owner of a pod", client.request::<Value>(request)).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(KeySet::default()),
            Err(error) => return Err(error),
        };
        // Another object of this name does not own the pod.
        if object["metadata"]["uid"] != owner.uid.as_str() {
            return Ok(KeySet::default());
        }
        let reserved = KeySet::named(selector_keys(&object["spec"]["selector"]), keys);
        if self.0.len() >= MAX_OWNERS {
            self.0.clear();
        }
        if owner.kind != MUTABLE_KIND {
            self.0.insert(own, reserved);
        }
        Ok(reserved)
    }
}

/// Where an owner is read. Another kind has none.
fn path(namespace: &str, owner: &OwnerReference) -> Option<String> {
    let is_of_kind = |kind: &&(&str, &str, &str)| (kind.0, kind.1) == (&owner.kind, &owner.api_version);
    let (_, version, resource) = KINDS.iter().find(is_of_kind)?;
    // The API server does not check what a pod says of its owner.
    let is_name = !owner.name.is_empty()
        && !owner.name.starts_with('.')
        && owner.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let root = if version.contains('/') { "apis" } else { "api" };
    is_name.then(|| format!("/{root}/{version}/namespaces/{namespace}/{resource}/{}", owner.name))
}

/// The keys of a selector, of either form.
fn selector_keys(selector: &Value) -> Vec<&str> {
    let labels = match selector.get("matchLabels").or_else(|| selector.get("matchExpressions")) {
        Some(_) => &selector["matchLabels"],
        // That of a ReplicationController is a map.
        None => selector,
    };
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let mut keys: Vec<&str> = expressions.filter_map(|expression| expression["key"].as_str()).collect();
    if let Some(labels) = labels.as_object() {
        keys.extend(labels.keys().map(String::as_str));
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeApiServer, failure};

    #[tokio::test]
    async fn a_selector_that_may_change_is_read_each_time() {
        let server = FakeApiServer::new(|request, _| {
            let uid = if request.contains("replicasets") { "ReplicaSet" } else { "ReplicationController" };
            (200, json!({ "metadata": { "uid": uid }, "spec": { "selector": {} } }))
        });
        let keys = BridgeKeys::new("p.example", None);
        let mut owners = OwnerSelectors::default();
        for (kind, version) in [("ReplicationController", "v1"), ("ReplicaSet", "apps/v1")] {
            let owner = json!({ "kind": kind, "apiVersion": version, "name": "own", "uid": kind, "controller": true });
            let pod = json!({ "namespace": "ml", "ownerReferences": [owner] });
            let pod: ObjectMeta = serde_json::from_value(pod).expect("they are metadata");
            for _ in 0..2 {
                let reserved = owners.reserved(&pod, &keys, &server.client, &server.calls).await;
                assert_eq!(reserved.expect("the server responds"), KeySet::default());
            }
        }
        assert_eq!(["replicationcontrollers", "replicasets"].map(|kind| server.count(kind)), [2, 1]);
    }

    #[tokio::test]
    async fn an_owner_that_a_proxy_does_not_find_may_have_a_selector() {
        let owner = json!({ "kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "own", "uid": "1", "controller": true });
        let pod = json!({ "namespace": "ml", "ownerReferences": [owner] });
        let pod: ObjectMeta = serde_json::from_value(pod).expect("they are metadata");
        let keys = BridgeKeys::new("p.example", None);
        let reserved = async |server: FakeApiServer| {
            OwnerSelectors::default().reserved(&pod, &keys, &server.client, &server.calls).await
        };
        let gone = reserved(FakeApiServer::new(|_, _| failure(404))).await;
        assert_eq!(gone.expect("it is gone"), KeySet::default());
        assert!(reserved(FakeApiServer::new(|_, _| (404, json!("default backend")))).await.is_err());
    }

    #[tokio::test]
    async fn what_a_pod_says_of_its_owner_changes_nothing_for_the_pods_of_others() {
        let server = FakeApiServer::new(|request, _| match request {
            _ if request.contains("/prod/replicasets/own") => {
                let excluded = json!({ "key": "kubernetes.io/hostname", "operator": "DoesNotExist" });
                (
                    200,
                    json!({ "metadata": { "uid": "1" }, "spec": { "selector": { "matchExpressions": [excluded] } } }),
                )
            }
            _ if request.contains("/evil/replicasets/mine") => (
                200,
                json!({ "metadata": { "uid": "2" }, "spec": { "selector": { "matchLabels": { "topology.kubernetes.io/zone": "a" } } } }),
            ),
            _ => failure(404),
        });
        let keys = BridgeKeys::new("p.example", None);
        let mut owners = OwnerSelectors::default();
        let mut reserved = async |namespace: &str, name: &str| {
            let owner = json!({ "kind": "ReplicaSet", "apiVersion": "apps/v1", "name": name, "uid": "1", "controller": true });
            let pod = json!({ "namespace": namespace, "ownerReferences": [owner] });
            let pod: ObjectMeta = serde_json::from_value(pod).expect("they are metadata");
            owners.reserved(&pod, &keys, &server.client, &server.calls).await.expect("the server responds")
        };
        // All of them name the uid of the one in `prod`.
        assert_eq!(reserved("evil", "none").await, KeySet::default());
        assert_eq!(reserved("evil", "mine").await, KeySet::default());
        assert_eq!(reserved("prod", "gone").await, KeySet::default());
        assert_eq!(reserved("prod", "own").await, KeySet::named(["kubernetes.io/hostname"], &keys));
    }

    #[test]
    fn keys_of_both_forms_of_selectors_are_found() {
        let both = json!({ "matchLabels": { "a": "1" }, "matchExpressions": [{ "key": "b", "operator": "DoesNotExist" }] });
        assert_eq!(selector_keys(&both), ["b", "a"]);
        assert_eq!(selector_keys(&json!({ "matchExpressions": [{ "key": "b" }] })), ["b"]);
        assert_eq!(selector_keys(&json!({ "a": "1" })), ["a"]);
        assert!(selector_keys(&Value::Null).is_empty());
    }

    #[test]
    fn only_known_kinds_with_a_name_are_read() {
        let owner = |kind: &str, version: &str, name: &str| OwnerReference {
            kind: kind.to_owned(),
            api_version: version.to_owned(),
            name: name.to_owned(),
            ..OwnerReference::default()
        };
        let path = |owner: OwnerReference| path("ml", &owner);
        assert_eq!(
            path(owner("ReplicaSet", "apps/v1", "decode-1")).as_deref(),
            Some("/apis/apps/v1/namespaces/ml/replicasets/decode-1")
        );
        assert_eq!(path(owner("ReplicaSet", "example.com/v1", "decode")), None);
        for name in ["..", "../secrets", "a/b", "", "a?b"] {
            assert_eq!(path(owner("ReplicaSet", "apps/v1", name)), None, "{name}");
        }
    }
}
