//! The result of the rules for a node: ready, not ready with reasons, or unknown with the missing facts.

use std::collections::BTreeMap;

use afd_model::{Fact, Inventory, Missing, PeerFacts};
use cel::Context;

use super::{
    predicate::Evaluation,
    rules::{PATH_KEY, PathSpec, Requirement},
};
use crate::{
    decided::{DecidedKeys, MadeFamily, has_failed, is_undecided},
    labels::{LabelOptions, primary_product, primary_product_is_undecided},
};

/// Whether a node can serve a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathAnswer {
    /// All requirements of the path hold.
    Ready,
    /// A requirement does not hold.
    NotReady,
    /// No requirement is known not to hold, and a fact is not known.
    Unknown,
}

impl PathAnswer {
    /// As a boolean; `None` where it is unknown.
    pub fn ready(self) -> Option<bool> {
        match self {
            PathAnswer::Ready => Some(true),
            PathAnswer::NotReady => Some(false),
            PathAnswer::Unknown => None,
        }
    }
}

/// The result of one requirement.
#[derive(Debug)]
pub struct RequirementOutcome<'r> {
    /// The requirement.
    pub requirement: &'r Requirement,
    /// Whether it holds.
    pub holds: Evaluation,
    /// What to do; empty unless it does not hold.
    pub message: String,
}

/// The result of all requirements of a path.
#[derive(Debug)]
pub struct PathVerdict<'r> {
    /// The path.
    pub path: &'r PathSpec,
    /// Its requirements, in the order of the rules.
    pub outcomes: Vec<RequirementOutcome<'r>>,
    /// What it works better with, in the order of the rules. It does not change the answer.
    notes: Vec<RequirementOutcome<'r>>,
}

impl<'r> PathVerdict<'r> {
    pub(super) fn new(
        path: &'r PathSpec,
        requirements: impl Iterator<Item = &'r Requirement>,
        notes: impl Iterator<Item = &'r Requirement>,
        view: &Context<'_, '_>,
    ) -> PathVerdict<'r> {
        let outcome = |requirement: &'r Requirement| {
            let holds = evaluated(requirement, view);
            let message = if holds == Evaluation::False { requirement.message(view) } else { String::new() };
            RequirementOutcome { requirement, holds, message }
        };
        PathVerdict {
            path,
            outcomes: requirements.map(outcome).collect(),
            notes: notes.map(outcome).collect(),
        }
    }

    /// The answer.
    pub fn answer(&self) -> PathAnswer {
        let any = |holds: fn(&Evaluation) -> bool| self.outcomes.iter().any(|outcome| holds(&outcome.holds));
        if any(|holds| *holds == Evaluation::False) {
            PathAnswer::NotReady
        } else if any(|holds| matches!(holds, Evaluation::Unknown(_))) {
            PathAnswer::Unknown
        } else {
            PathAnswer::Ready
        }
    }

    /// The requirements that do not hold.
    pub fn unmet(&self) -> impl Iterator<Item = &RequirementOutcome<'r>> {
        self.outcomes.iter().filter(|outcome| outcome.holds == Evaluation::False)
    }

    /// What the node is known to lack that the path works better with. Nothing while it is not ready: what is missing comes first.
    pub fn notes(&self) -> impl Iterator<Item = &RequirementOutcome<'r>> {
        let notes: &[RequirementOutcome<'r>] = match self.answer() {
            PathAnswer::NotReady => &[],
            PathAnswer::Ready | PathAnswer::Unknown => &self.notes,
        };
        notes.iter().filter(|outcome| outcome.holds == Evaluation::False)
    }

    /// The facts that are not known, each once.
    pub fn missing(&self) -> Vec<&str> {
        let mut missing = Vec::new();
        for outcome in &self.outcomes {
            if let Evaluation::Unknown(fact) = &outcome.holds
                && !missing.contains(&fact.as_str())
            {
                missing.push(fact.as_str());
            }
        }
        missing
    }
}

