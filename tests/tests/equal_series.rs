//! No page has two equal series: Prometheus would keep one of them, and report the scrape as invalid.
//!
//! Every page of every fixture, and the pages of the data sets beside the checkout, with the libraries that were recorded.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read files and start programs"
)]

use std::{collections::BTreeSet, fs, path::Path};

use afd_tests::{
    afd,
    data_set::{CAPTURES, CASES, HostArchive},
    driver_root::{FAKE_LIBRARIES, FakeDriverRoot},
    fixture, stdout,
};
use libtest_mimic::{Arguments, Failed, Trial};

/// Commands that print a page, the first with names of processes and all families of vendors' exporters.
const PAGES: [&[&str]; 2] = [
    &[
        "show",
        "--output",
        "metrics",
        "--per-process",
        "--compat-metrics",
        "amd",
        "--compat-metrics",
        "gaudi",
        "--compat-metrics",
        "intel",
    ],
    &["show", "--output", "dcgm", "--node-name", "node-7"],
];

fn main() {
    let mut trials = vec![Trial::test("equal_series_are_found", || {
        let page = "a{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 2\n";
        match without_equal_series(page) {
            Err(error) if error.message() == Some("a{b=\"1\"}") => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    })];
    for fixture in fixture::all() {
        trials.push(Trial::test(fixture.name.clone(), move || {
            let pages = fs::read_dir(fixture.expected("."))?.filter_map(|file| Some(file.ok()?.path()));
            for page in pages.filter(|path| is_page(path)) {
                without_equal_series(&fs::read_to_string(page)?)?;
            }
            Ok(())
        }));
    }
    for data_set in [CASES, CAPTURES] {
        for archive in data_set.archives().unwrap_or_default() {
            trials.push(Trial::test(archive.name.clone(), move || check(&archive)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Whether an expected output of a fixture is a page: `metrics.txt`, `metrics-compat-amd.txt`, `dcgm.txt`.
fn is_page(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("metrics") || name == "dcgm.txt")
}

fn check(archive: &HostArchive) -> Result<(), Failed> {
    let folder = archive.unpack()?;
    let root = archive.root(folder.path());
    let recordings = root.with_file_name("libraries");
    let recorded = FAKE_LIBRARIES.iter().map(|library| recordings.join(library.recording));
    let libraries: Vec<FakeDriverRoot> = recorded
        .filter(|recording| recording.exists())
        .map(|recording| FakeDriverRoot::new(&recording))
        .collect();
    for page in PAGES {
        let mut command = afd(page.iter().copied());
        command.arg("--host-root").arg(&root);
        for library in &libraries {
            command.arg(library.option()).arg(library.path());
        }
        without_equal_series(&stdout(&mut command))?;
    }
    Ok(())
}

/// Fails with the first series that a page has twice.
fn without_equal_series(page: &str) -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    for (series, _) in lines.filter_map(|line| line.rsplit_once(' ')) {
        if !seen.insert(series) {
            return Err(series.into());
        }
    }
    Ok(())
}
