//! The Lease by which one of the bridges works: acquired, renewed, released.
//!
//! No clock but this process's own is used: a Lease of another holder has expired once it was *seen* unchanged for its duration. The
//! holder works for two fifths of the duration after the last renewal was sent, and a write takes at most half of it, so that its
//! last write ends before another bridge can hold the Lease.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use afd_apiserver::{ApiCalls, CallError, jitter};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, api::PostParams, core::Request};
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::LeaseOptions;

const OBJECT: &str = "the Lease";
/// What another holder may ask for, in seconds.
const MAX_SECONDS: u64 = 300;

/// The time for which the holder may write.
#[derive(Debug)]
pub(crate) struct LeaseTerm {
    end: Cell<Instant>,
    /// The longest time that a write may take.
    pub(crate) write_timeout: Duration,
    /// How many writes run, and the end of each.
    running: Cell<usize>,
    ended: Notify,
}

impl LeaseTerm {
    /// Whether a write may begin.
    pub(crate) fn is_valid(&self) -> bool {
        Instant::now() < self.end.get()
    }

    /// A term until an instant.
    pub(crate) fn until(end: Instant, write_timeout: Duration) -> LeaseTerm {
        LeaseTerm { end: Cell::new(end), write_timeout, running: Cell::default(), ended: Notify::new() }
    }

    /// Makes a write, which [`LeaseTerm::finish`] waits for.
    pub(crate) async fn write<T>(&self, write: impl Future<Output = T>) -> T {
        self.running.set(self.running.get() + 1);
        let result = write.await;
        self.running.set(self.running.get() - 1);
        self.ended.notify_one();
        result
    }

    /// Ends the term: no write begins any more. Returns when none runs.
    pub(crate) async fn finish(&self) {
        self.end.set(Instant::now());
        while self.running.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// The Lease, as one of its candidates sees it.
pub(crate) struct LeaderLease {
    client: Client,
    calls: ApiCalls,
    options: LeaseOptions,
    /// The specification of another holder, and when it was first seen.
    observed: Option<(String, Instant)>,
}

impl LeaderLease {
    pub(crate) fn new(client: Client, calls: ApiCalls, options: LeaseOptions) -> LeaderLease {
        LeaderLease { client, calls, options, observed: None }
    }

    /// Waits until this candidate holds the Lease.
    pub(crate) async fn acquire(&mut self) -> LeaseTerm {
        let mut failing = false;
        loop {
            let begun = Instant::now();
            match self.attempt(&self.options.identity.clone()).await {
                Ok(true) => return self.term(begun),
                Ok(false) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the lease cannot be acquired; retrying");
                    }
                    sleep(error.retry_after.unwrap_or_default()).await;
                }
            }
            sleep(self.interval()).await;
        }
    }

    /// Renews the Lease until it is lost, or could not be renewed in time.
    pub(crate) async fn hold(&mut self, term: &LeaseTerm) {
        loop {
            let until = term.end.get();
            let renewed = async {
                sleep(self.interval()).await;
                loop {
                    let begun = Instant::now();
                    match self.attempt(&self.options.identity.clone()).await {
                        Ok(true) => return Some(begun),
                        Ok(false) => return None,
                        Err(error) => tracing::warn!(%error, "the lease is not renewed; retrying"),
                    }
                    sleep(self.interval() / 4).await;
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(until) => return,
                renewed = renewed => match renewed {
                    Some(begun) => term.end.set(self.term(begun).end.get()),
                    None => return,
                }
            }
        }
    }

    /// Gives the Lease up, so that another candidate need not wait for its end.
    pub(crate) async fn release(&mut self) {
        match timeout(self.options.duration / 2, self.attempt("")).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease is not released; it will expire"),
            Err(_) => tracing::warn!("the lease is not released in time; it will expire"),
        }
    }

    fn interval(&self) -> Duration {
        let interval = self.options.duration / 8;
        interval + jitter(interval / 4)
    }

    fn term(&self, begun: Instant) -> LeaseTerm {
        let duration = self.options.duration;
        LeaseTerm::until(begun + duration * 2 / 5, duration / 2)
    }

