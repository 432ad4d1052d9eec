//! Lists and watches objects, page by page, forever.

use std::{convert::Infallible, pin::pin, time::Duration};

use afd_apiserver::{ApiCalls, Backoff, CallError, MAX_BACKOFF, MAX_WATCH_DURATION, WATCH_TIMEOUT_SECONDS};
use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::{ObjectList, Request},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

/// What is held of a list at a time: a pod is some 10 KiB of JSON, the metadata of a Node up to 30.
const PAGE_SIZE: u32 = 250;

/// What is read of a Node or a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FollowedObject {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: FollowedSpec,
    pub(crate) status: FollowedStatus,
}

/// The specification of a pod; PartialObjectMetadata has none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct FollowedSpec {
    pub(crate) node_name: String,
}

/// The status of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FollowedStatus {
    phase: String,
}

impl FollowedObject {
    /// Whether a pod has ended, so that nothing routes to it.
    pub(crate) fn has_ended(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || ["Succeeded", "Failed"].contains(&&self.status.phase[..])
    }
}

/// A step of a list or a watch.
pub(crate) enum FollowEvent<'e> {
    /// A list begins.
    Listing,
    /// An object that is there.
    Seen(&'e FollowedObject),
    /// An object that is not selected any more, or does not exist.
    Gone(&'e FollowedObject),
    /// The list is complete: what was not seen since it began is gone.
    Listed,
}

/// What is followed.
#[derive(Clone, Debug)]
pub(crate) struct FollowedList {
    /// For messages.
    pub(crate) object: &'static str,
    pub(crate) path: &'static str,
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<&'static str>,
    /// Whether metadata are enough.
    pub(crate) only_metadata: bool,
}

impl FollowedList {
    /// Follows the objects forever.
    pub(crate) async fn follow(
        &self,
        client: &Client,
        calls: &ApiCalls,
        mut receive: impl FnMut(FollowEvent<'_>),
    ) -> Infallible {
        let (mut backoff, mut failing) = (Backoff::default(), false);
        loop {
            let delay = match self.list_and_watch(client, calls, &mut receive).await {
                Ok(duration) => {
                    failing = false;
                    backoff.after_watch(duration)
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the API server cannot be read; retrying");
                    }
                    backoff.next_delay(error.retry_after)
                }
            };
            sleep(delay).await;
        }
    }

    /// Lists, and watches until a watch ends before its timeout; returns how long that one lasted.
    async fn list_and_watch(
        &self,
        client: &Client,
        calls: &ApiCalls,
        receive: &mut impl FnMut(FollowEvent<'_>),
    ) -> Result<Duration, CallError> {
        let request = Request::new(self.path);
        let mut parameters = ListParams { label_selector: self.labels.clone(), ..ListParams::default() };
        parameters.field_selector = self.fields.map(str::to_owned);
        parameters.limit = Some(PAGE_SIZE);
        receive(FollowEvent::Listing);
        let mut version = loop {
            let list = if self.only_metadata {
                request.list_metadata(&parameters)
            } else {
                request.list(&parameters)
            };
            let list = list.map_err(kube::Error::BuildRequest);
            let page = async { client.request::<ObjectList<FollowedObject>>(list?).await };
            let page = calls.call("list", self.object, page).await?;
            page.items.iter().for_each(|object| receive(FollowEvent::Seen(object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => break page.metadata.resource_version.unwrap_or_default(),
            }
        };
        receive(FollowEvent::Listed);
        let parameters = WatchParams {
            label_selector: parameters.label_selector,
            field_selector: parameters.field_selector,
            ..WatchParams::default().timeout(WATCH_TIMEOUT_SECONDS)
        };
        loop {
            let begun = Instant::now();
            let watch = if self.only_metadata {
                request.watch_metadata(&parameters, &version)
            } else {
                request.watch(&parameters, &version)
            };
            let watch = watch.map_err(kube::Error::BuildRequest);
            let stream = async { client.request_events::<FollowedObject>(watch?).await };
            let mut stream = pin!(calls.call("watch", self.object, stream).await?);
            let has_ended = loop {
                let event = match timeout_at(begun + MAX_WATCH_DURATION, stream.next()).await {
                    Err(_) => {
                        calls.watch_timed_out();
                        break false;
                    }
                    Ok(None) => break true,
                    Ok(Some(Err(error))) => {
                        calls.watch_failed(&error);
                        break false;
                    }
                    Ok(Some(Ok(event))) => event,
                };
                let object = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        receive(FollowEvent::Seen(&object));
                        object
                    }
                    WatchEvent::Deleted(object) => {
                        receive(FollowEvent::Gone(&object));
                        object
                    }
                    WatchEvent::Bookmark(bookmark) => {
                        version = bookmark.metadata.resource_version;
                        continue;
                    }
                    // Usually the resource version is too old: list again.
                    WatchEvent::Error(_) => break false,
                };
                version = object.metadata.resource_version.unwrap_or_default();
            };
            // Only a watch that the server ended by its timeout is resumed.
            if !has_ended || begun.elapsed() <= MAX_BACKOFF {
                return Ok(begun.elapsed());
            }
        }
    }
}
