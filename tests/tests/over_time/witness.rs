//! A witness of a Node: keeps every version of it, and says what was never allowed to happen between two of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use afd_publish::node::FIELD_MANAGER;
use afd_test_cluster::until;
use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use serde_json::Value;
use tokio::task::JoinHandle;

/// The annotation that names problems.
const REPORT: &str = "accelerator.llm-d.ai/report";

/// One version of the Node, as far as it is AFD's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeVersion {
    version: String,
    /// All labels.
    labels: BTreeMap<String, String>,
    /// All annotations.
    annotations: BTreeMap<String, String>,
    /// The labels that AFD owns.
    owned: BTreeSet<String>,
    /// Status and reason of each condition of AFD, by the name after its prefix.
    conditions: BTreeMap<String, String>,
    /// The record of what AFD wrote, with the times.
    writes: Value,
}

impl From<&Node> for NodeVersion {
    fn from(node: &Node) -> NodeVersion {
        let managed = serde_json::to_value(node.managed_fields()).expect("a Node can be encoded");
        let entries = managed.as_array().into_iter().flatten();
        let ours: Vec<Value> = entries.filter(|entry| entry["manager"] == FIELD_MANAGER).cloned().collect();
        let labels = ours.iter().filter_map(|entry| entry["fieldsV1"]["f:metadata"]["f:labels"].as_object());
        let owned = labels.flat_map(|labels| labels.keys()).filter_map(|key| key.strip_prefix("f:"));
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let conditions = conditions.filter_map(|condition| {
            let name = condition.type_.strip_prefix("accelerator.llm-d.ai/")?;
            let reason = condition.reason.as_deref().unwrap_or_default();
            Some((name.to_owned(), format!("{} {reason}", condition.status)))
        });
        NodeVersion {
            version: node.resource_version().unwrap_or_default(),
            labels: node.labels().clone(),
            annotations: node.annotations().clone(),
            owned: owned.map(str::to_owned).collect(),
            conditions: conditions.collect(),
            writes: Value::Array(ours),
        }
    }
}

impl NodeVersion {
    /// Status and reason of a condition: `True AllHealthy`, or `none`.
    pub(crate) fn condition(&self, name: &str) -> &str {
        self.conditions.get(name).map_or("none", String::as_str)
    }

