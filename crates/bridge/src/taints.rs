//! Which failed devices are tainted: a DeviceTaintRule for each, as long as the Node's agent reports it as failed.
//!
//! The agent decides what has failed (`afd-track`), and names the device as the ResourceSlice does, for one generation of its pool.
//! A rule is deleted when the agent does not report the device any more, when the pool has another generation, when the Node is gone
//! or another one, and when the agent has been silent for hours: what is not confirmed any more is not failed. There is a maximum
//! for the whole cluster, since many faults at once are rather one wrong verdict.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use afd_apiserver::{Backoff, CallError, slices};
use afd_model::{FAILED_DEVICES_VERSION, FailedDevice, FailedDevices};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    BridgeWorker,
    keys::{BridgeKeys, MARKED},
    state::BridgeState,
    taint_api::TaintApi,
};

/// How often the rules are compared while there are any, since a slice may have changed.
const INTERVAL: Duration = Duration::from_secs(20);
/// How often they are compared otherwise: another program may have left or removed some.
const IDLE_INTERVAL: Duration = Duration::from_mins(30);
/// The shortest time between two comparisons.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long what an agent has written counts after its last heartbeat, which is hourly.
pub(crate) const MAX_SILENCE: i64 = 3 * 3600;
/// How many refused rules are remembered.
const MAX_REMEMBERED: usize = 1000;
/// How many rules may be refused in a comparison before no other is tried.
const MAX_REFUSED: usize = 8;
/// The longest value of a label, and so of a taint.
const MAX_VALUE: usize = 63;

/// What a taint does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceTaintEffect {
    /// Nothing: it shows which device would be affected.
    None,
    /// The device is allocated to no further claim.
    NoSchedule,
    /// And pods that use it are evicted.
    NoExecute,
}

impl DeviceTaintEffect {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceTaintEffect::None => "None",
            DeviceTaintEffect::NoSchedule => "NoSchedule",
            DeviceTaintEffect::NoExecute => "NoExecute",
        }
    }
}

/// A device that should be tainted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct TaintedDevice {
    node: String,
    node_uid: String,
    failed: FailedDevice,
}

impl BridgeWorker<'_> {
    /// Keeps the rules, forever.
    pub(crate) async fn keep_taints(self, state: &RefCell<BridgeState>) -> Infallible {
        let wake = Rc::clone(&state.borrow().taints_wake);
        let mut backoff = Backoff::default();
        let mut memory = TaintMemory::default();
        loop {
            let delay = match self.compare_taints(state, &mut memory).await {
                Ok(rules) => {
                    backoff.reset();
                    if rules > 0 { INTERVAL } else { IDLE_INTERVAL }
                }
                Err(error) => {
                    let delay = backoff.next_delay(error.retry_after);
                    tracing::warn!(%error, retry_seconds = delay.as_secs(), "DeviceTaintRules are not kept; retrying");
                    sleep(delay).await;
                    continue;
                }
            };
            sleep(MIN_INTERVAL).await;
            // Either way they are compared again.
            let _ = timeout(delay, wake.notified()).await;
        }
    }

    /// Compares the rules with the failed devices once; returns how many there are, or should be.
    async fn compare_taints(
        self,
        state: &RefCell<BridgeState>,
        memory: &mut TaintMemory,
    ) -> Result<usize, CallError> {
        // Not the pods: what tenants do to their lists must not keep a device tainted.
        if !state.borrow().has_nodes() {
            return Ok(0);
        }
        let api = TaintApi::discover(self.client, self.calls, memory.has_api).await?;
        let Some(api) = api else { return Ok(0) };
        memory.has_api = true;
        let keys = state.borrow().keys.clone();
        let rules = api.list(&format!("{}={MARKED}", keys.marker())).await?;
        let wanted = match self.options.taints {
            Some(_) => wanted(&state.borrow()),
            None => Vec::new(),
        };
        let effect = self.options.taints.unwrap_or(DeviceTaintEffect::None);
        let (mut kept, mut stale) = (Vec::new(), Vec::new());
        for rule in &rules {
            match wanted.iter().find(|device| is_rule_of(rule, device, effect, &keys)) {
                Some(device) if !kept.contains(&device) => kept.push(device),
                _ => stale.push(rule),
            }
        }
        // Those that have a rule first: one device must not take the place of another.
        let others = wanted.iter().filter(|device| !kept.contains(device)).collect::<Vec<_>>();
        let mut published = BTreeMap::new();
        let mut tainted = 0;
        for device in &kept {
            if tainted < self.options.max_taints && self.is_published(device, &mut published).await? {
                tainted += 1;
            } else {
                stale.extend(rules.iter().find(|rule| is_rule_of(rule, device, effect, &keys)));
            }
        }
        let limit = self.term.write_timeout;
        // There are never more rules than the limit, not even for a moment.
        let mut present = rules.len();
        for rule in stale.into_iter().take_while(|_| self.term.is_valid()) {
            let name = rule["metadata"]["name"].as_str().unwrap_or_default();
            tracing::info!(rule = name, "removing the taint of a device");
            present -= usize::from(memory.settled(name, self.term.write(api.delete(rule, limit)).await)?);
        }
        let mut refused = 0;
        for device in others {
            let is_over = present >= self.options.max_taints || refused >= MAX_REFUSED;
            if is_over || !self.term.is_valid() {
                break;
            }
            if !self.is_published(device, &mut published).await? {
                continue;
            }
            let rule = rule(device, effect, &keys);
            let name = rule["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if memory.settled(&name, self.term.write(api.create(rule, limit)).await)? {
                let FailedDevice { driver, device: name, reason, .. } = &device.failed;
                tracing::warn!(node = device.node, driver, device = name, reason, "tainted a failed device");
                present += 1;
            } else {
                refused += 1;
            }
        }
        if wanted.len() > self.options.max_taints {
            let (failed, limit) = (wanted.len(), self.options.max_taints);
            tracing::warn!(failed, limit, "more devices have failed than are tainted at a time");
        }
        Ok(wanted.len().max(present))
    }

    /// Whether the slices of the Node have the device, in the generation for which the agent has named it.
    async fn is_published<'d>(
        self,
        device: &'d TaintedDevice,
        published: &mut BTreeMap<&'d str, slices::PublishedDevices>,
    ) -> Result<bool, CallError> {
        if !published.contains_key(device.node.as_str()) {
            let read = slices::read(self.client, &device.node, self.calls).await?;
            published.insert(&device.node, read);
        }
        let FailedDevice { driver, pool, generation, device: name, .. } = &device.failed;
        let slices = &published[device.node.as_str()];
        Ok(slices.devices.iter().any(|own| {
            (&own.driver, &own.pool, &own.generation, &own.name) == (driver, pool, generation, name)
        }))
    }
}

