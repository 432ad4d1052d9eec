//! The pods that hold devices, and those that serve with a device which another pod holds: their addresses and what they say of their
//! devices, by `get` of each pod alone. That needs the right to read pods by name, and none to list or watch them.
//!
//! A pod is read once it is wanted, again until it has an address, and then rarely: a sandbox that is made again gets another one.
//! Of a pod that is one of a pair (fast model actuation: `dual-pods.llm-d.ai`), the other one is read as well, and both again soon,
//! since pairs change while pods run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use afd_model::{PodName, PodNetwork, PodNetworks};
use kube::Client;
use serde::{Deserialize, de::IgnoredAny};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{ApiCalls, Backoff, CallError};

/// How often a pod is read whose address is known.
const REFRESH: Duration = Duration::from_mins(5);
/// The same of a pod that is one of a pair, or may become one.
const PAIR_REFRESH: Duration = Duration::from_secs(30);
/// More pods do not hold devices of one node.
const MAX_PODS: usize = 64;
/// The devices of one node, and the longest name that one of them has. What a tenant writes beyond that is not read.
const MAX_USED_DEVICES: usize = 128;
const MAX_UUID_BYTES: usize = 64;

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
    labels: PairLabels,
    annotations: PairAnnotations,
}

/// What the controller of fast model actuation writes on both pods of a pair. Any tenant can write it as well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PairLabels {
    /// The name of the other pod, while there is one.
    #[serde(rename = "dual-pods.llm-d.ai/dual")]
    dual: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PairAnnotations {
    /// The UUIDs of the devices that the pod uses, separated by commas.
    #[serde(rename = "dual-pods.llm-d.ai/accelerators")]
    accelerators: String,
    /// Of a pod that waits for another one.
    #[serde(rename = "dual-pods.llm-d.ai/inference-server-config")]
    server_config: Option<IgnoredAny>,
    /// The same in other versions.
    #[serde(rename = "dual-pods.llm-d.ai/server-patch")]
    server_patch: Option<IgnoredAny>,
}

impl PodMetadataView {
    /// Whether it is one of a pair, or may become one.
    fn may_be_paired(&self) -> bool {
        let PairAnnotations { accelerators, server_config, server_patch } = &self.annotations;
        let is_waiting = server_config.is_some() || server_patch.is_some();
        is_waiting || !self.labels.dual.is_empty() || !accelerators.is_empty()
    }
}

/// The UUIDs in a list, as far as they may be some: the list is what a tenant wrote.
fn used_devices(list: &str) -> BTreeSet<String> {
    let is_uuid = |text: &&str| {
        (1..=MAX_UUID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:/_".contains(&byte))
    };
    if list.len() > MAX_USED_DEVICES * (MAX_UUID_BYTES + 1) {
        return BTreeSet::new();
    }
    list.split(',').map(str::trim).filter(is_uuid).take(MAX_USED_DEVICES).map(str::to_owned).collect()
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
        let PodMetadataView { uid, labels, annotations } = self.metadata;
        Some(PodNetwork {
            uid,
            address,
            ports: ports.collect(),
            partner: Some(labels.dual).filter(|name| is_name(name)),
            used_devices: used_devices(&annotations.accelerators),
        })
    }
}

/// Reads the pods that are wanted, and those that they are paired with, as often as these change, forever. `variables` are names of
/// variables that name ports.
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
    // When each is to be read again. Whether another one has an address yet is nothing to these.
    let mut due_at = BTreeMap::new();
    loop {
        let holders = wanted.borrow_and_update().clone();
        let names = with_partners(&holders, &known);
        known.retain(|name, _| names.contains(name));
        due_at.retain(|name, _| names.contains(name));
        let (mut error, mut is_complete) = (None, true);
        for name in &names {
            if due_at.get(name).is_some_and(|at: &Instant| *at > Instant::now()) {
                continue;
            }
            match read(&client, &calls, name).await {
                Ok(pod) => {
                    let may_be_paired = pod.as_ref().is_some_and(|pod| pod.metadata.may_be_paired());
                    let refresh = if may_be_paired { PAIR_REFRESH } else { REFRESH };
                    match pod.and_then(|pod| pod.network(node, variables)) {
                        Some(network) => {
                            due_at.insert(name.clone(), Instant::now() + refresh);
                            known.insert(name.clone(), network);
                        }
                        // One that nothing holds but a tenant's word is waited for without haste.
                        None if !holders.contains(name) => {
                            due_at.insert(name.clone(), Instant::now() + PAIR_REFRESH);
                            known.remove(name);
                        }
                        None => {
                            known.remove(name);
                            due_at.remove(name);
                            is_complete = false;
                        }
                    }
                }
                // What was known stays.
                Err(failure) => {
                    let asks_for_delay = failure.retry_after.is_some();
                    error = Some(failure);
                    // The server is overloaded: the others stay due.
                    if asks_for_delay {
                        break;
                    }
                }
            }
        }
        sender.send_if_modified(|last| {
            let has_changed = *last != known;
            last.clone_from(&known);
            has_changed
        });
        // A pod that was just read may name another one.
        if error.is_none() && with_partners(&holders, &known).iter().any(|name| !names.contains(name)) {
            continue;
        }
        if let Some(error) = error.as_ref().filter(|_| !failing) {
            tracing::warn!(%error, "a pod that holds devices cannot be read; retrying");
        }
        if failing && error.is_none() {
            backoff.reset();
        }
        failing = error.is_some();
        let delay = if is_complete && !failing {
            backoff.reset();
            let next = due_at.values().map(|at| at.saturating_duration_since(Instant::now())).min();
            next.unwrap_or(REFRESH)
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

/// The holders, and the pods of their namespaces that they name as partners, as many of each as one node has.
fn with_partners(holders: &BTreeSet<PodName>, known: &PodNetworks) -> BTreeSet<PodName> {
    let mut names: BTreeSet<PodName> = holders.iter().take(MAX_PODS).cloned().collect();
    let partner = |holder: &PodName| Some((holder.0.clone(), known.get(holder)?.partner.clone()?));
    let partners: Vec<PodName> = names.iter().filter_map(partner).collect();
    names.extend(partners);
    names
}

/// Whether a text is the name of an object. Another one is no path.
fn is_name(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

/// A pod; none where there is none of this name.
async fn read(
    client: &Client,
    calls: &ApiCalls,
    (namespace, name): &PodName,
) -> Result<Option<PodView>, CallError> {
    if !is_name(namespace) || !is_name(name) {
        return Ok(None);
    }
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let request = http::Request::get(path).body(Vec::new()).expect("the path is valid");
    match calls.call("get", "a pod", client.request(request)).await {
        Err(error) if error.is_not_found() => Ok(None),
        pod => pod.map(Some),
    }
}

#[cfg(test)]
mod tests;
