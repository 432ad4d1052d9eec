//! Lists and watches Nodes and pods, and writes the pods that differ, one after another.

use std::{cell::RefCell, collections::BTreeSet, convert::Infallible, rc::Rc, time::Duration};

use afd_apiserver::{Backoff, CallError};
use futures_util::{StreamExt, stream::FuturesUnordered};
use kube::{
    Client,
    api::{Patch, PatchParams},
    core::Request,
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    BridgeWorker, FIELD_MANAGER,
    follow::{FollowedList, FollowedObject},
    keys::OPTED_OUT,
    owners::OwnerSelectors,
    plan::{self, KeySet, PodKeys},
    state::{BridgeState, PodUid},
};

/// After what time a pod is tried again that the API server refuses, or that does not get what was written; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest time until then.
const LAST_RETRY: Duration = Duration::from_mins(10);
/// How often a pod is written that does not get what was written: a webhook may remove it.
const MAX_WRITES: u8 = 3;
/// Pods that have a node and have not ended: only these are endpoints.
const BOUND: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
/// How often a pod is planned again, because another manager has taken a key meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// What became of a pod.
enum PodOutcome {
    /// It was looked after, or is gone.
    Done,
    /// The API server refuses it or does not answer, or the term is over.
    Later,
}

impl BridgeWorker<'_> {
    /// Follows the metadata of all Nodes.
    pub(crate) async fn follow_nodes(self, state: &RefCell<BridgeState>) -> Infallible {
        let nodes = FollowedList {
            object: "Nodes",
            path: "/api/v1/nodes",
            labels: None,
            fields: None,
            only_metadata: true,
        };
        nodes.follow(self.client, self.calls, |event| state.borrow_mut().node_event(event)).await
    }

    /// Follows the pods that opt in, and those that have the marker, by which one is found that has opted out.
    pub(crate) async fn follow_pods(self, state: &RefCell<BridgeState>) -> Infallible {
        let (marker, mut selectors) = {
            let state = state.borrow();
            let own: Vec<String> = state.selectors.iter().map(|selector| selector.to_query()).collect();
            (state.keys.marker().to_owned(), own)
        };
        selectors.iter_mut().for_each(|selector| *selector += &format!(",{marker}!={OPTED_OUT}"));
        selectors.push(marker);
        let lists = selectors.into_iter().enumerate().map(|(list, labels)| async move {
            let pods = FollowedList {
                object: "pods",
                path: "/api/v1/pods",
                labels: Some(labels),
                fields: Some(BOUND),
                only_metadata: false,
            };
            pods.follow(self.client, self.calls, |event| state.borrow_mut().pod_event(list, event)).await
        });
        let mut lists: FuturesUnordered<_> = lists.collect();
        loop {
            // Each of them runs forever.
            if let Some(never) = lists.next().await {
                match never {}
            }
        }
    }

    /// Writes the pods that differ, forever.
    pub(crate) async fn write_pods(self, state: &RefCell<BridgeState>) -> Infallible {
        let interval = Duration::from_secs_f64(1.0 / self.options.writes_per_second);
        let wake = Rc::clone(&state.borrow().pods_wake);
        let (mut owners, mut backoff) = (OwnerSelectors::default(), Backoff::default());
        let mut later: BTreeSet<(Instant, PodUid)> = BTreeSet::new();
        loop {
            while later.first().is_some_and(|(at, _)| *at <= Instant::now()) {
                let Some((_, uid)) = later.pop_first() else { break };
                state.borrow_mut().hold(&uid, false);
            }
            let next = state.borrow_mut().next_pod().map(|(uid, pod)| {
                let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
                (uid, pod.name.to_string(), path)
            });
            let Some((uid, name, path)) = next else {
                let until = later.first().map_or_else(|| Instant::now() + LAST_RETRY, |(at, _)| *at);
                // Either way the queue is looked through again.
                let _ = timeout_at(until, wake.notified()).await;
                continue;
            };
            let pod = WrittenPod { request: Request::new(path), name: &name, uid: &uid };
            let outcome = match self.write_pod(&pod, state, &mut owners).await {
                // All pods wait only for what concerns all.
                Err(error) if !is_overload(&error) => {
                    tracing::warn!(pod = name, %error, "the API server refuses a pod");
                    Ok(PodOutcome::Later)
                }
                outcome => outcome,
            };
            match outcome {
                Ok(outcome) => {
                    backoff.reset();
                    let is_done = matches!(outcome, PodOutcome::Done);
                    let mut state = state.borrow_mut();
                    let failures = state.count_failure(&uid, is_done);
                    if let Some(delay) = hold_time(failures, is_done) {
                        state.hold(&uid, true);
                        later.insert((Instant::now() + delay, uid));
                    }
                }
                Err(error) => {
                    let delay = backoff.next_delay(error.retry_after);
                    tracing::warn!(%error, retry_seconds = delay.as_secs(), "a pod cannot be written; retrying");
                    sleep(delay).await;
                    state.borrow_mut().examine(&uid);
                }
            }
            sleep(interval).await;
        }
    }

    /// Reads a pod, plans, and applies what differs.
    async fn write_pod(
        self,
        pod: &WrittenPod<'_>,
        state: &RefCell<BridgeState>,
        owners: &mut OwnerSelectors,
    ) -> Result<PodOutcome, CallError> {
        for _ in 0..MAX_ATTEMPTS {
            let read = match self.read(pod).await? {
                Some(read) if !read.has_ended() => read,
                _ => {
                    state.borrow_mut().forget(pod.uid);
                    return Ok(PodOutcome::Done);
                }
            };
            let opts_in = state.borrow().opts_in(&read);
            let reserved = if opts_in {
                let keys = state.borrow().keys.clone();
                owners.reserved(&read.metadata, &keys, self.client, self.calls).await?
            } else {
                KeySet::default()
            };
            state.borrow_mut().reserve(pod.uid, reserved);
            let body = {
                let state = state.borrow();
                let own = PodKeys::new(&read.metadata, &state.keys);
                let node = state.node(&read.spec.node_name);
                let desired =
                    if opts_in { own.desired(node, reserved, &state.keys) } else { Default::default() };
                let differs = desired != own.owned;
                differs.then(|| pod.body(&plan::labels(&desired, &state.keys)))
            };
            let Some(body) = body else {
                return Ok(done(state, pod, &read, opts_in));
            };
            if !self.term.is_valid() {
                return Ok(PodOutcome::Later);
            }
            match self.term.write(self.apply(pod, &body)).await {
                Ok(written) => return Ok(done(state, pod, &written, opts_in)),
                Err(error) => match error.status().map(|status| status.code) {
                    // Another manager has taken a key, or it is another pod of this name.
                    Some(404 | 409) => {}
                    // The server has just answered: it is this pod that takes so long, by a webhook. If it is not, the next read fails.
                    None => {
                        tracing::warn!(pod = pod.name, %error, "a write of a pod was not answered");
                        return Ok(PodOutcome::Later);
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(PodOutcome::Later)
    }

    /// The pod, if there is one of this uid.
    async fn read(self, pod: &WrittenPod<'_>) -> Result<Option<FollowedObject>, CallError> {
        let get = pod.request.get(pod.name, &Default::default()).map_err(kube::Error::BuildRequest);
        let get = async { self.client.request::<FollowedObject>(get?).await };
        match self.calls.call("get", "a pod", get).await {
            Ok(read) => Ok(Some(read).filter(|read| read.metadata.uid.as_deref() == Some(pod.uid))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn apply(
        self,
        pod: &WrittenPod<'_>,
        body: &serde_json::Value,
    ) -> Result<FollowedObject, CallError> {
        self.calls.call("apply", "a pod", apply(self.client, pod, body, self.term.write_timeout)).await
    }
}

/// Whether a failure concerns all pods: the server is overloaded, or does not respond. A 500 may be about one that cannot be read.
fn is_overload(error: &CallError) -> bool {
    error.is_temporary() && error.status().is_none_or(|status| status.code != 500)
}

/// For how long a pod is not looked after that was not as it should be so often in a row.
fn hold_time(failures: u8, is_done: bool) -> Option<Duration> {
    let more = if is_done { failures.checked_sub(MAX_WRITES)? } else { failures.saturating_sub(1) };
    Some((FIRST_RETRY * (1 << more.min(10))).min(LAST_RETRY))
}

/// Takes in a pod as it is now.
fn done(
    state: &RefCell<BridgeState>,
    pod: &WrittenPod<'_>,
    now: &FollowedObject,
    opts_in: bool,
) -> PodOutcome {
    let mut state = state.borrow_mut();
    if opts_in {
        state.pod_seen(None, now);
    } else {
        state.cleaned(pod.uid, now);
    }
    PodOutcome::Done
}

/// Applies labels of a pod.
pub(crate) async fn apply(
    client: &Client,
    pod: &WrittenPod<'_>,
    body: &serde_json::Value,
    limit: Duration,
) -> kube::Result<FollowedObject> {
    let patch = pod.request.patch(pod.name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(body));
    within(limit, client.request::<FollowedObject>(patch.map_err(kube::Error::BuildRequest)?)).await
}

/// A write that takes no longer than a limit.
pub(crate) async fn within<T>(
    limit: Duration,
    write: impl Future<Output = kube::Result<T>>,
) -> kube::Result<T> {
    let timed_out = |_| kube::Error::Service("the write took too long".into());
    timeout(limit, write).await.map_err(timed_out).flatten()
}

/// A pod that is written.
pub(crate) struct WrittenPod<'p> {
    /// The pods of its namespace.
    pub(crate) request: Request,
    pub(crate) name: &'p str,
    pub(crate) uid: &'p str,
}

impl WrittenPod<'_> {
    /// The body of an apply. With the uid, it creates no pod, and changes no other one of this name.
    pub(crate) fn body(&self, labels: &impl serde::Serialize) -> serde_json::Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": self.name, "uid": self.uid, "labels": labels } })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        follow::FollowEvent,
        keys::BridgeKeys,
        lease::LeaseTerm,
        testing::{FakeApiServer, failure, no_response, options},
    };

    /// A pod on Node `n`; with a label, if it is written and kept.
    fn pod(name: &str) -> Value {
        let metadata =
            json!({ "name": name, "namespace": "ml", "uid": name, "labels": { "role": "decode" } });
        json!({ "metadata": metadata, "spec": { "nodeName": "n" } })
    }

    /// Looks after these pods for a time, with every list complete.
    async fn write(server: &FakeApiServer, pods: &[&str], time: Duration) {
        let mut options = options(0);
        options.selectors = vec!["role".parse().expect("it is a selector")];
        let mut state =
            BridgeState::new(BridgeKeys::new("p.example", None), options.selectors.clone(), "afd");
        let node =
            json!({ "metadata": { "name": "n", "uid": "n", "labels": { "kubernetes.io/hostname": "n" } } });
        state.node_event(FollowEvent::Seen(&serde_json::from_value(node).expect("it is a Node")));
        state.node_event(FollowEvent::Listed);
        for name in pods {
            state.pod_event(0, FollowEvent::Seen(&serde_json::from_value(pod(name)).expect("it is a pod")));
        }
        (0..2).for_each(|list| state.pod_event(list, FollowEvent::Listed));
        let term = LeaseTerm::until(Instant::now() + time * 2, time);
        let worker =
            BridgeWorker { client: &server.client, calls: &server.calls, options: &options, term: &term };
        timeout(time, worker.write_pods(&RefCell::new(state))).await.expect_err("it writes forever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_fails_for_a_reason_of_its_own_keeps_no_other_from_being_written() {
        for code in [403, 422, 500] {
            let server = FakeApiServer::new(move |request, _| match request {
                _ if request.starts_with("GET") && request.contains("/well") => (200, pod("well")),
                _ if request.starts_with("GET") => (200, pod("bad")),
                _ if request.contains("/bad") => failure(code),
                _ => (200, pod("well")),
            });
            write(&server, &["bad", "well"], Duration::from_secs(1)).await;
            let requests = server.requests();
            let patches: Vec<&String> =
                requests.iter().filter(|request| request.starts_with("PATCH")).collect();
            assert!(patches[0].contains("/bad") && patches[1].contains("/well"), "{code}: {requests:?}");
            assert_eq!(patches.iter().filter(|patch| patch.contains("/bad")).count(), 1, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_write_is_not_answered_keeps_no_other_from_being_written() {
        let server = FakeApiServer::new(|request, _| match request {
            _ if request.starts_with("GET") && request.contains("/slow") => (200, pod("slow")),
            _ if request.starts_with("GET") => (200, pod("well")),
            _ if request.contains("/slow") => no_response(),
            _ => (200, pod("well")),
        });
        // A call takes 15 s at most; a back-off would take three quarters of a second more.
        write(&server, &["slow", "well"], Duration::from_millis(15_500)).await;
        assert!(server.count("/well") > 0, "{:?}", server.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn overload_holds_up_all_pods() {
        let server = FakeApiServer::new(|_, _| failure(503));
        write(&server, &["one", "two"], Duration::from_millis(200)).await;
        assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_labels_are_removed_by_a_webhook_is_not_written_without_end() {
        let server = FakeApiServer::new(|_, _| (200, pod("stripped")));
        write(&server, &["stripped"], Duration::from_secs(9)).await;
        assert_eq!(server.count("PATCH"), 3);
        let server = FakeApiServer::new(|_, _| (200, pod("stripped")));
        write(&server, &["stripped"], Duration::from_secs(3600)).await;
        let writes = server.count("PATCH");
        assert!((8..20).contains(&writes), "{writes} writes in an hour");
    }
}
