//! `afd explain --fix`: what to do about what paths lack, on the distribution of the host. It prints commands and runs none.

use std::fmt::Write;

use afd_derive::paths::{
    PathVerdict,
    remedies::{Distribution, Remedies, Remedy},
};
use afd_model::Inventory;

/// A reason, the paths that have it, and what is wrong.
struct Shortfall<'v> {
    reason: &'v str,
    message: &'v str,
    paths: Vec<&'v str>,
}

/// What to do about each reason against the paths, and about each note. Each reason is there once.
pub fn fixes(verdicts: &[PathVerdict<'_>], inventory: &Inventory, include_integrated: bool) -> String {
    let remedies = Remedies::built_in();
    let shortfalls = shortfalls(verdicts);
    if shortfalls.is_empty() {
        return "Nothing is known that could be fixed.\n".to_owned();
    }
    let os = inventory.host.os.value();
    let distribution = os.and_then(Distribution::of);
    let mut text = match (os, distribution) {
        (Some(os), Some(known)) => {
            let version = os.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
            format!("Distribution: {}{version}, as {}.\n", os.id, known.title())
        }
        (Some(os), None) => format!("Distribution: {}, which is not known here; all are shown.\n", os.id),
        (None, _) => {
            "The distribution is not known (no os-release under the host root); all are shown.\n".to_owned()
        }
    };
    text += "These commands are for you to read and to adapt; afd runs none of them.\n";
    for shortfall in &shortfalls {
        let _ = write!(
            text,
            "\n{} ({})\n  {}\n",
            shortfall.reason,
            shortfall.paths.join(", "),
            shortfall.message
        );
        match remedies.find(shortfall.reason, inventory, include_integrated) {
            Some(remedy) => add_remedy(&mut text, remedy, distribution),
            None => text += "  A rule of yours has this reason: it says what to do.\n",
        }
    }
    text
}

fn add_remedy(text: &mut String, remedy: &Remedy, distribution: Option<Distribution>) {
    let _ = writeln!(text, "  {}", remedy.what);
    let shown = match distribution {
        Some(distribution) => vec![(distribution, "    ")],
        None if remedy.is_the_same_everywhere() => vec![(Distribution::ALL[0], "    ")],
        None => Distribution::ALL.map(|distribution| (distribution, "      ")).to_vec(),
    };
    for (own, indent) in &shown {
        if shown.len() > 1 {
            let _ = writeln!(text, "    {}:", own.title());
        }
        for command in remedy.commands(*own) {
            let _ = writeln!(text, "{indent}{command}");
        }
    }
}

/// Reasons against paths before notes, in the order of the rules.
fn shortfalls<'v>(verdicts: &'v [PathVerdict<'_>]) -> Vec<Shortfall<'v>> {
    let mut shortfalls: Vec<Shortfall<'v>> = Vec::new();
    let unmet = verdicts.iter().flat_map(|verdict| verdict.unmet().map(move |outcome| (verdict, outcome)));
    let notes = verdicts.iter().flat_map(|verdict| verdict.notes().map(move |outcome| (verdict, outcome)));
    for (verdict, outcome) in unmet.chain(notes) {
        let (reason, path) = (outcome.requirement.reason.as_str(), verdict.path.name.as_str());
        match shortfalls.iter_mut().find(|known| known.reason == reason) {
            Some(known) if known.paths.contains(&path) => {}
            Some(known) => known.paths.push(path),
            None => shortfalls.push(Shortfall { reason, message: &outcome.message, paths: vec![path] }),
        }
    }
    shortfalls
}
