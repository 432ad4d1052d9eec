//! `afd explain`: which llm-d paths this node can serve, and if not, why not and how to fix it.

mod fixes;

use std::fmt::Write;

use afd_derive::paths::{Evaluation, PathAnswer, PathVerdict, RequirementOutcome};
use comfy_table::{Cell, Color};
use serde::Serialize;

pub use self::fixes::fixes;
use crate::text_table::{TextStyle, new_table};

/// There is no path of this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no path {name:?}; there are {known}")]
pub struct UnknownPathError {
    name: String,
    known: String,
}

impl UnknownPathError {
    /// There are only these.
    pub(crate) fn new<'p>(name: &str, known: impl Iterator<Item = &'p str>) -> UnknownPathError {
        UnknownPathError { name: name.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

/// The verdict on the path of this name, or all verdicts.
///
/// # Errors
/// When no path has this name.
pub fn select<'v, 'r>(
    verdicts: &'v [PathVerdict<'r>],
    name: Option<&str>,
) -> Result<&'v [PathVerdict<'r>], UnknownPathError> {
    let Some(name) = name else { return Ok(verdicts) };
    match verdicts.iter().position(|verdict| verdict.path.name == name) {
        Some(index) => Ok(&verdicts[index..=index]),
        None => Err(UnknownPathError::new(name, verdicts.iter().map(|verdict| verdict.path.name.as_str()))),
    }
}

/// A row for each path, with unmet requirements or unknown facts.
pub fn table(verdicts: &[PathVerdict<'_>], style: TextStyle) -> String {
    let mut table = new_table(style, ["PATH", "READY", "WHY"]);
    for verdict in verdicts {
        let (word, color) = answer(verdict.answer());
        let mut ready = Cell::new(word);
        if let Some(color) = color.filter(|_| style.color()) {
            ready = ready.fg(color);
        }
        table.add_row(vec![Cell::new(&verdict.path.name), ready, Cell::new(why(verdict).join("\n"))]);
    }
    let mut text = format!("{}\n\n", table.trim_fmt());
    if verdicts.iter().any(|verdict| verdict.answer() == PathAnswer::Unknown) {
        text += "`afd show --output json` shows why a fact is not known.\n";
    }
    text += "`afd explain PATH` shows all requirements of a path; `yes` does not cover what is listed there as not checked.\n";
    text
}

/// All requirements of a path, and what is not checked.
pub fn page(verdict: &PathVerdict<'_>) -> String {
    let path = verdict.path;
    let mut text = format!("{}: {}\n", path.title, answer(verdict.answer()).0);
    for line in path.guide.iter() {
        let _ = writeln!(text, "{line}");
    }
    for line in path.pods.iter() {
        let _ = writeln!(text, "Pods: {line}.");
    }
    text += "\nRequired:\n";
    for outcome in verdict.outcomes.iter().filter(|outcome| outcome.holds != Evaluation::NotApplicable) {
        let requirement = outcome.requirement;
        let _ = writeln!(text, "  {:<7}  {}", word(&outcome.holds), requirement.require.source());
        if let Some(line) = shortfall(outcome) {
            let _ = writeln!(text, "           {line}");
        }
        if let Some(source) = &requirement.source {
            let _ = writeln!(text, "           source: {source}");
        }
    }
    let notes: Vec<_> = verdict.notes().collect();
    if !notes.is_empty() {
        text += "\nNotes:\n";
        for outcome in notes {
            let _ = writeln!(text, "  {}: {}", outcome.requirement.reason, outcome.message);
            if let Some(source) = &outcome.requirement.source {
                let _ = writeln!(text, "           source: {source}");
            }
        }
    }
    if !path.not_checked.is_empty() {
        text += "\nNot checked:\n";
        for item in &path.not_checked {
            let _ = writeln!(text, "  - {item}");
        }
    }
    text
}

/// The verdicts as JSON.
///
/// # Errors
/// When it cannot be encoded.
pub fn json(verdicts: &[PathVerdict<'_>]) -> serde_json::Result<String> {
    let paths: Vec<PathReport<'_>> = verdicts.iter().map(PathReport::new).collect();
    serde_json::to_string_pretty(&paths).map(|text| text + "\n")
}

#[derive(Serialize)]
struct PathReport<'v> {
    path: &'v str,
    title: &'v str,
    /// `true`, `false`, or `null` where a fact is not known.
    ready: Option<bool>,
    requirements: Vec<RequirementReport<'v>>,
    /// What the node lacks that the path works better with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<NoteReport<'v>>,
    not_checked: &'v [String],
}

#[derive(Serialize)]
struct RequirementReport<'v> {
    require: &'v str,
    /// `null` where a fact is not known.
    holds: Option<bool>,
    reason: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'v str>,
}

