//! What is kept of all Nodes and of the pods that opt in, and which pods have to be looked after. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
};

use tokio::sync::Notify;

use crate::{
    follow::{FollowEvent, FollowedObject},
    keys::BridgeKeys,
    node::{BridgedNode, last_heartbeat},
    plan::{KeySet, PodDigest, PodKeys},
    selector::{MAX_SELECTORS, PodSelector},
    taints::MAX_SILENCE,
};

/// The lists of pods: one for each selector, and that of pods with the marker.
pub(crate) const MAX_LISTS: usize = MAX_SELECTORS + 1;

/// A pod by its uid.
pub(crate) type PodUid = Rc<str>;

/// What is kept of a pod.
#[derive(Debug)]
pub(crate) struct PodEntry {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    node: Rc<str>,
    /// Of which version of the pod the digest is.
    version: u64,
    digest: PodDigest,
    /// Keys of the selector of the pod's owner; known once the pod has been looked after.
    reserved: KeySet,
    opts_in: bool,
    /// The lists that contain it, and in which run of each it was seen.
    lists: [Option<u8>; MAX_LISTS],
    is_queued: bool,
    /// How often in a row a write was refused, or did not have its result.
    failures: u8,
    /// It is not looked after for a while.
    is_held: bool,
}

/// What is kept of a Node, and the pods on it.
#[derive(Debug, Default)]
pub(crate) struct NodeEntry {
    pub(crate) view: Option<BridgedNode>,
    /// When its agent has last written it.
    pub(crate) heartbeat: Option<i64>,
    run: u8,
    pods: HashSet<PodUid>,
}

/// Nodes and pods.
#[derive(Debug)]
pub(crate) struct BridgeState {
    pub(crate) keys: BridgeKeys,
    pub(crate) selectors: Vec<PodSelector>,
    agent_manager: &'static str,
    nodes: HashMap<Rc<str>, NodeEntry>,
    pods: HashMap<PodUid, PodEntry>,
    queue: VecDeque<PodUid>,
    /// Those that could not be written the last time, after all others: each may take until a timeout.
    retries: VecDeque<PodUid>,
    runs: [u8; MAX_LISTS],
    node_run: u8,
    listed: HashSet<Option<usize>>,
    /// Woken when there is something in the queue, or a list is complete.
    pub(crate) pods_wake: Rc<Notify>,
    /// Woken when the failed devices of a Node have changed or count again, or a list is complete.
    pub(crate) taints_wake: Rc<Notify>,
}

impl BridgeState {
    /// Nothing is known yet.
    pub(crate) fn new(
        keys: BridgeKeys,
        selectors: Vec<PodSelector>,
        agent_manager: &'static str,
    ) -> BridgeState {
        BridgeState {
            keys,
            selectors,
            agent_manager,
            nodes: HashMap::new(),
            pods: HashMap::new(),
            queue: VecDeque::new(),
            retries: VecDeque::new(),
            runs: [0; MAX_LISTS],
            node_run: 0,
            listed: HashSet::new(),
            pods_wake: Rc::default(),
            taints_wake: Rc::default(),
        }
    }

    /// Takes in an event of the Nodes.
    pub(crate) fn node_event(&mut self, event: FollowEvent<'_>) {
        match event {
            FollowEvent::Listing => self.node_run = self.node_run.wrapping_add(1),
            FollowEvent::Restored => {}
            FollowEvent::Seen(node) => self.node_seen(node),
            FollowEvent::Gone(node) => {
                if let Some(name) = &node.metadata.name {
                    self.node_gone(name);
                }
            }
            FollowEvent::Listed => {
                let run = self.node_run;
                let gone = self.nodes.iter().filter(|(_, node)| node.view.is_some() && node.run != run);
                let gone: Vec<Rc<str>> = gone.map(|(name, _)| Rc::clone(name)).collect();
                gone.iter().for_each(|name| self.node_gone(name));
                self.list_complete(None);
            }
        }
    }

