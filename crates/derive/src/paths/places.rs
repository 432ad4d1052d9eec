//! Where in a file something is wrong.

use std::{fmt, ops::Range};

/// A mistake in a file of rules.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mistake {
    /// The file, as the user called it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// The text of a file, and the mistakes found in it.
#[derive(Debug)]
pub(super) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    mistakes: Vec<Mistake>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Source<'t> {
        Source { file, text, mistakes: Vec::new() }
    }

    /// Notes a mistake at a byte of the text.
    pub(super) fn wrong(&mut self, byte: usize, message: impl Into<String>) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        self.mistakes.push(Mistake {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        });
    }

    /// Notes a mistake at a byte of a value that stands as a TOML string at `span`. Where the string is written with
    /// escapes the place is the string's own.
    pub(super) fn wrong_within(
        &mut self,
        span: &Range<usize>,
        value: &str,
        byte: usize,
        message: impl Into<String>,
    ) {
        let written = self.text.get(span.clone()).unwrap_or_default();
        let place =
            written.find(value).map_or(span.start, |start| span.start + start + byte.min(value.len()));
        self.wrong(place, message);
    }

    /// All mistakes, in the order of the text.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort();
        self.mistakes.dedup();
        self.mistakes
    }
}
