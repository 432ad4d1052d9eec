//! A fake API server of one Node for tests: server-side apply with field owners, patches, conflicts and watches.

mod node;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use afd_apiserver::{ApiCalls, WATCH_TIMEOUT_SECONDS};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tower::service_fn;

pub use node::{FakeNode, FakeNodeField};
use node::{PatchKind, RefusedWrite};

use crate::node::NodeCounters;

/// Counters that no page shows.
///
/// # Panics
/// When one of their names is not valid.
pub fn counters() -> NodeCounters {
    let vector = |labels: &[&str]| {
        IntCounterVec::new(Opts::new("counter", "Counter."), labels).expect("the names are valid")
    };
    NodeCounters {
        calls: ApiCalls::new(vector(&["verb", "code"])),
        label_writes: IntCounter::new("writes", "Writes.").expect("the name is valid"),
        contested: vector(&["key", "owner"]),
        refused: vector(&["key", "code"]),
    }
}

type ResponseBody = BoxBody<Bytes, Infallible>;

/// How requests are answered.
#[derive(Clone, Debug)]
pub enum FakeApiFault {
    /// No request gets a response.
    Unresponsive,
    /// Every request gets a 429 with this `retryAfterSeconds`.
    Busy(u32),
    /// Requests of this verb get this code.
    Refuses(&'static str, u16),
    /// Requests about the Node of this name get this code.
    RefusesNode(&'static str, u16),
    /// Requests about the Node of this name get this code and a page of text, as from a proxy.
    ProxyRefusesNode(&'static str, u16),
    /// This many requests, lists aside, get a 429 with this `retryAfterSeconds`; then all is well.
    BusyTimes(u32, u32),
    /// This many requests for a further page of a list get a 410; then all is well.
    ListExpires(u32),
    /// Every response takes this long.
    Slow(Duration),
    /// Writes that change this field get this code, as from an admission policy.
    RefusesField(FakeNodeField, u16),
    /// Writes that change a label or an annotation whose key begins so get this code.
    RefusesKeys(&'static str, u16),
    /// Every write succeeds, and a webhook removes this field.
    Strips(FakeNodeField),
    /// Every write succeeds, and a webhook restores this label where it is removed.
    Restores(String),
    /// The events of a watch begin with a bookmark of this version.
    Bookmarks(u64),
    /// Watches end after a duration.
    WatchEndsAfter(Duration),
}

/// A request that the server got.
#[derive(Clone, Debug)]
pub struct FakeRequest {
    /// When.
    pub at: Instant,
    /// `get`, `list`, `watch`, `apply`, `patch`, `apply status`, `patch status` or `create`.
    pub verb: &'static str,
    /// Its body.
    pub body: Value,
}

/// The server.
#[derive(Clone, Debug)]
pub struct FakeApi {
    state: Arc<Mutex<FakeApiState>>,
    version: watch::Sender<u64>,
    /// Ends the events of the watches that are open, but not the watches.
    lost: watch::Sender<u64>,
}

#[derive(Debug)]
struct FakeApiState {
    nodes: Vec<FakeNode>,
    fault: Option<FakeApiFault>,
    requests: Vec<FakeRequest>,
}

impl FakeApi {
    /// A server of these Nodes.
    pub fn new(nodes: impl IntoIterator<Item = FakeNode>) -> FakeApi {
        let state = FakeApiState { nodes: nodes.into_iter().collect(), fault: None, requests: Vec::new() };
        FakeApi {
            state: Arc::new(Mutex::new(state)),
            version: watch::Sender::new(0),
            lost: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, FakeApiState> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// Sets how requests are answered.
    pub fn fail(&self, fault: Option<FakeApiFault>) {
        self.state().fault = fault;
    }

    /// The open watches get no event any more, as those of a lost connection.
    pub fn lose_watches(&self) {
        self.lost.send_modify(|count| *count += 1);
    }

    /// Reads or changes a Node; watches report a change.
    ///
    /// # Panics
    /// When there is no Node of this name.
    pub fn with_node<T>(&self, name: &str, f: impl FnOnce(&mut FakeNode) -> T) -> T {
        let mut state = self.state();
        let node = state.nodes.iter_mut().find(|node| node.name() == name).expect("the Node exists");
        let result = f(node);
        self.version.send_modify(|count| *count += 1);
        result
    }

    /// The requests of a verb so far.
    pub fn requests(&self, verb: &str) -> Vec<FakeRequest> {
        self.state().requests.iter().filter(|request| request.verb == verb).cloned().collect()
    }

    /// All writes of Nodes so far.
    pub fn writes(&self) -> Vec<FakeRequest> {
        let is_write =
            |request: &&FakeRequest| request.verb.contains("apply") || request.verb.contains("patch");
        self.state().requests.iter().filter(is_write).cloned().collect()
    }

    /// The writes of Nodes so far, which are forgotten, as all other requests are.
    pub fn take_writes(&self) -> Vec<FakeRequest> {
        let writes = self.writes();
        self.state().requests.clear();
        writes
    }

    /// A client of the server.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.respond(request).await) }
        });
        Client::new(service, "default")
    }

    async fn respond(&self, request: http::Request<kube::client::Body>) -> http::Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let content_type = parts.headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let body = body.collect_bytes().await.expect("the body of a request can be read");
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let status = path.last() == Some(&"status");
        let verb = match (parts.method.as_str(), content_type.contains("apply-patch"), status) {
            ("GET", ..) if query.contains("watch=true") => "watch",
            ("GET", ..) if path.last() == Some(&"nodes") => "list",
            ("GET", ..) => "get",
            ("PATCH", true, false) => "apply",
            ("PATCH", true, true) => "apply status",
            ("PATCH", false, false) => "patch",
            ("PATCH", false, true) => "patch status",
            _ => "create",
        };
        let request = FakeRequest { at: Instant::now(), verb, body: body.clone() };
        let fault = {
            let mut state = self.state();
            state.requests.push(request);
            let fault = state.fault.clone();
            match &mut state.fault {
                Some(FakeApiFault::BusyTimes(times, _)) if verb != "list" => *times = times.saturating_sub(1),
                Some(FakeApiFault::ListExpires(times)) if query.contains("continue=") => {
                    *times = times.saturating_sub(1);
                }
                _ => {}
            }
            fault
        };
        match fault {
            Some(FakeApiFault::Unresponsive) => std::future::pending().await,
            Some(FakeApiFault::Busy(seconds)) => {
                let details = json!({ "retryAfterSeconds": seconds });
                return response(429, &json!({ "code": 429, "details": details }));
            }
            Some(FakeApiFault::BusyTimes(1.., seconds)) if verb != "list" => {
                let details = json!({ "retryAfterSeconds": seconds });
                return response(429, &json!({ "code": 429, "details": details }));
            }
            Some(FakeApiFault::ListExpires(1..)) if query.contains("continue=") => {
                return failure(410);
            }
            Some(FakeApiFault::Slow(time)) => tokio::time::sleep(time).await,
            Some(FakeApiFault::Refuses(refused, code)) if refused == verb => {
                return failure(code);
            }
            Some(FakeApiFault::RefusesNode(refused, code)) if path.get(3) == Some(&refused) => {
                return failure(code);
            }
            Some(FakeApiFault::ProxyRefusesNode(refused, code)) if path.get(3) == Some(&refused) => {
                return response(code, &json!("default backend"));
            }
            Some(FakeApiFault::WatchEndsAfter(time)) if verb == "watch" => {
                return self.watch(&query, time, None);
            }
            Some(FakeApiFault::Bookmarks(version)) if verb == "watch" => {
                return self.watch(&query, Duration::from_secs(WATCH_TIMEOUT_SECONDS.into()), Some(version));
            }
            _ => {}
        }
        match verb {
            "watch" => self.watch(&query, Duration::from_secs(WATCH_TIMEOUT_SECONDS.into()), None),
            "list" => self.list(&query),
            "create" => response(201, &body),
            _ => self.node_request(path.get(3).copied().unwrap_or_default(), verb, &query, &body),
        }
    }

    /// A page; the token of the next one is the index of its first Node.
    fn list(&self, query: &str) -> http::Response<ResponseBody> {
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.parse().ok());
        let (first, limit): (usize, usize) =
            (value("continue=").unwrap_or(0), value("limit=").unwrap_or(usize::MAX));
        let state = self.state();
        let page: Vec<Value> = state.nodes.iter().skip(first).take(limit).map(FakeNode::to_json).collect();
        let next = first.saturating_add(limit);
        let metadata = match next < state.nodes.len() {
            true => json!({ "continue": next.to_string() }),
            false => json!({}),
        };
        response(200, &json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": page }))
    }

    fn node_request(
        &self,
        name: &str,
        verb: &str,
        query: &str,
        body: &Value,
    ) -> http::Response<ResponseBody> {
        let mut state = self.state();
        let state_fault = state.fault.clone();
        let Some(node) = state.nodes.iter_mut().find(|node| node.name() == name) else {
            return failure(404);
        };
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        let manager = manager.unwrap_or_default().to_owned();
        let force = query.contains("force=true");
        let before = node.clone();
        let result = match verb {
            "get" => Ok(()),
            "apply" => node.write(&PatchKind::Apply { force }, false, &manager, body),
            "apply status" => node.write(&PatchKind::Apply { force }, true, &manager, body),
            "patch" => node.write(&PatchKind::Update, false, &manager, body),
            _ => node.write(&PatchKind::Update, true, &manager, body),
        };
        let refused = match &state_fault {
            Some(FakeApiFault::RefusesField(field, code)) => {
                Some(*code).filter(|_| node.value(field) != before.value(field))
            }
            Some(FakeApiFault::RefusesKeys(prefix, code)) => {
                Some(*code).filter(|_| node.changes_of(prefix, &before))
            }
            _ => None,
        };
        if let Some(code) = refused {
            *node = before;
            return failure(code);
        }
        match &state_fault {
            Some(FakeApiFault::Strips(field)) => node.strip(field, &before),
            Some(FakeApiFault::Restores(key)) => node.restore(&FakeNodeField::Label(key.clone()), &before),
            _ => {}
        }
        let answer = match result {
            Ok(()) => response(200, &node.to_json()),
            Err(RefusedWrite { message, causes }) => {
                let details = json!({ "causes": causes });
                let status = json!({
                    "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict",
                    "message": message, "details": details,
                });
                response(409, &status)
            }
        };
        drop(state);
        if verb != "get" {
            self.version.send_modify(|count| *count += 1);
        }
        answer
    }

    /// Sends the Node whenever its version is another one than that of the request or of the last event, after a bookmark.
    fn watch(&self, query: &str, time: Duration, bookmark: Option<u64>) -> http::Response<ResponseBody> {
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)).unwrap_or_default();
        let name = value("fieldSelector=metadata.name%3D").to_owned();
        let sent: u64 = value("resourceVersion=").parse().unwrap_or_default();
        let (api, end) = (self.clone(), Instant::now() + time);
        let mut versions = self.version.subscribe();
        let lost_before = *self.lost.borrow();
        // The state may have changed since the version that the request names.
        versions.mark_changed();
        let events = stream::unfold((sent, versions), move |(sent, mut versions)| {
            let (api, name) = (api.clone(), name.clone());
            async move {
                loop {
                    let Ok(Ok(())) = timeout_at(end, versions.changed()).await else { return None };
                    if *api.lost.borrow() != lost_before {
                        std::future::pending::<()>().await;
                    }
                    let (version, json) = api
                        .state()
                        .nodes
                        .iter()
                        .find(|node| node.name() == name)
                        .map_or_else(|| (sent, Value::Null), |node| (node.version(), node.to_json()));
                    if version != sent {
                        let event = json!({ "type": "MODIFIED", "object": json });
                        let frame = Frame::data(Bytes::from(format!("{event}\n")));
                        return Some((Ok::<_, Infallible>(frame), (version, versions)));
                    }
                }
            }
        });
        let bookmark = bookmark.map(|version| {
            let metadata = json!({ "resourceVersion": version.to_string(), "annotations": {} });
            let object = json!({ "kind": "Node", "apiVersion": "v1", "metadata": metadata });
            Ok(Frame::data(Bytes::from(format!("{}\n", json!({ "type": "BOOKMARK", "object": object })))))
        });
        http::Response::new(BodyExt::boxed(StreamBody::new(stream::iter(bookmark).chain(events))))
    }
}

/// The Status of an error.
fn failure(code: u16) -> http::Response<ResponseBody> {
    let reason = if code == 404 { "NotFound" } else { "" };
    response(code, &json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason }))
}

fn response(code: u16, body: &Value) -> http::Response<ResponseBody> {
    let mut response = http::Response::new(Full::from(body.to_string()).boxed());
    *response.status_mut() = http::StatusCode::from_u16(code).expect("the code is valid");
    response
}
