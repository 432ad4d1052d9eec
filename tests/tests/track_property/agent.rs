//! The agent that is played: the stages `track`, `derive` and `publish` without probes, as its loop connects them.

use std::collections::BTreeMap;

use afd_derive::{
    condition,
    decided::{DecidedKeys, KeyFamilies},
    labels::{self, DEFAULT_PREFIX, LabelOptions},
};
use afd_model::{Decision, NodeFacts, Offers};
use afd_publish::{
    node::{self, DesiredCondition, DesiredNode, NodeObserver, NodeSettings, WriteLimits},
    testing::{FakeApi, counters},
};
use afd_track::{Believed, Conditions, Observation, SavedState, Track, TrackOptions};
use tokio::{sync::watch, task::JoinHandle, time::Duration};

use crate::world::{VENDOR, World};

/// The name of the Node.
pub(crate) const NODE: &str = "node";
/// So many writes that their limit plays no part, and no heartbeat.
const LIMITS: WriteLimits = WriteLimits { burst: 1000, interval: Duration::from_millis(1), heartbeat: None };

/// An agent that runs.
pub(crate) struct Agent {
    track: Track,
    desired: watch::Sender<Option<DesiredNode>>,
    node: watch::Receiver<Option<NodeFacts>>,
    reconciler: JoinHandle<()>,
    /// What survives in the pod.
    state: SavedState,
}

/// What the agent made of one observation.
pub(crate) struct Turn {
    /// What it believes.
    pub(crate) believed: Believed,
    /// What it wants the Node to be now; none while it cannot know.
    pub(crate) desired: Option<DesiredNode>,
}

impl Agent {
    /// Starts an agent; one in the same pod continues from the state of the earlier one.
    pub(crate) fn start(api: &FakeApi, earlier: Option<(SavedState, &str)>) -> Agent {
        let prefix = DEFAULT_PREFIX.to_owned();
        let options = TrackOptions { prefix: prefix.clone(), has_node: true, ..TrackOptions::default() };
        let mut track = Track::new(options, [VENDOR]);
        if let Some((state, boot_id)) = earlier {
            track.restore(state, boot_id);
        }
        let settings = NodeSettings { name: NODE.to_owned(), prefix, limits: LIMITS };
        let (desired, receiver) = watch::channel(None);
        let (sender, node) = watch::channel(None);
        let observer = NodeObserver { node: sender, resources: watch::Sender::new(None) };
        let reconciler = node::reconcile(api.client(), settings, counters(), receiver, observer);
        Agent { state: track.save(""), track, desired, node, reconciler: tokio::spawn(reconciler) }
    }

    /// Ends it; returns what it has saved.
    pub(crate) fn stop(self) -> SavedState {
        self.reconciler.abort();
        self.state
    }

    /// Takes in what the world is like, and lets the reconciler know what the Node should be.
    pub(crate) fn observe(&mut self, world: &World) -> Turn {
        let (inventory, boot_id, node) = (world.inventory(), world.boot_id(), self.node.borrow().clone());
        let observation = Observation {
            now: world.uptime,
            wall: Some(world.wall),
            boot_id: Some(&boot_id),
            inventory: Some(&inventory),
            vendors: BTreeMap::from([(VENDOR.probe, world.vendor())]),
            node: node.as_ref(),
        };
        let believed = self.track.observe(&observation).clone();
        self.track.observe_offers(Some(&Offers::default()));
        let conditions = self.track.conditions(&world.offer);
        self.state = self.track.save(&boot_id);
        let desired = believed.is_settled.then(|| desired(&believed, &conditions));
        if desired.is_some() {
            self.desired.send_if_modified(|last| {
                let is_other = *last != desired;
                last.clone_from(&desired);
                is_other
            });
        }
        Turn { believed, desired }
    }
}

fn desired(believed: &Believed, conditions: &Conditions) -> DesiredNode {
    let options = LabelOptions::default();
    let allocation = Decision::Decided("device-plugin");
    let mut annotations = DecidedKeys::default();
    annotations.insert(format!("{DEFAULT_PREFIX}/expected"), believed.memory.clone());
    let (ready, problem) = condition::kinds(DEFAULT_PREFIX);
    DesiredNode {
        labels: labels::decided_labels(&believed.for_node, &options, allocation),
        compat: DecidedKeys::default(),
        annotations,
        label_families: labels::all_families(DEFAULT_PREFIX),
        annotation_families: KeyFamilies::default(),
        conditions: vec![
            DesiredCondition { kind: ready, state: conditions.ready.clone() },
            DesiredCondition { kind: problem, state: conditions.problem.clone() },
        ],
        inherits: believed.inherits,
    }
}
