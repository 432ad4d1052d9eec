//! `afd explain --fix`: what to do about what paths lack, on the distribution of the host. It prints commands and runs none.

use std::fmt::Write;

use afd_derive::paths::{
    PathVerdict,
    remedies::{Distribution, Remedies, Remedy},
};
use afd_model::Inventory;

/// A reason, and what is wrong with the paths that have it.
struct Shortfall<'v> {
    reason: &'v str,
    /// Each message with its paths.
    messages: Vec<(&'v str, Vec<&'v str>)>,
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
        match shortfall.messages.as_slice() {
            [(message, paths)] => {
                let _ = write!(text, "\n{} ({})\n  {message}\n", shortfall.reason, paths.join(", "));
            }
            messages => {
                let _ = writeln!(text, "\n{}", shortfall.reason);
                for (message, paths) in messages {
                    let _ = writeln!(text, "  {}: {message}", paths.join(", "));
                }
            }
        }
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
        let position = shortfalls.iter().position(|known| known.reason == reason).unwrap_or_else(|| {
            shortfalls.push(Shortfall { reason, messages: Vec::new() });
            shortfalls.len() - 1
        });
        let messages = &mut shortfalls[position].messages;
        match messages.iter_mut().find(|(message, _)| *message == outcome.message) {
            Some((_, paths)) if paths.contains(&path) => {}
            Some((_, paths)) => paths.push(path),
            None => messages.push((&outcome.message, vec![path])),
        }
    }
    shortfalls
}