/// What is remembered from one comparison to the next.
#[derive(Debug, Default)]
struct TaintMemory {
    /// Whether the server had the API.
    has_api: bool,
    /// The rules that it has refused, about which nothing more is said.
    refused: BTreeSet<String>,
}

impl TaintMemory {
    /// Whether a write of a rule has succeeded. One that is refused, such as that of a name which another program has taken, keeps
    /// no other from being written; it is tried again with the next comparison.
    fn settled(&mut self, rule: &str, result: Result<(), CallError>) -> Result<bool, CallError> {
        match result {
            Ok(()) => {
                self.refused.remove(rule);
                Ok(true)
            }
            Err(error) if is_refusal(&error) => {
                if self.refused.len() < MAX_REMEMBERED && self.refused.insert(rule.to_owned()) {
                    tracing::warn!(rule, %error, "the API server refuses a change of a DeviceTaintRule");
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the server refuses one object, rather than all calls of the moment.
fn is_refusal(error: &CallError) -> bool {
    error.status().is_some_and(|status| (400..500).contains(&status.code) && status.code != 429)
}

/// The failed devices of all Nodes, sorted. What an agent has written that has been silent for long does not count.
fn wanted(state: &BridgeState) -> Vec<TaintedDevice> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut wanted = Vec::new();
    for (name, node, heartbeat) in state.nodes() {
        let Some(text) = &node.failed else { continue };
        if heartbeat.is_none_or(|last| now.saturating_sub(last) > MAX_SILENCE) {
            continue;
        }
        let Some(failed) = parse(text) else {
            tracing::warn!(node = name, "the annotation of failed devices cannot be used");
            continue;
        };
        wanted.extend(failed.into_iter().map(|failed| TaintedDevice {
            node: name.to_owned(),
            node_uid: node.uid.to_string(),
            failed,
        }));
    }
    wanted.sort();
    wanted.dedup_by(|a, b| {
        (&a.node, &a.failed.driver, &a.failed.pool, &a.failed.device)
            == (&b.node, &b.failed.driver, &b.failed.pool, &b.failed.device)
    });
    wanted
}

/// The devices of the annotation, if it has the form of this version. Those whose reason could not be the value of a taint are left
/// out: the annotation may be from others than the agent.
fn parse(text: &str) -> Option<Vec<FailedDevice>> {
    let mut failed: FailedDevices = serde_json::from_str(text).ok()?;
    failed.devices.retain(|device| is_value(&device.reason));
    (failed.v == FAILED_DEVICES_VERSION).then_some(failed.devices)
}

/// Whether a text is the value of a label.
fn is_value(text: &str) -> bool {
    let (first, last) = (text.bytes().next(), text.bytes().last());
    [first, last].iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.len() <= MAX_VALUE
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whether a rule is the one that a device should have.
fn is_rule_of(rule: &Value, device: &TaintedDevice, effect: DeviceTaintEffect, keys: &BridgeKeys) -> bool {
    let wanted = self::rule(device, effect, keys);
    let owner = |rule: &Value| rule["metadata"]["ownerReferences"][0]["uid"].clone();
    let generation = |rule: &Value| rule["metadata"]["annotations"][generation_key(keys)].clone();
    let taint =
        |rule: &Value| (rule["spec"]["taint"]["key"].clone(), rule["spec"]["taint"]["effect"].clone());
    rule["spec"]["deviceSelector"] == wanted["spec"]["deviceSelector"]
        && taint(rule) == taint(&wanted)
        && owner(rule) == owner(&wanted)
        && generation(rule) == generation(&wanted)
}

fn generation_key(keys: &BridgeKeys) -> String {
    format!("{}-generation", keys.marker())
}

/// The rule of a device.
fn rule(device: &TaintedDevice, effect: DeviceTaintEffect, keys: &BridgeKeys) -> Value {
    let TaintedDevice { node, node_uid, failed } = device;
    let FailedDevice { driver, pool, generation, device: name, reason } = failed;
    let mut hasher = DefaultHasher::new();
    (&keys.taint, node, node_uid, driver, pool, name, generation).hash(&mut hasher);
    json!({
        "metadata": {
            "name": format!("afd-{:016x}", hasher.finish()),
            "labels": { keys.marker(): MARKED },
            "annotations": { generation_key(keys): generation.to_string() },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid }],
        },
        "spec": {
            "deviceSelector": { "driver": driver, "pool": pool, "device": name },
            "taint": { "key": keys.taint, "value": reason, "effect": effect.as_str() },
        },
    })
}

#[cfg(test)]
mod tests;
