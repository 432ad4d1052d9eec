use std::{cell::RefCell, collections::VecDeque, sync::Mutex};

use http_body_util::{BodyExt, Full};
use prometheus::{IntCounterVec, Opts};
use serde_json::json;
use tower::service_fn;

use super::*;

fn names(text: &str) -> serde_json::Result<(Vec<String>, String)> {
    let mut names = Vec::new();
    let next = read_nodes(Box::new(text.as_bytes()), &mut |node| names.push(node.metadata.name))?;
    Ok((names, next))
}

#[test]
fn a_list_of_the_api_one_of_kubectl_and_a_single_node_are_read() {
    let read = |value: serde_json::Value| names(&value.to_string()).expect("it is a list");
    let item = |name: &str| json!({ "metadata": { "name": name, "managedFields": [{}] }, "status": { "images": [1] } });
    let of_api =
        json!({ "kind": "NodeList", "metadata": { "continue": "x" }, "items": [item("a"), item("b")] });
    assert_eq!(read(of_api), (vec!["a".to_owned(), "b".to_owned()], "x".to_owned()));
    let pod = json!({ "kind": "Pod", "metadata": { "name": "p" } });
    let of_kubectl =
        json!({ "items": [{ "kind": "Node", "metadata": { "name": "a" } }, pod], "metadata": {} });
    assert_eq!(read(of_kubectl), (vec!["a".to_owned()], String::new()));
    let single = json!({ "kind": "Node", "metadata": { "name": "a" }, "spec": {}, "status": {} });
    assert_eq!(read(single), (vec!["a".to_owned()], String::new()));
}

#[test]
fn what_is_no_list_of_nodes_is_an_error() {
    for text in
        ["{}", "[]", "", r#"{"kind":"Pod","metadata":{"name":"p"}}"#, r#"{"items":[]}x"#, r#"{"items":[{"#]
    {
        assert!(names(text).is_err(), "{text}");
    }
    assert_eq!(names(r#"{"items":[]}"#).expect("it is an empty list"), (Vec::new(), String::new()));
}

/// Lists from a server with these responses, and returns what was taken and the queries that were made.
async fn listed(
    responses: Vec<(u16, serde_json::Value)>,
) -> (Result<(), CallError>, Vec<String>, Vec<String>) {
    let responses = Mutex::new(VecDeque::from(responses));
    let queries = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&queries);
    let server = service_fn(move |request: http::Request<kube::client::Body>| {
        seen.lock()
            .expect("no test panics with the lock")
            .push(request.uri().query().unwrap_or_default().to_owned());
        let response = responses.lock().expect("no test panics with the lock").pop_front();
        let (status, body) = response.expect("no more requests are made");
        let is_lost = status == LOST;
        // A page that ends too early.
        let body = if body.is_null() {
            "{\"items\":[{\"metadata\":{\"name\":\"cut\"}},".to_owned()
        } else {
            body.to_string()
        };
        let body = Full::from(body).map_err(|never| match never {});
        let body: Box<kube::client::DynBody> = Box::new(body);
        let response = http::Response::builder().status(status.max(200)).body(body);
        async move {
            if is_lost {
                Err("the connection was lost".into())
            } else {
                response.map_err(tower::BoxError::from)
            }
        }
    });
    let client = Client::new(server, "default");
    let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
    let calls = ApiCalls::new(requests.expect("the options are valid"));
    let taken = RefCell::new(Vec::new());
    let mut take = |event| match event {
        NodeListEvent::Begin => taken.borrow_mut().push("begin".to_owned()),
        NodeListEvent::Node(node) => taken.borrow_mut().push(node.metadata.name),
    };
    let result = list_nodes(&client, &calls, "a=b", &mut take).await;
    let queries = queries.lock().expect("no test panics with the lock").clone();
    (result, taken.into_inner(), queries)
}

/// The status of a request without a response.
const LOST: u16 = 0;

fn page(name: &str, next: &str) -> (u16, serde_json::Value) {
    (200, json!({ "metadata": { "continue": next }, "items": [{ "metadata": { "name": name } }] }))
}

fn refused(code: u16) -> (u16, serde_json::Value) {
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "X", "message": "no" }))
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_and_an_expired_list_begins_again() {
    let responses = vec![page("a", "1"), refused(429), refused(410), page("a", "2"), page("b", "")];
    let (result, taken, queries) = listed(responses).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(taken, ["begin", "a", "begin", "a", "b"]);
    assert!(
        queries.iter().all(|query| query.contains("limit=100") && query.contains("labelSelector=a%3Db")),
        "{queries:?}"
    );
    let tokens: Vec<bool> = queries.iter().map(|query| query.contains("continue=")).collect();
    assert_eq!(tokens, [false, true, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_of_etcd_and_a_bad_gateway_do_not_end_the_list() {
    let responses = vec![refused(500), page("a", "1"), refused(502), refused(500), page("b", "")];
    let (result, taken, _) = listed(responses).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(taken, ["begin", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_list_and_an_overload_does_after_some_attempts() {
    let (result, _, queries) = listed(vec![refused(403)]).await;
    assert_eq!(result.expect_err("it is refused").status().map(|status| status.code), Some(403));
    assert_eq!(queries.len(), 1);
    let (result, _, queries) = listed(vec![refused(503); 6]).await;
    assert_eq!(result.expect_err("it is overloaded").status().map(|status| status.code), Some(503));
    assert_eq!(queries.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_and_a_page_that_is_cut_are_requested_again_a_few_times() {
    let lost = || (LOST, json!({}));
    let cut = (200, serde_json::Value::Null);
    let responses = vec![lost(), page("a", "1"), lost(), cut, page("b", "")];
    let (result, taken, queries) = listed(responses).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(taken, ["begin", "a", "b"]);
    assert_eq!(queries.len(), 5);
    let (result, _, queries) = listed(vec![lost(); 3]).await;
    assert!(result.expect_err("there is no server").status().is_none());
    assert_eq!(queries.len(), 3, "no server is waited for long");
    let responses = std::iter::once(page("a", "1")).chain(vec![lost(); 6]).collect();
    let (result, _, queries) = listed(responses).await;
    assert!(result.is_err());
    assert_eq!(queries.len(), 7);
}
