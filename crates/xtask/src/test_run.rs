//! All test binaries of the workspace. They are built once and run several at a time, since most of them wait most of the
//! time. All of them run, even if some fail.

mod outcome;

use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use cargo_metadata::Message;

pub(crate) use self::outcome::TestOutcome;
use crate::{
    captured,
    steps::{StepLog, Steps},
    workspace::{Workspace, without_package_variables},
};

/// The variable that names the folder with the binary and the fake libraries to the tests, which then do not build them.
pub(crate) const BUILD_FOLDER: &str = "AFD_BUILD_FOLDER";

/// The variable that names the binary of the image to the tests that run it in a cluster.
pub(crate) const IMAGE_BINARY: &str = "AFD_IMAGE_BINARY";

/// All targets but benchmarks in one build, with one set of features.
const BUILD: &str = "build --workspace --lib --bins --tests";

/// Test binaries that are started before the others, because they run longest.
const FIRST: [&str; 11] = [
    "kubernetes",
    "allocations",
    "api_faults",
    "hosts",
    "chart",
    "chart_release",
    "chart_values",
    "least_privilege",
    "captures",
    "record",
    "leftovers",
];

/// The memory of a test binary, at most: that of a cluster with a node.
const MAX_MEMORY_KIBIBYTES: u64 = 2 * 1024 * 1024;

/// A test binary that runs longer is killed.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// The shortest time that is listed among the steps.
const MIN_LISTED: Duration = Duration::from_secs(2);

/// A binary of tests.
#[derive(Debug)]
pub(crate) struct TestBinary {
    target: String,
    program: PathBuf,
    /// The folder of its package, where it runs.
    folder: PathBuf,
}

/// A program that runs tests.
struct TestJob {
    name: String,
    command: Command,
}

/// Builds all test binaries, and what they run.
pub(crate) fn build(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<TestBinary>> {
    steps.run("build of the tests", &mut workspace.cargo(BUILD))?;
    // Nothing is left to build: cargo lists the binaries.
    let mut list = workspace.cargo(BUILD);
    let output = list.args(["--quiet", "--message-format=json"]).output().context("starting cargo")?;
    ensure!(output.status.success(), "cargo does not list what it has built");
    let mut binaries = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message.context("reading what cargo has built")?
            && artifact.profile.test
            && let Some(program) = artifact.executable
        {
            let folder = artifact.manifest_path.parent().context("a manifest is in a folder")?.to_owned();
            let (program, folder) = (program.into_std_path_buf(), folder.into_std_path_buf());
            binaries.push(TestBinary { target: artifact.target.name, program, folder });
        }
    }
    // A stable sort: the others remain in cargo's order.
    binaries
        .sort_by_key(|binary| FIRST.iter().position(|name| *name == binary.target).unwrap_or(FIRST.len()));
    Ok(binaries)
}

/// Runs all tests, with a further environment, and prints the output of each binary at its end.
pub(crate) fn run(
    log: &StepLog,
    workspace: &Workspace,
    binaries: Vec<TestBinary>,
    environment: &[(&str, PathBuf)],
) -> anyhow::Result<TestOutcome> {
    let jobs = binaries.into_iter().map(|binary| binary.job(workspace, environment));
    let queue = Mutex::new(jobs.chain(examples(workspace)?).collect::<VecDeque<TestJob>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let outcomes: anyhow::Result<Vec<TestOutcome>> = thread::scope(|scope| {
        let worker = || -> anyhow::Result<TestOutcome> {
            let mut outcome = TestOutcome::default();
            while let Some(job) = next() {
                outcome += job.run(log)?;
            }
            Ok(outcome)
        };
        let workers: Vec<_> = (0..parallel()).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    Ok(outcomes?.into_iter().sum())
}

/// The examples of the documentation, if there are any: cargo builds them with other features, and thus all dependencies
/// again.
fn examples(workspace: &Workspace) -> anyhow::Result<Option<TestJob>> {
    let mut folders = vec![workspace.root.join("crates"), workspace.root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                if has_example(&text) {
                    let mut command = workspace.cargo("test --workspace --doc --no-fail-fast");
                    command.stdin(Stdio::null());
                    let name = "examples of the documentation".to_owned();
                    return Ok(Some(TestJob { name, command }));
                }
            }
        }
    }
    Ok(None)
}

/// Whether a documentation comment contains Rust code.
fn has_example(source: &str) -> bool {
    let comments =
        source.lines().filter_map(|line| line.trim_start().strip_prefix("//")?.strip_prefix(['/', '!']));
    let mut is_open = false;
    let mut fences = comments.filter_map(|comment| comment.trim_start().strip_prefix("```"));
    fences.any(|language| {
        is_open = !is_open;
        is_open && (language.is_empty() || language.starts_with("rust"))
    })
}

/// How many test binaries run at a time: two more than there are cores, as far as there is memory.
fn parallel() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| {
        let kibibytes: u64 = line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok()?;
        usize::try_from(kibibytes / MAX_MEMORY_KIBIBYTES).ok()
    });
    available.unwrap_or(1).clamp(1, cores + 2)
}

impl TestBinary {
    fn job(self, workspace: &Workspace, environment: &[(&str, PathBuf)]) -> TestJob {
        let mut command = Command::new(&self.program);
        without_package_variables(&mut command);
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env(BUILD_FOLDER, workspace.target.join("debug"))
            .envs(environment.iter().map(|(name, value)| (name, value)));
        let folder = self.folder.strip_prefix(&workspace.root).unwrap_or(&self.folder);
        TestJob { name: format!("{} {}", folder.display(), self.target), command }
    }
}

impl TestJob {
    fn run(mut self, log: &StepLog) -> anyhow::Result<TestOutcome> {
        let name = self.name;
        let captured = captured::run(&mut self.command, Some(TIMEOUT), || false)
            .with_context(|| format!("running the tests of {name}"))?
            .context("a test binary is not stopped")?;
        log.print(&format!(
            "\n==> tests of {name}, {:.1} s\n{}",
            captured.duration.as_secs_f64(),
            captured.text
        ));
        let outcome = TestOutcome::of(&name, captured.status, &captured.text);
        if captured.duration >= MIN_LISTED || !outcome.is_success() {
            log.add("tests", &name, &captured, !outcome.is_success());
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_in_documentation_only() {
        assert!(has_example("//! A crate.\n//!\n//! ```\n//! f();\n//! ```\n"));
        assert!(has_example("    /// ```rust\n"));
        assert!(!has_example("/// ```text\n/// f()\n/// ```\n"));
        assert!(!has_example("// ```\nlet text = \"```\";\n/// A `word`.\n"));
    }

    #[test]
    fn the_binaries_that_are_started_first_exist() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        for name in FIRST {
            let exists = |folder: &str| workspace.root.join(folder).join(name).with_extension("rs").is_file();
            assert!(exists("tests/tests") || exists("tests/cluster/tests"), "there is no test binary {name}");
        }
    }
}
