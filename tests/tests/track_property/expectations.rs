//! What must hold after each observation, by plain bookkeeping of what happened. Nothing here asks the agent what it knows.
//!
//! Times are wall times in seconds: they run through suspensions and boots.

use std::collections::BTreeMap;

use afd_model::{Decision, Fact, HealthState, LibraryStatus};
use afd_publish::{node::DesiredNode, testing::FakeRequest};

use crate::{
    agent::Turn,
    ledger::{LIBRARY_START, Ledger, MAX_PAUSE, REMOVAL},
    node_view::{NodeView, written_conditions, written_labels},
    world::{KINDS, World, slot_of},
};

/// What a rule found: nothing, or what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// One observation, with the Node before and after what the agent wrote.
pub(crate) struct Observed<'o> {
    /// The machine.
    pub(crate) world: &'o World,
    /// What the agent made of it.
    pub(crate) turn: &'o Turn,
    /// The Node before.
    pub(crate) before: &'o NodeView,
    /// The Node after.
    pub(crate) after: &'o NodeView,
    /// What was written.
    pub(crate) writes: &'o [FakeRequest],
    /// Whether others have changed the Node since the observation before.
    pub(crate) is_node_changed: bool,
}

/// The bookkeeping, and what the agent wanted last.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    /// What happened.
    pub(crate) ledger: Ledger,
    /// What this agent wanted the Node to be after its last observation.
    desired: Option<DesiredNode>,
    /// The numbers that were expected of this machine.
    expected: BTreeMap<String, u64>,
}

impl Expectations {
    /// Another agent runs now. Without the state of the earlier one it is that of a new pod.
    pub(crate) fn agent_started(&mut self, has_state: bool) {
        self.ledger.agent_started(has_state);
        self.desired = None;
    }

    /// Another machine runs now.
    pub(crate) fn machine_changed(&mut self) {
        self.ledger.machine_changed();
        self.expected.clear();
    }

    /// Checks one observation by all rules.
    pub(crate) fn check(&mut self, observed: &Observed<'_>) -> Verdict {
        self.ledger.observe(observed.world, observed.before);
        self.devices_are_debounced(observed)?;
        self.missing_is_what_lacks(observed)?;
        self.numbers_are_learnt(observed)?;
        self.what_is_undecided_stays(observed)?;
        self.static_labels_never_expire(observed)?;
        self.devices_leave_the_node_late(observed)?;
        self.maintenance_is_no_problem(observed)?;
        self.verdicts_expire(observed)?;
        self.nothing_is_written_in_vain(observed)?;
        self.desired.clone_from(&observed.turn.desired);
        self.ledger.end_observation(observed.world, observed.before, observed.after)
    }

    /// A device is removed after its absence was confirmed, and not before or later.
    fn devices_are_debounced(&self, observed: &Observed<'_>) -> Verdict {
        let believed = &observed.turn.believed;
        let slots = |inventory: &afd_model::Inventory| -> Vec<usize> {
            inventory.devices.iter().map(slot_of).collect()
        };
        let there = observed.world.slots.iter().enumerate().filter(|(_, board)| board.is_some());
        same("devices", &slots(&believed.inventory), &there.map(|(slot, _)| slot).collect())?;
        same("devices for the Node", &slots(&believed.for_node), &self.ledger.believed_slots())
    }

    fn missing_is_what_lacks(&self, observed: &Observed<'_>) -> Verdict {
        let believed = &observed.turn.believed;
        let missing = &believed.for_node.missing;
        if !believed.is_settled {
            return same("missing devices of an agent that waits", &missing.len(), &0);
        }
        let expected = expected(observed);
        for (kind, id) in ids() {
            let is_of_kind = |own: Option<afd_model::PciId>| own.is_some_and(|own| own.0 == KINDS[kind]);
            let missing = missing.iter().filter(|missing| is_of_kind(missing.device_id)).count() as u64;
            let number = expected.get(&id).copied().unwrap_or_default();
            let lacks = number.saturating_sub(self.ledger.believed_of_kind(kind));
            same(&format!("missing devices {id} of {number}"), &missing, &lacks)?;
        }
        Ok(())
    }

