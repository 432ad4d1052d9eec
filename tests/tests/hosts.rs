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

/// How NVIDIA's MIG devices can be offered.
const MIG_STRATEGIES: [&str; 3] = ["none", "single", "mixed"];

/// Stage of the line, what shows it, and the file with what is expected.
const STAGES: [(&str, &[&str], &str); 8] = [
    ("inventory", &["show", "--output", "json"], "inventory.json"),
    ("labels", &["show", "--output", "labels"], "labels.txt"),
    ("labels-compat", &["show", "--output", "labels", "--compat", "amd=on"], "labels-compat.txt"),
    ("metrics", &["show", "--output", "metrics", "--per-process"], "metrics.txt"),
    (
        "metrics-compat-amd",
        &["show", "--output", "metrics", "--per-process", "--compat-metrics", "amd"],
        "metrics-compat-amd.txt",
    ),
    ("table", &["show"], "table.txt"),
    ("topology", &["topology"], "topology.txt"),
    ("paths", &["explain"], "paths.txt"),
];

fn main() {
    let mut trials = Vec::new();
    for fixture in fixture::all() {
        let trial = |stage: &str,
                     check: fn(&Fixture, &[&str]) -> String,
                     arguments: &'static [&str],
                     file: &'static str| {
            let name = format!("{}::{stage}", fixture.name);
            let fixture = fixture.clone();
            Trial::test(name, move || compare(&fixture, &check(&fixture, arguments), file))
        };
        trials.extend(STAGES.map(|(stage, arguments, file)| trial(stage, told, arguments, file)));
        if fixture.has_nvml() {
            trials.push(trial("gfd", gfd_labels, &[], "gfd.txt"));
            trials.push(trial(
                "dcgm",
                told,
                &["show", "--output", "dcgm", "--node-name", "node-7"],
                "dcgm.txt",
            ));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn told(fixture: &Fixture, arguments: &[&str]) -> String {
    let host = fixture.lay_out();
    let root = host.root().to_string_lossy().into_owned();
    stdout(&mut host.afd(arguments.iter().copied())).replace(&root, "<root>")
}

/// GPU Feature Discovery's labels, by strategy.
fn gfd_labels(fixture: &Fixture, _: &[&str]) -> String {
    let host = fixture.lay_out();
    let labels = |strategy: &str| {
        let arguments =
            ["show", "--output", "labels", "--compat", "nvidia=on", "--nvidia-mig-strategy", strategy];
        let labels = stdout(&mut host.afd(arguments));
        labels.split_inclusive('\n').filter(|line| line.starts_with("nvidia.com/")).collect::<String>()
    };
    MIG_STRATEGIES.map(|strategy| format!("# MIG strategy {strategy}\n{}", labels(strategy))).concat()
}

fn compare(fixture: &Fixture, told: &str, file: &str) -> Result<(), Failed> {
    // A new fixture has no expectations yet; blessing writes into a folder that is there.
    if let Some(folder) = fixture.expected(file).parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::panic::catch_unwind(|| expect_file![fixture.expected(file)].assert_eq(told))
        .map_err(|_| Failed::from(format!("{file} of {} is not as expected", fixture.name)))
}
