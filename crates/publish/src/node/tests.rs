//! The reconciler against a fake API server of one Node, with tokio's paused time.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use afd_apiserver::{ApiCalls, MAX_WATCH_DURATION, WATCH_TIMEOUT_SECONDS};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::service_fn;

use super::*;

const COUNT: &str = "accelerator.llm-d.ai/count";
const HOUR: Duration = Duration::from_secs(3600);

type ResponseBody = BoxBody<Bytes, Infallible>;

/// The behaviour of the server.
#[derive(Clone, Copy)]
enum FakeServer {
    /// A watch sends no event and ends after a duration.
    WatchEndsAfter(Duration),
    /// A watch sends at once that another field manager has changed the label.
    OverwritesLabel,
    /// No request gets a response.
    Unresponsive,
    /// Every request gets a 429 with this `retryAfterSeconds`.
    Busy(u32),
}

/// The Node, reduced to the value and the owner of the label; and the requests with their times.
struct FakeNode {
    value: Option<String>,
    owner: &'static str,
    version: u64,
    requests: Vec<(Instant, &'static str)>,
}

impl FakeNode {
    fn to_json(&self) -> Value {
        let labels: BTreeMap<_, _> = self.value.iter().map(|value| (COUNT, value)).collect();
        let managed = self.value.iter().map(|_| {
            json!({
                "manager": self.owner,
                "fieldsV1": { "f:metadata": { "f:labels": { format!("f:{COUNT}"): {} } } },
            })
        });
        json!({
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {
                "name": "node", "uid": "uid", "resourceVersion": self.version.to_string(),
                "labels": labels, "managedFields": managed.collect::<Vec<_>>(),
            },
        })
    }

    fn write(&mut self, value: Option<String>, owner: &'static str) {
        (self.value, self.owner, self.version) = (value, owner, self.version + 1);
    }
}

/// The server's Node, its desired state, and the counted requests.
struct ReconcilerTest {
    node: Arc<Mutex<FakeNode>>,
    desired: watch::Sender<Option<DesiredNode>>,
    requests: IntCounterVec,
}

impl ReconcilerTest {
    /// Runs the reconciler against a server for a duration.
    async fn run(server: FakeServer, time: Duration) -> ReconcilerTest {
        ReconcilerTest::run_with(server, time, async |_| {}).await
    }

    /// The same, with another future at the same time.
    async fn run_with(
        server: FakeServer,
        time: Duration,
        concurrent: impl AsyncFn(&ReconcilerTest),
    ) -> ReconcilerTest {
        let node = FakeNode { value: None, owner: "", version: 1, requests: Vec::new() };
        let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
        let test = ReconcilerTest {
            node: Arc::new(Mutex::new(node)),
            desired: watch::Sender::new(Some(desired(8))),
            requests: requests.expect("the names are valid"),
        };
        let counters = NodeCounters {
            calls: ApiCalls::new(test.requests.clone()),
            label_writes: IntCounter::new("writes", "Writes.").expect("the name is valid"),
            contested: IntCounterVec::new(Opts::new("contested", "Contested."), &["key", "owner"])
                .expect("the names are valid"),
        };
        let node = Arc::clone(&test.node);
        let service = service_fn(move |request| respond(server, Arc::clone(&node), request));
        let reconciler = reconcile(
            Client::new(service, "default"),
            "node",
            counters,
            test.desired.subscribe(),
            NodeObserver { resources: watch::Sender::new(None), metadata: Box::new(|_| ()) },
        );
        let both = async { tokio::join!(reconciler, concurrent(&test)) };
        timeout(time, both).await.expect_err("the reconciler runs forever");
        test
    }

    fn requests(&self, verb: &str) -> Vec<Instant> {
        let node = self.node.lock().expect("no test panics with the lock");
        node.requests.iter().filter(|(_, requested)| *requested == verb).map(|(at, _)| *at).collect()
    }

