//! The calls that concern the Node.

use afd_apiserver::{Calls, Failure, WATCH_SECONDS};
use futures_util::{Stream, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use prometheus::{IntCounter, IntCounterVec};
use serde_json::{Value, json};

use super::{
    FIELD_MANAGER, WantedCondition,
    plan::{Metadata, Plan},
    seen::{OwnNode, Seen},
};

const OBJECT: &str = "the Node";
const PAGE: u32 = 500;

/// What is counted of the talk with the API server.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Requests.
    pub calls: Calls,
    /// Writes to the Node's metadata.
    pub label_writes: IntCounter,
    /// Labels that somebody else changed or holds, by key and owner.
    pub contested: IntCounterVec,
}

/// Whether another manager owns a field with another value (409 with causes; a wrong uid has none).
pub(super) fn is_conflict(failure: &Failure) -> bool {
    failure.status().is_some_and(|status| status.code == 409) && !conflicting_keys(failure).is_empty()
}

/// The label keys in conflict: `.metadata.labels.nvidia.com/gpu.count` in the causes.
pub(super) fn conflicting_keys(failure: &Failure) -> Vec<String> {
    let causes = failure.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
    let fields = causes.into_iter().flatten().map(|cause| cause.field.as_str());
    fields.filter_map(|field| field.strip_prefix(".metadata.labels.").map(str::to_owned)).collect()
}

/// What a watch tells.
pub(super) enum Told {
    /// The Node as it is now.
    Node(Seen),
    /// The Node is as it was; a later watch may begin at this version.
    Version(String),
}

/// The API of nodes.
pub(super) struct Nodes {
    api: Api<OwnNode>,
    counters: Counters,
}

impl Nodes {
    pub(super) fn new(client: Client, counters: Counters) -> Nodes {
        Nodes { api: Api::all(client), counters }
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        self.counters.calls.call(verb, OBJECT, call).await
    }

    /// The Node as it is.
    pub(super) async fn get(&self, name: &str) -> Result<Seen, Failure> {
        Ok(self.call("get", self.api.get(name)).await?.into())
    }

    /// Applies labels and annotations; with `force` also those that another manager owns.
    pub(super) async fn apply(
        &self,
        name: &str,
        uid: &str,
        plan: &Plan,
        force: bool,
    ) -> Result<Seen, Failure> {
        let parameters = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
        let patch = Patch::Apply(plan.body(name, uid));
        let node = self.call("apply", self.api.patch(name, &parameters, &patch)).await?;
        self.counters.label_writes.inc();
        tracing::info!(labels = plan.labels.len(), "labels written");
        Ok(node.into())
    }

    /// Applies the condition, alone of its type, which has its status since a time.
    pub(super) async fn write_condition(
        &self,
        name: &str,
        uid: &str,
        condition: &WantedCondition,
        since: &str,
    ) -> Result<Seen, Failure> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "uid": uid },
            "status": { "conditions": [{
                "type": condition.kind,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": since,
                "lastHeartbeatTime": now(),
            }] },
        });
        let node = self.apply_status(name, &body).await?;
        tracing::info!(status = condition.status, reason = condition.reason, "condition written");
        Ok(node.into())
    }

    async fn apply_status(&self, name: &str, body: &Value) -> Result<OwnNode, Failure> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.call("apply status", self.api.patch_status(name, &parameters, &Patch::Apply(body))).await
    }

    /// What is counted of the calls.
    pub(super) fn calls(&self) -> &Calls {
        &self.counters.calls
    }

    /// What is told of the Node from a version on.
    pub(super) async fn watch(
        &self,
        name: &str,
        version: &str,
    ) -> Result<impl Stream<Item = kube::Result<Told>> + use<>, Failure> {
        let parameters =
            WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
        let stream = self.call("watch", self.api.watch(&parameters, version)).await?;
        Ok(stream.map(|event| match event? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => Ok(Told::Node(node.into())),
            WatchEvent::Bookmark(bookmark) => Ok(Told::Version(bookmark.metadata.resource_version)),
            WatchEvent::Deleted(node) => {
                // Read anew: it may be made again, with another uid.
                Err(kube::Error::Api(
                    kube::core::Status::failure(
                        &format!("Node {} was deleted", node.metadata.name.unwrap_or_default()),
                        "NotFound",
                    )
                    .with_code(404)
                    .boxed(),
                ))
            }
            WatchEvent::Error(status) => Err(kube::Error::Api(status)),
        }))
    }

    pub(super) fn contested(&self, key: &str, owner: &str) {
        tracing::warn!(key, owner, "somebody else wrote a label of ours or holds one of a vendor's set");
        self.counters.contested.with_label_values(&[key, owner]).inc();
    }

    /// Counts the labels of ours that somebody else has removed; whether there are any. Those that were changed are seen by
    /// the plan.
    pub(super) fn removed_by_others(&self, before: &Metadata, now: &Metadata) -> bool {
        if before.uid != now.uid {
            return false;
        }
        let removed: Vec<&str> = before.ours().filter(|key| !now.labels.contains_key(*key)).collect();
        for key in &removed {
            self.contested(key, "removed");
        }
        !removed.is_empty()
    }
}

/// The time now, as Kubernetes writes it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes all that AFD wrote on a Node.
///
/// # Errors
/// When the API server does not let us.
pub async fn clean(client: Client, name: &str, counters: Counters) -> Result<(), Failure> {
    let nodes = Nodes::new(client, counters);
    let node = nodes.get(name).await?;
    clean_one(&nodes, name, &node.metadata.uid).await
}

/// Removes all that AFD wrote, on every Node; how many there are.
///
/// # Errors
/// When the API server does not let us. Nodes that came before are clean then.
pub async fn clean_all(client: Client, counters: Counters) -> Result<usize, Failure> {
    let nodes = Nodes::new(client, counters);
    let mut parameters = ListParams::default().limit(PAGE);
    let mut count = 0;
    loop {
        let page = nodes.call("list", nodes.api.list_metadata(&parameters)).await?;
        for node in page.items {
            let meta = node.metadata;
            let name = meta.name.clone().unwrap_or_default();
            let seen = Metadata::from(meta);
            clean_one(&nodes, &name, &seen.uid).await?;
            count += 1;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(count),
        }
    }
}

/// An apply without fields gives up all that the manager owns, which removes what nobody else owns.
async fn clean_one(nodes: &Nodes, name: &str, uid: &str) -> Result<(), Failure> {
    nodes.apply(name, uid, &Plan::default(), false).await?;
    let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": uid } });
    nodes.apply_status(name, &body).await.map(drop)
}
