//! Which failed devices are tainted: a DeviceTaintRule for each, as long as the Node's agent reports it as failed.
//!
//! The agent decides what has failed (`afd-track`), and names the device as the ResourceSlice does, for one generation of its pool.
//! A rule is deleted when the agent does not report the device any more, when the pool has another generation, when the Node is gone
//! or another one, and when the agent has been silent for hours: what is not confirmed any more is not failed. There is a maximum
//! for the whole cluster, since many faults at once are rather one wrong verdict.

use std::{
    cell::RefCell,
    collections::BTreeMap,
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
const MAX_SILENCE: i64 = 3 * 3600;

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
        loop {
            let delay = match self.compare_taints(state).await {
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
    async fn compare_taints(self, state: &RefCell<BridgeState>) -> Result<usize, CallError> {
        if !state.borrow().is_listed() {
            return Ok(0);
        }
        let Some(api) = TaintApi::discover(self.client, self.calls).await? else { return Ok(0) };
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
        let (mut created, mut tainted) = (Vec::new(), 0);
        let candidates =
            kept.iter().map(|device| (true, *device)).chain(others.into_iter().map(|device| (false, device)));
        for (has_rule, device) in candidates {
            let is_over = tainted >= self.options.max_taints;
            let is_current = !is_over && self.is_published(device, &mut published).await?;
            match (has_rule, is_current) {
                (true, false) => {
                    let rule = rules.iter().find(|rule| is_rule_of(rule, device, effect, &keys));
                    stale.extend(rule);
                }
                (false, true) => created.push(device),
                _ => {}
            }
            tainted += usize::from(is_current);
        }
        if !self.term.is_valid() {
            return Ok(wanted.len());
        }
        // There are never more rules than the limit, not even for a moment.
        for rule in stale {
            tracing::info!(rule = rule["metadata"]["name"].as_str(), "removing the taint of a device");
            api.delete(rule).await?;
        }
        for device in created {
            let FailedDevice { driver, device: name, reason, .. } = &device.failed;
            tracing::warn!(node = device.node, driver, device = name, reason, "tainting a failed device");
            api.create(rule(device, effect, &keys)).await?;
        }
        if wanted.len() > self.options.max_taints {
            let (failed, limit) = (wanted.len(), self.options.max_taints);
            tracing::warn!(failed, limit, "more devices have failed than are tainted at a time");
        }
        Ok(wanted.len())
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

/// The devices of the annotation, if it has the form of this version.
fn parse(text: &str) -> Option<Vec<FailedDevice>> {
    let failed: FailedDevices = serde_json::from_str(text).ok()?;
    (failed.v == FAILED_DEVICES_VERSION).then_some(failed.devices)
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
    (node, driver, pool, name, generation).hash(&mut hasher);
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
mod tests {
    use super::*;

    fn device(generation: i64) -> TaintedDevice {
        TaintedDevice {
            node: "n".to_owned(),
            node_uid: "1".to_owned(),
            failed: FailedDevice {
                driver: "gpu.example.com".to_owned(),
                pool: "n".to_owned(),
                generation,
                device: "gpu-0".to_owned(),
                reason: "DeviceLost".to_owned(),
            },
        }
    }

    #[test]
    fn a_rule_is_for_one_node_device_generation_and_effect() {
        let keys = BridgeKeys::new("p.example", None);
        let own = rule(&device(1), DeviceTaintEffect::None, &keys);
        let is_of = |device: &TaintedDevice, effect| is_rule_of(&own, device, effect, &keys);
        assert!(is_of(&device(1), DeviceTaintEffect::None));
        let other_reason = FailedDevice { reason: "Other".to_owned(), ..device(1).failed };
        assert!(is_of(&TaintedDevice { failed: other_reason, ..device(1) }, DeviceTaintEffect::None));
        assert!(!is_of(&device(2), DeviceTaintEffect::None), "another generation");
        assert!(!is_of(&device(1), DeviceTaintEffect::NoSchedule), "another effect");
        let recreated = TaintedDevice { node_uid: "2".to_owned(), ..device(1) };
        assert!(!is_of(&recreated, DeviceTaintEffect::None), "another Node of this name");
        assert!(own["metadata"]["name"].as_str().is_some_and(|name| name.len() == 20));
    }

    #[test]
    fn an_annotation_of_another_version_counts_for_nothing() {
        let text = |v: u32| serde_json::to_string(&FailedDevices { v, devices: vec![device(1).failed] });
        let text = |v| text(v).expect("it can be encoded");
        assert_eq!(parse(&text(1)), Some(vec![device(1).failed]));
        assert_eq!((parse(&text(2)), parse("x")), (None, None));
    }
}
