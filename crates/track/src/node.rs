//! What the Node says of this machine: its memory, and the admin's wishes.

use std::{collections::BTreeSet, time::Duration};

use afd_model::{Decision, Device, Inventory, Missing, MissingDevice, NodeFacts, Problem};
use jiff::Timestamp;

use crate::{
    Graces, Observation,
    directives::{Expect, Ignored},
    expected::{Expectation, GoneDevice, Learnt, PciKind, PresentDevice},
    instance_types,
    machine::{self, MachineIdentity},
    memory::{self, Memory, Remembered},
};

/// Names of the annotations, after the prefix and its slash.
const EXPECTED: &str = "expected";
const EXPECT: &str = "expect";
const IGNORE: &str = "ignore";
/// The fact of a problem with the instance type.
const INSTANCE_TYPE: &str = "instance-type";

/// What is believed of the Node object.
#[derive(Debug, Default)]
pub(crate) struct NodeTrack {
    /// The machine, once it is known which one the Node describes.
    machine: Option<String>,
    /// Whether what the Node says is of this machine.
    inherits: bool,
    /// The annotation `expected` as it was last decided.
    decided: Option<String>,
    learnt: Learnt,
    /// What an earlier agent remembered.
    recalled: Learnt,
    /// The annotation `expected` where it must stay as it is, because it cannot be used or is of another boot.
    untouched: Option<String>,
    unconfirmed_since: Option<Duration>,
    /// Since when verdicts are unconfirmed, as it is written.
    written_since: Option<(Duration, Timestamp)>,
    expect: Option<Expect>,
    /// What the admin expects where the Node has no such annotation.
    default_expect: Option<Expect>,
    ignored: Ignored,
    problems: Vec<Problem>,
    /// The boots in which the machine had another number of devices than its instance type says.
    differs: Vec<String>,
}

/// After so many boots with another number of devices an instance type is distrusted.
const MAX_DIFFERING_BOOTS: usize = 2;
/// How much of a boot id distinguishes boots.
const BOOT_DIGITS: usize = 8;

impl NodeTrack {
    /// No Node was read yet. `default_expect` is what the admin expects of all nodes.
    pub(crate) fn new(default_expect: Option<Expect>) -> NodeTrack {
        NodeTrack { default_expect, ..NodeTrack::default() }
    }

    /// Takes in the Node; returns whether it is now, for the first time, known which machine it describes.
    pub(crate) fn observe(
        &mut self,
        node: &NodeFacts,
        prefix: &str,
        kinds: &BTreeSet<PciKind>,
        observation: &Observation<'_>,
        waited: Duration,
        graces: &Graces,
    ) -> bool {
        let annotation = |name: &str| node.annotations.get(&format!("{prefix}/{name}")).map(String::as_str);
        self.problems.retain(|problem| [EXPECTED, INSTANCE_TYPE].contains(&problem.fact.as_str()));
        self.ignored = annotation(IGNORE).map(Ignored::parse).unwrap_or_default();
        self.expect = match annotation(EXPECT).map(Expect::parse) {
            None => None,
            Some(Ok(expect)) => Some(expect),
            Some(Err(why)) => {
                let message = format!("the annotation {prefix}/{EXPECT} cannot be used: {why}");
                self.problems.push(node_problem(EXPECT, Missing::Malformed, message));
                None
            }
        };
        // Later versions of the own annotation are own writes. One write leaves nothing of another machine.
        if self.machine.is_some() {
            if annotation(EXPECTED).is_none() && self.untouched.take().is_some() {
                self.problems.retain(|problem| problem.fact != EXPECTED);
            }
            let is_own_write = |text: &str| self.untouched.is_none() && self.decided.as_deref() == Some(text);
            self.inherits |= annotation(EXPECTED).is_some_and(is_own_write);
            return false;
        }
        match machine::identify(node, observation.boot_id) {
            MachineIdentity::Known(machine) => {
                self.recall(&machine, annotation(EXPECTED), node, kinds, observation);
                self.machine = Some(machine);
            }
            // The kubelet writes the Node within seconds after a boot.
            MachineIdentity::Stale if waited < graces.node => return false,
            MachineIdentity::Stale => {
                self.untouched = annotation(EXPECTED).map(str::to_owned);
                self.machine = Some(String::new());
            }
        }
        true
    }

