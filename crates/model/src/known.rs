//! A value, or the reason why there is none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fact of the node: its value, or the reason why it is not known.
///
/// In JSON a value stands for itself and an unknown one is `{"missing": "<reason>"}`. There is no default, no 0
/// and no empty string for "unknown": what is missing becomes an absent label and an absent series.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Known<T> {
    /// Nobody could tell, and why.
    Missing {
        /// The reason.
        missing: Missing,
    },
    /// What was read.
    Value(T),
}

/// Why a fact is not known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The kernel has no such file here (ENOENT), or the library no such call: not every device, driver or version tells
    /// this fact.
    NotExposed,
    /// The source exists and says itself that it has no value (NUMA node -1, an all-ones sentinel, "Unknown").
    NotAvailable,
    /// Reading was refused (EACCES, EPERM).
    NotPermitted,
    /// Reading failed otherwise (EIO, EINVAL, ELOOP, a file without an end).
    Unreadable,
    /// The text or table was read and is not in its documented format.
    Malformed,
    /// The id is not in this project's table.
    Unrecognized,
    /// No kernel driver is bound to the device, so nobody can ask it.
    DriverNotBound,
    /// The vendor's library is not asked, so that its driver can be replaced.
    Released,
}

impl Missing {
    /// Whether somebody should look into it: everything but what a healthy kernel leaves out as well.
    pub fn is_problem(self) -> bool {
        !matches!(self, Missing::NotExposed | Missing::NotAvailable | Missing::DriverNotBound)
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
        }
    }

    /// The same for people, as the end of a sentence.
    pub fn explain(self) -> &'static str {
        match self {
            Missing::NotExposed => "no source tells",
            Missing::NotAvailable => "the source has no value",
            Missing::NotPermitted => "permission denied",
            Missing::Unreadable => "reading failed",
            Missing::Malformed => "not in the documented format",
            Missing::Unrecognized => "not in the product table",
            Missing::DriverNotBound => "no driver is bound",
            Missing::Released => "the driver is let go",
        }
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

    /// The value itself, if there is one.
    pub fn into_value(self) -> Option<T> {
        match self {
            Known::Value(value) => Some(value),
            Known::Missing { .. } => None,
        }
    }

    /// Why there is none, if there is none.
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

    /// Asks further with the value, and keeps the first reason.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Known<U>) -> Known<U> {
        match self {
            Known::Value(value) => f(value),
            Known::Missing { missing } => Known::from(missing),
        }
    }

    /// Asks another source where this one had no value. The first reason stays if the second has none either,
    /// unless the first was only that the kernel does not tell.
    pub fn or_else(self, f: impl FnOnce() -> Known<T>) -> Known<T> {
        match self {
            Known::Value(value) => Known::Value(value),
            Known::Missing { missing } => match f() {
                Known::Missing { .. } if missing != Missing::NotExposed => Known::from(missing),
                other => other,
            },
        }
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
    fn a_second_source_is_asked_only_where_the_first_has_no_value() {
        let known = Known::Value(1);
        assert_eq!(known.or_else(|| Known::Value(2)), Known::Value(1));
        let denied: Known<i32> = Missing::NotPermitted.into();
        assert_eq!(denied.or_else(|| Known::Value(2)), Known::Value(2));
        assert_eq!(denied.or_else(|| Missing::NotExposed.into()).missing(), Some(Missing::NotPermitted));
        let absent: Known<i32> = Missing::NotExposed.into();
        assert_eq!(absent.or_else(|| Missing::NotPermitted.into()).missing(), Some(Missing::NotPermitted));
    }
}
