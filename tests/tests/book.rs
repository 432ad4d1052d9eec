//! The documentation: every page is in the book, every link leads somewhere, and every command and manifest is valid. The queries of
//! docs/promql.md are run by `prometheus.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "book/commands.rs"]
mod commands;
#[path = "book/links.rs"]
mod links;
#[path = "book/manifests.rs"]
mod manifests;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use afd_derive::labels::{DEFAULT_PREFIX, LABELS, PRODUCT_KEY};
use afd_test_cluster::Suite;
use afd_tests::workspace;
use anyhow::{Context, ensure};

fn main() -> ExitCode {
    Suite::new()
        .outside("every_page_is_in_the_summary", summary)
        .outside("every_link_leads_to_a_file_and_a_heading", links::links)
        .outside("code_is_in_fenced_blocks_which_the_other_tests_read", fenced)
        .test("documented_commands_are_valid", commands::commands)
        .test("documented_manifests_are_valid", manifests::manifests)
        .main()
}

/// A page of the documentation.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block of a page.
struct CodeBlock<'a> {
    page: &'a Path,
    language: &'a str,
    /// The word after the language: of what it is an example, where that is no manifest.
    kind: &'a str,
    text: String,
}

impl Page {
    fn read(path: PathBuf) -> anyhow::Result<Page> {
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Page { path, text })
    }

    /// The lines outside of fenced blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_fence && !is_code
        })
    }

    fn code_blocks(&self) -> Vec<CodeBlock<'_>> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let text = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
                let (language, kind) = info.split_once(' ').unwrap_or((info, ""));
                blocks.push(CodeBlock { page: &self.path, language, kind, text });
            }
        }
        blocks
    }
}

/// The pages below `docs`, without the decisions, and those beside it that users read.
fn pages() -> anyhow::Result<Vec<Page>> {
    let others = [
        "README.md",
        "daemonset/README.md",
        "daemonset/chart/README.md",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
    ];
    let mut paths: Vec<PathBuf> = others.iter().map(|name| workspace().join(name)).collect();
    for entry in fs::read_dir(workspace().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.into_iter().map(Page::read).collect()
}

async fn summary() -> anyhow::Result<()> {
    let summary = fs::read_to_string(workspace().join("docs/SUMMARY.md"))?;
    for page in
        pages()?.iter().filter(|page| page.path.parent().is_some_and(|folder| folder.ends_with("docs")))
    {
        let name = page.path.file_name().unwrap_or_default().to_string_lossy();
        let is_listed = summary.contains(&format!("]({name})"));
        ensure!(is_listed || name == "SUMMARY.md", "docs/SUMMARY.md lacks {name}");
    }
    Ok(())
}

async fn fenced() -> anyhow::Result<()> {
    for page in pages()? {
        let prose: Vec<&str> = page.prose().collect();
        // After a line of text or of a list it continues that.
        let indented = prose.windows(2).find(|pair| pair[0].is_empty() && pair[1].starts_with("    "));
        ensure!(indented.is_none(), "{} has an indented block: {indented:?}", page.path.display());
    }
    Ok(())
}

/// Whether a key under our prefix is one that AFD writes or reads; keys of others are not known here.
fn is_label(key: &str) -> bool {
    const ANNOTATIONS: [&str; 3] = ["expect", "ignore", "report"];
    let Some(name) = key.strip_prefix(DEFAULT_PREFIX).and_then(|rest| rest.strip_prefix('/')) else {
        return true;
    };
    let is_path = || {
        let paths = fs::read_to_string(workspace().join("docs/paths.md")).expect("the page can be read");
        name.starts_with("path.") && paths.contains(&format!("## `{name}`"))
    };
    name.starts_with(PRODUCT_KEY)
        || LABELS.iter().any(|label| label.key == name)
        || ANNOTATIONS.contains(&name)
        || is_path()
}
