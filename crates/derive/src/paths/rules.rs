//! Rules as data: a TOML file with the paths and their requirements, read into compiled expressions.
//!
//! The built-in file stands beside this one; its head tells the form. A file of a user adds paths and requirements, also
//! requirements of paths that are there already.

use std::collections::BTreeSet;

use afd_model::Inventory;
use toml::de::{DeTable, DeValue};

use super::{
    places::{Mistake, Source},
    predicate::{self, Expression},
    table::{Table, Text, tables},
    verdict::PathVerdict,
    view,
};
use crate::value::{MAX_LENGTH, label_value};

/// The beginning of the key of a path's label.
pub(super) const LABEL: &str = "path.";

/// The built-in file.
const BUILT_IN: &str = include_str!("rules.toml");

/// A path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathSpec {
    /// Its name, as the label `path.<name>` has it.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Where it is described.
    pub guide: Option<String>,
    /// What pods a node that is ready has room for.
    pub pods: Option<String>,
    /// What it needs besides and no file of the node tells.
    pub not_checked: Vec<String>,
}

/// What paths require of a node.
#[derive(Debug)]
pub struct Requirement {
    paths: Vec<String>,
    /// Where it is asked at all; everywhere if there is none.
    pub when: Option<Expression>,
    /// What must hold.
    pub require: Expression,
    /// Why a node is not ready where it does not, in CamelCase.
    pub reason: String,
    message: Message,
    /// Who says so.
    pub source: Option<String>,
}

/// Paths and what they require, ready to be asked.
#[derive(Debug, Default)]
pub struct Rules {
    paths: Vec<PathSpec>,
    requirements: Vec<Requirement>,
}

impl Rules {
    /// The paths that AFD knows.
    pub fn built_in() -> Rules {
        let mut rules = Rules::default();
        let mistakes = rules.add("rules.toml", BUILT_IN);
        assert!(mistakes.is_empty(), "the built-in rules: {mistakes:?}");
        rules
    }

    /// Adds the rules of a file, which is called `file` in mistakes, and tells all its mistakes in the order of its text.
    /// With mistakes, these rules are of no use any more but to find those of another file.
    #[must_use]
    pub fn add(&mut self, file: &str, text: &str) -> Vec<Mistake> {
        let mut source = Source::new(file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            source.wrong(error.span().map_or(0, |span| span.start), error.message());
        }
        if errors.is_empty() {
            self.read(&mut source, document.get_ref());
        }
        source.into_mistakes()
    }

    /// What each path says of a node. Integrated GPUs count only if asked for, as for labels.
    pub fn ask(&self, inventory: &Inventory, include_integrated: bool) -> Vec<PathVerdict<'_>> {
        let view = predicate::context(view::of(inventory, include_integrated));
        self.paths.iter().map(|path| PathVerdict::of(path, self.requirements_of(path), &view)).collect()
    }

    /// All paths, in the order of the files.
    pub fn paths(&self) -> &[PathSpec] {
        &self.paths
    }

    /// What a path requires, in the order of the files.
    pub fn requirements_of<'r>(&'r self, path: &'r PathSpec) -> impl Iterator<Item = &'r Requirement> {
        self.requirements.iter().filter(|requirement| requirement.paths.contains(&path.name))
    }

    fn read(&mut self, source: &mut Source<'_>, document: &DeTable<'_>) {
        for (key, value) in document.iter() {
            if !matches!(key.get_ref().as_ref(), "path" | "requirement") {
                source.wrong(
                    key.span().start,
                    format!("there is no [[{}]]; there are [[path]] and [[requirement]]", key.get_ref()),
                );
            } else if !matches!(value.get_ref(), DeValue::Array(_)) {
                source.wrong(key.span().start, format!("[[{}]] is meant, with two brackets", key.get_ref()));
            }
        }
        for mut table in tables(source, document, "path") {
            if let Some(path) = self.path(source, &mut table) {
                self.paths.push(path);
            }
            table.end(source);
        }
        let known: BTreeSet<String> = self.paths.iter().map(|path| path.name.clone()).collect();
        for mut table in tables(source, document, "requirement") {
            if let Some(requirement) = requirement(source, &mut table, &known) {
                self.requirements.push(requirement);
            }
            table.end(source);
        }
    }

    fn path(&self, source: &mut Source<'_>, table: &mut Table<'_>) -> Option<PathSpec> {
        let name = table.required(source, "name");
        if let Some(name) = &name {
            let fits = label_value(&name.value, MAX_LENGTH - LABEL.len()).as_ref() == Some(&name.value);
            if !fits {
                source.wrong(
                    name.span.start,
                    format!("{:?} cannot be part of the label {LABEL}<name>", name.value),
                );
            }
            if self.paths.iter().any(|path| path.name == name.value) {
                source.wrong(name.span.start, format!("there is a path {:?} already", name.value));
            }
        }
        let title = table.required(source, "title");
        let mut text = |key| table.optional(source, key).map(|text| text.value);
        let (guide, pods) = (text("guide"), text("pods"));
        let not_checked = table.texts(source, "not_checked").unwrap_or_default();
        Some(PathSpec {
            name: name?.value,
            title: title?.value,
            guide,
            pods,
            not_checked: not_checked.into_iter().map(|text| text.value).collect(),
        })
    }
}

