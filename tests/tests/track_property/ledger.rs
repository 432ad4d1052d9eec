//! What happened so far, as far as the rules need it.
//!
//! Times are wall times in seconds: they run through suspensions and boots.

use std::collections::BTreeMap;

use afd_model::LibraryStatus;

use crate::{
    expectations::{Verdict, ids},
    node_view::NodeView,
    world::{KINDS, SLOTS, World},
};

/// Until an absent device is removed.
pub(crate) const REMOVAL: i64 = 30;
/// Until the verdicts of a library that starts expire: the longest of its graces.
pub(crate) const LIBRARY_START: i64 = 120;
/// The longest time between two observations, suspensions aside.
pub(crate) const MAX_PAUSE: i64 = 60;
const REMOVAL_AFTER_BOOT: i64 = 300;
const BOOT: u64 = 300;
const LEARNING: i64 = 600;
const MAINTENANCE: i64 = 7200;
const MAINTENANCE_END: i64 = 600;
const GAP: i64 = 180;

/// What happened to one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The kind of the board that this agent believes to be there.
    believed: Option<usize>,
    /// Since when this agent has not found it.
    absent_since: Option<i64>,
    /// Since when this agent has found the board of this number without a break.
    present: Option<(u32, i64)>,
    /// When a board was there last.
    there_at: Option<i64>,
    /// When the library last reported the state of its board.
    confirmed_at: Option<i64>,
    /// The same, or when the agent last had a reason to wait for it.
    judged_at: Option<i64>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    slots: [Slot; SLOTS],
    now: i64,
    /// When this agent last observed.
    last: Option<i64>,
    /// Whether this agent was started with nothing but the Node, and has not observed yet.
    is_new_pod: bool,
    /// The most boards of each kind that this machine ever had.
    most: [u64; KINDS.len()],
    /// Since when boards that the Node expects have not been there, for all containers of a pod.
    incomplete_since: Option<i64>,
    /// The first signal of maintenance that goes on, for all containers of a pod.
    signal_since: Option<i64>,
    signal_ended: Option<i64>,
    /// Since when the library has been released.
    released_since: Option<i64>,
    /// How the Node identifies the machines.
    machines: BTreeMap<u32, String>,
    /// The Node as this agent has read it last, if it describes this boot.
    seen: Option<NodeView>,
    inherits: bool,
}

impl Ledger {
    /// Another agent runs now.
    pub(crate) fn agent_started(&mut self, has_state: bool) {
        for slot in &mut self.slots {
            (slot.believed, slot.absent_since, slot.present) = (None, None, None);
        }
        (self.last, self.seen, self.inherits) = (None, None, false);
        self.is_new_pod = !has_state;
        if !has_state {
            (self.incomplete_since, self.signal_since, self.signal_ended) = (None, None, None);
        }
    }

    /// Another machine runs now.
    pub(crate) fn machine_changed(&mut self) {
        (self.slots, self.most) = Default::default();
    }

    /// Takes in what is there now.
    pub(crate) fn observe(&mut self, world: &World, node: &NodeView) {
        let now = world.wall;
        let is_gap = self.last.is_some_and(|last| now - last > GAP);
        let restarts = is_gap || self.is_new_pod;
        (self.now, self.last, self.is_new_pod) = (now, Some(now), false);
        let removal = removal(world);
        for (slot, board) in self.slots.iter_mut().zip(&world.slots) {
            if is_gap {
                slot.absent_since = slot.absent_since.map(|_| now);
                slot.confirmed_at = slot.confirmed_at.map(|_| now);
            }
            if restarts {
                slot.judged_at = slot.judged_at.map(|_| now);
            }
            let Some(board) = board else {
                (slot.present, slot.judged_at) = (None, None);
                if slot.believed.is_some() && now - *slot.absent_since.get_or_insert(now) >= removal {
                    (slot.believed, slot.absent_since) = (None, None);
                }
                continue;
            };
            (slot.believed, slot.absent_since, slot.there_at) = (Some(board.kind), None, Some(now));
            slot.present = slot.present.filter(|(uuid, _)| *uuid == board.uuid).or(Some((board.uuid, now)));
            slot.judged_at.get_or_insert(now);
            if world.is_answering() {
                (slot.confirmed_at, slot.judged_at) = (Some(now), Some(now));
            }
        }
        for kind in 0..KINDS.len() {
            self.most[kind] = self.most[kind].max(self.believed_of_kind(kind));
        }
        self.observe_signal(world);
        self.observe_node(world, node, restarts);
    }

