//! A TOML file as tables of texts, read so that every mistake is told and none hides another.

use std::{collections::BTreeSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::places::Source;

/// A text, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

/// A table, of which the keys that were asked for are remembered.
#[derive(Debug)]
pub(super) struct Table<'d> {
    table: &'d DeTable<'d>,
    /// Where it begins.
    pub(super) span: Range<usize>,
    asked: BTreeSet<&'static str>,
}

/// All tables `[[key]]` of a document.
pub(super) fn tables<'d>(source: &mut Source<'_>, document: &'d DeTable<'d>, key: &str) -> Vec<Table<'d>> {
    let Some(DeValue::Array(array)) = document.get(key).map(Spanned::get_ref) else { return Vec::new() };
    let mut tables = Vec::new();
    for element in array.iter() {
        match element.get_ref() {
            DeValue::Table(table) => {
                tables.push(Table { table, span: element.span(), asked: BTreeSet::new() });
            }
            _ => source.wrong(element.span().start, format!("a table [[{key}]] is meant")),
        }
    }
    tables
}

impl Table<'_> {
    /// The text of a key; that there is none is a mistake.
    pub(super) fn required(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<Text> {
        if !self.table.contains_key(key) {
            self.asked.insert(key);
            source.wrong(self.span.start, format!("`{key}` is missing"));
            return None;
        }
        self.optional(source, key)
    }

    /// The text of a key, if there is one.
    pub(super) fn optional(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<Text> {
        self.asked.insert(key);
        text(source, key, self.table.get(key)?)
    }

    /// The texts of a key whose value is a list of them.
    pub(super) fn texts(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<Vec<Text>> {
        self.asked.insert(key);
        let value = self.table.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            source.wrong(value.span().start, format!("`{key}` is a list of texts"));
            return Some(Vec::new());
        };
        Some(array.iter().filter_map(|element| text(source, key, element)).collect())
    }

    /// Tells of every key that nobody asked for.
    pub(super) fn end(self, source: &mut Source<'_>) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.asked.contains(key.get_ref().as_ref())) {
            let known: Vec<&str> = self.asked.iter().copied().collect();
            source.wrong(
                key.span().start,
                format!("there is no `{}`; there are {}", key.get_ref(), known.join(", ")),
            );
        }
    }
}

fn text(source: &mut Source<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Text> {
    match value.get_ref() {
        DeValue::String(text) if !text.trim().is_empty() => {
            Some(Text { value: text.clone().into_owned(), span: value.span() })
        }
        DeValue::String(_) => {
            source.wrong(value.span().start, format!("`{key}` is empty"));
            None
        }
        _ => {
            source.wrong(value.span().start, format!("`{key}` is a text"));
            None
        }
    }
}
