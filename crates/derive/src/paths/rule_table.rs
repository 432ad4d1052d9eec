//! A TOML file as tables of strings, read so that every error is reported and none hides another.

use std::{collections::BTreeSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::rule_file::RuleFile;

/// A string and its place.
#[derive(Clone, Debug)]
pub(super) struct SpannedString {
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

/// A table that remembers which keys were read.
#[derive(Debug)]
pub(super) struct RuleTable<'d> {
    table: &'d DeTable<'d>,
    /// Its place.
    pub(super) span: Range<usize>,
    read: BTreeSet<&'static str>,
}

/// All tables `[[key]]` of a document.
pub(super) fn tables<'d>(
    file: &mut RuleFile<'_>,
    document: &'d DeTable<'d>,
    key: &str,
) -> Vec<RuleTable<'d>> {
    let Some(DeValue::Array(array)) = document.get(key).map(Spanned::get_ref) else { return Vec::new() };
    let mut tables = Vec::new();
    for element in array.iter() {
        match element.get_ref() {
            DeValue::Table(table) => {
                tables.push(RuleTable { table, span: element.span(), read: BTreeSet::new() });
            }
            _ => file.error(element.span().start, format!("expected a table [[{key}]]")),
        }
    }
    tables
}

impl RuleTable<'_> {
    /// The string of a key that must be there.
    pub(super) fn required(&mut self, file: &mut RuleFile<'_>, key: &'static str) -> Option<SpannedString> {
        if !self.table.contains_key(key) {
            self.read.insert(key);
            file.error(self.span.start, format!("`{key}` is missing"));
            return None;
        }
        self.optional(file, key)
    }

    /// The string of a key, if it is there.
    pub(super) fn optional(&mut self, file: &mut RuleFile<'_>, key: &'static str) -> Option<SpannedString> {
        self.read.insert(key);
        string(file, key, self.table.get(key)?)
    }

    /// The strings of a key whose value is a list of them.
    pub(super) fn strings(
        &mut self,
        file: &mut RuleFile<'_>,
        key: &'static str,
    ) -> Option<Vec<SpannedString>> {
        self.read.insert(key);
        let value = self.table.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            file.error(value.span().start, format!("`{key}` must be a list of strings"));
            return Some(Vec::new());
        };
        Some(array.iter().filter_map(|element| string(file, key, element)).collect())
    }

    /// Adds an error for every key that was not read.
    pub(super) fn finish(self, file: &mut RuleFile<'_>) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.read.contains(key.get_ref().as_ref())) {
            let known: Vec<&str> = self.read.iter().copied().collect();
            file.error(
                key.span().start,
                format!("unknown key `{}`; the keys are {}", key.get_ref(), known.join(", ")),
            );
        }
    }
}

fn string(file: &mut RuleFile<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<SpannedString> {
    match value.get_ref() {
        DeValue::String(text) if !text.trim().is_empty() => {
            Some(SpannedString { value: text.clone().into_owned(), span: value.span() })
        }
        DeValue::String(_) => {
            file.error(value.span().start, format!("`{key}` is empty"));
            None
        }
        _ => {
            file.error(value.span().start, format!("`{key}` must be a string"));
            None
        }
    }
}
