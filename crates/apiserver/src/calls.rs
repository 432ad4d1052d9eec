//! Calls to the API server, each with a deadline and counted.

use std::time::Duration;

use prometheus::IntCounterVec;
use serde_json::error::Category;

use crate::client::ResponseTooLong;

const DEADLINE: Duration = Duration::from_secs(15);

/// The longest delay that a server can ask for. A proxy or a server that is shut down may ask for a day; an agent that obeys
/// would be of no use for that long.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// What a server answers that is overloaded or restarts, or a proxy in front of it: too many requests, bad gateway, unavailable,
/// timed out.
const TEMPORARY: [u16; 4] = [429, 502, 503, 504];
/// What it answers while etcd has another leader. To a write this may also be the answer of a webhook that fails.
const TEMPORARY_OF_READS: u16 = 500;
const READS: [&str; 3] = ["get", "list", "watch"];

/// Characters of an error that are shown.
const MAX_DESCRIPTION: usize = 300;

/// Seconds after which the server ends a watch: as in client-go, shorter than the timeouts of proxies.
pub const WATCH_TIMEOUT_SECONDS: u32 = 290;

/// A watch that lasts longer than this has lost its connection.
pub const MAX_WATCH_DURATION: Duration = Duration::from_secs(WATCH_TIMEOUT_SECONDS as u64 + 20);

/// Makes and counts calls. A watch that ends before the server's timeout is counted again, with the code that ended it.
#[derive(Clone, Debug)]
pub struct ApiCalls {
    requests: IntCounterVec,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("{verb} of {object}: {cause}")]
pub struct CallError {
    verb: &'static str,
    object: &'static str,
    cause: CallErrorCause,
    /// The delay that the server asks for, at most [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum CallErrorCause {
    #[error("no response within {} s", DEADLINE.as_secs())]
    TimedOut,
    #[error("{}", description(.0))]
    Failed(#[from] kube::Error),
}

/// What is shown of an error: no more than a part of the response, which may be a page of a proxy, or have secrets.
fn description(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let (code, reason) = (status.code, &status.reason);
            let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
            short_line(&format!("{code}{reason}: {}", status.message))
        }
        kube::Error::SerdeError(error) => {
            let what = match error.classify() {
                Category::Data => "is not the expected object",
                Category::Eof => "ends too early",
                Category::Io | Category::Syntax => "is not JSON",
            };
            format!("the response {what} (line {}, column {})", error.line(), error.column())
        }
        other => short_line(&other.to_string()),
    }
}

/// The begin of a text in one line, with escapes for what a terminal obeys or hides.
fn short_line(text: &str) -> String {
    let mut line = String::new();
    let mut rest = text.chars();
    while line.len() < MAX_DESCRIPTION {
        match rest.next() {
            Some(c @ ('"' | '\'' | '\\')) => line.push(c),
            Some(c) => line.extend(c.escape_debug()),
            None => break,
        }
    }
    if rest.next().is_some() {
        line.push_str("...");
    }
    line
}

impl CallError {
    /// Whether the server may be overloaded or restart, or the connection was lost: the call may succeed later. A call without a
    /// status had no answer.
    pub fn is_temporary(&self) -> bool {
        let is_read = READS.contains(&self.verb);
        self.status().is_none_or(|status| {
            TEMPORARY.contains(&status.code) || (is_read && status.code == TEMPORARY_OF_READS)
        })
    }

    /// The Status that the server returned, if any.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match &self.cause {
            CallErrorCause::Failed(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// Whether the API server says that there is no such object. A 404 for a path that is not served, or from a proxy, has
    /// another reason.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404 && status.reason == "NotFound")
    }

    /// Whether the response was longer than the client's limit.
    pub fn is_too_long(&self) -> bool {
        let CallErrorCause::Failed(error) = &self.cause else { return false };
        let causes =
            std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
        causes.into_iter().any(<dyn std::error::Error>::is::<ResponseTooLong>)
    }
}

impl ApiCalls {
    /// Counts by verb and code: the HTTP status, `timeout`, or `error` without a response.
    pub fn new(requests: IntCounterVec) -> ApiCalls {
        ApiCalls { requests }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When the server refuses, or does not respond in time.
    pub async fn call<T>(
        &self,
        verb: &'static str,
        object: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        let result = tokio::time::timeout(DEADLINE, call).await;
        let (code, result) = match result {
            Err(_) => ("timeout".to_owned(), Err(CallErrorCause::TimedOut)),
            Ok(Err(error)) => (code(&error), Err(error.into())),
            Ok(Ok(response)) => ("200".to_owned(), Ok(response)),
        };
        self.requests.with_label_values(&[verb, &code]).inc();
        result.map_err(|cause| {
            let mut failed = CallError { verb, object, cause, retry_after: None };
            let seconds = failed
                .status()
                .and_then(|status| status.details.as_ref())
                .map(|details| details.retry_after_seconds);
            failed.retry_after = seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER));
            failed
        })
    }

    /// Counts a watch that ended with an error.
    pub fn watch_failed(&self, error: &kube::Error) {
        self.requests.with_label_values(&["watch", &code(error)]).inc();
    }

    /// Counts a watch that was ended after [`MAX_WATCH_DURATION`].
    pub fn watch_timed_out(&self) {
        self.requests.with_label_values(&["watch", "timeout"]).inc();
    }
}

/// The code under which an error is counted.
fn code(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.code.to_string(),
        _ => "error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    async fn failed(verb: &'static str, code: u16) -> CallError {
        let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
        let calls = ApiCalls::new(requests.expect("the names are valid"));
        let status = kube::core::Status::failure("no", "X").with_code(code).boxed();
        let call = async { Err::<(), _>(kube::Error::Api(status)) };
        calls.call(verb, "a pod", call).await.expect_err("it fails")
    }

    #[tokio::test]
    async fn an_error_is_described_without_the_response() {
        assert_eq!(failed("get", 403).await.to_string(), "get of a pod: 403 X: no");
        let secret = serde_json::from_str::<u8>(r#""s3cret""#).expect_err("it is a string");
        let description = description(&kube::Error::SerdeError(secret));
        assert_eq!(description, "the response is not the expected object (line 1, column 8)");
    }

    #[tokio::test]
    async fn a_500_is_temporary_for_reads_and_a_gateways_code_for_all() {
        for verb in ["get", "list", "watch", "apply", "patch status", "create", "delete"] {
            let mut temporary = Vec::new();
            for code in [400, 401, 403, 404, 409, 429, 500, 501, 502, 503, 504] {
                temporary.extend(failed(verb, code).await.is_temporary().then_some(code));
            }
            let expected: &[u16] = match verb {
                "get" | "list" | "watch" => &[429, 500, 502, 503, 504],
                _ => &[429, 502, 503, 504],
            };
            assert_eq!(temporary, expected, "{verb}");
        }
    }
}
