//! Calls to the API server about the Node.

use afd_apiserver::{ApiCalls, CallError, WATCH_TIMEOUT_SECONDS};
use futures_util::{Stream, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use prometheus::{IntCounter, IntCounterVec};
use serde_json::{Value, json};

use super::{
    DesiredCondition, FIELD_MANAGER,
    observed::{ObservedNode, OwnNode},
    plan::{ApplyPlan, ObservedMetadata},
};

const OBJECT: &str = "the Node";
const PAGE_SIZE: u32 = 500;

/// Counters of the communication with the API server.
#[derive(Clone, Debug)]
pub struct NodeCounters {
    /// Requests.
    pub calls: ApiCalls,
    /// Writes to the Node's metadata.
    pub label_writes: IntCounter,
    /// Label conflicts with other field managers, by key and owner.
    pub contested: IntCounterVec,
}

/// Whether another field manager owns a field with another value (409 with causes; a wrong uid has none).
pub(super) fn is_conflict(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.code == 409) && !conflicting_keys(error).is_empty()
}

/// The label keys in conflict: the causes contain `.metadata.labels.<key>`.
pub(super) fn conflicting_keys(error: &CallError) -> Vec<String> {
    let causes = error.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
    let fields = causes.into_iter().flatten().map(|cause| cause.field.as_str());
    fields.filter_map(|field| field.strip_prefix(".metadata.labels.").map(str::to_owned)).collect()
}

/// An event of a watch of the Node.
pub(super) enum NodeWatchEvent {
    /// The Node after the change.
    Changed(ObservedNode),
    /// The resource version from which the watch can be resumed.
    Bookmark(String),
}

/// The Node API.
pub(super) struct NodeApi {
    api: Api<OwnNode>,
    counters: NodeCounters,
}

impl NodeApi {
    pub(super) fn new(client: Client, counters: NodeCounters) -> NodeApi {
        NodeApi { api: Api::all(client), counters }
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        self.counters.calls.call(verb, OBJECT, call).await
    }

    /// The current Node.
    pub(super) async fn get(&self, name: &str) -> Result<ObservedNode, CallError> {
        Ok(self.call("get", self.api.get(name)).await?.into())
    }

    /// Applies labels and annotations; with `force` also those that another field manager owns.
    pub(super) async fn apply(
        &self,
        name: &str,
        uid: &str,
        plan: &ApplyPlan,
        force: bool,
    ) -> Result<ObservedNode, CallError> {
        let parameters = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
        let patch = Patch::Apply(plan.body(name, uid));
        let node = self.call("apply", self.api.patch(name, &parameters, &patch)).await?;
        self.counters.label_writes.inc();
        tracing::info!(labels = plan.labels.len(), "labels written");
        Ok(node.into())
    }

    /// Applies the condition; `since` is the time of its last transition.
    pub(super) async fn apply_condition(
        &self,
        name: &str,
        uid: &str,
        condition: &DesiredCondition,
        since: &str,
    ) -> Result<ObservedNode, CallError> {
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

    async fn apply_status(&self, name: &str, body: &Value) -> Result<OwnNode, CallError> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.call("apply status", self.api.patch_status(name, &parameters, &Patch::Apply(body))).await
    }

    /// The counted calls.
    pub(super) fn calls(&self) -> &ApiCalls {
        &self.counters.calls
    }

    /// Watches the Node from a resource version on.
    pub(super) async fn watch(
        &self,
        name: &str,
        resource_version: &str,
    ) -> Result<impl Stream<Item = kube::Result<NodeWatchEvent>> + use<>, CallError> {
        let parameters =
            WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_TIMEOUT_SECONDS);
        let stream = self.call("watch", self.api.watch(&parameters, resource_version)).await?;
        Ok(stream.map(|event| match event? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => Ok(NodeWatchEvent::Changed(node.into())),
            WatchEvent::Bookmark(bookmark) => {
                Ok(NodeWatchEvent::Bookmark(bookmark.metadata.resource_version))
            }
            WatchEvent::Deleted(node) => {
                // An error makes the caller read the Node again: it may be recreated, with another uid.
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

    pub(super) fn report_contested(&self, key: &str, owner: &str) {
        tracing::warn!(key, owner, "label conflict with another field manager");
        self.counters.contested.with_label_values(&[key, owner]).inc();
    }

    /// Counts the own labels that were removed by others, and returns whether there are any. Changed labels are found by
    /// [`ApplyPlan::new`].
    pub(super) fn removed_by_others(&self, before: &ObservedMetadata, now: &ObservedMetadata) -> bool {
        if before.uid != now.uid {
            return false;
        }
        let removed: Vec<&str> = before.owned_labels().filter(|key| !now.labels.contains_key(*key)).collect();
        for key in &removed {
            self.report_contested(key, "removed");
        }
        !removed.is_empty()
    }
}

/// The current time in the format of Kubernetes.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes everything that AFD wrote to a Node.
///
/// # Errors
/// When a call fails.
pub async fn clean(client: Client, name: &str, counters: NodeCounters) -> Result<(), CallError> {
    let api = NodeApi::new(client, counters);
    let node = api.get(name).await?;
    clean_one(&api, name, &node.metadata.uid).await
}

/// Removes everything that AFD wrote to all Nodes. Returns the number of Nodes.
///
/// # Errors
/// When a call fails. Nodes before the failed one are clean then.
pub async fn clean_all(client: Client, counters: NodeCounters) -> Result<usize, CallError> {
    let api = NodeApi::new(client, counters);
    let mut parameters = ListParams::default().limit(PAGE_SIZE);
    let mut count = 0;
    loop {
        let page = api.call("list", api.api.list_metadata(&parameters)).await?;
        for node in page.items {
            let meta = node.metadata;
            let name = meta.name.clone().unwrap_or_default();
            let metadata = ObservedMetadata::from(meta);
            clean_one(&api, &name, &metadata.uid).await?;
            count += 1;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(count),
        }
    }
}

/// An apply without fields gives up all fields of the manager, which removes those without another owner.
async fn clean_one(api: &NodeApi, name: &str, uid: &str) -> Result<(), CallError> {
    api.apply(name, uid, &ApplyPlan::default(), false).await?;
    let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": uid } });
    api.apply_status(name, &body).await.map(drop)
}
