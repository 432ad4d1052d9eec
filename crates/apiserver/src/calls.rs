//! Calls to the API server. Each has a deadline and is counted.

use std::time::Duration;

use prometheus::IntCounterVec;

const DEADLINE: Duration = Duration::from_secs(15);

/// Seconds after which the server ends a watch; as client-go asks for, below what proxies allow.
pub const WATCH_SECONDS: u32 = 290;

/// Counts the calls.
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
            Ok(Err(kube::Error::Api(status))) => {
                (status.code.to_string(), Err(kube::Error::Api(status).into()))
            }
            Ok(Err(error)) => ("error".to_owned(), Err(error.into())),
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
}