    fn counted(&self, verb: &str, code: &str) -> u64 {
        self.requests.with_label_values(&[verb, code]).get()
    }
}

fn desired(count: usize) -> DesiredNode {
    DesiredNode { labels: BTreeMap::from([(COUNT.to_owned(), count.to_string())]), ..DesiredNode::default() }
}

async fn respond(
    server: FakeServer,
    node: Arc<Mutex<FakeNode>>,
    request: http::Request<kube::client::Body>,
) -> Result<http::Response<ResponseBody>, Infallible> {
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let verb = if watch {
        "watch"
    } else if request.method() == "PATCH" {
        "apply"
    } else {
        "get"
    };
    node.lock().expect("no test panics with the lock").requests.push((Instant::now(), verb));
    let body = request.into_body().collect_bytes().await.expect("the body of a request can be read");
    let once = |value: &Value| Full::from(format!("{value}\n")).boxed();
    let mut node = node.lock().expect("no test panics with the lock");
    let body = match (server, verb) {
        (FakeServer::Unresponsive, _) => {
            drop(node);
            std::future::pending().await
        }
        (FakeServer::Busy(seconds), _) => {
            let status = json!({ "code": 429, "details": { "retryAfterSeconds": seconds } });
            let mut response = http::Response::new(once(&status));
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            return Ok(response);
        }
        (FakeServer::WatchEndsAfter(time), "watch") => {
            let end = stream::once(sleep(time));
            BodyExt::boxed(StreamBody::new(end.map(|()| Ok(Frame::data(Bytes::new())))))
        }
        (FakeServer::OverwritesLabel, "watch") => {
            node.write(Some("0".to_owned()), "another-manager");
            once(&json!({ "type": "MODIFIED", "object": node.to_json() }))
        }
        (_, "apply") => {
            let body: Value = serde_json::from_slice(&body).expect("an apply is JSON");
            let value = body["metadata"]["labels"][COUNT].as_str().map(str::to_owned);
            node.write(value, FIELD_MANAGER);
            once(&node.to_json())
        }
        _ => once(&node.to_json()),
    };
    Ok(http::Response::new(body))
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_node_costs_one_watch_every_five_minutes_and_no_write() {
    let test = ReconcilerTest::run(
        FakeServer::WatchEndsAfter(Duration::from_secs(WATCH_TIMEOUT_SECONDS.into())),
        HOUR,
    )
    .await;
    assert_eq!((test.requests("get").len(), test.requests("apply").len()), (1, 1), "from the start");
    assert_eq!(test.requests("watch").len(), 13);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_restarted_with_a_back_off() {
    let test = ReconcilerTest::run(FakeServer::WatchEndsAfter(Duration::ZERO), HOUR).await;
    let watches = test.requests("watch");
    assert!((50..=70).contains(&watches.len()), "{} watches per hour", watches.len());
    assert!(test.requests("get").len() <= watches.len() + 1);
    assert!(watches.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lost_its_connection_times_out() {
    let change = async |test: &ReconcilerTest| {
        sleep(Duration::from_secs(10)).await;
        test.node
            .lock()
            .expect("no test panics with the lock")
            .write(Some("99".to_owned()), "another-manager");
        // Forever, like the reconciler.
        std::future::pending::<()>().await;
    };
    let test = ReconcilerTest::run_with(
        FakeServer::WatchEndsAfter(10 * HOUR),
        MAX_WATCH_DURATION + HOUR / 60,
        change,
    )
    .await;
    assert_eq!(test.node.lock().expect("no test panics with the lock").value.as_deref(), Some("8"));
    assert_eq!((test.counted("watch", "timeout"), test.requests("watch").len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_response_times_out_and_is_counted() {
    let test = ReconcilerTest::run(FakeServer::Unresponsive, Duration::from_secs(60)).await;
    assert_eq!((test.requests("get").len(), test.counted("get", "timeout")), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected_even_if_the_desired_state_changes() {
    let changes = async |test: &ReconcilerTest| {
        for count in 0.. {
            test.desired.send_replace(Some(desired(count)));
            sleep(Duration::from_secs(5)).await;
        }
    };
    let test = ReconcilerTest::run_with(FakeServer::Busy(90), HOUR, changes).await;
    let gets = test.requests("get");
    assert!((30..=40).contains(&gets.len()), "{} requests per hour", gets.len());
    assert!(gets.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(90)));
}

#[tokio::test(start_paused = true)]
async fn a_field_manager_that_overwrites_a_label_at_once_is_corrected_with_a_back_off() {
    let test = ReconcilerTest::run(FakeServer::OverwritesLabel, HOUR).await;
    let applies = test.requests("apply");
    assert!((50..=75).contains(&applies.len()), "{} writes per hour", applies.len());
    let (first, second) = (applies[0], applies[1]);
    assert!(second - first < Duration::from_secs(1), "the first change is corrected at once");
}