    /// Takes in what an earlier agent remembered.
    fn recall(
        &mut self,
        machine: &str,
        annotation: Option<&str>,
        node: &NodeFacts,
        kinds: &BTreeSet<PciKind>,
        observation: &Observation<'_>,
    ) {
        let memory = match memory::remembered(annotation) {
            Remembered::Nothing => return,
            Remembered::Memory(memory) => memory,
            Remembered::Unusable { why, known } => {
                let message = format!(
                    "the annotation {EXPECTED} is kept and not used: {why}; remove it to learn again"
                );
                self.problems.push(node_problem(EXPECTED, Missing::Malformed, message));
                self.untouched = annotation.map(str::to_owned);
                self.inherits = known.is_some_and(|memory| memory.machine == machine);
                return;
            }
        };
        if memory.machine != machine {
            return;
        }
        self.learnt = Learnt::from_ids(&memory.devices);
        self.differs = memory.differs;
        self.differs.truncate(MAX_DIFFERING_BOOTS);
        self.recalled = self.learnt.clone();
        self.inherits = self.names(kinds);
        self.unconfirmed_since = memory.unconfirmed_since.and_then(|since| {
            let since = since.as_second();
            let age = observation.wall?.checked_sub(since)?;
            let is_plausible = node.created.is_none_or(|created| since >= created);
            let age = Duration::from_secs(u64::try_from(age).ok()?);
            is_plausible.then(|| observation.now.saturating_sub(age))
        });
    }

    /// Whether every kind of device that is there was there before.
    fn names(&self, kinds: &BTreeSet<PciKind>) -> bool {
        self.learnt.kinds.is_empty() || kinds.iter().all(|kind| self.learnt.kinds.contains_key(kind))
    }

