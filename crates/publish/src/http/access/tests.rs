use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use afd_apiserver::ApiCalls;
use kube::Client;
use prometheus::{IntCounterVec, Opts};
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

fn headers(authorization: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value.parse().expect("it is a header value"));
    }
    headers
}

/// A request from another host.
fn remote<'r>(path: &'r str, headers: &'r HeaderMap) -> CallerRequest<'r> {
    let network = ClientNetwork::of("10.0.0.1".parse().expect("it is an address"));
    CallerRequest { path, headers, is_loopback: false, has_certificate: false, network }
}

/// A fake API server: one token is valid, one path is permitted; and the kinds of its requests.
fn api_server(status: u16) -> (TokenVerifier, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = service_fn(move |request: http::Request<kube::client::Body>| {
        let log = Arc::clone(&log);
        async move {
            let body = request.into_body().collect_bytes().await.expect("a request has a body");
            let mut review: Value = serde_json::from_slice(&body).expect("a review is JSON");
            let kind = review["kind"].as_str().unwrap_or_default().to_owned();
            review["status"] = match kind.as_str() {
                "TokenReview" if review["spec"]["token"] == "valid" => {
                    json!({ "authenticated": true, "user": { "username": "prometheus", "groups": ["g"] } })
                }
                "TokenReview" => json!({ "authenticated": false }),
                _ => {
                    let spec = &review["spec"];
                    let asked = (&spec["user"], &spec["groups"][0], &spec["nonResourceAttributes"]["verb"]);
                    let is_complete = asked == (&json!("prometheus"), &json!("g"), &json!("get"));
                    json!({ "allowed": is_complete && spec["nonResourceAttributes"]["path"] == "/metrics" })
                }
            };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
            let response = Response::builder().status(status);
            response.body(kube::client::Body::from(review.to_string().into_bytes()))
        }
    });
    let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
    let calls = ApiCalls::new(requests.expect("the name is valid"));
    (TokenVerifier::new(Client::new(server, "default"), calls), seen)
}

fn unauthorized(basic: bool, bearer: bool) -> Result<Audience, Refusal> {
    Err(Refusal::Unauthorized { basic, bearer })
}

#[tokio::test]
async fn without_credentials_serials_are_for_this_node_and_for_client_certificates() {
    let access = Access::new(None, None);
    let headers = headers(None);
    let caller = remote("/inventory", &headers);
    assert_eq!(access.audience(&caller).await, Ok(Audience::Public));
    assert_eq!(access.audience(&CallerRequest { is_loopback: true, ..caller }).await, Ok(Audience::Trusted));
    assert_eq!(
        access.audience(&CallerRequest { has_certificate: true, ..caller }).await,
        Ok(Audience::Trusted)
    );
}

#[tokio::test]
async fn users_need_their_password_everywhere_but_for_health() {
    let hash = bcrypt::hash("secret", 4).expect("the cost is valid");
    let config = WebConfig { users: BTreeMap::from([("alice".to_owned(), hash)]), ..WebConfig::default() };
    let (_sender, receiver) = watch::channel(Arc::new(config));
    let access = Access::new(Some(receiver), None);
    let ask = async |path: &str, authorization: Option<&str>| {
        let headers = headers(authorization);
        access.audience(&remote(path, &headers)).await
    };
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    assert_eq!(ask("/metrics", Some(&basic("alice:secret"))).await, Ok(Audience::Trusted));
    for wrong in ["alice:secreT", "bob:secret", "alice", ":", "alice:secret\n"] {
        assert_eq!(ask("/metrics", Some(&basic(wrong))).await, unauthorized(true, false), "{wrong:?}");
    }
    for wrong in ["Bearer valid", "Basic", "Basic !", "alice:secret", ""] {
        assert_eq!(ask("/metrics", Some(wrong)).await, unauthorized(true, false), "{wrong:?}");
    }
    for path in ["/", "/inventory", "/compat/dcgm", "/nothing", "//healthz", "/healthz/"] {
        assert_eq!(ask(path, None).await, unauthorized(true, false), "{path}");
    }
    assert_eq!(ask("/healthz", None).await, Ok(Audience::Public));
    assert_eq!(ask("/readyz", None).await, Ok(Audience::Public));
    let local_headers = headers(None);
    let local = CallerRequest { is_loopback: true, ..remote("/metrics", &local_headers) };
    assert_eq!(access.audience(&local).await, unauthorized(true, false), "also on this node");
}

#[tokio::test]
async fn a_token_is_reviewed_once_and_each_path_of_it() {
    let (tokens, seen) = api_server(201);
    let access = Access::new(None, Some(tokens));
    let ask = async |path: &str, authorization: Option<&str>| {
        let headers = headers(authorization);
        access.audience(&remote(path, &headers)).await
    };
    for _ in 0..2 {
        assert_eq!(ask("/metrics", Some("Bearer valid")).await, Ok(Audience::Trusted));
        assert_eq!(ask("/inventory", Some("Bearer valid")).await, Err(Refusal::Forbidden));
        assert_eq!(ask("/metrics", Some("Bearer other")).await, unauthorized(false, true));
        assert_eq!(ask("/metrics", None).await, unauthorized(false, true));
        assert_eq!(ask("/healthz", None).await, Ok(Audience::Public));
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*seen, ["TokenReview", "SubjectAccessReview", "SubjectAccessReview", "TokenReview"]);
}

#[tokio::test]
async fn an_api_server_that_fails_permits_nothing() {
    let (tokens, _) = api_server(500);
    let access = Access::new(None, Some(tokens));
    let headers = headers(Some("Bearer valid"));
    assert_eq!(access.audience(&remote("/metrics", &headers)).await, Err(Refusal::Unavailable));
}

#[test]
fn a_refusal_names_what_is_accepted() {
    let response = Refusal::Unauthorized { basic: true, bearer: true }.response();
    assert_eq!(
        (response.status().as_u16(), response.headers().get_all(WWW_AUTHENTICATE).iter().count()),
        (401, 2)
    );
    assert_eq!(Refusal::Unavailable.response().status().as_u16(), 503);
    assert_eq!(Refusal::Busy.response().status().as_u16(), 429);
}