    fn node_seen(&mut self, node: &FollowedObject) {
        let Some(name) = &node.metadata.name else { return };
        let view = BridgedNode::new(&node.metadata, &self.keys);
        let heartbeat = last_heartbeat(&node.metadata, self.agent_manager);
        let entry = self.nodes.entry(name.as_str().into()).or_default();
        entry.run = self.node_run;
        let last = std::mem::replace(&mut entry.heartbeat, heartbeat);
        // The agent was silent for so long that what it had written did not count.
        let counts_again = match (last, heartbeat) {
            (Some(last), Some(now)) => now.saturating_sub(last) > MAX_SILENCE,
            (last, now) => last != now,
        };
        let before = entry.view.as_ref();
        let is_same = |before: &BridgedNode| (&before.failed, &before.uid) == (&view.failed, &view.uid);
        if !before.is_some_and(is_same) || (view.failed.is_some() && counts_again) {
            self.taints_wake.notify_one();
        }
        let concerned = match before {
            Some(before) if before.has_same_labels(&view) => Vec::new(),
            _ => entry.pods.iter().map(Rc::clone).collect(),
        };
        entry.view = Some(view);
        concerned.into_iter().for_each(|uid| self.examine(&uid));
    }

    /// Its pods keep their labels: they are on the same machine until they end.
    fn node_gone(&mut self, name: &str) {
        self.taints_wake.notify_one();
        if let Some(entry) = self.nodes.get_mut(name) {
            entry.view = None;
            if entry.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Takes in an event of one of the lists of pods.
    pub(crate) fn pod_event(&mut self, list: usize, event: FollowEvent<'_>) {
        match event {
            FollowEvent::Listing => self.runs[list] = self.runs[list].wrapping_add(1),
            FollowEvent::Restored => self.pods.values_mut().for_each(|pod| pod.version = 0),
            FollowEvent::Seen(pod) => self.pod_seen(Some(list), pod),
            FollowEvent::Gone(pod) => {
                let Some(uid) = pod.metadata.uid.as_deref() else { return };
                if pod.metadata.deletion_timestamp.is_some() {
                    self.forget(uid);
                } else {
                    self.left(uid, list);
                }
            }
            FollowEvent::Listed => {
                let run = self.runs[list];
                let gone =
                    self.pods.iter().filter(|(_, pod)| pod.lists[list].is_some_and(|seen| seen != run));
                let gone: Vec<PodUid> = gone.map(|(uid, _)| Rc::clone(uid)).collect();
                gone.iter().for_each(|uid| self.left(uid, list));
                self.list_complete(Some(list));
            }
        }
    }

    /// Takes in a pod, from a list or, without one, as it was read.
    pub(crate) fn pod_seen(&mut self, list: Option<usize>, pod: &FollowedObject) {
        let metadata = &pod.metadata;
        let (Some(uid), Some(name), Some(namespace)) = (&metadata.uid, &metadata.name, &metadata.namespace)
        else {
            return;
        };
        let version = pod.version();
        let digest = PodKeys::new(metadata, &self.keys).digest();
        let opts_in = self.opts_in(pod);
        let runs = self.runs;
        if !self.pods.contains_key(uid.as_str()) {
            let Some(list) = list else { return };
            let uid = PodUid::from(uid.as_str());
            let node: Rc<str> = pod.spec.node_name.as_str().into();
            self.nodes.entry(Rc::clone(&node)).or_default().pods.insert(Rc::clone(&uid));
            let mut lists = [None; MAX_LISTS];
            lists[list] = Some(runs[list]);
            let (namespace, name) = (namespace.as_str().into(), name.as_str().into());
            let reserved = KeySet::default();
            let entry = PodEntry {
                namespace,
                name,
                node,
                version,
                digest,
                reserved,
                opts_in,
                lists,
                is_queued: false,
                failures: 0,
                is_held: false,
            };
            self.pods.insert(uid, entry);
        } else if let Some(entry) = self.pods.get_mut(uid.as_str()) {
            // Two lists, and the response to a write, may arrive in another order than that of the changes.
            if version >= entry.version {
                (entry.version, entry.digest, entry.opts_in) = (version, digest, opts_in);
            }
            list.into_iter().for_each(|list| entry.lists[list] = Some(runs[list]));
            // What was read or written may be older than the end of the pod, which took it from all lists.
            entry.opts_in &= entry.lists.iter().any(Option::is_some);
        }
        self.examine(uid);
    }

    /// Whether a pod opts in.
    pub(crate) fn opts_in(&self, pod: &FollowedObject) -> bool {
        let none = Default::default();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        labels.get(self.keys.marker()).is_none_or(|value| value != crate::keys::OPTED_OUT)
            && self.selectors.iter().any(|selector| selector.matches(labels))
    }

    /// A pod is not in a list any more. In none at all: it has opted out, or ended. That is seen when it is read.
    fn left(&mut self, uid: &str, list: usize) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        entry.lists[list] = None;
        if entry.lists.iter().all(Option::is_none) {
            entry.opts_in = false;
            if !entry.digest.has_owned() {
                self.forget(uid);
                return;
            }
        }
        self.examine(uid);
    }

    /// A pod is of no interest any more.
    pub(crate) fn forget(&mut self, uid: &str) {
        let Some(entry) = self.pods.remove(uid) else { return };
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.pods.remove(uid);
            if node.view.is_none() && node.pods.is_empty() {
                self.nodes.remove(&entry.node);
            }
        }
    }

