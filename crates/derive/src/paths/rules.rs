//! Rules as data: a TOML file with the paths and their requirements, read into compiled expressions.
//!
//! The built-in file is next to this one; its head describes the format. A user's file adds paths and requirements, also
//! requirements of existing paths.

use std::collections::BTreeSet;

use afd_model::Inventory;
use toml::de::{DeTable, DeValue};

use super::{
    predicate::{self, Expression},
    rule_file::{RuleError, RuleFile},
    rule_table::{RuleTable, SpannedString, tables},
    verdict::PathVerdict,
    view,
};
use crate::value::{MAX_LENGTH, label_value};

/// Prefix of the key of a path's label.
pub const PATH_KEY: &str = "path.";

/// The built-in file.
const BUILT_IN: &str = include_str!("rules.toml");

/// A path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathSpec {
    /// Its name, as the label `path.<name>` has it.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The page that describes it.
    pub guide: Option<String>,
    /// The pods that fit on a node that is ready.
    pub pods: Option<String>,
    /// What it needs besides and cannot be read on the node.
    pub not_checked: Vec<String>,
}

/// A requirement of paths on a node, or what they work better with.
#[derive(Debug)]
pub struct Requirement {
    paths: Vec<String>,
    /// Nodes to which it applies; all if there is none.
    pub when: Option<Expression>,
    /// What must or should hold.
    pub require: Expression,
    /// Reason in CamelCase why a node is not ready if it does not hold, or what is noted then.
    pub reason: String,
    message: MessageTemplate,
    /// Source of the requirement.
    pub source: Option<String>,
}

/// Paths and their requirements.
#[derive(Debug, Default)]
pub struct PathRules {
    paths: Vec<PathSpec>,
    requirements: Vec<Requirement>,
    notes: Vec<Requirement>,
}

impl PathRules {
    /// The paths that AFD knows.
    pub fn built_in() -> PathRules {
        let mut rules = PathRules::default();
        let errors = rules.add("rules.toml", BUILT_IN);
        assert!(errors.is_empty(), "the built-in rules: {errors:?}");
        rules
    }

    /// Adds the rules of a file, which is called `file` in errors, and returns all its errors in the order of its text. With
    /// errors these rules are only good for finding those of another file.
    #[must_use]
    pub fn add(&mut self, file: &str, text: &str) -> Vec<RuleError> {
        let mut rule_file = RuleFile::new(file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            rule_file.error(error.span().map_or(0, |span| span.start), error.message());
        }
        if errors.is_empty() {
            self.read(&mut rule_file, document.get_ref());
        }
        rule_file.into_errors()
    }

    /// The verdict of each path for a node. Integrated GPUs count only with `include_integrated`, as for labels.
    pub fn verdicts(&self, inventory: &Inventory, include_integrated: bool) -> Vec<PathVerdict<'_>> {
        let view = predicate::context(view::of_inventory(inventory, include_integrated));
        let verdict = |path| PathVerdict::new(path, self.requirements_of(path), self.notes_of(path), &view);
        self.paths.iter().map(verdict).collect()
    }

    /// All paths, in the order of the files.
    pub fn paths(&self) -> &[PathSpec] {
        &self.paths
    }

    /// The requirements of a path, in the order of the files.
    pub fn requirements_of<'r>(&'r self, path: &'r PathSpec) -> impl Iterator<Item = &'r Requirement> {
        self.requirements.iter().filter(|requirement| requirement.paths.contains(&path.name))
    }

    /// What a path works better with, in the order of the files: a node that lacks it is ready, and slower.
    pub fn notes_of<'r>(&'r self, path: &'r PathSpec) -> impl Iterator<Item = &'r Requirement> {
        self.notes.iter().filter(|note| note.paths.contains(&path.name))
    }

    fn read(&mut self, file: &mut RuleFile<'_>, document: &DeTable<'_>) {
        for (key, value) in document.iter() {
            if !matches!(key.get_ref().as_ref(), "path" | "requirement" | "note") {
                file.error(
                    key.span().start,
                    format!(
                        "unknown key {}; the keys are [[path]], [[requirement]] and [[note]]",
                        key.get_ref()
                    ),
                );
            } else if !matches!(value.get_ref(), DeValue::Array(_)) {
                file.error(key.span().start, format!("expected [[{}]], with two brackets", key.get_ref()));
            }
        }
        for mut table in tables(file, document, "path") {
            if let Some(path) = self.path(file, &mut table) {
                self.paths.push(path);
            }
            table.finish(file);
        }
        let known: BTreeSet<String> = self.paths.iter().map(|path| path.name.clone()).collect();
        for (kind, expression) in [("requirement", "require"), ("note", "prefer")] {
            for mut table in tables(file, document, kind) {
                let requirement = requirement(file, &mut table, &known, expression);
                match kind {
                    "note" => self.notes.extend(requirement),
                    _ => self.requirements.extend(requirement),
                }
                table.finish(file);
            }
        }
    }

    fn path(&self, file: &mut RuleFile<'_>, table: &mut RuleTable<'_>) -> Option<PathSpec> {
        let name = table.required(file, "name");
        if let Some(name) = &name {
            let is_valid =
                label_value(&name.value, MAX_LENGTH - PATH_KEY.len()).as_ref() == Some(&name.value);
            if !is_valid {
                file.error(
                    name.span.start,
                    format!("{:?} cannot be part of the label {PATH_KEY}<name>", name.value),
                );
            }
            if self.paths.iter().any(|path| path.name == name.value) {
                file.error(name.span.start, format!("there is a path {:?} already", name.value));
            }
        }
        let title = table.required(file, "title");
        let mut string = |key| table.optional(file, key).map(|string| string.value);
        let (guide, pods) = (string("guide"), string("pods"));
        let not_checked = table.strings(file, "not_checked").unwrap_or_default();
        Some(PathSpec {
            name: name?.value,
            title: title?.value,
            guide,
            pods,
            not_checked: not_checked.into_iter().map(|string| string.value).collect(),
        })
    }
}

