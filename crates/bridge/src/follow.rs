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

/// What is held of a list at a time: a pod is some 10 KiB of JSON, the metadata of a Node up to 30. A page is halved as long as it is
/// too long: annotations of a pod may have 256 KiB.
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
    /// The resource version: of two of an object, the larger one is later (KEP-5504). 0 where it is not a number, so that none is later.
    pub(crate) fn version(&self) -> u64 {
        number(self.metadata.resource_version.as_deref())
    }

    /// Whether a pod has ended, so that nothing routes to it.
    pub(crate) fn has_ended(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || ["Succeeded", "Failed"].contains(&&self.status.phase[..])
    }
}

/// The number of a resource version.
fn number(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// A step of a list or a watch.
pub(crate) enum FollowEvent<'e> {
    /// A list begins.
    Listing,
    /// The list that has begun is older than what was seen before: a backup of the API server was restored.
    Restored,
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
        let mut latest = 0;
        loop {
            let delay = match self.list_and_watch(client, calls, &mut latest, &mut receive).await {
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

    /// Lists, and watches until a watch ends before its timeout; returns how long that one lasted. `latest` is the latest version of
    /// the list that was seen.
    async fn list_and_watch(
        &self,
        client: &Client,
        calls: &ApiCalls,
        latest: &mut u64,
        receive: &mut impl FnMut(FollowEvent<'_>),
    ) -> Result<Duration, CallError> {
        let request = Request::new(self.path);
        let mut parameters = ListParams { label_selector: self.labels.clone(), ..ListParams::default() };
        parameters.field_selector = self.fields.map(str::to_owned);
        parameters.limit = Some(PAGE_SIZE);
        let mut size = PAGE_SIZE;
        receive(FollowEvent::Listing);
        let mut version = loop {
            let list = if self.only_metadata {
                request.list_metadata(&parameters)
            } else {
                request.list(&parameters)
            };
            let list = list.map_err(kube::Error::BuildRequest);
            let page = async { client.request::<ObjectList<FollowedObject>>(list?).await };
            let page = match calls.call("list", self.object, page).await {
                Err(error) if error.is_too_long() && size > 1 => {
                    size /= 2;
                    parameters.limit = Some(size);
                    continue;
                }
                page => page?,
            };
            let listed = number(page.metadata.resource_version.as_deref());
            if listed < std::mem::replace(latest, listed) {
                receive(FollowEvent::Restored);
            }
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
                *latest = object.version().max(*latest);
                version = object.metadata.resource_version.unwrap_or_default();
            };
            // Only a watch that the server ended by its timeout is resumed.
            if !has_ended || begun.elapsed() <= MAX_BACKOFF {
                return Ok(begun.elapsed());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    use kube::Config;
    use serde_json::json;

    use super::*;
    use crate::testing::FakeApiServer;

    const PODS: usize = 300;
    /// Less than a page of the usual size, and more than a quarter of it.
    const MAX_BYTES: usize = 100 << 10;

    /// Responds to one request for pods of more than a KiB, page by page; a watch is refused.
    fn respond(stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let number = |name: &str| {
            let (_, rest) = head.split_once(&format!("{name}="))?;
            rest.split(['&', ' ']).next()?.parse::<usize>().ok()
        };
        let (first, limit) = (number("continue").unwrap_or_default(), number("limit").unwrap_or_default());
        let end = (first + limit).min(PODS);
        let annotations = json!({ "large": "x".repeat(1 << 10) });
        let pods = (first..end)
            .map(|pod| json!({ "metadata": { "name": pod.to_string(), "annotations": annotations } }));
        let next = if end < PODS { end.to_string() } else { String::new() };
        let page = json!({ "metadata": { "continue": next }, "items": pods.collect::<Vec<_>>() }).to_string();
        let (code, body) = if limit == 0 { (410, "{}".to_owned()) } else { (200, page) };
        let length = body.len();
        write!(&stream, "HTTP/1.1 {code} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn a_page_that_is_too_long_is_halved() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            listener.incoming().flatten().try_for_each(|stream| respond(stream).or(Ok::<_, ()>(())))
        });
        let config = Config::new(format!("http://{address}").parse().expect("it is an address"));
        let client = afd_apiserver::client(config, MAX_BYTES).expect("the configuration is valid");
        let calls = FakeApiServer::new(|_, _| (200, json!({}))).calls;
        let pods = FollowedList {
            object: "pods",
            path: "/api/v1/pods",
            labels: None,
            fields: None,
            only_metadata: false,
        };
        let (mut seen, mut is_listed) = (0, false);
        let receive = &mut |event: FollowEvent<'_>| match event {
            FollowEvent::Seen(_) => seen += 1,
            FollowEvent::Listed => is_listed = true,
            FollowEvent::Listing | FollowEvent::Restored | FollowEvent::Gone(_) => {}
        };
        let _ = pods.list_and_watch(&client, &calls, &mut 0, receive).await;
        assert_eq!((seen, is_listed), (PODS, true));
    }
}
