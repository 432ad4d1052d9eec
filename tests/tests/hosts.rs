//! The binary over every fixture host: inventory, labels, metrics and the table for people are as expected.
//!
//! `cargo xtask bless` accepts what the binary says now.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use afd_tests::{fixture, fixture::Fixture, stdout};
use expect_test::expect_file;
use libtest_mimic::{Arguments, Failed, Trial};

/// Stage of the line, what shows it, and the file with what is expected.
const STAGES: [(&str, &[&str], &str); 5] = [
    ("inventory", &["show", "--output", "json"], "inventory.json"),
    ("labels", &["show", "--output", "labels"], "labels.txt"),
    ("metrics", &["show", "--output", "metrics"], "metrics.txt"),
    ("table", &["show"], "table.txt"),
    ("topology", &["topology"], "topology.txt"),
];

fn main() {
    let trials = fixture::all().into_iter().flat_map(|fixture| {
        STAGES.map(|(stage, arguments, file)| {
            let fixture = fixture.clone();
            let name = format!("{}::{stage}", fixture.name);
            Trial::test(name, move || check(&fixture, arguments, file))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn check(fixture: &Fixture, arguments: &[&str], file: &str) -> Result<(), Failed> {
    let host = fixture.lay_out();
    let root = host.root().to_string_lossy().into_owned();
    let told = stdout(&mut host.afd(arguments.iter().copied())).replace(&root, "<root>");
    // A new fixture has no expectations yet; blessing writes into a folder that is there.
    if let Some(folder) = fixture.expected(file).parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::panic::catch_unwind(|| expect_file![fixture.expected(file)].assert_eq(&told))
        .map_err(|_| Failed::from(format!("{file} of {} is not as expected", fixture.name)))
}
