//! Memory under attack: hostile tests of the HTTP endpoints, of the kubelet's API and of a library, played against the release binary.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::{
    budgets,
    figures::{Figure, kibibytes},
    process::image_environment,
};
use crate::{test_run::BUILD_FOLDER, workspace::Workspace};

/// The tests that play an attack, and print a line of what it cost.
const TESTS: &str = "test --quiet --no-fail-fast --package afd-tests --test hostile_http --test hostile_kubelet --test hostile_library \
                     -- --nocapture --test-threads=1 \
                     clients_that_never_read_are_withstood huge_headers_are_withstood hundreds_of_thousands_of_ids \
                     prints_without_end_takes_little_memory";
const ATTACKS: usize = 4;
const LINE: &str = "memory under attack: ";

/// What an attack cost, in KiB.
#[derive(Clone, Debug, Eq, PartialEq)]
struct AttackCost {
    attack: String,
    peak: u64,
    remainder: u64,
}

/// Plays the attacks against the binary in a folder, beside which the fake libraries are.
pub(super) fn measure(workspace: &Workspace, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut command: Command = workspace.cargo(TESTS);
    command.env(BUILD_FOLDER, folder).envs(image_environment()?);
    let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A test that fails because of a budget has printed its figures.
    let costs: Vec<AttackCost> = text.lines().filter_map(cost).collect();
    ensure!(costs.len() == ATTACKS, "{} attacks of {ATTACKS} were played:\n{text}", costs.len());
    let worst = |kibibytes: fn(&AttackCost) -> u64| costs.iter().max_by_key(|cost| kibibytes(cost));
    let peak = worst(|cost| cost.peak).context("there are attacks")?;
    let remainder = worst(|cost| cost.remainder).context("there are attacks")?;
    let detail = |cost: &AttackCost| format!("({})", cost.attack);
    Ok(vec![
        Figure::at_most(
            "memory under attack: resident at most",
            peak.peak,
            budgets::ATTACKED_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&detail(peak)),
        Figure::at_most(
            "memory under attack: private that remains",
            remainder.remainder,
            budgets::REMAINDER_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&detail(remainder)),
    ])
}

/// The cost in a line of a test.
fn cost(line: &str) -> Option<AttackCost> {
    // The harness prints the name of a test on the same line.
    let (_, line) = line.split_once(LINE)?;
    let (attack, figures) = line.rsplit_once(": peak ")?;
    let (peak, remainder) = figures.split_once(" KiB, remainder ")?;
    let remainder = remainder.strip_suffix(" KiB")?;
    Some(AttackCost {
        attack: attack.to_owned(),
        peak: peak.parse().ok()?,
        remainder: remainder.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_test_is_read() {
        let line =
            "test a ... memory under attack: 300 clients, NeverReads: peak 15904 KiB, remainder 144 KiB";
        let attack = "300 clients, NeverReads".to_owned();
        assert_eq!(cost(line), Some(AttackCost { attack, peak: 15904, remainder: 144 }));
        assert_eq!(cost("test a ... ok"), None);
    }
}
