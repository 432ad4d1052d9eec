//! The status codes of vendor libraries: one table per library, numbers to names and back.
//!
//! A report has the name of a status in the header, without the common prefix: `NOT_SUPPORTED`. A number that no table lists is
//! newer than this program; it is written as a number or as a string of digits, by [`StatusTable::UNLISTED`]. Both are read.

use std::{fmt, marker::PhantomData};

use afd_model::Missing;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A status other than success: its number, its name in the header without the common prefix, and the reason of a fact that is
/// missing because a call returned it.
pub type StatusRow = (u32, &'static str, Missing);

/// The statuses of one kind of report.
pub trait StatusTable: Copy + Eq + fmt::Debug + 'static {
    /// The C type, for error messages.
    const C_TYPE: &'static str;
    /// A table for each library that writes this kind of report: two where a vendor has two libraries. Rows of the same name
    /// have the same reason.
    const TABLES: &'static [&'static [StatusRow]];
    /// What a call returns that succeeded.
    const SUCCESS: u32 = 0;
    /// How a number that no table lists is written.
    const UNLISTED: UnlistedStatus = UnlistedStatus::Number;
}

/// The JSON type of a status number that no table lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnlistedStatus {
    /// `4711`.
    Number,
    /// `"4711"`.
    String,
}

/// A status other than success that a call of a library returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusCode<T> {
    status: KnownStatus,
    table: PhantomData<T>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KnownStatus {
    Listed(&'static str, Missing),
    Unlisted(u32),
}

/// Statuses that no library returns, but this program.
const OWN: &[StatusRow] =
    &[(u32::MAX, "NO_SYMBOL", Missing::NotExposed), (u32::MAX, "UNEXPECTED_DATA", Missing::Malformed)];

impl<T: StatusTable> StatusCode<T> {
    /// The library lacks the symbol.
    pub const NO_SYMBOL: StatusCode<T> = StatusCode::named("NO_SYMBOL");
    /// The library filled a struct in a layout that this program does not know.
    pub const UNEXPECTED_DATA: StatusCode<T> = StatusCode::named("UNEXPECTED_DATA");

    /// The status of a name.
    ///
    /// # Panics
    /// When no table lists it; in a constant, that is an error of the compiler.
    pub const fn named(name: &str) -> StatusCode<T> {
        match find::<T>(name) {
            Some((_, name, missing)) => StatusCode::listed(name, missing),
            None => panic!("no table lists a status of this name"),
        }
    }

    /// The result of a call that returned `status`, by the table of its library.
    ///
    /// # Errors
    /// When the status is not success.
    pub fn result(status: u32, rows: &[StatusRow]) -> Result<(), StatusCode<T>> {
        if status == T::SUCCESS { Ok(()) } else { Err(StatusCode::numbered(status, rows)) }
    }

    /// The status of a number, by the table of its library.
    pub fn numbered(number: u32, rows: &[StatusRow]) -> StatusCode<T> {
        match rows.iter().find(|(known, ..)| *known == number) {
            Some((_, name, missing)) => StatusCode::listed(name, *missing),
            None => StatusCode { status: KnownStatus::Unlisted(number), table: PhantomData },
        }
    }

    /// The number of the status in the table of a library; none if that library has no status of the name.
    pub fn number(self, rows: &[StatusRow]) -> Option<u32> {
        match self.status {
            KnownStatus::Listed(name, _) => {
                rows.iter().find(|(_, known, _)| *known == name).map(|(number, ..)| *number)
            }
            KnownStatus::Unlisted(number) => Some(number),
        }
    }

    /// The reason of a fact that is missing because a call returned this.
    pub fn missing(self) -> Missing {
        match self.status {
            KnownStatus::Listed(_, missing) => missing,
            KnownStatus::Unlisted(_) => Missing::Unreadable,
        }
    }

    const fn listed(name: &'static str, missing: Missing) -> StatusCode<T> {
        StatusCode { status: KnownStatus::Listed(name, missing), table: PhantomData }
    }
}

/// The first row of a name, in a form that constants can use.
const fn find<T: StatusTable>(name: &str) -> Option<StatusRow> {
    let mut table = 0;
    while table <= T::TABLES.len() {
        let rows = if table < T::TABLES.len() { T::TABLES[table] } else { OWN };
        let mut row = 0;
        while row < rows.len() {
            if equal(rows[row].1.as_bytes(), name.as_bytes()) {
                return Some(rows[row]);
            }
            row += 1;
        }
        table += 1;
    }
    None
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

impl<T: StatusTable> From<StatusCode<T>> for Missing {
    fn from(code: StatusCode<T>) -> Missing {
        code.missing()
    }
}

impl<T> fmt::Display for StatusCode<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            KnownStatus::Listed(name, _) => f.write_str(name),
            KnownStatus::Unlisted(number) => number.fmt(f),
        }
    }
}

