use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::Bytes;
use prometheus::{IntCounterVec, Opts};
use tower::service_fn;

use super::*;

/// The pods that are known this long after the start, of a server with what `answer` makes of the name of a pod and the time.
async fn known_after(passed: Duration, wanted: &[&str], answer: fn(&str, Duration) -> String) -> PodNetworks {
    known_after_responses(passed, wanted, move |name, passed| (200, answer(name, passed))).await
}

/// The same of a server that responds with a code and a text.
async fn known_after_responses(
    passed: Duration,
    wanted: &[&str],
    respond: impl Fn(&str, Duration) -> (u16, String) + Clone + Send + 'static,
) -> PodNetworks {
    let begun = Instant::now();
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (code, text) = respond(name, begun.elapsed());
        let response = http::Response::builder().status(code).body(Full::<Bytes>::from(text));
        async move { Ok::<_, Infallible>(response.expect("the response is valid")) }
    });
    let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
    let calls = ApiCalls::new(counter.expect("the names are valid"));
    let wanted = wanted.iter().map(|name| ("ml".to_owned(), (*name).to_owned())).collect();
    let (_wanted, names) = watch::channel(wanted);
    let (sender, known) = watch::channel(PodNetworks::new());
    let follow = follow(Client::new(service, "default"), "a", calls, &[], names, sender);
    timeout(passed, follow).await.expect_err("it follows forever");
    known.borrow().clone()
}

