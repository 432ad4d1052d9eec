//! A test binary's `main`: lists and runs its tests, and plays the other roles when it is started anew with one.

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

type Body = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>> + Send>;

/// First argument of the processes behind a test. The second is the test's name, the third the bed's folder.
pub(crate) const KEEPER: &str = "bed-keeper";
pub(crate) const INIT: &str = "bed-init";
pub(crate) const TEST: &str = "bed-test";

/// Tests, each in a bed of its own.
#[derive(Default)]
pub struct Suite {
    tests: Vec<Test>,
}

struct Test {
    name: &'static str,
    place: Place,
    body: Body,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
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
    /// No tests yet.
    pub fn new() -> Suite {
        Suite::default()
    }

    /// Adds a test that runs inside a bed.
    #[must_use]
    pub fn test<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, Place::Bed, body)
    }

    /// Adds what runs inside a bed only with `--ignored`: the part of another test that is killed.
    #[must_use]
    pub fn on_request<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, Place::BedOnRequest, body)
    }

    /// Adds a test that runs outside of any bed, to look at beds from there.
    #[must_use]
    pub fn outside<B, F>(self, name: &'static str, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.add(name, Place::Outside, body)
    }

    fn add<B, F>(mut self, name: &'static str, place: Place, body: B) -> Suite
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.tests.push(Test { name, place, body: Box::new(|| Box::pin(body())) });
        self
    }

    /// The whole `main` of a test binary. Tests run one at a time unless `--test-threads` says otherwise.
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
        arguments.test_threads = arguments.test_threads.or(Some(1));
        let trials = self.tests.into_iter().map(Test::trial).collect();
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

impl Test {
    fn trial(self) -> Trial {
        let Test { name, place, body } = self;
        match place {
            Place::Outside => trial(name, move || requirements::check().and_then(|()| outcome(body))),
            Place::Bed => trial(name, || in_a_bed(name)),
            Place::BedOnRequest => trial(name, || in_a_bed(name)).with_ignored_flag(true),
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
fn outcome(body: Body) -> anyhow::Result<()> {
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

/// Starts a keeper for the test and waits for it. The keeper ends the bed when its standard input closes, whatever
/// ended this process.
fn in_a_bed(name: &str) -> anyhow::Result<()> {
    requirements::check()?;
    let mut keeper = Command::new(env::current_exe().context("asking for our own path")?)
        .args([KEEPER, name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C is for us; the keeper must outlive it to clean up.
        .process_group(0)
        .spawn()
        .context("starting the bed's keeper")?;
    let lifeline = keeper.stdin.take();
    let output = keeper.wait_with_output().context("waiting for the bed's keeper")?;
    drop(lifeline);
    if output.status.success() {
        // What it measured.
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(());
    }
    bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