impl<T: StatusTable> Serialize for StatusCode<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.status, T::UNLISTED) {
            (KnownStatus::Listed(name, _), _) => serializer.serialize_str(name),
            (KnownStatus::Unlisted(number), UnlistedStatus::Number) => serializer.serialize_u32(number),
            (KnownStatus::Unlisted(number), UnlistedStatus::String) => serializer.collect_str(&number),
        }
    }
}

impl<'de, T: StatusTable> Deserialize<'de> for StatusCode<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Number(u32),
            Name(String),
        }
        let unlisted = |number| StatusCode { status: KnownStatus::Unlisted(number), table: PhantomData };
        match Spelling::deserialize(deserializer)? {
            Spelling::Number(number) => Ok(unlisted(number)),
            Spelling::Name(text) => match find::<T>(&text) {
                Some((_, name, missing)) => Ok(StatusCode::listed(name, missing)),
                None => text
                    .parse()
                    .map(unlisted)
                    .map_err(|_| de::Error::custom(format_args!("no {} is named {text}", T::C_TYPE))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Two;

    const OLD: &[StatusRow] = &[(2, "NOT_SUPPORTED", Missing::NotAvailable)];
    const NEW: &[StatusRow] =
        &[(3, "NOT_SUPPORTED", Missing::NotAvailable), (4, "NO_PERM", Missing::NotPermitted)];

    impl StatusTable for Two {
        const C_TYPE: &'static str = "two_status_t";
        const TABLES: &'static [&'static [StatusRow]] = &[OLD, NEW];
        const UNLISTED: UnlistedStatus = UnlistedStatus::String;
    }

    type Code = StatusCode<Two>;

    #[test]
    fn a_status_has_one_name_in_both_directions_and_a_number_in_each_table() {
        const NOT_SUPPORTED: Code = Code::named("NOT_SUPPORTED");
        assert_eq!((Code::numbered(2, OLD), Code::numbered(3, NEW)), (NOT_SUPPORTED, NOT_SUPPORTED));
        assert_eq!((NOT_SUPPORTED.number(OLD), NOT_SUPPORTED.number(NEW)), (Some(2), Some(3)));
        assert_eq!(Code::named("NO_PERM").number(OLD), None);
        assert_eq!((Code::result(0, OLD), Code::result(2, OLD)), (Ok(()), Err(NOT_SUPPORTED)));
        assert_eq!(Missing::from(Code::NO_SYMBOL), Missing::NotExposed);
    }

    #[test]
    fn a_status_is_read_back_as_it_was_written() {
        let written = |code: Code| serde_json::to_value(code).expect("it can be written");
        assert_eq!(written(Code::named("NO_PERM")), json!("NO_PERM"));
        assert_eq!(written(Code::numbered(4711, NEW)), json!("4711"));
        for text in [json!("NO_PERM"), json!("4711"), json!("NO_SYMBOL")] {
            let code: Code = serde_json::from_value(text.clone()).expect("it is a status");
            assert_eq!(written(code), text);
        }
        let code: Code = serde_json::from_value(json!(4711)).expect("a number is a status");
        assert_eq!((code.number(OLD), code.missing()), (Some(4711), Missing::Unreadable));
        assert!(serde_json::from_value::<Code>(json!("NONSENSE")).is_err());
    }
}
