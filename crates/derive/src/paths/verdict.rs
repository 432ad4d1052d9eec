//! The result of the rules for a node: ready, not ready with reasons, or unknown with the missing facts.

use std::collections::BTreeMap;

use afd_model::Inventory;
use cel::Context;

use super::{
    predicate::Evaluation,
    rules::{PATH_KEY, PathSpec, Requirement},
};
use crate::labels::{LabelOptions, primary_product};

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
}

impl<'r> PathVerdict<'r> {
    pub(super) fn new(
        path: &'r PathSpec,
        requirements: impl Iterator<Item = &'r Requirement>,
        view: &Context<'_, '_>,
    ) -> PathVerdict<'r> {
        let outcomes = requirements.map(|requirement| {
            let holds = evaluated(requirement, view);
            let message = if holds == Evaluation::False { requirement.message(view) } else { String::new() };
            RequirementOutcome { requirement, holds, message }
        });
        PathVerdict { path, outcomes: outcomes.collect() }
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

/// The label `path.<path>` of each path with an answer; none for a node without accelerators.
pub fn labels(
    inventory: &Inventory,
    verdicts: &[PathVerdict<'_>],
    options: &LabelOptions,
) -> BTreeMap<String, String> {
    if primary_product(inventory, options.include_integrated).is_none() {
        return BTreeMap::new();
    }
    let labels = verdicts.iter().filter_map(|verdict| {
        Some((
            options.key(&format!("{PATH_KEY}{}", verdict.path.name)),
            verdict.answer().ready()?.to_string(),
        ))
    });
    labels.collect()
}