    fn observe_signal(&mut self, world: &World) {
        let is_released = world.library == LibraryStatus::Released;
        self.released_since = is_released.then(|| self.released_since.unwrap_or(self.now));
        if world.signal.is_some() {
            self.signal_ended = None;
            self.signal_since.get_or_insert(self.now);
        } else if self.now - *self.signal_ended.get_or_insert(self.now) >= MAINTENANCE_END {
            self.signal_since = None;
        }
    }

    fn observe_node(&mut self, world: &World, node: &NodeView, restarts: bool) {
        let there =
            |kind: usize| world.slots.iter().flatten().filter(|board| board.kind == kind).count() as u64;
        let machine = self.machines.get(&world.machine);
        let memory = node.memory.as_ref().filter(|memory| Some(&memory.machine) == machine);
        let lacks = memory.is_some_and(|memory| {
            ids().any(|(kind, id)| memory.devices.get(&id).is_some_and(|number| there(kind) < *number))
        });
        let since = self.incomplete_since.filter(|_| !restarts).unwrap_or(self.now);
        self.incomplete_since = lacks.then_some(since);
        // What the Node says counts if it describes this machine and these kinds of boards.
        let seen = self.seen.as_ref().and_then(|seen| seen.memory.as_ref());
        self.inherits |= seen.is_some_and(|memory| {
            let knows_all = ids().all(|(kind, id)| there(kind) == 0 || memory.devices.contains_key(&id));
            Some(&memory.machine) == machine && (knows_all || memory.devices.is_empty())
        });
    }

    /// Takes in what the agent has made of the Node.
    pub(crate) fn end_observation(&mut self, world: &World, before: &NodeView, after: &NodeView) -> Verdict {
        self.seen = world.is_described().then(|| after.clone());
        if before.memory == after.memory {
            return Ok(());
        }
        let Some(memory) = &after.memory else { return Err("the annotation was removed".to_owned()) };
        let own = self.machines.entry(world.machine).or_insert_with(|| memory.machine.clone()).clone();
        let is_unique = self.machines.values().filter(|machine| **machine == own).count() == 1;
        if own == memory.machine && is_unique {
            Ok(())
        } else {
            Err("a wrong machine is remembered".to_owned())
        }
    }

    /// The slots in which the agent must believe a board to be.
    pub(crate) fn believed_slots(&self) -> Vec<usize> {
        (0..SLOTS).filter(|slot| self.slots[*slot].believed.is_some()).collect()
    }

    /// How many boards of a kind it must believe to be there.
    pub(crate) fn believed_of_kind(&self, kind: usize) -> u64 {
        self.slots.iter().filter(|slot| slot.believed == Some(kind)).count() as u64
    }

    /// The most boards of a kind that this machine ever had.
    pub(crate) fn most_of_kind(&self, kind: usize) -> u64 {
        self.most[kind]
    }

    /// Whether this agent has seen all boards for so long that their number is learnt.
    pub(crate) fn have_all_stayed(&self) -> bool {
        let mut believed = self.slots.iter().filter(|slot| slot.believed.is_some());
        believed.all(|slot| slot.present.is_some_and(|(_, since)| self.now - since >= LEARNING))
    }

    /// How many boards were there within the last seconds.
    pub(crate) fn there_within(&self, seconds: i64) -> u64 {
        let is_recent = |slot: &&Slot| slot.there_at.is_some_and(|at| self.now - at < seconds);
        self.slots.iter().filter(is_recent).count() as u64
    }

    /// Whether the Node describes this machine, as this agent has read it.
    pub(crate) fn inherits(&self) -> bool {
        self.inherits
    }

    /// How long ago the library last reported the state of a board.
    pub(crate) fn unconfirmed_for(&self, slot: usize) -> Option<i64> {
        self.slots[slot].confirmed_at.map(|at| self.now - at)
    }

    /// The longest time for which the agent has waited for the state of a board.
    pub(crate) fn unjudged_for(&self) -> i64 {
        let ages = self.slots.iter().filter_map(|slot| slot.judged_at).map(|at| self.now - at);
        ages.max().unwrap_or_default()
    }

    /// Whether the agent may still wait with its verdict: for the Node, or for boards that the Node expects.
    pub(crate) fn may_wait(&self, world: &World) -> bool {
        let is_incomplete = self.incomplete_since.is_some_and(|since| self.now - since < removal(world));
        self.seen.is_none() || is_incomplete
    }

    /// Whether maintenance goes on by a signal, or because the library is released, and for no longer than any does.
    pub(crate) fn is_maintained(&self, world: &World) -> bool {
        let is_recent = |since: Option<i64>| since.is_some_and(|since| self.now - since < MAINTENANCE);
        world.signal.is_some() && is_recent(self.signal_since) || is_recent(self.released_since)
    }
}

fn removal(world: &World) -> i64 {
    if world.uptime.as_secs() < BOOT { REMOVAL_AFTER_BOOT } else { REMOVAL }
}
