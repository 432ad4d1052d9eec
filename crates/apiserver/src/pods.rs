//! The pods that hold devices: their addresses, by `get` of each pod alone. That needs the right to read pods by name, and none to
//! list or watch them.
//!
//! A pod is read once it is wanted, again until it has an address, and then rarely: a sandbox that is made again gets another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use afd_model::{PodName, PodNetwork, PodNetworks};
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{ApiCalls, Backoff, CallError};

/// How often a pod is read whose address is known.
const REFRESH: Duration = Duration::from_mins(5);
/// More pods do not hold devices of one node.
const MAX_PODS: usize = 64;

/// What is read of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodView {
    metadata: PodMetadataView,
    spec: PodSpecView,
    status: PodStatusView,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodMetadataView {
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpecView {
    node_name: String,
    host_network: bool,
    containers: Vec<ContainerView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerView {
    name: String,
    env: Vec<VariableView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VariableView {
    name: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatusView {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "hostIP")]
    host_ip: Option<IpAddr>,
}

impl PodView {
    /// How it is reached; none before it has an address, after it has ended, when its address may be that of another pod, and where
    /// it is a pod of this name on another node. `variables` are names
    /// of variables that name ports.
    fn network(self, node: &str, variables: &[&str]) -> Option<PodNetwork> {
        let has_ended = ["Succeeded", "Failed"].contains(&self.status.phase.as_str());
        if has_ended || self.spec.node_name != node {
            return None;
        }
        let is_of_node = self.spec.host_network || self.status.pod_ip == self.status.host_ip;
        let address = match self.status.pod_ip? {
            _ if is_of_node => None,
            address => Some(address),
        };
        let ports = self.spec.containers.into_iter().filter_map(|container| {
            let named = |own: &VariableView| variables.contains(&own.name.as_str()) && !own.value.is_empty();
            Some((container.name, container.env.into_iter().find(named)?.value))
        });
        Some(PodNetwork { uid: self.metadata.uid, address, ports: ports.collect() })
    }
}

/// Reads the pods that are wanted, as often as these change, forever. `variables` are names of variables that name ports.
pub async fn follow(
    client: Client,
    node: &str,
    calls: ApiCalls,
    variables: &[&str],
    mut wanted: watch::Receiver<BTreeSet<PodName>>,
    sender: watch::Sender<PodNetworks>,
) {
    let (mut backoff, mut failing) = (Backoff::default(), false);
    let mut known = PodNetworks::new();
    // When each was last read. Whether another one has an address yet is nothing to these.
    let mut read_at = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        known.retain(|name, _| names.contains(name));
        read_at.retain(|name, _| known.contains_key(name));
        let (mut error, mut is_complete) = (None, true);
        for name in names.into_iter().take(MAX_PODS) {
            if read_at.get(&name).is_some_and(|at: &Instant| at.elapsed() < REFRESH) {
                continue;
            }
            match read(&client, &calls, &name).await {
                Ok(pod) => match pod.and_then(|pod| pod.network(node, variables)) {
                    Some(network) => {
                        read_at.insert(name.clone(), Instant::now());
                        known.insert(name, network);
                    }
                    None => {
                        known.remove(&name);
                        read_at.remove(&name);
                        is_complete = false;
                    }
                },
                // What was known stays.
                Err(failure) => error = Some(failure),
            }
        }
        sender.send_if_modified(|last| {
            let has_changed = *last != known;
            last.clone_from(&known);
            has_changed
        });
        if let Some(error) = error.as_ref().filter(|_| !failing) {
            tracing::warn!(%error, "a pod that holds devices cannot be read; retrying");
        }
        if failing && error.is_none() {
            backoff.reset();
        }
        failing = error.is_some();
        let delay = if is_complete && !failing {
            backoff.reset();
            read_at.values().map(|at| REFRESH.saturating_sub(at.elapsed())).min().unwrap_or(REFRESH)
        } else {
            backoff.next_delay(error.and_then(|error| error.retry_after))
        };
        match timeout(delay, wanted.changed()).await {
            // It is refused or overloaded: other pods do not shorten the delay.
            Ok(Ok(())) if failing => sleep(delay).await,
            Ok(Ok(())) => backoff.reset(),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// A pod; none where there is none of this name.
async fn read(
    client: &Client,
    calls: &ApiCalls,
    (namespace, name): &PodName,
) -> Result<Option<PodView>, CallError> {
    // The kubelet reports the names of objects. Another text is no path.
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    if !is_name(namespace) || !is_name(name) {
        return Ok(None);
    }
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let request = http::Request::get(path).body(Vec::new()).expect("the path is valid");
    match calls.call("get", "a pod", client.request(request)).await {
        Err(error) if error.status().is_some_and(|status| status.code == 404) => Ok(None),
        pod => pod.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::body::Bytes;
    use prometheus::{IntCounterVec, Opts};
    use tower::service_fn;

    use super::*;

    /// The pods that are known this long after the start, of a server with what `answer` makes of the name of a pod and the time.
    async fn known_after(
        passed: Duration,
        wanted: &[&str],
        answer: fn(&str, Duration) -> String,
    ) -> PodNetworks {
        let begun = Instant::now();
        let service = service_fn(move |request: http::Request<kube::client::Body>| {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let text = answer(name, begun.elapsed());
            async move { Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from(text))) }
        });
        let counter = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"]);
        let calls = ApiCalls::new(counter.expect("the names are valid"));
        let wanted = wanted.iter().map(|name| ("ml".to_owned(), (*name).to_owned())).collect();
        let (_wanted, names) = watch::channel(wanted);
        let (sender, known) = watch::channel(PodNetworks::new());
        let follow = follow(Client::new(service, "default"), "a", calls, &[], names, sender);
        timeout(passed, follow).await.expect_err("it follows forever");
        known.borrow().clone()
    }

    fn running(address: &str) -> String {
        format!(r#"{{"metadata":{{"uid":"1"}},"spec":{{"nodeName":"a"}},"status":{{"podIP":"{address}"}}}}"#)
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_without_an_address_does_not_keep_others_from_being_read_again() {
        let answer = |name: &str, passed: Duration| match name {
            "pending" => r#"{"spec":{"nodeName":"a"}}"#.to_owned(),
            _ if passed < Duration::from_secs(10) => running("10.0.0.1"),
            _ => running("10.0.0.2"),
        };
        let address = async |passed: Duration, wanted: &[&str]| {
            let known = known_after(passed, wanted, answer).await;
            known.into_values().find_map(|network| network.address).map(|address| address.to_string())
        };
        for wanted in [&["main"][..], &["main", "pending"]] {
            assert_eq!(address(REFRESH / 2, wanted).await.as_deref(), Some("10.0.0.1"), "{wanted:?}");
            assert_eq!(address(REFRESH * 2, wanted).await.as_deref(), Some("10.0.0.2"), "{wanted:?}");
        }
    }

    #[test]
    fn a_pod_that_has_ended_has_no_address_and_another_one_has_another_uid() {
        let status = |phase: &str| format!(r#""hostIP":"10.0.0.1","podIP":"10.1.0.5","phase":"{phase}""#);
        let is_reached = |phase: &str| pod(r#""containers":[]"#, &status(phase)).is_some();
        assert_eq!(["Running", "Succeeded", "Failed"].map(is_reached), [true, false, false]);
        let text = running("10.0.0.1").replace("\"1\"", "\"b\"");
        let uid = |text: &str| {
            let view: PodView = serde_json::from_str(text).expect("it is a pod");
            view.network("a", &[]).map(|network| network.uid)
        };
        assert_eq!([uid(&running("10.0.0.1")), uid(&text)], ["1", "b"].map(|uid| Some(uid.to_owned())));
    }

    fn pod(spec: &str, status: &str) -> Option<PodNetwork> {
        pod_of("a", spec, status)
    }

    fn pod_of(node: &str, spec: &str, status: &str) -> Option<PodNetwork> {
        let text = format!(r#"{{"kind":"Pod","spec":{{"nodeName":"{node}",{spec}}},"status":{{{status}}}}}"#);
        let pod: PodView = serde_json::from_str(&text).expect("it is a pod");
        pod.network("a", &["PORTS"])
    }

    #[test]
    fn a_pod_has_the_address_of_its_status_unless_it_shares_that_of_the_node() {
        let own = r#""hostIP":"10.0.0.1","podIP":"10.1.0.5","phase":"Running""#;
        let address = |network: Option<PodNetwork>| network.map(|network| network.address);
        assert_eq!(address(pod(r#""containers":[]"#, own)), Some("10.1.0.5".parse().ok()));
        assert_eq!(address(pod(r#""hostNetwork":true"#, own)), Some(None));
        let of_node = r#""hostIP":"10.0.0.1","podIP":"10.0.0.1""#;
        assert_eq!(address(pod(r#""containers":[]"#, of_node)), Some(None));
        assert_eq!(address(pod(r#""containers":[]"#, r#""hostIP":"10.0.0.1""#)), None, "it has none yet");
        let elsewhere = pod_of("b", r#""containers":[]"#, own);
        assert_eq!(elsewhere, None, "a pod of this name on another node");
    }

    #[test]
    fn ports_are_those_of_the_containers_variables() {
        let containers = r#""containers":[
            {"name":"main","env":[{"name":"OTHER","value":"1"},{"name":"PORTS","value":"8431,8432"}]},
            {"name":"of-a-field","env":[{"name":"PORTS","valueFrom":{}}]},
            {"name":"none"}]"#;
        let ports = pod(containers, r#""podIP":"10.1.0.5""#).map(|pod| pod.ports);
        let main = ("main".to_owned(), "8431,8432".to_owned());
        assert_eq!(ports, Some([main].into_iter().collect()));
    }
}