    /// Presence raises the numbers, absence never lowers them, and only another kind of board in its place does.
    fn numbers_are_learnt(&mut self, observed: &Observed<'_>) -> Verdict {
        if !observed.turn.believed.is_settled {
            return Ok(());
        }
        let now = expected(observed);
        let number = |numbers: &BTreeMap<String, u64>, id: &str| numbers.get(id).copied().unwrap_or_default();
        let has_fallen = ids().any(|(_, id)| number(&now, &id) < number(&self.expected, &id));
        let total: u64 = self.expected.values().sum();
        let believed: u64 = (0..KINDS.len()).map(|kind| self.ledger.believed_of_kind(kind)).sum();
        ensure(!has_fallen || believed >= total, || {
            format!("the expectation fell from {:?} to {now:?} with {believed} devices", self.expected)
        })?;
        for (kind, id) in ids() {
            let (number, most) = (number(&now, &id), self.ledger.most_of_kind(kind));
            ensure(number <= most, || format!("{number} of {id} are expected, of which {most} were there"))?;
            let there = self.ledger.believed_of_kind(kind);
            ensure(!self.ledger.have_all_stayed() || number >= there, || {
                format!("{number} of {id} are expected, and {there} have stayed")
            })?;
        }
        self.expected = now;
        Ok(())
    }

    /// An apply contains every owned key of an undecided family unchanged, if the Node describes this machine. Of another
    /// machine nothing that is undecided is inherited.
    fn what_is_undecided_stays(&self, observed: &Observed<'_>) -> Verdict {
        let Some(desired) = &observed.turn.desired else {
            return ensure(observed.writes.is_empty(), || "an agent that waits has written".to_owned());
        };
        let decided = desired.conditions.iter().filter(|condition| condition.state.value().is_some());
        let decided: Vec<&str> = decided.map(|condition| condition.kind.as_str()).collect();
        let undecided = |key: &&String| desired.labels.undecided.contains(key);
        for write in observed.writes {
            let labels = written_labels(&write.body);
            if self.ledger.inherits() {
                let kept = observed.before.owned.iter().filter(undecided).filter(|_| write.verb == "apply");
                for key in kept {
                    same(&format!("carried {key}"), &labels.get(key), &observed.before.labels.get(key))?;
                }
            } else {
                let inherited = labels.keys().find(|key| !desired.labels.values.contains_key(*key));
                same("a label of another machine", &inherited, &None)?;
                let conditions = written_conditions(&write.body);
                let inherited = conditions.iter().find(|kind| !decided.contains(&kind.as_str()));
                same("a condition of another machine", &inherited, &None)?;
            }
        }
        if !self.ledger.inherits() {
            return Ok(());
        }
        for key in observed.before.labels.keys().chain(observed.after.labels.keys()).filter(undecided) {
            let (before, after) = (observed.before.labels.get(key), observed.after.labels.get(key));
            same(&format!("undecided {key}"), &after, &before)?;
        }
        let undecided = desired.conditions.iter().filter(|condition| condition.state == Decision::Undecided);
        for condition in undecided {
            let kind = condition.kind.rsplit('/').next().unwrap_or_default();
            let (before, after) = (observed.before.status(kind), observed.after.status(kind));
            same(&format!("undecided {kind}"), &after, &before)?;
        }
        Ok(())
    }

    /// Labels of the devices themselves stay while the machine is the same, although the library does not answer.
    fn static_labels_never_expire(&self, observed: &Observed<'_>) -> Verdict {
        let believed = &observed.turn.believed.for_node.devices;
        let any_failed = believed.iter().any(|device| device.health.state == HealthState::Failed);
        let may_go = any_failed
            || believed.is_empty()
            || observed.world.library == LibraryStatus::NotFound
            || !self.ledger.inherits();
        let memory = observed.before.owned.iter().find(|key| key.ends_with("/memory-mib"));
        let stays = memory.is_none_or(|key| may_go || observed.after.labels.contains_key(key));
        ensure(stays, || "the memory was removed".to_owned())
    }