/// If it is unknown whether the requirement applies, it is unknown unless it holds anyway.
fn evaluated(requirement: &Requirement, view: &Context<'_, '_>) -> Evaluation {
    match requirement.when.as_ref().map_or(Evaluation::True, |when| when.evaluate(view)) {
        Evaluation::False => Evaluation::NotApplicable,
        Evaluation::Unknown(fact) => match requirement.require.evaluate(view) {
            Evaluation::True => Evaluation::True,
            _ => Evaluation::Unknown(fact),
        },
        _ => requirement.require.evaluate(view),
    }
}

/// The label `path.<path>` of each path with an answer, as it is known now; none for a node without accelerators.
pub fn labels(
    inventory: &Inventory,
    verdicts: &[PathVerdict<'_>],
    options: &LabelOptions,
) -> BTreeMap<String, String> {
    families(inventory, verdicts, options).into_iter().flat_map(|family| family.values).collect()
}

/// The same, as far as they are decided. An answer is, unless it is about a product that may not be the primary one. An
/// unknown one is where no source can still answer.
pub fn decided_labels(
    inventory: &Inventory,
    verdicts: &[PathVerdict<'_>],
    options: &LabelOptions,
) -> DecidedKeys {
    families(inventory, verdicts, options).into_iter().collect()
}

fn families(inventory: &Inventory, verdicts: &[PathVerdict<'_>], options: &LabelOptions) -> Vec<MadeFamily> {
    if primary_product(inventory, options.include_integrated).is_none() {
        return Vec::new();
    }
    let other_product = primary_product_is_undecided(inventory, options.include_integrated);
    let unread = is_unread(inventory, options.include_integrated);
    let family = |verdict: &PathVerdict<'_>| {
        let key = options.key(&format!("{PATH_KEY}{}", verdict.path.name));
        let ready = verdict.answer().ready();
        let undecided = other_product || ready.is_none() && unread;
        let value = ready.map(|ready| (key.clone(), ready.to_string()));
        MadeFamily { key, undecided, values: value.into_iter().collect() }
    };
    verdicts.iter().map(family).collect()
}

/// Whether anything that rules read may become known: a fact of a device that has not failed, of a port or of the host.
fn is_unread(inventory: &Inventory, include_integrated: bool) -> bool {
    let mut devices = inventory.devices.iter().filter(|device| include_integrated || !device.integrated);
    // No rule reads how many devices are linked.
    let facts: Vec<Fact> = Fact::ALL.into_iter().filter(|fact| *fact != Fact::LinkedDevices).collect();
    let of_device = devices.any(|device| !has_failed(device) && is_undecided([device], &facts));
    let own = inventory.nics.iter().filter(|nic| !nic.of_accelerator);
    let of_nics = own.flat_map(|nic| {
        let of_nic = [nic.driver.missing(), nic.firmware_version.missing(), nic.numa_node.missing()];
        let of_ports = nic.ports.iter().flat_map(|port| {
            let rate = port.rate_bits_per_second.missing();
            [port.state.missing(), port.link_layer.missing(), port.protocol.missing(), rate]
        });
        of_nic.into_iter().chain(of_ports).flatten()
    });
    let peers = inventory.devices.iter().filter(|device| !has_failed(device));
    let of_peers = peers.filter_map(|device| device.peering.as_deref()).flat_map(PeerFacts::missing);
    let cpus = inventory.numa_nodes.iter().filter_map(|node| node.cpus.missing());
    let of_system = [inventory.kernel_release.missing(), inventory.machine.missing()];
    let of_host = inventory.host.missing().chain(cpus).chain(of_system.into_iter().flatten());
    of_device || of_nics.chain(of_host).chain(of_peers).any(Missing::is_undecided)
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, Health, Known, Product};

    use super::*;
    use crate::{paths::PathRules, vendors::bare_device};

    fn decided(devices: Vec<Device>) -> DecidedKeys {
        let mut rules = PathRules::default();
        let text = "[[path]]\nname = 'big'\ntitle = 'T'\n[[requirement]]\npaths = ['big']\nreason = 'Small'\n\
                    message = 'm'\nrequire = 'node.memory_bytes >= 100 && node.count >= 2'\n";
        assert_eq!(rules.add("big", text), []);
        let inventory = Inventory { devices, ..Inventory::default() };
        decided_labels(&inventory, &rules.verdicts(&inventory, false), &LabelOptions::default())
    }

    fn device(bus: u8, memory: Option<u64>, undecided: &[Fact]) -> Device {
        Device {
            memory_bytes: Known::from_option(memory, Missing::NotExposed),
            undecided: undecided.iter().copied().collect(),
            ..bare_device(bus)
        }
    }

    #[test]
    fn an_answer_is_decided_and_an_unknown_one_only_where_no_source_can_still_answer() {
        let key = "accelerator.llm-d.ai/path.big";
        let two = |memory, undecided: &[Fact]| {
            decided(vec![device(1, memory, undecided), device(2, memory, undecided)])
        };
        assert_eq!(two(Some(100), &[Fact::Health]).values[key], "true");
        assert_eq!(two(Some(99), &[Fact::Health]).values[key], "false");
        let absent = two(None, &[]);
        assert!(absent.values.is_empty() && absent.undecided.is_empty());
        assert!(two(None, &[Fact::Memory]).undecided.contains(key));
        let mut inventory = Inventory { devices: vec![device(1, None, &[])], ..Inventory::default() };
        inventory.host.local_nvme_bytes = Missing::Unreadable.into();
        assert!(is_unread(&inventory, false), "a rule may ask for the disks");
        inventory.host.local_nvme_bytes = Known::default();
        let unread = PeerFacts { gdr_copy: Missing::NotPermitted.into(), ..PeerFacts::default() };
        inventory.devices[0].peering = Some(Box::new(unread));
        assert!(is_unread(&inventory, false));
        let failed = Device { health: Health::failed("Lost", ""), ..device(1, None, &[Fact::Memory]) };
        assert!(decided(vec![failed]).undecided.is_empty());
    }

    #[test]
    fn a_note_does_not_change_the_answer() {
        let mut rules = PathRules::default();
        let text = "[[path]]\nname = 'big'\ntitle = 'T'\n[[requirement]]\npaths = ['big']\nreason = 'Few'\n\
                    message = 'm'\nrequire = 'node.count >= 2'\n[[note]]\npaths = ['big']\nreason = 'Small'\n\
                    message = '{node.memory_bytes} B'\nprefer = 'node.memory_bytes >= 100'\n";
        assert_eq!(rules.add("big", text), []);
        let noted = |count: u8, memory| {
            let devices = (1..=count).map(|bus| device(bus, memory, &[])).collect();
            let inventory = Inventory { devices, ..Inventory::default() };
            let verdicts = rules.verdicts(&inventory, false);
            let notes =
                verdicts[0].notes().map(|note| format!("{}: {}", note.requirement.reason, note.message));
            (verdicts[0].answer(), notes.collect::<Vec<_>>())
        };
        assert_eq!(noted(2, Some(99)), (PathAnswer::Ready, vec!["Small: 99 B".to_owned()]));
        assert_eq!(noted(2, Some(100)), (PathAnswer::Ready, Vec::new()));
        assert_eq!(noted(2, None), (PathAnswer::Ready, Vec::new()), "what is not known is not noted");
        assert_eq!(noted(1, Some(99)), (PathAnswer::NotReady, Vec::new()), "the reason comes first");
    }

    #[test]
    fn no_answer_is_decided_while_another_product_may_be_the_primary_one() {
        let unnamed = device(1, Some(99), &[Fact::Product]);
        let product =
            Product { name: "B".to_owned(), model: Known::default(), architecture: Known::default() };
        let named = Device { product: Known::Value(product), ..device(2, Some(99), &[]) };
        let keys = decided(vec![unnamed.clone(), named]);
        assert!(keys.undecided.contains("accelerator.llm-d.ai/path.big") && keys.values.is_empty());
        assert!(decided(vec![unnamed]).undecided.is_empty());
    }
}