    /// The labels that AFD owns.
    pub(crate) fn own_labels(&self) -> BTreeMap<&str, &str> {
        let own = self.labels.iter().filter(|(key, _)| self.owned.contains(*key));
        own.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    /// An annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// What was seen.
#[derive(Default)]
struct Sightings {
    versions: Vec<NodeVersion>,
    /// Why there may be versions that were not seen.
    gap: Option<String>,
}

/// Watches the Node until it is dropped.
pub(crate) struct Witness {
    nodes: Api<Node>,
    name: &'static str,
    seen: Arc<Mutex<Sightings>>,
    task: JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    /// Watches from the present version on.
    pub(crate) async fn start(nodes: Api<Node>, name: &'static str) -> anyhow::Result<Witness> {
        let first = NodeVersion::from(&nodes.get(name).await?);
        let version = first.version.clone();
        let seen = Arc::new(Mutex::new(Sightings { versions: vec![first], gap: None }));
        let task = tokio::spawn(follow(nodes.clone(), name, version, Arc::clone(&seen)));
        Ok(Witness { nodes, name, seen, task })
    }

    /// The number of versions until now, the present one included.
    pub(crate) async fn mark(&self) -> anyhow::Result<usize> {
        until("the witness has seen the present version", async || {
            let present = self.nodes.get_metadata(self.name).await?.resource_version();
            let last = lock(&self.seen).versions.last().map(|version| version.version.clone());
            ensure!(present == last, "it has seen {last:?} of {present:?}");
            Ok(())
        })
        .await?;
        Ok(lock(&self.seen).versions.len())
    }

    /// All versions from the one that was present at a mark until now.
    pub(crate) async fn since(&self, mark: usize) -> anyhow::Result<History> {
        self.mark().await?;
        let seen = lock(&self.seen);
        if let Some(gap) = &seen.gap {
            bail!("the witness has missed versions: {gap}");
        }
        Ok(History(seen.versions[mark - 1..].to_vec()))
    }
}

fn lock(seen: &Mutex<Sightings>) -> MutexGuard<'_, Sightings> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(nodes: Api<Node>, name: &str, mut version: String, seen: Arc<Mutex<Sightings>>) {
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    loop {
        let Ok(stream) = nodes.watch(&parameters, &version).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        pin_mut!(stream);
        while let Some(Ok(event)) = stream.next().await {
            match event {
                WatchEvent::Added(node) | WatchEvent::Modified(node) | WatchEvent::Deleted(node) => {
                    let node = NodeVersion::from(&node);
                    version.clone_from(&node.version);
                    lock(&seen).versions.push(node);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(error) => {
                    lock(&seen).gap = Some(format!("{error:?}"));
                    return;
                }
            }
        }
    }
}

/// Versions of a Node in their order. The first one is right.
#[derive(Debug)]
pub(crate) struct History(Vec<NodeVersion>);

impl History {
    /// The first version.
    pub(crate) fn first(&self) -> &NodeVersion {
        &self.0[0]
    }

    /// The present version.
    pub(crate) fn last(&self) -> &NodeVersion {
        &self.0[self.0.len() - 1]
    }

    /// No label of AFD was changed, removed or added in any version, except these.
    pub(crate) fn ensure_labels_stay(&self, except: &[&str]) -> anyhow::Result<()> {
        let right = self.first();
        for version in &self.0 {
            // A label that another manager has changed is still AFD's.
            let mut now = version.labels.clone();
            let is_concerned = |key: &String| right.owned.contains(key) || version.owned.contains(key);
            now.retain(|key, _| is_concerned(key) && !except.contains(&key.as_str()));
            let mut before = right.labels.clone();
            before.retain(|key, _| right.owned.contains(key) && !except.contains(&key.as_str()));
            let changes = differences(&before, &now);
            ensure!(changes.is_empty(), "labels changed: {}", changes.join("\n"));
        }
        Ok(())
    }

    /// No label of AFD has a value again that it had before another one.
    pub(crate) fn ensure_no_flapping(&self, except: &[&str]) -> anyhow::Result<()> {
        let owned: BTreeSet<&String> = self.0.iter().flat_map(|version| &version.owned).collect();
        for key in owned.into_iter().filter(|key| !except.contains(&key.as_str())) {
            let mut values: Vec<Option<&String>> =
                self.0.iter().map(|version| version.labels.get(key)).collect();
            values.dedup();
            let distinct: BTreeSet<_> = values.iter().collect();
            ensure!(distinct.len() == values.len(), "{key} flaps: {values:?}");
        }
        Ok(())
    }

    /// A condition went through exactly these statuses and reasons, in this order, the first one included.
    pub(crate) fn ensure_condition(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        let mut statuses: Vec<&str> = self.0.iter().map(|version| version.condition(name)).collect();
        statuses.dedup();
        ensure!(statuses == expected, "the condition {name} went through {statuses:?}, not {expected:?}");
        Ok(())
    }

    /// AFD has written nothing at all.
    pub(crate) fn ensure_unwritten(&self) -> anyhow::Result<()> {
        let before = self.first();
        if let Some(version) = self.0.iter().find(|version| version.writes != before.writes) {
            let changes = [
                differences(&before.labels, &version.labels),
                differences(&before.annotations, &version.annotations),
                differences(&before.conditions, &version.conditions),
            ];
            bail!("AFD wrote, and changed {}", changes.concat().join("\n"));
        }
        Ok(())
    }

    /// Nothing but the report of problems differs in any version.
    pub(crate) fn ensure_only_reported(&self) -> anyhow::Result<()> {
        let said = |version: &NodeVersion| {
            let mut said = version.clone();
            said.annotations.remove(REPORT);
            [said.labels, said.annotations, said.conditions]
        };
        let before = said(self.first());
        for now in self.0.iter().map(said) {
            let changes = before.iter().zip(&now).flat_map(|(before, now)| differences(before, now));
            let changes: Vec<String> = changes.collect();
            ensure!(changes.is_empty(), "AFD changed {}", changes.join("\n"));
        }
        Ok(())
    }

    /// The keys of labels of the first version that begin so.
    pub(crate) fn keys_with(&self, prefix: &str) -> Vec<String> {
        self.first().labels.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// The sets of labels that AFD owned one after another.
    pub(crate) fn label_sets(&self) -> Vec<BTreeMap<&str, &str>> {
        let mut sets: Vec<_> = self.0.iter().map(NodeVersion::own_labels).collect();
        sets.dedup();
        sets
    }

    /// The first version in which a condition has a status and reason.
    pub(crate) fn first_with(&self, name: &str, status: &str) -> anyhow::Result<&NodeVersion> {
        let mut versions = self.0.iter();
        versions
            .find(|version| version.condition(name) == status)
            .with_context(|| format!("{name} was never {status}"))
    }

    /// An annotation has one value in every version.
    pub(crate) fn ensure_annotation(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let other = self.0.iter().find(|version| version.annotation(key) != Some(value));
        ensure!(other.is_none(), "{key} is {:?}", other.and_then(|version| version.annotation(key)));
        Ok(())
    }
}

/// What differs between two maps, a line for each key.
fn differences(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differing = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    differing.map(|key| format!("{key} from {:?} to {:?}", before.get(key), now.get(key))).collect()
}