    /// A pod that was read, or written, has opted out and has nothing of ours: it is of no interest, unless a later version of it
    /// is known, which may have opted in again.
    pub(crate) fn cleaned(&mut self, uid: &str, pod: &FollowedObject) {
        if self.pods.get(uid).is_some_and(|entry| entry.version > pod.version()) {
            self.examine(uid);
        } else {
            self.forget(uid);
        }
    }

    /// The keys of the selector of the owner of a pod.
    pub(crate) fn reserve(&mut self, uid: &str, reserved: KeySet) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.reserved = reserved;
        }
    }

    /// Puts a pod into the queue if it has to be written.
    pub(crate) fn examine(&mut self, uid: &str) {
        if self.differs(uid) != Some(true) {
            return;
        }
        if let Some((uid, entry)) =
            self.pods.get_key_value(uid).filter(|(_, entry)| !entry.is_queued && !entry.is_held)
        {
            let queue = if entry.failures == 0 { &mut self.queue } else { &mut self.retries };
            let uid = Rc::clone(uid);
            queue.push_back(Rc::clone(&uid));
            self.pods.get_mut(&uid).into_iter().for_each(|entry| entry.is_queued = true);
            self.pods_wake.notify_one();
        }
    }

    /// Whether a pod has to be written, as far as that is known without reading it; none of a pod that is not followed.
    fn differs(&self, uid: &str) -> Option<bool> {
        let entry = self.pods.get(uid)?;
        if !entry.opts_in {
            return Some(entry.digest.has_owned());
        }
        Some(entry.digest.differs(self.node_of(entry), entry.reserved, &self.keys))
    }

    /// A write of a pod was refused, or (`is_done`) the pod is as it is now: returns how often in a row it is not as it should be.
    pub(crate) fn count_failure(&mut self, uid: &str, is_done: bool) -> u8 {
        let is_well = is_done && self.differs(uid) != Some(true);
        let Some(entry) = self.pods.get_mut(uid) else { return 0 };
        entry.failures = if is_well { 0 } else { entry.failures.saturating_add(1) };
        entry.failures
    }

    /// Looks after a pod no more until it is released, whatever happens to it.
    pub(crate) fn hold(&mut self, uid: &str, is_held: bool) {
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.is_held = is_held;
        }
        self.examine(uid);
    }

    fn node_of(&self, entry: &PodEntry) -> Option<&BridgedNode> {
        self.node(&entry.node)
    }

    /// A Node.
    pub(crate) fn node(&self, name: &str) -> Option<&BridgedNode> {
        self.nodes.get(name)?.view.as_ref()
    }

    /// All Nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &BridgedNode, Option<i64>)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(name, entry)| Some((&**name, entry.view.as_ref()?, entry.heartbeat)))
    }

    /// The next pod that has to be written, once all lists are complete: before, a pod may only seem to have opted out.
    pub(crate) fn next_pod(&mut self) -> Option<(PodUid, &PodEntry)> {
        if !self.is_listed() {
            return None;
        }
        while let Some(uid) = self.queue.pop_front().or_else(|| self.retries.pop_front()) {
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            entry.is_queued = false;
            if !entry.is_held && self.differs(&uid) == Some(true) {
                let entry = self.pods.get(&uid)?;
                return Some((uid, entry));
            }
        }
        None
    }

    /// Whether the list of Nodes was complete once.
    pub(crate) fn has_nodes(&self) -> bool {
        self.listed.contains(&None)
    }

    /// Whether all lists were complete once.
    pub(crate) fn is_listed(&self) -> bool {
        // Of the Nodes, of each selector, and of the marker.
        self.listed.len() == self.selectors.len() + 2
    }

    fn list_complete(&mut self, list: Option<usize>) {
        self.listed.insert(list);
        self.pods_wake.notify_one();
        self.taints_wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
