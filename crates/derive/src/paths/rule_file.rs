//! A file of rules, and the places of its errors.

use std::{fmt, ops::Range};

/// An error in a file of rules.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RuleError {
    /// The file, as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// The message.
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// The text of a file, and the errors that were found in it.
#[derive(Debug)]
pub(super) struct RuleFile<'t> {
    file: &'t str,
    text: &'t str,
    errors: Vec<RuleError>,
}

impl<'t> RuleFile<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> RuleFile<'t> {
        RuleFile { file, text, errors: Vec::new() }
    }

    /// Adds an error at a byte of the text.
    pub(super) fn error(&mut self, byte: usize, message: impl Into<String>) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        self.errors.push(RuleError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        });
    }

    /// Adds an error at a byte of a value that is a TOML string at `span`. Where the string has escapes the place is that of
    /// the string.
    pub(super) fn error_within(
        &mut self,
        span: &Range<usize>,
        value: &str,
        byte: usize,
        message: impl Into<String>,
    ) {
        let written = self.text.get(span.clone()).unwrap_or_default();
        let place =
            written.find(value).map_or(span.start, |start| span.start + start + byte.min(value.len()));
        self.error(place, message);
    }

    /// All errors in the order of the text.
    pub(super) fn into_errors(mut self) -> Vec<RuleError> {
        self.errors.sort();
        self.errors.dedup();
        self.errors
    }
}
