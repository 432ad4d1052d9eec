//! The keeper before a played API server of one Node, in a time that passes by itself.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use afd_apiserver::{Calls, WATCH_SECONDS};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::service_fn;

use super::*;

const COUNT: &str = "accelerator.llm-d.ai/count";
const HOUR: Duration = Duration::from_secs(3600);

type Body = BoxBody<Bytes, Infallible>;

/// How the server behaves.
#[derive(Clone, Copy)]
enum Server {
    /// A watch is silent and ends after a time.
    WatchLives(Duration),
    /// A watch tells at once that somebody has changed our label, if it is as we wrote it.
    Opposes,
    /// No request is answered.
    Silent,
    /// Every request is refused with 429, for so many seconds.
    Busy(u32),
}

/// The Node: our label's value and who wrote it last; and what was asked, when.
struct State {
    value: Option<String>,
    owner: &'static str,
    version: u64,
    asked: Vec<(Instant, &'static str)>,
}

impl State {
    fn node(&self) -> Value {
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

/// The server, what is wanted of its Node, and what was counted.
struct Scene {
    state: Arc<Mutex<State>>,
    want: watch::Sender<Option<Wanted>>,
    requests: IntCounterVec,
}

impl Scene {
    /// Runs the keeper for a time before a server.
    async fn run(server: Server, time: Duration) -> Scene {
        Scene::run_beside(server, time, async |_| {}).await
    }

    /// The same, and something beside it.
    async fn run_beside(server: Server, time: Duration, beside: impl AsyncFn(&Scene)) -> Scene {
        let state = State { value: None, owner: "", version: 1, asked: Vec::new() };
        let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
        let scene = Scene {
            state: Arc::new(Mutex::new(state)),
            want: watch::Sender::new(Some(wanted(8))),
            requests: requests.expect("the names are valid"),
        };
        let counters = Counters {
            calls: Calls::new(scene.requests.clone()),
            label_writes: IntCounter::new("writes", "Writes.").expect("the name is valid"),
            contested: IntCounterVec::new(Opts::new("contested", "Contested."), &["key", "owner"])
                .expect("the names are valid"),
        };
        let state = Arc::clone(&scene.state);
        let service = service_fn(move |request| answer(server, Arc::clone(&state), request));
        let kept = keep(
            Client::new(service, "default"),
            "node",
            counters,
            scene.want.subscribe(),
            Heard { resources: watch::Sender::new(None), metadata: Box::new(|_| ()) },
        );
        let both = async { tokio::join!(kept, beside(&scene)) };
        timeout(time, both).await.expect_err("a keeper keeps for ever");
        scene
    }

    fn asked(&self, verb: &str) -> Vec<Instant> {
        let state = self.state.lock().expect("nobody panics with it");
        state.asked.iter().filter(|(_, asked)| *asked == verb).map(|(at, _)| *at).collect()
    }

    fn counted(&self, verb: &str, code: &str) -> u64 {
        self.requests.with_label_values(&[verb, code]).get()
    }
}

fn wanted(count: usize) -> Wanted {
    Wanted { labels: BTreeMap::from([(COUNT.to_owned(), count.to_string())]), ..Wanted::default() }
}

async fn answer(
    server: Server,
    state: Arc<Mutex<State>>,
    request: http::Request<kube::client::Body>,
) -> Result<http::Response<Body>, Infallible> {
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let verb = if watch {
        "watch"
    } else if request.method() == "PATCH" {
        "apply"
    } else {
        "get"
    };
    state.lock().expect("nobody panics with it").asked.push((Instant::now(), verb));
    let body = request.into_body().collect_bytes().await.expect("a body of ours can be read");
    let once = |value: &Value| Full::from(format!("{value}\n")).boxed();
    let mut state = state.lock().expect("nobody panics with it");
    let body = match (server, verb) {
        (Server::Silent, _) => {
            drop(state);
            std::future::pending().await
        }
        (Server::Busy(seconds), _) => {
            let status = json!({ "code": 429, "details": { "retryAfterSeconds": seconds } });
            let mut answer = http::Response::new(once(&status));
            *answer.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            return Ok(answer);
        }
        (Server::WatchLives(time), "watch") => {
            let end = stream::once(sleep(time));
            BodyExt::boxed(StreamBody::new(end.map(|()| Ok(Frame::data(Bytes::new())))))
        }
        (Server::Opposes, "watch") => {
            state.write(Some("0".to_owned()), "somebody");
            once(&json!({ "type": "MODIFIED", "object": state.node() }))
        }
        (_, "apply") => {
            let body: Value = serde_json::from_slice(&body).expect("an apply is JSON");
            let value = body["metadata"]["labels"][COUNT].as_str().map(str::to_owned);
            state.write(value, FIELD_MANAGER);
            once(&state.node())
        }
        _ => once(&state.node()),
    };
    Ok(http::Response::new(body))
}

#[tokio::test(start_paused = true)]
async fn at_rest_a_node_costs_a_watch_every_five_minutes_and_no_write() {
    let scene = Scene::run(Server::WatchLives(Duration::from_secs(WATCH_SECONDS.into())), HOUR).await;
    assert_eq!((scene.asked("get").len(), scene.asked("apply").len()), (1, 1), "those of the start");
    assert_eq!(scene.asked("watch").len(), 13);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_begun_ever_more_seldom() {
    let scene = Scene::run(Server::WatchLives(Duration::ZERO), HOUR).await;
    let watches = scene.asked("watch");
    assert!((50..=70).contains(&watches.len()), "{} watches in an hour", watches.len());
    assert!(scene.asked("get").len() <= watches.len() + 1);
    assert!(watches.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_connection_is_lost_is_given_up() {
    let change = async |scene: &Scene| {
        sleep(Duration::from_secs(10)).await;
        scene.state.lock().expect("nobody panics with it").write(Some("99".to_owned()), "somebody");
        // For ever, as the keeper.
        std::future::pending::<()>().await;
    };
    let scene = Scene::run_beside(Server::WatchLives(10 * HOUR), LONGEST_WATCH + HOUR / 60, change).await;
    assert_eq!(scene.state.lock().expect("nobody panics with it").value.as_deref(), Some("8"));
    assert_eq!((scene.counted("watch", "timeout"), scene.asked("watch").len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_and_is_counted() {
    let scene = Scene::run(Server::Silent, Duration::from_secs(60)).await;
    assert_eq!((scene.asked("get").len(), scene.counted("get", "timeout")), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn no_request_comes_before_the_server_wants_one_whatever_else_is_wanted() {
    let restless = async |scene: &Scene| {
        for count in 0.. {
            scene.want.send_replace(Some(wanted(count)));
            sleep(Duration::from_secs(5)).await;
        }
    };
    let scene = Scene::run_beside(Server::Busy(90), HOUR, restless).await;
    let gets = scene.asked("get");
    assert!((30..=40).contains(&gets.len()), "{} requests in an hour", gets.len());
    assert!(gets.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(90)));
}

#[tokio::test(start_paused = true)]
async fn somebody_who_overrules_us_at_once_is_overruled_ever_more_seldom() {
    let scene = Scene::run(Server::Opposes, HOUR).await;
    let applies = scene.asked("apply");
    assert!((50..=75).contains(&applies.len()), "{} writes in an hour", applies.len());
    let (first, second) = (applies[0], applies[1]);
    assert!(second - first < Duration::from_secs(1), "the first change is put right at once");
}
