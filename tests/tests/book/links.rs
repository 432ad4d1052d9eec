//! Relative links of the documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, ensure};
use regex::Regex;

use super::{Page, pages};

/// Every relative link leads to a file of the repository, and every anchor to a heading.
pub(super) async fn links() -> anyhow::Result<()> {
    let link = Regex::new(r"\]\(([^()\s]+)\)")?;
    let pages = pages()?;
    let mut headings: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    for page in &pages {
        let folder = page.path.parent().context("a page is in a folder")?;
        for target in page.prose().flat_map(|line| link.captures_iter(line)).map(|found| found[1].to_owned())
        {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.path.clone() } else { folder.join(file) };
            let path =
                fs::canonicalize(&path).with_context(|| format!("{}: {target}", page.path.display()))?;
            if !anchor.is_empty() {
                if !headings.contains_key(&path) {
                    headings.insert(path.clone(), self::headings(&Page::read(path.clone())?));
                }
                ensure!(
                    headings[&path].contains(anchor),
                    "{}: {target} has no such heading",
                    page.path.display()
                );
            }
            count += 1;
        }
    }
    ensure!(count > 50, "only {count} links were found");
    Ok(())
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn headings(page: &Page) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let lines = page.prose().filter(|line| line.starts_with('#'));
    lines
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
            let anchor: String = kept.map(|char| if char == ' ' { '-' } else { char }).collect();
            let repeated = seen.entry(anchor.clone()).or_default();
            *repeated += 1;
            if *repeated == 1 { anchor } else { format!("{anchor}-{}", *repeated - 1) }
        })
        .collect()
}
