//! Calls to the API server about the Node.

use std::time::Duration;

use afd_apiserver::{ApiCalls, CallError, WATCH_TIMEOUT_SECONDS};
use futures_util::{Stream, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    core::{ObjectList, PartialObjectMeta},
};
use prometheus::{IntCounter, IntCounterVec};
use serde_json::Value;

use super::{
    FIELD_MANAGER,
    observed::{ObservedNode, OwnNode},
};

const OBJECT: &str = "the Node";
/// The code of a write that was accepted and has no effect.
const UNDONE: &str = "undone";

/// Counters of the communication with the API server.
#[derive(Clone, Debug)]
pub struct NodeCounters {
    /// Requests.
    pub calls: ApiCalls,
    /// Writes to the Node's metadata.
    pub label_writes: IntCounter,
    /// Label conflicts with other field managers, by key and owner.
    pub contested: IntCounterVec,
    /// Keys and conditions that the API server refused, by key and code.
    pub refused: IntCounterVec,
}

/// A label or annotation that another field manager owns with another value.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct KeyConflict {
    pub(super) key: String,
    pub(super) owner: String,
}

/// Whether a write was refused because of the state of the Node: a conflict of fields, another version or another uid.
pub(super) fn is_conflict(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.code == 409)
}

/// The labels and annotations in conflict. Each has a cause with the field `.metadata.labels.<key>` and the message `conflict
/// with "<manager>" using v1`. Another version or uid has none.
pub(super) fn key_conflicts(error: &CallError) -> Vec<KeyConflict> {
    let causes = error.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
    let conflicts = causes.into_iter().flatten().filter_map(|cause| {
        let key = cause.field.strip_prefix(".metadata.")?.split_once('.')?.1;
        let owner = cause.message.split('"').nth(1).unwrap_or("another manager");
        Some(KeyConflict { key: key.to_owned(), owner: owner.to_owned() })
    });
    conflicts.collect()
}

/// An event of a watch of the Node.
pub(super) enum NodeWatchEvent {
    /// The Node after the change.
    Changed(Box<ObservedNode>),
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

    /// The metadata of a page of all Nodes.
    pub(super) async fn list(
        &self,
        parameters: &ListParams,
    ) -> Result<ObjectList<PartialObjectMeta<OwnNode>>, CallError> {
        self.call("list", self.api.list_metadata(parameters)).await
    }

    /// Applies labels and annotations; with `force` also those that another field manager owns.
    pub(super) async fn apply(
        &self,
        name: &str,
        body: &Value,
        force: bool,
    ) -> Result<ObservedNode, CallError> {
        let parameters = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
        let node = self.call("apply", self.api.patch(name, &parameters, &Patch::Apply(body))).await?;
        self.counters.label_writes.inc();
        Ok(node.into())
    }

    /// Removes labels and annotations, whichever field manager owns them.
    pub(super) async fn remove(&self, name: &str, body: &Value) -> Result<ObservedNode, CallError> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let node = self.call("patch", self.api.patch(name, &parameters, &Patch::Merge(body))).await?;
        self.counters.label_writes.inc();
        Ok(node.into())
    }

    /// Applies conditions, also those that another field manager owns.
    pub(super) async fn apply_status(&self, name: &str, body: &Value) -> Result<ObservedNode, CallError> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(body);
        Ok(self.call("apply status", self.api.patch_status(name, &parameters, &patch)).await?.into())
    }

    /// Removes conditions, whichever field manager owns them.
    pub(super) async fn remove_conditions(
        &self,
        name: &str,
        body: &Value,
    ) -> Result<ObservedNode, CallError> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(body);
        Ok(self.call("patch status", self.api.patch_status(name, &parameters, &patch)).await?.into())
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
            WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                Ok(NodeWatchEvent::Changed(Box::new(node.into())))
            }
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
        tracing::warn!(key, owner, "conflict with another field manager");
        self.counters.contested.with_label_values(&[key, owner]).inc();
    }

    /// Counts and logs what was left out of a write because the API server refuses it. Without an error it was left out before.
    pub(super) fn report_refused<'k>(&self, keys: impl Iterator<Item = &'k str>, error: Option<&CallError>) {
        let Some(error) = error else { return };
        let code = error.status().map_or_else(String::new, |status| status.code.to_string());
        for key in keys {
            tracing::warn!(key, %error, "the API server refuses a key; it stays as the Node has it");
            self.counters.refused.with_label_values(&[key, &code]).inc();
        }
    }

    /// Counts and logs what the Node does not have although a write of it was accepted, as with a webhook that changes it.
    pub(super) fn report_undone<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        for key in keys {
            tracing::warn!(key, "an accepted write of a key has no effect; it stays as the Node has it");
            self.counters.refused.with_label_values(&[key, UNDONE]).inc();
        }
    }

    /// Counts the own labels that were removed by others, and returns whether there are any. Changed labels are found by
    /// [`ApplyPlan`](super::plan::ApplyPlan).
    pub(super) fn removed_by_others(&self, before: &ObservedNode, now: &ObservedNode) -> bool {
        let (before, now) = (&before.metadata, &now.metadata);
        if before.uid != now.uid {
            return false;
        }
        let labels = before.labels.owners.ours();
        let removed: Vec<&str> = labels.filter(|key| !now.labels.values.contains_key(*key)).collect();
        for key in &removed {
            self.report_contested(key, "removed");
        }
        !removed.is_empty()
    }
}

/// The present in the format of Kubernetes; none where it is not later than the creation of the Node, as on a machine whose
/// clock was not set yet.
pub(super) fn wall_time(created: Option<i64>) -> Option<String> {
    let now = Timestamp::now();
    (created.is_none_or(|created| created <= now.as_second()))
        .then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// How many seconds ago a time in the format of Kubernetes was; none where it cannot be read or is in the future.
pub fn age(time: &str) -> Option<Duration> {
    let time: Timestamp = time.parse().ok()?;
    u64::try_from(Timestamp::now().as_second() - time.as_second()).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_the_node_gives_no_time() {
        assert!(wall_time(Some(0)).is_some() && wall_time(None).is_some());
        assert_eq!(wall_time(Some(i64::MAX)), None);
    }

    #[test]
    fn the_age_of_a_time_in_the_future_is_not_known() {
        assert!(age("2020-01-01T00:00:00Z").is_some_and(|age| age > Duration::from_secs(86_400)));
        assert_eq!((age("9000-01-01T00:00:00Z"), age("yesterday")), (None, None));
    }
}