    /// Writes a holder, if the Lease is free, expired or that of this candidate; returns whether it did.
    async fn attempt(&mut self, holder: &str) -> Result<bool, CallError> {
        let LeaseOptions { namespace, name, identity, .. } = &self.options;
        let request = Request::new(format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"));
        let get = async {
            let get = request.get(name, &Default::default()).map_err(kube::Error::BuildRequest)?;
            self.client.request::<Value>(get).await
        };
        let lease = match self.calls.call("get", OBJECT, get).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => Value::Null,
            Err(error) => return Err(error),
        };
        let before = &lease["spec"];
        let is_own = before["holderIdentity"] == identity.as_str();
        if holder.is_empty() && !is_own {
            return Ok(false);
        }
        if !is_own && !is_expired(before, &mut self.observed, Instant::now()) {
            return Ok(false);
        }
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let now = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let transitions = before["leaseTransitions"].as_i64().unwrap_or_default();
        let acquired = if is_own { before["acquireTime"].clone() } else { json!(now) };
        let is_new = lease.is_null();
        let spec = json!({
            "holderIdentity": (!holder.is_empty()).then_some(holder),
            "leaseDurationSeconds": announced(self.options.duration),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions.saturating_add(i64::from(!is_own && !is_new)),
        });
        // What Helm and others have set of it stays.
        let mut body = lease;
        body["apiVersion"] = "coordination.k8s.io/v1".into();
        body["kind"] = "Lease".into();
        body["metadata"]["name"] = name.as_str().into();
        body["metadata"]["namespace"] = namespace.as_str().into();
        body["spec"] = spec;
        let body = serde_json::to_vec(&body).expect("it can always be encoded");
        let parameters = PostParams::default();
        let write = async {
            let write = match is_new {
                true => request.create(&parameters, body),
                false => request.replace(name, &parameters, body),
            };
            self.client.request::<Value>(write.map_err(kube::Error::BuildRequest)?).await
        };
        match self.calls.call("update", OBJECT, write).await {
            Ok(_) => Ok(true),
            // Another candidate was faster.
            Err(error) if has_code(&error, 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The whole seconds that others wait for: no less than the duration, by which the holder works.
fn announced(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn has_code(error: &CallError, code: u16) -> bool {
    error.status().is_some_and(|status| status.code == code)
}

/// Whether the Lease of another holder has been seen unchanged for its duration. One without a holder is free.
fn is_expired(spec: &Value, observed: &mut Option<(String, Instant)>, now: Instant) -> bool {
    if spec["holderIdentity"].as_str().is_none_or(str::is_empty) {
        return true;
    }
    let text = spec.to_string();
    match observed {
        Some((seen, since)) if *seen == text => {
            let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or_default().min(MAX_SECONDS);
            now.saturating_duration_since(*since) >= Duration::from_secs(seconds)
        }
        _ => {
            *observed = Some((text, now));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApiServer, failure};

    #[tokio::test]
    async fn a_fraction_of_a_second_is_announced_as_a_second() {
        let server = FakeApiServer::new(|request, body| {
            assert!(request.starts_with("GET") || body["spec"]["leaseDurationSeconds"] == 3, "{body}");
            if request.starts_with("GET") { failure(404) } else { (201, body.clone()) }
        });
        let [namespace, name, identity] = ["afd", "afd-bridge", "one"].map(str::to_owned);
        let options = LeaseOptions { namespace, name, identity, duration: Duration::from_millis(2500) };
        LeaderLease::new(server.client.clone(), server.calls.clone(), options).acquire().await;
        assert_eq!(server.requests().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_term_waits_for_the_write_that_runs() {
        let term = LeaseTerm::until(Instant::now() + Duration::from_secs(60), Duration::from_secs(30));
        let begun = Instant::now();
        let write = term.write(sleep(Duration::from_secs(5)));
        let finished = async {
            term.finish().await;
            begun.elapsed()
        };
        let ((), waited) = tokio::join!(write, finished);
        assert!(waited >= Duration::from_secs(5) && !term.is_valid(), "{waited:?}");
    }

    #[test]
    fn a_lease_expires_when_it_was_seen_unchanged_for_its_duration_whatever_its_times_say() {
        let spec = |renewed: &str| json!({ "holderIdentity": "other", "leaseDurationSeconds": 30, "renewTime": renewed });
        let (mut observed, start) = (None, Instant::now());
        let mut at = |seconds: u64, spec: &Value| {
            is_expired(spec, &mut observed, start + Duration::from_secs(seconds))
        };
        let old = spec("1970-01-01T00:00:00Z");
        assert!(!at(0, &old), "the clock of the holder may be wrong");
        assert!(!at(29, &old));
        let renewed = spec("2999-01-01T00:00:00Z");
        assert!(!at(29, &renewed) && !at(58, &renewed), "it was renewed");
        assert!(at(59, &renewed));
        assert!(at(59, &json!({ "holderIdentity": "" })) && at(59, &Value::Null), "without a holder");
    }
}