    /// Devices that are expected are counted until they have been absent for the grace, however often the agent restarts.
    fn devices_leave_the_node_late(&self, observed: &Observed<'_>) -> Verdict {
        let (before, after) = (observed.before.counted(), observed.after.counted());
        let expects = |(kind, id): (usize, String)| {
            let number = observed.before.memory.as_ref().and_then(|memory| memory.devices.get(&id).copied());
            number.unwrap_or_default() >= observed.before.counted_of(&format!("M{kind}"))
        };
        if after >= before || !self.ledger.inherits() || !ids().all(expects) {
            return Ok(());
        }
        let recent = self.ledger.there_within(REMOVAL);
        ensure(after >= recent, || format!("{after} of {recent} devices are counted, {before} before"))
    }

    fn maintenance_is_no_problem(&self, observed: &Observed<'_>) -> Verdict {
        let (before, after) = (observed.before.status("Problem"), observed.after.status("Problem"));
        let turns = after == Some("True") && before != after;
        ensure(!turns || !self.ledger.is_maintained(observed.world), || {
            format!("a problem in maintenance: {:?}", observed.after.reason("Problem"))
        })
    }

    /// What has not been confirmed for longer than the longest grace of a library is neither healthy nor ready, however often
    /// the agent restarts.
    fn verdicts_expire(&self, observed: &Observed<'_>) -> Verdict {
        for device in &observed.turn.believed.inventory.devices {
            let is_healthy = device.health.state == HealthState::Healthy;
            if !is_healthy || device.undecided.contains(Fact::Health) {
                continue;
            }
            let age = self.ledger.unconfirmed_for(slot_of(device));
            ensure(age.is_some_and(|age| age <= LIBRARY_START + MAX_PAUSE), || {
                format!("{} is healthy, last confirmed {age:?} s ago", device.id)
            })?;
        }
        let age = self.ledger.unjudged_for();
        let is_late = age > LIBRARY_START + 2 * MAX_PAUSE && !self.ledger.may_wait(observed.world);
        ensure(!is_late || observed.after.status("Ready") != Some("True"), || {
            format!("the Node is ready, last confirmed {age} s ago")
        })
    }

    /// Every write changes the Node, and the same wish causes none.
    fn nothing_is_written_in_vain(&self, observed: &Observed<'_>) -> Verdict {
        if observed.is_node_changed || observed.writes.is_empty() {
            return Ok(());
        }
        let bodies = || observed.writes.iter().map(|write| write.body.to_string()).collect::<Vec<_>>();
        ensure(observed.after.differs(observed.before), || {
            format!("written without a change: {:?}", bodies())
        })?;
        let is_same = self.desired.is_some() && self.desired == observed.turn.desired;
        ensure(!is_same, || format!("written although nothing decided has changed: {:?}", bodies()))
    }
}

/// The kinds with their PCI ids, as the annotation spells them.
pub(crate) fn ids() -> impl Iterator<Item = (usize, String)> {
    (0..KINDS.len()).map(|kind| (kind, format!("1002:{:04x}", KINDS[kind])))
}

/// The numbers that the agent expects.
fn expected(observed: &Observed<'_>) -> BTreeMap<String, u64> {
    let expected = observed.turn.believed.expected.iter().flatten();
    let expected = expected.filter_map(|expected| {
        let (vendor, device) = expected.id?;
        Some((format!("{:04x}:{:04x}", vendor.0, device.0), expected.count))
    });
    expected.collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Verdict {
    ensure(is == should, || format!("{what}: {is:?} instead of {should:?}"))
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}