#[derive(Serialize)]
struct NoteReport<'v> {
    reason: &'v str,
    message: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'v str>,
}

impl<'v> PathReport<'v> {
    fn new(verdict: &'v PathVerdict<'_>) -> PathReport<'v> {
        PathReport {
            path: &verdict.path.name,
            title: &verdict.path.title,
            ready: verdict.answer().ready(),
            requirements: verdict.outcomes.iter().filter_map(RequirementReport::new).collect(),
            notes: verdict.notes().map(NoteReport::new).collect(),
            not_checked: &verdict.path.not_checked,
        }
    }
}

impl<'v> NoteReport<'v> {
    fn new(outcome: &'v RequirementOutcome<'_>) -> NoteReport<'v> {
        NoteReport {
            reason: &outcome.requirement.reason,
            message: &outcome.message,
            source: outcome.requirement.source.as_deref(),
        }
    }
}

impl<'v> RequirementReport<'v> {
    fn new(outcome: &'v RequirementOutcome<'_>) -> Option<RequirementReport<'v>> {
        let (holds, unknown) = match &outcome.holds {
            Evaluation::True => (Some(true), None),
            Evaluation::False => (Some(false), None),
            Evaluation::Unknown(fact) => (None, Some(fact.as_str())),
            Evaluation::NotApplicable => return None,
        };
        Some(RequirementReport {
            require: outcome.requirement.require.source(),
            holds,
            reason: &outcome.requirement.reason,
            message: &outcome.message,
            unknown,
            source: outcome.requirement.source.as_deref(),
        })
    }
}

/// Why a path is not ready, or what is noted, one line each.
pub(crate) fn why(verdict: &PathVerdict<'_>) -> Vec<String> {
    let reasons: Vec<String> = match verdict.answer() {
        PathAnswer::Ready => Vec::new(),
        PathAnswer::NotReady => verdict.unmet().filter_map(shortfall).collect(),
        PathAnswer::Unknown => verdict.missing().into_iter().map(str::to_owned).collect(),
    };
    let notes = verdict.notes().filter_map(shortfall).map(|note| format!("note: {note}"));
    reasons.into_iter().chain(notes).collect()
}

/// What is unmet or unknown of a requirement.
fn shortfall(outcome: &RequirementOutcome<'_>) -> Option<String> {
    match &outcome.holds {
        Evaluation::False => Some(format!("{}: {}", outcome.requirement.reason, outcome.message)),
        Evaluation::Unknown(fact) => Some(fact.clone()),
        Evaluation::True | Evaluation::NotApplicable => None,
    }
}

/// The word for an answer, and its color.
pub(crate) fn answer(answer: PathAnswer) -> (&'static str, Option<Color>) {
    match answer {
        PathAnswer::Ready => ("yes", Some(Color::Green)),
        PathAnswer::NotReady => ("no", Some(Color::Red)),
        PathAnswer::Unknown => ("unknown", None),
    }
}

fn word(holds: &Evaluation) -> &'static str {
    match holds {
        Evaluation::True => "yes",
        Evaluation::False => "no",
        Evaluation::Unknown(_) => "unknown",
        Evaluation::NotApplicable => "",
    }
}
