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
