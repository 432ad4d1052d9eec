//! What the rules say of a node: ready, not ready and why, or unknown and which fact is missing.

use std::collections::BTreeMap;

use afd_model::Inventory;
use cel::Context;

use super::{
    predicate::Holds,
    rules::{LABEL, PathSpec, Requirement},
};
use crate::labels::{LabelOptions, key, primary_product};

/// Whether a node can serve a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathAnswer {
    /// All that the path requires holds.
    Ready,
    /// Something that it requires does not.
    NotReady,
    /// Nothing is known to be wrong, and a fact is not known.
    Unknown,
}

impl PathAnswer {
    /// As a value: `None` where it is unknown.
    pub fn ready(self) -> Option<bool> {
        match self {
            PathAnswer::Ready => Some(true),
            PathAnswer::NotReady => Some(false),
            PathAnswer::Unknown => None,
        }
    }
}

/// What one requirement says.
#[derive(Debug)]
pub struct Outcome<'r> {
    /// The requirement.
    pub requirement: &'r Requirement,
    /// Whether it holds.
    pub holds: Holds,
    /// What to do about it; empty unless it does not hold.
    pub message: String,
}

/// What all requirements of a path say.
#[derive(Debug)]
pub struct PathVerdict<'r> {
    /// The path.
    pub path: &'r PathSpec,
    /// Its requirements, in the order of the rules.
    pub outcomes: Vec<Outcome<'r>>,
}

impl<'r> PathVerdict<'r> {
    pub(super) fn of(
        path: &'r PathSpec,
        requirements: impl Iterator<Item = &'r Requirement>,
        view: &Context<'_, '_>,
    ) -> PathVerdict<'r> {
        let outcomes = requirements.map(|requirement| {
            let holds = asked(requirement, view);
            let message = if holds == Holds::No { requirement.message(view) } else { String::new() };
            Outcome { requirement, holds, message }
        });
        PathVerdict { path, outcomes: outcomes.collect() }
    }

    /// The answer.
    pub fn answer(&self) -> PathAnswer {
        let some = |holds: fn(&Holds) -> bool| self.outcomes.iter().any(|outcome| holds(&outcome.holds));
        if some(|holds| *holds == Holds::No) {
            PathAnswer::NotReady
        } else if some(|holds| matches!(holds, Holds::Unknown(_))) {
            PathAnswer::Unknown
        } else {
            PathAnswer::Ready
        }
    }

    /// The requirements that do not hold.
    pub fn unmet(&self) -> impl Iterator<Item = &Outcome<'r>> {
        self.outcomes.iter().filter(|outcome| outcome.holds == Holds::No)
    }

    /// The facts that are not known, each once.
    pub fn missing(&self) -> Vec<&str> {
        let mut missing = Vec::new();
        for outcome in &self.outcomes {
            if let Holds::Unknown(fact) = &outcome.holds
                && !missing.contains(&fact.as_str())
            {
                missing.push(fact.as_str());
            }
        }
        missing
    }
}

/// A condition that is not known leaves open whether the requirement is asked; one that holds anyway holds.
fn asked(requirement: &Requirement, view: &Context<'_, '_>) -> Holds {
    match requirement.when.as_ref().map_or(Holds::Yes, |when| when.holds(view)) {
        Holds::No => Holds::NotAsked,
        Holds::Unknown(fact) => match requirement.require.holds(view) {
            Holds::Yes => Holds::Yes,
            _ => Holds::Unknown(fact),
        },
        _ => requirement.require.holds(view),
    }
}

/// The label `path.<path>` of each path with an answer; none for a node without accelerators.
pub fn labels(
    inventory: &Inventory,
    verdicts: &[PathVerdict<'_>],
    options: &LabelOptions,
) -> BTreeMap<String, String> {
    if primary_product(inventory, options.include_integrated).is_none() {
        return BTreeMap::new();
    }
    let told = verdicts.iter().filter_map(|verdict| {
        Some((key(&format!("{LABEL}{}", verdict.path.name), options), verdict.answer().ready()?.to_string()))
    });
    told.collect()
}
