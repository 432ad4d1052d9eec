//! The follower against a fake API server, with tokio's paused time.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use prometheus::{IntCounterVec, Opts};
use serde_json::json;
use tokio::time::timeout;
use tower::service_fn;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The requests within an hour to a server whose watches last for a duration: groups, lists and watches.
async fn requests_per_hour(watch_duration: Duration) -> [usize; 3] {
    let requests = Arc::new(Mutex::new([0; 3]));
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let counted = Arc::clone(&counted);
        async move {
            let query = request.uri().query().unwrap_or_default();
            let kind = match request.uri().path() {
                "/apis/resource.k8s.io" => 0,
                _ if query.contains("watch=true") => 2,
                _ => 1,
            };
            counted.lock().expect("no test panics with the lock")[kind] += 1;
            Ok::<_, Infallible>(http::Response::new(body(kind, watch_duration)))
        }
    });
    let calls = ApiCalls::new(
        IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])
            .expect("the names are valid"),
    );
    let follow =
        follow(Client::new(service, "default"), "node", calls, watch::Sender::new(NodeSlices::Pending));
    timeout(HOUR, follow).await.expect_err("it follows forever");
    *requests.lock().expect("no test panics with the lock")
}

fn body(kind: usize, watch_duration: Duration) -> BoxBody<Bytes, Infallible> {
    let served = json!({ "groupVersion": "resource.k8s.io/v1", "version": "v1" });
    let text = match kind {
        0 => json!({ "name": "resource.k8s.io", "versions": [served] }),
        1 => json!({ "metadata": { "resourceVersion": "1" }, "items": [] }),
        _ => {
            let end = stream::once(sleep(watch_duration)).map(|()| Ok(Frame::data(Bytes::new())));
            return BodyExt::boxed(StreamBody::new(end));
        }
    };
    Full::from(text.to_string()).boxed()
}

#[tokio::test(start_paused = true)]
async fn unchanged_slices_cost_one_watch_every_five_minutes() {
    assert_eq!(requests_per_hour(Duration::from_secs(WATCH_TIMEOUT_SECONDS.into())).await, [1, 1, 13]);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_cause_no_hot_loop() {
    let [groups, lists, watches] = requests_per_hour(Duration::ZERO).await;
    assert!(watches <= 70 && (groups, lists) == (watches, watches), "{groups}, {lists}, {watches} per hour");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_found_for_a_moment_keeps_what_is_known_and_is_asked_again_soon() {
    let begun = Instant::now();
    let missing = 60..90;
    let gone = missing.clone();
    let groups = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&groups);
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let seconds = begun.elapsed().as_secs();
        let path = request.uri().path().to_owned();
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        if path == "/apis/resource.k8s.io" {
            asked.lock().expect("no test panics with the lock").push(seconds);
        }
        let is_gone = gone.contains(&seconds);
        async move {
            let mut response = http::Response::new(match (is_watch, &path[..]) {
                _ if is_gone => Full::from("404 page not found").boxed(),
                (true, _) => body(2, Duration::from_secs(60)),
                (false, "/apis/resource.k8s.io") => body(0, Duration::ZERO),
                (false, _) => Full::from(one_slice().to_string()).boxed(),
            });
            if is_gone {
                *response.status_mut() = http::StatusCode::NOT_FOUND;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let sender = watch::Sender::new(NodeSlices::Pending);
    let mut slices = sender.subscribe();
    let lost = async {
        slices
            .wait_for(|slices| matches!(slices, NodeSlices::Known(known) if known.devices.len() == 1))
            .await
            .expect("the device is known");
        slices.changed().await
    };
    let calls = ApiCalls::new(
        IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])
            .expect("the names are valid"),
    );
    let follow = follow(Client::new(service, "default"), "node", calls, sender);
    let both = async {
        tokio::select! {
            () = follow => panic!("it follows forever"),
            changed = lost => panic!("the device was lost: {changed:?}"),
        }
    };
    timeout(Duration::from_secs(300), both).await.expect_err("both last forever");
    let groups = groups.lock().expect("no test panics with the lock");
    let during = groups.iter().filter(|second| missing.contains(second)).count();
    assert!((2..=6).contains(&during), "asked at {groups:?}");
    assert!(groups.iter().any(|second| (90..140).contains(second)), "asked at {groups:?}");
}

fn one_slice() -> serde_json::Value {
    let pool = json!({ "name": "node", "generation": 1, "resourceSliceCount": 1 });
    let spec = json!({ "driver": "gpu.example.com", "pool": pool, "devices": [{ "name": "gpu-0" }] });
    json!({ "metadata": { "resourceVersion": "1" }, "items": [{ "metadata": { "name": "slice" }, "spec": spec }] })
}

#[tokio::test(start_paused = true)]
async fn a_driver_with_too_many_devices_is_incomplete_and_takes_no_device_from_others() {
    let event = |number: usize| {
        let device = |device: usize| json!({ "name": format!("{device:060}"), "attributes": { "uuid": { "string": "x".repeat(64) } } });
        let devices: Vec<_> = (0..128).map(device).collect();
        let pool = json!({ "name": format!("pool-{number}"), "resourceSliceCount": 1 });
        let spec = json!({ "driver": "many.example.com", "pool": pool, "devices": devices });
        let metadata = json!({ "name": format!("many-{number}"), "resourceVersion": "2" });
        let text = json!({ "type": "ADDED", "object": { "metadata": metadata, "spec": spec } }).to_string();
        Ok::<_, Infallible>(Frame::data(Bytes::from(text + "\n")))
    };
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let response = match (is_watch, request.uri().path()) {
            (true, _) => {
                let events = stream::iter((0..100).map(event)).chain(stream::pending());
                BodyExt::boxed(StreamBody::new(events))
            }
            (false, "/apis/resource.k8s.io") => body(0, Duration::ZERO),
            (false, _) => Full::from(one_slice().to_string()).boxed(),
        };
        async move { Ok::<_, Infallible>(http::Response::new(response)) }
    });
    let calls = ApiCalls::new(
        IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])
            .expect("the names are valid"),
    );
    let sender = watch::Sender::new(NodeSlices::Pending);
    let mut slices = sender.subscribe();
    let follow = follow(Client::new(service, "default"), "node", calls, sender);
    let full = slices.wait_for(|slices| {
        let NodeSlices::Known(known) = slices else { return false };
        u64::try_from(known.devices.len()).expect("it is small") + known.skipped == 12_801
    });
    let known = tokio::select! {
        () = follow => panic!("it follows forever"),
        known = timeout(HOUR, full) => known.expect("all events are read").expect("the sender lives").clone(),
    };
    let NodeSlices::Known(known) = known else { panic!("{known:?}") };
    assert!(known.skipped > 1000, "{}", known.skipped);
    assert_eq!(known.incomplete, BTreeSet::from(["many.example.com".to_owned()]));
    assert_eq!(known.devices.iter().filter(|device| device.driver == "gpu.example.com").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_the_group_is_asked_rarely() {
    let groups = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&groups);
    let service = service_fn(move |_: http::Request<kube::client::Body>| {
        *asked.lock().expect("no test panics with the lock") += 1;
        let mut response = http::Response::new(Full::<Bytes>::from("404 page not found"));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        async move { Ok::<_, Infallible>(response) }
    });
    let calls = ApiCalls::new(
        IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])
            .expect("the names are valid"),
    );
    let sender = watch::Sender::new(NodeSlices::Pending);
    let slices = sender.subscribe();
    let follow = follow(Client::new(service, "default"), "node", calls, sender);
    timeout(HOUR, follow).await.expect_err("it follows forever");
    assert_eq!(*slices.borrow(), NodeSlices::Known(PublishedDevices::default()), "there is no DRA");
    assert!((6..=7).contains(&*groups.lock().expect("no test panics with the lock")));
}