    /// Whether it is known which machine the Node describes.
    pub(crate) fn is_identified(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether what the Node says is of this machine.
    pub(crate) fn inherits(&self) -> bool {
        self.inherits
    }

    /// Since when verdicts were unconfirmed when this agent was started.
    pub(crate) fn unconfirmed_since(&self) -> Option<Duration> {
        self.unconfirmed_since
    }

    /// What cannot be used of the annotations.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many devices are expected, from the first source that says so.
    pub(crate) fn expectation(&self, surroundings: &Inventory, node: Option<&NodeFacts>) -> Expectation {
        if let Some(expect) = self.expect.as_ref().or(self.default_expect.as_ref()) {
            return Expectation::Admin(expect.clone());
        }
        if self.machine.is_none() || self.untouched.is_some() {
            return Expectation::Nothing;
        }
        let machine = surroundings.machine.value().map(String::as_str);
        let of_type = node.and_then(|node| instance_types::expected(node, machine));
        let trusted = of_type.filter(|_| self.differs.len() < MAX_DIFFERING_BOOTS);
        trusted.unwrap_or_else(|| self.learnt.expectation())
    }

    /// Whether all devices are there that an earlier agent saw, for however short a time.
    pub(crate) fn is_complete(&self, present: &[PresentDevice<'_>]) -> bool {
        self.recalled.is_complete(present)
    }

    /// Raises expectations to what has stayed for long enough; whether the machine was refitted.
    pub(crate) fn learn(
        &mut self,
        present: &[PresentDevice<'_>],
        has_stayed: impl Fn(&PresentDevice<'_>) -> bool,
    ) -> bool {
        self.learnt.learn(present, has_stayed)
    }

    /// Compares the devices that have stayed with the instance type. One that says otherwise in two boots is distrusted: it has
    /// another meaning than the table knows.
    pub(crate) fn compare_instance_type(
        &mut self,
        present: &[PresentDevice<'_>],
        has_stayed: impl Fn(&PresentDevice<'_>) -> bool,
        surroundings: &Inventory,
        observation: &Observation<'_>,
    ) {
        let machine = surroundings.machine.value().map(String::as_str);
        let of_type = observation.node.and_then(|node| instance_types::expected(node, machine));
        let Some(Expectation::InstanceType { probe, count, name }) = of_type else { return };
        let own: Vec<&PresentDevice<'_>> = present.iter().filter(|present| present.probe == probe).collect();
        let there = own.len();
        if there == count as usize {
            self.differs.clear();
        } else if there > 0 && own.into_iter().all(has_stayed) && self.differs.len() < MAX_DIFFERING_BOOTS {
            let boot: String = observation.boot_id.unwrap_or_default().chars().take(BOOT_DIGITS).collect();
            if !self.differs.contains(&boot) {
                self.differs.push(boot);
            }
        }
        self.problems.retain(|problem| problem.fact != INSTANCE_TYPE);
        if self.differs.len() >= MAX_DIFFERING_BOOTS {
            let message = format!(
                "InstanceTypeDiffers: {name} should have {count} devices and the machine has {there} in each boot; it is not \
                 believed, and what the machine had before counts"
            );
            self.problems.push(node_problem(INSTANCE_TYPE, Missing::Unrecognized, message));
        }
    }

    /// The known devices that are not there.
    pub(crate) fn gone(&self, present: &[PresentDevice<'_>]) -> Vec<GoneDevice> {
        self.learnt.gone(present)
    }

    /// Gives a missing device the name of its product as an earlier agent has read it.
    pub(crate) fn name(&self, missing: &mut MissingDevice) {
        self.learnt.name(missing);
    }

    /// Expects one device of a kind less.
    pub(crate) fn forget(&mut self, kind: Option<PciKind>, uuid: Option<&str>) {
        if let Some(kind) = kind {
            self.learnt.forget(kind, uuid);
        }
    }

    /// Whether the admin ignores a device.
    pub(crate) fn ignores(&self, device: &Device) -> bool {
        self.ignored.contains(device)
    }

    /// Whether the admin ignores a missing device.
    pub(crate) fn ignores_missing(&self, missing: &MissingDevice) -> bool {
        missing.uuid.as_deref().is_some_and(|uuid| self.ignored.contains_name(uuid))
    }

    /// The annotation `expected` as it should be.
    pub(crate) fn memory(
        &mut self,
        unconfirmed_since: Option<Duration>,
        observation: &Observation<'_>,
    ) -> Decision<String> {
        if let Some(text) = &self.untouched {
            return Decision::Decided(text.clone());
        }
        let Some(machine) = &self.machine else { return Decision::Undecided };
        // The time is computed once: a second more or less would be another write.
        if self.written_since.map(|(since, _)| since) != unconfirmed_since {
            self.written_since = unconfirmed_since.and_then(|since| {
                let age = i64::try_from(observation.now.saturating_sub(since).as_secs()).ok()?;
                Some((since, Timestamp::from_second(observation.wall?.checked_sub(age)?).ok()?))
            });
        }
        let since = self.written_since.map(|(_, since)| since);
        let mut memory = Memory::new(machine, self.learnt.to_ids(), since);
        memory.differs.clone_from(&self.differs);
        let text = memory.to_text();
        self.decided = Some(text.clone());
        Decision::Decided(text)
    }
}

/// A problem of what the Node says.
fn node_problem(fact: &str, reason: Missing, message: String) -> Problem {
    Problem {
        probe: "kubernetes".to_owned(),
        device: None,
        fact: fact.to_owned(),
        reason,
        path: None,
        message,
    }
}
