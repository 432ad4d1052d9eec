//! What must hold before a change is merged.
//!
//! Three lanes of steps run side by side: the programs of clusters, which Go builds; what cargo checks and builds; and what
//! needs packages of the machine. A rehearsal of a release and the tests follow when all lanes have ended.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    thread,
};

use anyhow::Context;

use crate::{
    cargo_tool,
    cluster::{self, ProgramSet},
    dist, image, setup,
    steps::{StepLog, Steps, Stopped},
    test_run::{self, TestBinary, TestOutcome},
    workflows,
    workspace::{Workspace, on_path},
};

/// The version of cargo-deny that is installed where it is missing.
const CARGO_DENY: &str = "0.20.2";
/// The version of mdBook that builds the documentation.
const MDBOOK: &str = "0.5.4";

/// Formatting, lints, documentation, licences and sources, fuzz targets, workflows, the image, a rehearsal of a release without its
/// builds, and at the end the tests.
pub(crate) fn ci(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let log = StepLog::default();
    let outcome = lanes(workspace, &log).and_then(|(programs, binaries)| {
        log.lane("release", |steps| dist::rehearse(&steps, workspace))?;
        let environment = [(cluster::PROGRAMS, programs), (test_run::IMAGE_BINARY, image::binary(workspace))];
        test_run::run(&log, workspace, binaries, &environment)
    });
    log.print(&format!("\n{}", log.table()));
    Ok(finish(&log, &outcome?))
}

/// All tests, with the programs that they need.
pub(crate) fn test(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    run_tests(workspace, &[])
}

/// All tests, accepting their output as expected.
pub(crate) fn bless(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    run_tests(workspace, &[("UPDATE_EXPECT", "1".into())])
}

/// The programs that the tests need; prints how to run tests by hand.
pub(crate) fn setup(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = test_programs(&StepLog::default().steps(), workspace)?;
    println!("export {}={}", cluster::PROGRAMS, programs.display());
    Ok(())
}

fn run_tests(workspace: &Workspace, environment: &[(&str, PathBuf)]) -> anyhow::Result<ExitCode> {
    let log = StepLog::default();
    let programs = test_programs(&log.steps(), workspace)?;
    let binaries = test_run::build(&log.steps(), workspace)?;
    let environment = [&[(cluster::PROGRAMS, programs)], environment].concat();
    Ok(finish(&log, &test_run::run(&log, workspace, binaries, &environment)?))
}

fn test_programs(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    setup::install_missing(steps, &setup::TESTS)?;
    cluster::programs(steps, workspace)
}

/// Everything but the tests: the programs of clusters and the test binaries.
fn lanes(workspace: &Workspace, log: &StepLog) -> anyhow::Result<(PathBuf, Vec<TestBinary>)> {
    let lanes = thread::scope(|scope| {
        let go = scope.spawn(|| log.lane("go", |steps| go(&steps, workspace)));
        let cargo = scope.spawn(|| log.lane("cargo", |steps| cargo(&steps, workspace)));
        let packages = log.lane("packages", |steps| packages(&steps, workspace));
        let no_panic = "a lane does not panic";
        (go.join().expect(no_panic), cargo.join().expect(no_panic), packages)
    });
    match lanes {
        (Ok(mut sets), Ok(binaries), Ok(installed)) => {
            sets.extend(installed);
            Ok((cluster::joined(workspace, sets)?, binaries))
        }
        (go, cargo, packages) => {
            let errors = [go.err(), cargo.err(), packages.err()].into_iter().flatten();
            // The steps of the other lanes were stopped, which is no cause.
            let cause = errors.max_by_key(|error| !error.is::<Stopped>());
            Err(cause.context("a lane failed")?)
        }
    }
}

fn go(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<ProgramSet>> {
    let built = cluster::built(steps, workspace)?;
    workflows::check(steps, workspace)?;
    Ok(built)
}

fn cargo(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<TestBinary>> {
    steps.run("format", &mut workspace.cargo("fmt --all --check"))?;
    steps.run("format of fuzz", &mut workspace.cargo("fmt --manifest-path fuzz/Cargo.toml --check"))?;
    steps.run("clippy", &mut workspace.cargo("clippy --workspace --all-targets -- -D warnings"))?;
    let mut doc = workspace.cargo("doc --workspace --no-deps");
    steps.run("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    test_run::build(steps, workspace)
}

fn packages(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<ProgramSet>> {
    setup::install_missing(steps, &[&setup::TESTS[..], &setup::FUZZ, &setup::IMAGE].concat())?;
    let installed = cluster::installed(steps, workspace)?;
    image::image(steps, workspace)?;
    // Checked, not built: fuzzing itself needs a nightly compiler and cargo-fuzz.
    let mut fuzz = workspace.cargo("check --manifest-path fuzz/Cargo.toml --target-dir");
    steps.run("fuzz targets", fuzz.arg(workspace.target.join("fuzz")))?;
    let deny = match on_path("cargo-deny") {
        Some(program) => program,
        None => cargo_tool::installed(steps, workspace, "cargo-deny", CARGO_DENY, &[])?,
    };
    let mut deny = Command::new(deny);
    deny.current_dir(&workspace.root).args(["--workspace", "check", "--hide-inclusion-graph"]);
    steps.run("licences and sources", deny.args(["bans", "licenses", "sources"]))?;
    // Without its web server.
    let book = cargo_tool::installed(steps, workspace, "mdbook", MDBOOK, &["--no-default-features"])?;
    let mut book = Command::new(book);
    book.current_dir(&workspace.root).args(["build", "docs", "--dest-dir"]);
    steps.run("book", book.arg(workspace.target.join("book")))?;
    dist::prepare(steps, workspace)?;
    Ok(installed)
}

/// Prints the outcome of the tests, whose last line is the sum alone.
fn finish(log: &StepLog, outcome: &TestOutcome) -> ExitCode {
    for failed in &outcome.failures {
        log.print(&format!("failed: {failed}"));
    }
    log.print(&outcome.to_string());
    if outcome.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