fn running(address: &str) -> String {
    format!(r#"{{"metadata":{{"uid":"1"}},"spec":{{"nodeName":"a"}},"status":{{"podIP":"{address}"}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_an_address_does_not_keep_others_from_being_read_again() {
    let answer = |name: &str, passed: Duration| match name {
        "pending" => r#"{"spec":{"nodeName":"a"}}"#.to_owned(),
        _ if passed < Duration::from_secs(10) => running("10.0.0.1"),
        _ => running("10.0.0.2"),
    };
    let address = async |passed: Duration, wanted: &[&str]| {
        let known = known_after(passed, wanted, answer).await;
        known.into_values().find_map(|network| network.address).map(|address| address.to_string())
    };
    for wanted in [&["main"][..], &["main", "pending"]] {
        assert_eq!(address(REFRESH / 2, wanted).await.as_deref(), Some("10.0.0.1"), "{wanted:?}");
        assert_eq!(address(REFRESH * 2, wanted).await.as_deref(), Some("10.0.0.2"), "{wanted:?}");
    }
}

#[test]
fn a_pod_that_has_ended_has_no_address_and_another_one_has_another_uid() {
    let status = |phase: &str| format!(r#""hostIP":"10.0.0.1","podIP":"10.1.0.5","phase":"{phase}""#);
    let is_reached = |phase: &str| pod(r#""containers":[]"#, &status(phase)).is_some();
    assert_eq!(["Running", "Succeeded", "Failed"].map(is_reached), [true, false, false]);
    let text = running("10.0.0.1").replace("\"1\"", "\"b\"");
    let uid = |text: &str| {
        let view: PodView = serde_json::from_str(text).expect("it is a pod");
        view.network("a", &[]).map(|network| network.uid)
    };
    assert_eq!([uid(&running("10.0.0.1")), uid(&text)], ["1", "b"].map(|uid| Some(uid.to_owned())));
}

fn pod(spec: &str, status: &str) -> Option<PodNetwork> {
    pod_of("a", spec, status)
}

fn pod_of(node: &str, spec: &str, status: &str) -> Option<PodNetwork> {
    let text = format!(r#"{{"kind":"Pod","spec":{{"nodeName":"{node}",{spec}}},"status":{{{status}}}}}"#);
    let pod: PodView = serde_json::from_str(&text).expect("it is a pod");
    pod.network("a", &["PORTS"])
}

#[test]
fn a_pod_has_the_address_of_its_status_unless_it_shares_that_of_the_node() {
    let own = r#""hostIP":"10.0.0.1","podIP":"10.1.0.5","phase":"Running""#;
    let address = |network: Option<PodNetwork>| network.map(|network| network.address);
    assert_eq!(address(pod(r#""containers":[]"#, own)), Some("10.1.0.5".parse().ok()));
    assert_eq!(address(pod(r#""hostNetwork":true"#, own)), Some(None));
    let of_node = r#""hostIP":"10.0.0.1","podIP":"10.0.0.1""#;
    assert_eq!(address(pod(r#""containers":[]"#, of_node)), Some(None));
    assert_eq!(address(pod(r#""containers":[]"#, r#""hostIP":"10.0.0.1""#)), None, "it has none yet");
    let elsewhere = pod_of("b", r#""containers":[]"#, own);
    assert_eq!(elsewhere, None, "a pod of this name on another node");
}

#[test]
fn ports_are_those_of_the_containers_variables() {
    let containers = r#""containers":[
        {"name":"main","env":[{"name":"OTHER","value":"1"},{"name":"PORTS","value":"8431,8432"}]},
        {"name":"of-a-field","env":[{"name":"PORTS","valueFrom":{}}]},
        {"name":"none"}]"#;
    let ports = pod(containers, r#""podIP":"10.1.0.5""#).map(|pod| pod.ports);
    let main = ("main".to_owned(), "8431,8432".to_owned());
    assert_eq!(ports, Some([main].into_iter().collect()));
}

/// A pod with what a pair has.
fn paired(dual: &str, accelerators: &str) -> Option<PodNetwork> {
    let metadata = serde_json::json!({
        "uid": "1",
        "labels": { "dual-pods.llm-d.ai/dual": dual, "app": "x" },
        "annotations": { "dual-pods.llm-d.ai/accelerators": accelerators, "other": "y" },
    });
    let pod = serde_json::json!({
        "metadata": metadata, "spec": { "nodeName": "a" }, "status": { "podIP": "10.1.0.5" },
    });
    let pod: PodView = serde_json::from_value(pod).expect("it is a pod");
    pod.network("a", &[])
}

#[test]
fn what_a_tenant_writes_of_its_devices_is_bounded_and_no_path() {
    let of = |dual: &str, list: &str| {
        let pod = paired(dual, list).expect("it is of this node");
        (pod.partner, pod.used_devices.into_iter().collect::<Vec<_>>())
    };
    let (partner, used) = of("launcher-1", "GPU-0d1d8df2-4bc7-98fe-1d41-a5d13a5866d1, GPU-2,,GPU-2");
    assert_eq!(partner.as_deref(), Some("launcher-1"));
    assert_eq!(used, ["GPU-0d1d8df2-4bc7-98fe-1d41-a5d13a5866d1", "GPU-2"]);
    for name in ["", "../secrets/x", "a/b", "a?watch=1", "-x", "a b", &"a".repeat(254)] {
        assert_eq!(of(name, "").0, None, "{name}");
    }
    for garbage in ["", ",", "GPU 1", "GPU-1\n", "\u{0}", "{\"a\":1}", "\u{202e}GPU", &"G".repeat(65)] {
        let (_, used) = of("", garbage);
        assert!(used.iter().all(|uuid| uuid == "GPU-1"), "{garbage}: {used:?}");
    }
    let long = vec!["GPU-0d1d8df2-4bc7-98fe-1d41-a5d13a5866d1"; 1 << 15].join(",");
    assert!(long.len() > 1 << 20 && of("", &long).1.is_empty(), "a megabyte is no list of devices");
    let many: Vec<String> = (0..500).map(|number| format!("GPU-{number}")).collect();
    assert_eq!(of("", &many.join(",")).1.len(), MAX_USED_DEVICES);
    assert!(
        serde_json::from_str::<PodView>(
            r#"{"metadata":{"annotations":{"dual-pods.llm-d.ai/accelerators":7}}}"#
        )
        .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn the_other_pod_of_a_pair_is_read_and_follows_another_pair() {
    let answer = |name: &str, passed: Duration| {
        let (dual, address) = match name {
            "requester" if passed < Duration::from_secs(10) => ("first", "10.0.0.1"),
            "requester" => ("second", "10.0.0.1"),
            "first" => ("requester", "10.0.0.2"),
            "second" => ("requester", "10.0.0.3"),
            _ => ("", "10.0.0.4"),
        };
        let own = format!(r#"{{"uid":"1","labels":{{"dual-pods.llm-d.ai/dual":"{dual}"}}}}"#);
        running(address).replace(r#"{"uid":"1"}"#, &own)
    };
    let names = async |passed: Duration| -> Vec<String> {
        let known = known_after(passed, &["requester", "plain"], answer).await;
        known.into_keys().map(|(_, name)| name).collect()
    };
    assert_eq!(names(Duration::from_secs(5)).await, ["first", "plain", "requester"]);
    assert_eq!(names(PAIR_REFRESH * 2).await, ["plain", "requester", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_names_a_pod_which_is_not_there_costs_two_requests_in_half_a_minute() {
    static REQUESTS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let answer = |name: &str, _: Duration| {
        REQUESTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match name {
            "requester" => running("10.0.0.1")
                .replace(r#"{"uid":"1"}"#, r#"{"uid":"1","labels":{"dual-pods.llm-d.ai/dual":"none"}}"#),
            _ => r#"{"spec":{"nodeName":"elsewhere"}}"#.to_owned(),
        }
    };
    let known = known_after(PAIR_REFRESH * 10, &["requester"], answer).await;
    assert_eq!(known.len(), 1);
    let requests = REQUESTS.load(std::sync::atomic::Ordering::Relaxed);
    assert!((18..=24).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_gone_when_the_api_server_says_so_and_not_a_proxy() {
    let known = async |missing: &'static str| {
        let respond = move |_: &str, passed: Duration| match passed < Duration::from_secs(10) {
            true => (200, running("10.0.0.1")),
            false => (404, missing.to_owned()),
        };
        known_after_responses(REFRESH * 2, &["main"], respond).await.len()
    };
    assert_eq!(known(r#"{"kind":"Status","status":"Failure","code":404,"reason":"NotFound"}"#).await, 0);
    for proxy in ["default backend - 404", r#"{"error":"no route","code":404}"#, "404 page not found"] {
        assert_eq!(known(proxy).await, 1, "{proxy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_delay_gets_no_further_request_before_it_is_over() {
    static REQUESTS: std::sync::Mutex<Vec<(String, u64)>> = std::sync::Mutex::new(Vec::new());
    let respond = |name: &str, passed: Duration| {
        let mut requests = REQUESTS.lock().expect("no test panics with the lock");
        requests.push((name.to_owned(), passed.as_secs()));
        match (name, requests.len()) {
            ("b", 2) => (429, r#"{"code":429,"details":{"retryAfterSeconds":30}}"#.to_owned()),
            _ => (200, running("10.0.0.1")),
        }
    };
    let known = known_after_responses(Duration::from_secs(60), &["a", "b", "c"], respond).await;
    assert_eq!(known.len(), 3);
    let requests = REQUESTS.lock().expect("no test panics with the lock");
    let names: Vec<&str> = requests.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["a", "b", "b", "c"]);
    assert!(requests.iter().skip(2).all(|(_, second)| (30..32).contains(second)), "{requests:?}");
}
