//! The `main` of a test binary: lists and runs its tests, and takes another role when it is started with one.

use std::{
    any::Any,
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{init, keeper, process, requirements};

type TestBody = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>> + Send>;

/// First argument of the processes behind a test. The second is the test's name, the third the bed's folder.
pub(crate) const KEEPER: &str = "bed-keeper";
pub(crate) const INIT: &str = "bed-init";
pub(crate) const TEST: &str = "bed-test";

/// Tests, each in a bed of its own.
pub struct Suite {
    tests: Vec<SuiteTest>,
    parallel: usize,
}

struct SuiteTest {
    name: &'static str,
    location: TestLocation,
    body: TestBody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TestLocation {
    Bed,
    BedOnRequest,
    Outside,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.tests.iter().map(|test| test.name)).finish()
    }
}

impl Suite {
    /// A suite without tests, which will run one at a time.
    #[expect(clippy::new_without_default, reason = "an empty suite is of no use")]
    pub fn new() -> Suite {
        Suite { tests: Vec::new(), parallel: 1 }
    }

    /// Runs this many tests at a time: for tests that wait most of the time.
    #[must_use]
    pub fn parallel(self, tests: usize) -> Suite {
        Suite { parallel: tests, ..self }
    }

    /// Adds a test that runs inside a bed.
    #[must_use]
    pub fn test<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, TestLocation::Bed, body)
    }

    /// Adds a test that runs inside a bed, and only with `--ignored`: one that another test starts and kills.
    #[must_use]
    pub fn on_request<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, TestLocation::BedOnRequest, body)
    }

    /// Adds a test that runs outside of any bed, to observe beds from there.
    #[must_use]
    pub fn outside<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, TestLocation::Outside, body)
    }

    fn add<B, F>(mut self, name: &'static str, location: TestLocation, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.tests.push(SuiteTest { name, location, body: Box::new(|| Box::pin(body())) });
        self
    }

    /// The `main` of a test binary. `--test-threads` takes precedence over [`Suite::parallel`].
    pub fn main(self) -> ExitCode {
        let arguments: Vec<OsString> = env::args_os().collect();
        let role = arguments.get(1).and_then(|role| role.to_str()).unwrap_or_default();
        let test = arguments.get(2).and_then(|test| test.to_str()).unwrap_or_default();
        let done = match (role, arguments.get(3)) {
            (KEEPER, _) => keeper::keep(test),
            (INIT, Some(folder)) => init::run(test, Path::new(folder)),
            (TEST, Some(folder)) => self.run_inside(test, Path::new(folder)),
            _ => return self.run_all(),
        };
        done.unwrap_or_else(|error| {
            eprintln!("{role}: {error:#}");
            ExitCode::FAILURE
        })
    }

    fn run_all(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(Some(self.parallel));
        let trials = self.tests.into_iter().map(SuiteTest::trial).collect();
        libtest_mimic::run(&arguments, trials).exit_code()
    }

    fn run_inside(self, name: &str, folder: &Path) -> anyhow::Result<ExitCode> {
        let test = self.tests.into_iter().find(|test| test.name == name).context("there is no such test")?;
        match outcome(test.body) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                eprintln!("{error:#}\n{}", process::tails(&folder.join("logs")));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

impl SuiteTest {
    fn trial(self) -> Trial {
        let SuiteTest { name, location, body } = self;
        match location {
            TestLocation::Outside => trial(name, move || requirements::check().and_then(|()| outcome(body))),
            TestLocation::Bed => trial(name, || in_a_bed(name)),
            TestLocation::BedOnRequest => trial(name, || in_a_bed(name)).with_ignored_flag(true),
        }
    }
}

fn trial(name: &str, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || run().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// The folder of the bed that this process runs in.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.nth(1)) {
        (Some(role), Some(folder)) if role == TEST => Ok(folder.into()),
        _ => bail!("a cluster is started by a test of a suite, inside of its bed"),
    }
}

/// Runs a test's function to its end or its panic.
fn outcome(body: TestBody) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(body())))
        .unwrap_or_else(|panic| bail!("panicked: {}", message(panic.as_ref())))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Starts a keeper for the test and waits for it. The keeper removes the bed when its standard input closes, however
/// this process ends.
fn in_a_bed(name: &str) -> anyhow::Result<()> {
    requirements::check()?;
    let mut keeper = Command::new(env::current_exe().context("reading the path of this program")?)
        .args([KEEPER, name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C ends this process alone; the keeper must outlive it to remove the bed.
        .process_group(0)
        .spawn()
        .context("starting the bed's keeper")?;
    let lifeline = keeper.stdin.take();
    let output = keeper.wait_with_output().context("waiting for the bed's keeper")?;
    drop(lifeline);
    if output.status.success() {
        // Tests may print what they have measured.
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(());
    }
    bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
