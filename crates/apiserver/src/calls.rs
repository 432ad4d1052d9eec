//! Calls to the API server. Each has a deadline and is counted.

use std::time::Duration;

use prometheus::IntCounterVec;

const DEADLINE: Duration = Duration::from_secs(15);

/// Seconds after which the server ends a watch; as client-go asks for, below what proxies allow.
pub const WATCH_SECONDS: u32 = 290;

/// A watch that the server should have ended by now has lost its connection.
pub const LONGEST_WATCH: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 20);

/// Counts the calls. A watch that ends otherwise than by the server's clock counts once more, with what it ended by.
#[derive(Clone, Debug)]
pub struct Calls {
    requests: IntCounterVec,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} of {object}: {cause}")]
pub struct Failure {
    verb: &'static str,
    object: &'static str,
    cause: Cause,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Slow,
    #[error("{0}")]
    Failed(#[from] kube::Error),
}

impl Failure {
    /// What the server said, if it said anything.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match &self.cause {
            Cause::Failed(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }
}

impl Calls {
    /// Counts by verb and code: of HTTP, or `timeout`, or `error` where there was no answer.
    pub fn new(requests: IntCounterVec) -> Calls {
        Calls { requests }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When the server says no, or nothing in time.
    pub async fn call<T>(
        &self,
        verb: &'static str,
        object: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let answer = tokio::time::timeout(DEADLINE, call).await;
        let (code, answer) = match answer {
            Err(_) => ("timeout".to_owned(), Err(Cause::Slow)),
            Ok(Err(error)) => (code(&error), Err(error.into())),
            Ok(Ok(answer)) => ("200".to_owned(), Ok(answer)),
        };
        self.requests.with_label_values(&[verb, &code]).inc();
        answer.map_err(|cause| {
            let mut failure = Failure { verb, object, cause, retry_after: None };
            let asked = failure
                .status()
                .and_then(|status| status.details.as_ref())
                .map(|details| details.retry_after_seconds);
            failure.retry_after =
                asked.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
            failure
        })
    }

    /// A watch has ended with an error.
    pub fn watch_failed(&self, error: &kube::Error) {
        self.requests.with_label_values(&["watch", &code(error)]).inc();
    }

    /// A watch was given up after [`LONGEST_WATCH`].
    pub fn watch_given_up(&self) {
        self.requests.with_label_values(&["watch", "timeout"]).inc();
    }
}

/// What is counted of an error: the status code, or that there was none.
fn code(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.code.to_string(),
        _ => "error".to_owned(),
    }
}
