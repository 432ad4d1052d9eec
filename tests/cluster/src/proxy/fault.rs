//! Faults between a client and its API server.

use std::time::Duration;

use serde_json::{Value, json};

use super::ProxiedRequest;

/// Which requests a fault affects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultScope {
    /// All requests.
    All,
    /// Requests that change something.
    Writes,
    /// Requests that start a watch.
    Watches,
    /// Requests that start no watch.
    Calls,
    /// Requests whose path begins so.
    Path(&'static str),
    /// Requests of this path alone.
    ExactPath(&'static str),
}

impl FaultScope {
    pub(super) fn contains(self, request: &ProxiedRequest) -> bool {
        match self {
            FaultScope::All => true,
            FaultScope::Writes => request.is_write(),
            FaultScope::Watches => request.is_watch(),
            FaultScope::Calls => !request.is_watch(),
            FaultScope::Path(path) => request.path.starts_with(path),
            FaultScope::ExactPath(path) => request.path == path,
        }
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection is accepted, and nothing is sent.
    NoHandshake,
    /// The request is received, and there is no response.
    NoResponse,
    /// The response is delayed.
    Late(Duration),
    /// The connection is reset (RST) once the request has been received.
    Reset,
    /// The response is an error.
    ErrorResponse {
        /// Its status code.
        status: u16,
        /// Its header `Retry-After` in seconds.
        retry_after: Option<u32>,
        /// Its body.
        body: String,
    },
    /// The response to a watch is 200 with this body, at whose end the watch ends.
    WatchBody(String),
    /// The response is 200 with this text again and again, without end.
    Endless {
        /// What is repeated.
        text: String,
        /// The time between two repetitions.
        pause: Duration,
    },
}

impl Fault {
    /// An error response of the API server, whose body is a Status (`k8s.io/apimachinery`, `api/errors`).
    pub fn error_response(status: u16, reason: &str) -> Fault {
        Fault::ErrorResponse { status, retry_after: None, body: status_object(status, reason).to_string() }
    }

    /// The response of API priority and fairness: plain text, and a header (`k8s.io/apiserver`, `tooManyRequests`).
    pub fn too_many_requests(retry_after: u32) -> Fault {
        let body = "Too many requests, please try again later.\n".to_owned();
        Fault::ErrorResponse { status: 429, retry_after: Some(retry_after), body }
    }

    /// The response to a watch from a resource version that the server no longer has: 200, and the Status as an event.
    pub fn expired() -> Fault {
        Fault::WatchBody(format!("{}\n", json!({ "type": "ERROR", "object": status_object(410, "Expired") })))
    }
}

fn status_object(status: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("injected fault: {reason}"), "reason": reason, "code": status,
    })
}