impl Requirement {
    /// The message where it does not hold.
    pub(super) fn message(&self, view: &cel::Context<'_, '_>) -> String {
        self.message.fill(|expression| expression.value_text(view))
    }

    /// The message as it is written in the file.
    pub fn message_source(&self) -> String {
        self.message.fill(|expression| format!("{{{}}}", expression.source()))
    }
}

/// Reads a requirement or a note, whose expression has the key `expression`.
fn requirement(
    file: &mut RuleFile<'_>,
    table: &mut RuleTable<'_>,
    known: &BTreeSet<String>,
    expression: &'static str,
) -> Option<Requirement> {
    let paths = table.strings(file, "paths");
    match &paths {
        None => file.error(table.span.start, "`paths` is missing"),
        Some(paths) => {
            for path in paths.iter().filter(|path| !known.contains(&path.value)) {
                file.error(path.span.start, format!("unknown path {:?}", path.value));
            }
        }
    }
    let when = table.optional(file, "when").map(|string| compiled(file, &string));
    let require = table.required(file, expression).and_then(|string| compiled(file, &string));
    let reason = table.required(file, "reason");
    if let Some(reason) = &reason {
        let value = &reason.value;
        let is_valid = value.starts_with(|c: char| c.is_ascii_uppercase())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_valid {
            file.error(reason.span.start, format!("{value:?} is not in CamelCase, such as RdmaMissing"));
        }
    }
    let message = table.required(file, "message").and_then(|string| MessageTemplate::parse(file, &string));
    let source = table.optional(file, "source").map(|string| string.value);
    Some(Requirement {
        paths: paths?.into_iter().map(|path| path.value).collect(),
        // One that does not compile is an error of the file.
        when: when.flatten(),
        require: require?,
        reason: reason?.value,
        message: message?,
        source,
    })
}

fn compiled(file: &mut RuleFile<'_>, string: &SpannedString) -> Option<Expression> {
    Expression::predicate(&string.value)
        .map_err(|errors| {
            for (byte, message) in errors {
                file.error_within(&string.span, &string.value, byte, message);
            }
        })
        .ok()
}

/// A message with expressions in braces.
#[derive(Debug)]
struct MessageTemplate(Vec<(String, Option<Expression>)>);

impl MessageTemplate {
    fn parse(file: &mut RuleFile<'_>, string: &SpannedString) -> Option<MessageTemplate> {
        let mut parts = Vec::new();
        let (mut rest, mut is_valid) = (string.value.as_str(), true);
        while let Some((before, after)) = rest.split_once('{') {
            let place = string.value.len() - after.len();
            let Some((expression, following)) = after.split_once('}') else {
                file.error_within(&string.span, &string.value, place - 1, "unclosed brace");
                return None;
            };
            match Expression::value(expression) {
                Ok(expression) => parts.push((before.to_owned(), Some(expression))),
                Err(errors) => {
                    is_valid = false;
                    for (byte, message) in errors {
                        file.error_within(&string.span, &string.value, place + byte, message);
                    }
                }
            }
            rest = following;
        }
        parts.push((rest.to_owned(), None));
        is_valid.then_some(MessageTemplate(parts))
    }

    fn fill(&self, value: impl Fn(&Expression) -> String) -> String {
        self.0
            .iter()
            .map(|(text, expression)| text.clone() + &expression.as_ref().map_or_else(String::new, &value))
            .collect()
    }
}
