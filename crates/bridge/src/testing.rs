//! A fake API server for tests: a function from requests to responses, and a list of what was requested.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use afd_apiserver::ApiCalls;
use kube::{Client, client::Body};
use prometheus::{IntCounterVec, Opts};
use serde_json::{Value, json};
use tower::service_fn;

use crate::{BridgeOptions, DeviceTaintEffect, LeaseOptions};

/// A response: its code and its object.
pub(crate) type FakeResponse = (u16, Value);

/// A client of a fake server, and its requests as texts `METHOD path?query`.
#[derive(Clone)]
pub(crate) struct FakeApiServer {
    pub(crate) client: Client,
    pub(crate) calls: ApiCalls,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeApiServer {
    /// A server that responds as the function says, which gets the request as text, and its body.
    pub(crate) fn new(
        respond: impl Fn(&str, &Value) -> FakeResponse + Send + Sync + 'static,
    ) -> FakeApiServer {
        let (respond, requests) = (Arc::new(respond), Arc::<Mutex<Vec<String>>>::default());
        let log = Arc::clone(&requests);
        let service = service_fn(move |request: http::Request<Body>| {
            let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
            async move {
                let text = format!("{} {}", request.method(), request.uri());
                let body = request.into_body().collect_bytes().await.expect("a request has a body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                log.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
                let (code, object) = respond(&text, &body);
                if code == NO_RESPONSE {
                    std::future::pending::<()>().await;
                }
                let body = Body::from(object.to_string().into_bytes());
                let response = http::Response::builder().status(code).body(body);
                Ok::<_, Infallible>(response.expect("the response is valid"))
            }
        });
        let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
        let calls = ApiCalls::new(counter.expect("the names are valid"));
        FakeApiServer { client: Client::new(service, "default"), calls, requests }
    }

    /// How many requests contain a text.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.requests().iter().filter(|request| request.contains(part)).count()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The code of a response that never comes.
const NO_RESPONSE: u16 = 0;

/// A request is received, and there is no response.
pub(crate) fn no_response() -> FakeResponse {
    (NO_RESPONSE, Value::Null)
}

/// A failure with a code.
pub(crate) fn failure(code: u16) -> FakeResponse {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no" });
    (code, status)
}

/// The group of DeviceTaintRules, if the request is for it.
pub(crate) fn taint_group(request: &str) -> Option<FakeResponse> {
    request.ends_with("/apis/resource.k8s.io/v1").then(|| {
        let resources = json!([{ "name": "devicetaintrules" }]);
        (200, json!({ "kind": "APIResourceList", "groupVersion": "resource.k8s.io/v1", "resources": resources }))
    })
}

/// Options with a limit of taints.
pub(crate) fn options(max_taints: usize) -> BridgeOptions {
    BridgeOptions {
        prefix: "p.example".to_owned(),
        selectors: Vec::new(),
        rack_label: None,
        writes_per_second: 1000.0,
        taints: Some(DeviceTaintEffect::NoSchedule),
        max_taints,
        agent_manager: "afd",
        lease: LeaseOptions {
            namespace: "afd".to_owned(),
            name: "afd-bridge".to_owned(),
            identity: "one".to_owned(),
            duration: Duration::from_secs(30),
        },
    }
}
