//! Conditions of the Node as data, and what is decided and what is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is published: what it should be, or that this is not decided.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision<T> {
    /// A source that could decide it has not answered: what the Node says stays.
    #[default]
    Undecided,
    /// It does not exist: what the Node says is removed.
    Absent,
    /// It has this value.
    Decided(T),
}

impl<T> Decision<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Decision::Decided(value) => Some(value),
            Decision::Undecided | Decision::Absent => None,
        }
    }

    /// Whether it is decided, be it that it does not exist.
    pub fn is_decided(&self) -> bool {
        !matches!(self, Decision::Undecided)
    }

    /// Changes the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Decision<U> {
        match self {
            Decision::Undecided => Decision::Undecided,
            Decision::Absent => Decision::Absent,
            Decision::Decided(value) => Decision::Decided(f(value)),
        }
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// That cannot be known now.
    Unknown,
}

impl ConditionStatus {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

/// A condition of the Node without its type and times.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Condition {
    /// Its status.
    pub status: ConditionStatus,
    /// The reason in CamelCase.
    pub reason: String,
    /// A message for people that says what to do. Nothing in it moves by itself.
    pub message: String,
}
