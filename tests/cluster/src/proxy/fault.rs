//! What can go wrong between a client and its API server.

use std::time::Duration;

use serde_json::{Value, json};

use super::Asked;

/// Which requests suffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Of {
    /// All of them.
    All,
    /// Those that change something.
    Writes,
    /// Those that begin a watch.
    Watches,
}

impl Of {
    pub(super) fn meets(self, asked: &Asked) -> bool {
        match self {
            Of::All => true,
            Of::Writes => asked.is_write(),
            Of::Watches => asked.is_watch(),
        }
    }
}

/// What they suffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection is taken, and not a byte comes back.
    NoHandshake,
    /// The request is taken, and no answer comes.
    NoAnswer,
    /// The answer comes after a time.
    Late(Duration),
    /// The connection is reset (RST) when the request has come.
    Reset,
    /// The answer is a refusal.
    Refuse {
        /// Its status code.
        status: u16,
        /// Its header `Retry-After` in seconds.
        retry_after: Option<u32>,
        /// Its body.
        body: String,
    },
    /// A watch is answered with 200, has this for a body and ends.
    WatchSays(String),
}

impl Fault {
    /// A refusal as the API server words it: a Status (`k8s.io/apimachinery`, `api/errors`).
    pub fn refuse(status: u16, reason: &str) -> Fault {
        Fault::Refuse { status, retry_after: None, body: refusal(status, reason).to_string() }
    }

    /// The refusal of priority and fairness: plain text, and a header (`k8s.io/apiserver`, `tooManyRequests`).
    pub fn too_many_requests(retry_after: u32) -> Fault {
        let body = "Too many requests, please try again later.\n".to_owned();
        Fault::Refuse { status: 429, retry_after: Some(retry_after), body }
    }

    /// A watch from a version that the server no longer has: 200, and the refusal as an event.
    pub fn expired() -> Fault {
        Fault::WatchSays(format!("{}\n", json!({ "type": "ERROR", "object": refusal(410, "Expired") })))
    }
}

fn refusal(status: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("played: {reason}"), "reason": reason, "code": status,
    })
}