/// The kinds and the times of requests.
type RequestTimes = Arc<Mutex<Vec<(&'static str, Instant)>>>;

/// A server that responds to the watch of this number with a text, after a duration.
fn watched_server(
    respond: impl Fn(usize) -> (u16, String, Duration) + Clone + Send + 'static,
) -> (Client, RequestTimes) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let is_group = request.uri().path() == "/apis/resource.k8s.io";
        let mut requests = received.lock().expect("no test panics with the lock");
        requests.push((if is_watch { "watch" } else { "other" }, Instant::now()));
        let watches = requests.iter().filter(|(kind, _)| *kind == "watch").count();
        let (code, body) = match (is_watch, is_group) {
            (true, _) => {
                let (code, text, delay) = respond(watches);
                let end =
                    stream::once(sleep(delay)).map(move |()| Ok(Frame::data(Bytes::from(text.clone()))));
                (code, BodyExt::boxed(StreamBody::new(end)))
            }
            (false, true) => (200, body(0, Duration::ZERO)),
            (false, false) => (200, body(1, Duration::ZERO)),
        };
        let response = http::Response::builder().status(code).body(body);
        async move { Ok::<_, Infallible>(response.expect("the response is valid")) }
    });
    (Client::new(service, "default"), requests)
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_with_an_error_is_counted() {
    let (client, _) = watched_server(|number| match number {
        1 => {
            let status = json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired" });
            let event = json!({ "type": "ERROR", "object": status });
            (200, format!("{event}\n"), Duration::from_secs(90))
        }
        2 => (200, String::new(), MAX_WATCH_DURATION * 2),
        _ => (200, String::new(), Duration::from_secs(WATCH_TIMEOUT_SECONDS.into())),
    });
    let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
    let counter = counter.expect("the names are valid");
    let calls = ApiCalls::new(counter.clone());
    let follow = follow(client, "node", calls, watch::Sender::new(NodeSlices::Pending));
    timeout(HOUR, follow).await.expect_err("it follows forever");
    let counted = ["410", "timeout", "error"].map(|code| counter.with_label_values(&["watch", code]).get());
    assert_eq!(counted, [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_long_watch_begins_with_the_initial_delay() {
    let (client, requests) = watched_server(|number| match number % 2 {
        1 => (200, String::new(), Duration::from_secs(WATCH_TIMEOUT_SECONDS.into())),
        _ => (500, "etcd leader changed".to_owned(), Duration::ZERO),
    });
    let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
    let calls = ApiCalls::new(counter.expect("the names are valid"));
    let follow = follow(client, "node", calls, watch::Sender::new(NodeSlices::Pending));
    timeout(HOUR, follow).await.expect_err("it follows forever");
    let requests = requests.lock().expect("no test panics with the lock");
    let watches: Vec<usize> = (0..requests.len()).filter(|at| requests[*at].0 == "watch").collect();
    let refused = watches.into_iter().skip(1).step_by(2);
    let delays: Vec<u64> =
        refused.filter_map(|at| Some((requests.get(at + 1)?.1 - requests[at].1).as_secs())).collect();
    assert!(delays.len() > 10 && delays.iter().all(|seconds| *seconds <= 1), "{delays:?}");
}
