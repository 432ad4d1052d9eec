//! A value, or the reason why there is none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fact of the node: its value, or the reason why it is not known.
///
/// In JSON a value stands for itself and an unknown one is `{"missing": "<reason>"}`. No 0 and no empty string ever means
/// "unknown": a missing fact becomes an absent label and an absent series. The default is unknown, not exposed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Known<T> {
    /// There is no value.
    Missing {
        /// The reason.
        missing: Missing,
    },
    /// The value that was read.
    Value(T),
}

/// Why a fact is not known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The kernel has no such file here (ENOENT), or the library no such call: not every device, driver or version exposes
    /// this fact.
    NotExposed,
    /// The source exists and reports that it has no value (NUMA node -1, an all-ones sentinel, "Unknown").
    NotAvailable,
    /// Reading was refused (EACCES, EPERM).
    NotPermitted,
    /// Reading failed otherwise (EIO, EINVAL, ELOOP, a file without an end).
    Unreadable,
    /// The text or table was read and is not in its documented format.
    Malformed,
    /// The id is not in this project's table.
    Unrecognized,
    /// No kernel driver is bound to the device, so it cannot be queried.
    DriverNotBound,
    /// The vendor's library is not queried, so that its driver can be replaced.
    Released,
    /// The source has not answered yet.
    Pending,
    /// Another source says something else.
    Contradicted,
}

impl Missing {
    /// Whether it is counted as a problem: every reason but those that occur on a healthy node as well.
    pub fn is_problem(self) -> bool {
        !matches!(self, Missing::NotExposed | Missing::NotAvailable | Missing::DriverNotBound)
    }

    /// Whether the fact may well have a value that could not be read. What was published of it stays.
    pub fn is_undecided(self) -> bool {
        matches!(
            self,
            Missing::NotPermitted
                | Missing::Unreadable
                | Missing::Malformed
                | Missing::Released
                | Missing::Pending
        )
    }

    /// The spelling in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Missing::NotExposed => "not_exposed",
            Missing::NotAvailable => "not_available",
            Missing::NotPermitted => "not_permitted",
            Missing::Unreadable => "unreadable",
            Missing::Malformed => "malformed",
            Missing::Unrecognized => "unrecognized",
            Missing::DriverNotBound => "driver_not_bound",
            Missing::Released => "released",
            Missing::Pending => "pending",
            Missing::Contradicted => "contradicted",
        }
    }

    /// A phrase for people, as the end of a sentence.
    pub fn explain(self) -> &'static str {
        match self {
            Missing::NotExposed => "not exposed",
            Missing::NotAvailable => "the source has no value",
            Missing::NotPermitted => "permission denied",
            Missing::Unreadable => "reading failed",
            Missing::Malformed => "not in the documented format",
            Missing::Unrecognized => "not in the product table",
            Missing::DriverNotBound => "no driver is bound",
            Missing::Released => "driver released",
            Missing::Pending => "not answered yet",
            Missing::Contradicted => "another source says something else",
        }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Missing::NotExposed.into()
    }
}

impl<T> From<Missing> for Known<T> {
    fn from(missing: Missing) -> Self {
        Known::Missing { missing }
    }
}

impl<T> Known<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Known::Value(value) => Some(value),
            Known::Missing { .. } => None,
        }
    }

    /// Takes the value, if there is one.
    pub fn into_value(self) -> Option<T> {
        match self {
            Known::Value(value) => Some(value),
            Known::Missing { .. } => None,
        }
    }

    /// The reason why there is no value, if there is none.
    pub fn missing(&self) -> Option<Missing> {
        match self {
            Known::Value(_) => None,
            Known::Missing { missing } => Some(*missing),
        }
    }

    /// Whether there is a value.
    pub fn is_known(&self) -> bool {
        self.value().is_some()
    }

    /// Whether nothing shows whether there is a value, which is all that there is to say.
    pub fn is_not_exposed(&self) -> bool {
        self.missing() == Some(Missing::NotExposed)
    }

    /// Borrows the value.
    pub fn as_ref(&self) -> Known<&T> {
        match self {
            Known::Value(value) => Known::Value(value),
            Known::Missing { missing } => Known::from(*missing),
        }
    }

    /// Changes the value and keeps the reason.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Known::Value(value) => Known::Value(f(value)),
            Known::Missing { missing } => Known::from(missing),
        }
    }

    /// Derives another fact from the value, and keeps the first reason.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Known<U>) -> Known<U> {
        match self {
            Known::Value(value) => f(value),
            Known::Missing { missing } => Known::from(missing),
        }
    }

    /// Falls back to another source where this one has no value. The first reason stays if the second has none either,
    /// unless the first was only that the fact is not exposed.
    pub fn or_else(self, f: impl FnOnce() -> Known<T>) -> Known<T> {
        match self {
            Known::Value(value) => Known::Value(value),
            Known::Missing { missing } => match f() {
                Known::Missing { .. } if missing != Missing::NotExposed => Known::from(missing),
                other => other,
            },
        }
    }

    /// Fills in from another source where there is no value yet, as [`Known::or_else`] does.
    pub fn fill(&mut self, f: impl FnOnce() -> Known<T>) {
        *self = std::mem::take(self).or_else(f);
    }

    /// A value, or `missing` where there is none.
    pub fn from_option(value: Option<T>, missing: Missing) -> Known<T> {
        value.map_or_else(|| Known::from(missing), Known::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_source_is_read_only_where_the_first_has_no_value() {
        let known = Known::Value(1);
        assert_eq!(known.or_else(|| Known::Value(2)), Known::Value(1));
        let denied: Known<i32> = Missing::NotPermitted.into();
        assert_eq!(denied.or_else(|| Known::Value(2)), Known::Value(2));
        assert_eq!(denied.or_else(|| Missing::NotExposed.into()).missing(), Some(Missing::NotPermitted));
        let absent: Known<i32> = Missing::NotExposed.into();
        assert_eq!(absent.or_else(|| Missing::NotPermitted.into()).missing(), Some(Missing::NotPermitted));
        let mut filled = Known::default();
        filled.fill(|| Known::Value(3));
        filled.fill(|| Known::Value(4));
        assert_eq!(filled, Known::Value(3));
    }
}
