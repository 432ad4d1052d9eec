//! The commands of blocks that are marked `sh`.

use std::{collections::BTreeSet, process::Command};

use afd_agent::args::Args;
use afd_test_cluster::{Bed, succeed};
use afd_tests::{binary, workspace};
use anyhow::{Context, bail, ensure};
use clap::Parser;

use super::{CodeBlock, is_label, pages};

/// Words in capitals stand for what the reader fills in.
const FILLED_IN: [(&str, &str); 4] =
    [("REGISTRY", "registry.example"), ("TAG", "0.1.0"), ("NODE", "node-1"), ("POD", "afd-1")];

/// Commands that only a machine with a registry or a cluster can run: their arguments are checked where a test can.
const OTHER_PROGRAMS: [&str; 7] = ["buildah", "cargo", "cosign", "curl", "docker", "gh", "sha256sum"];

pub(super) async fn commands() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let pages = pages()?;
    let mut programs = BTreeSet::new();
    for block in pages.iter().flat_map(|page| page.code_blocks()).filter(|block| block.language == "sh") {
        let text = block.text.replace("\\\n", "");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let command =
                FILLED_IN.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value));
            let words: Vec<&str> = command.split_whitespace().collect();
            programs.insert(words[0].to_owned());
            check(&bed, &block, &words).with_context(|| format!("{}: {line}", block.page.display()))?;
        }
    }
    for program in ["afd", "helm", "kubectl"] {
        ensure!(programs.contains(program), "no page has a command of {program}: {programs:?}");
    }
    Ok(())
}

fn check(bed: &Bed, block: &CodeBlock<'_>, words: &[&str]) -> anyhow::Result<()> {
    match words[0] {
        "afd" => afd(words),
        "helm" => helm(bed, words),
        "kubectl" => kubectl(bed, words),
        // `docker run ... IMAGE` is followed by arguments of the binary.
        "docker" => {
            let image = words.iter().position(|word| *word == "IMAGE").context("no IMAGE")?;
            parse(&words[image..])
        }
        program if OTHER_PROGRAMS.contains(&program) => Ok(()),
        program => bail!("{program} of {} is checked by nothing", block.page.display()),
    }
}

/// Arguments of the binary, after a word for itself.
fn parse(words: &[&str]) -> anyhow::Result<()> {
    Args::try_parse_from(words)?;
    Ok(())
}

/// A command on a recorded host is run; others must be understood.
fn afd(words: &[&str]) -> anyhow::Result<()> {
    parse(words)?;
    if words.iter().any(|word| word.starts_with("fixtures/")) {
        let shown = succeed(Command::new(binary()).args(&words[1..]).current_dir(workspace()))?;
        ensure!(!shown.trim().is_empty(), "it prints nothing");
    }
    Ok(())
}

/// The chart accepts the values of an installation.
fn helm(bed: &Bed, words: &[&str]) -> anyhow::Result<()> {
    let Some(chart) = words.iter().position(|word| *word == "daemonset/chart") else {
        // A chart of others.
        return Ok(());
    };
    let name = words[chart - 1];
    let options: Vec<&str> =
        words[chart + 1..].iter().copied().filter(|word| !word.starts_with("--create-namespace")).collect();
    let mut command = bed.helm()?;
    command.args(["template", name]).arg(words[chart]).args(options).current_dir(workspace());
    succeed(&mut command)?;
    Ok(())
}

/// kubectl knows the command, and the labels are those that AFD writes.
fn kubectl(bed: &Bed, words: &[&str]) -> anyhow::Result<()> {
    let usage = succeed(bed.kubectl()?.args([words[1], "--help"]))?;
    ensure!(usage.contains("Usage:"), "kubectl has no command {}", words[1]);
    let selectors = words.windows(2).filter(|pair| matches!(pair[0], "-l" | "-L" | "--selector"));
    for key in selectors.flat_map(|pair| pair[1].split(',')) {
        let key = key.split(['=', '!']).next().unwrap_or_default();
        ensure!(is_label(key), "AFD writes no label {key}");
    }
    if let Some(inner) = words.iter().position(|word| *word == "--") {
        ensure!(words.get(inner + 1) == Some(&"afd"), "the image has no other program");
        parse(&words[inner + 1..])?;
    }
    Ok(())
}
