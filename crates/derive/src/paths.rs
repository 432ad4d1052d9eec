//! Which llm-d paths a node can serve: rules over an inventory, each evaluated to true, false or unknown.
//!
//! A rule is data: an expression of the Common Expression Language (<https://cel.dev>) over a documented view of the
//! inventory ([`view`]), a reason in CamelCase and a message. The built-in rules and those of users are files of the same
//! format ([`rules`]).
//!
//! An unknown fact is absent from the view, so that reading it is an error. Expressions treat it as CEL treats every error:
//! `false && unknown` is false, `true || unknown` is true, `exists` is true if one element is true and `all` is false if one
//! element is false; in all other cases the result is unknown as well. Only `has(x)` tests whether something is known. A path
//! is ready when all its requirements hold, not ready when one does not, and unknown otherwise.

mod check;
pub mod document;
mod predicate;
pub mod remedies;
mod rule_file;
mod rule_table;
pub mod rules;
mod verdict;
pub mod view;

pub use predicate::Evaluation;
pub use rule_file::RuleError;
pub use rules::{PATH_KEY, PathRules, PathSpec, Requirement};
pub use verdict::{PathAnswer, PathVerdict, RequirementOutcome, decided_labels, labels};

#[cfg(test)]
mod tests;