impl Requirement {
    /// What to tell where it does not hold.
    pub(super) fn message(&self, view: &cel::Context<'_, '_>) -> String {
        self.message.fill(|expression| expression.word(view))
    }

    /// The message as it stands in the file.
    pub fn message_text(&self) -> String {
        self.message.fill(|expression| format!("{{{}}}", expression.text()))
    }
}

fn requirement(
    source: &mut Source<'_>,
    table: &mut Table<'_>,
    known: &BTreeSet<String>,
) -> Option<Requirement> {
    let paths = table.texts(source, "paths");
    match &paths {
        None => source.wrong(table.span.start, "a requirement has `paths`, the paths that have it"),
        Some(paths) => {
            for path in paths.iter().filter(|path| !known.contains(&path.value)) {
                source.wrong(path.span.start, format!("there is no path {:?}", path.value));
            }
        }
    }
    let when = table.optional(source, "when").map(|text| compiled(source, &text));
    let require = table.required(source, "require").and_then(|text| compiled(source, &text));
    let reason = table.required(source, "reason");
    if let Some(reason) = &reason {
        let value = &reason.value;
        let fits = value.starts_with(|c: char| c.is_ascii_uppercase())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !fits {
            source.wrong(reason.span.start, format!("{value:?} is not in CamelCase, as RdmaMissing is"));
        }
    }
    let message = table.required(source, "message").and_then(|text| Message::of(source, &text));
    let said = table.optional(source, "source").map(|text| text.value);
    Some(Requirement {
        paths: paths?.into_iter().map(|path| path.value).collect(),
        // One that does not compile makes the whole file wrong.
        when: when.flatten(),
        require: require?,
        reason: reason?.value,
        message: message?,
        source: said,
    })
}

fn compiled(source: &mut Source<'_>, text: &Text) -> Option<Expression> {
    Expression::predicate(&text.value)
        .map_err(|wrong| {
            for (byte, message) in wrong {
                source.wrong_within(&text.span, &text.value, byte, message);
            }
        })
        .ok()
}

/// A text with expressions in braces.
#[derive(Debug)]
struct Message(Vec<(String, Option<Expression>)>);

impl Message {
    fn of(source: &mut Source<'_>, text: &Text) -> Option<Message> {
        let mut parts = Vec::new();
        let (mut rest, mut fine) = (text.value.as_str(), true);
        while let Some((before, after)) = rest.split_once('{') {
            let place = text.value.len() - after.len();
            let Some((expression, behind)) = after.split_once('}') else {
                source.wrong_within(&text.span, &text.value, place - 1, "a brace is opened and not closed");
                return None;
            };
            match Expression::value(expression) {
                Ok(expression) => parts.push((before.to_owned(), Some(expression))),
                Err(wrong) => {
                    fine = false;
                    for (byte, message) in wrong {
                        source.wrong_within(&text.span, &text.value, place + byte, message);
                    }
                }
            }
            rest = behind;
        }
        parts.push((rest.to_owned(), None));
        fine.then_some(Message(parts))
    }

    fn fill(&self, word: impl Fn(&Expression) -> String) -> String {
        self.0
            .iter()
            .map(|(text, expression)| text.clone() + &expression.as_ref().map_or_else(String::new, &word))
            .collect()
    }
}
