//! Which llm-d paths a node can serve: rules over an inventory, each answered with yes, no or "nobody can tell".
//!
//! A rule is data: an expression of the Common Expression Language (<https://cel.dev>) over a documented view of the
//! inventory ([`view`]), a reason in CamelCase and a message. The built-in rules and those of users stand in files of
//! the same form ([`rules`]).
//!
//! What is unknown is absent from the view, so that asking for it fails. Expressions treat that as CEL treats every
//! failure: `false && unknown` is false, `true || unknown` is true, `exists` is true where one element says so and
//! `all` is false where one does; in all other cases the answer is unknown as well. Only `has(x)` asks whether
//! something is known. A path is ready when all its requirements hold, not ready when one does not, and unknown
//! otherwise.

mod check;
pub mod document;
mod places;
mod predicate;
pub mod rules;
mod table;
mod verdict;
pub mod view;

pub use places::Mistake;
pub use predicate::Holds;
pub use rules::{PathSpec, Requirement, Rules};
pub use verdict::{Outcome, PathAnswer, PathVerdict, labels};

#[cfg(test)]
mod tests;
