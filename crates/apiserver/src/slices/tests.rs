//! The follower before a played API server, in a time that passes by itself.

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

/// What is asked within an hour of a server whose watches live for a time: groups, lists and watches.
async fn asked(lives: Duration) -> [usize; 3] {
    let asked = Arc::new(Mutex::new([0; 3]));
    let counted = Arc::clone(&asked);
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let counted = Arc::clone(&counted);
        async move {
            let query = request.uri().query().unwrap_or_default();
            let kind = match request.uri().path() {
                "/apis/resource.k8s.io" => 0,
                _ if query.contains("watch=true") => 2,
                _ => 1,
            };
            counted.lock().expect("nobody panics with it")[kind] += 1;
            Ok::<_, Infallible>(http::Response::new(body(kind, lives)))
        }
    });
    let calls = Calls::new(
        IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])
            .expect("the names are valid"),
    );
    let follow = follow(Client::new(service, "default"), "node", calls, watch::Sender::new(Slices::NotAsked));
    timeout(HOUR, follow).await.expect_err("it follows for ever");
    *asked.lock().expect("nobody panics with it")
}

fn body(kind: usize, lives: Duration) -> BoxBody<Bytes, Infallible> {
    let served = json!({ "groupVersion": "resource.k8s.io/v1", "version": "v1" });
    let text = match kind {
        0 => json!({ "name": "resource.k8s.io", "versions": [served] }),
        1 => json!({ "metadata": { "resourceVersion": "1" }, "items": [] }),
        _ => {
            let end = stream::once(sleep(lives)).map(|()| Ok(Frame::data(Bytes::new())));
            return BodyExt::boxed(StreamBody::new(end));
        }
    };
    Full::from(text.to_string()).boxed()
}

#[tokio::test(start_paused = true)]
async fn at_rest_slices_cost_a_watch_every_five_minutes() {
    assert_eq!(asked(Duration::from_secs(WATCH_SECONDS.into())).await, [1, 1, 13]);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_no_hot_loop() {
    let [groups, lists, watches] = asked(Duration::ZERO).await;
    assert!(
        watches <= 70 && (groups, lists) == (watches, watches),
        "{groups}, {lists}, {watches} in an hour"
    );
}
