//! The process outside of a bed that makes it and takes it away again, whatever becomes of the test.

use std::{
    env, fs,
    fs::File,
    io::{Read, Write, stderr, stdin},
    path::Path,
    process::{self, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::{cgroups, requirements::UNSHARE, suite::INIT};

/// How the folder and the control groups of every bed begin.
pub const NAME_PREFIX: &str = "afd-bed-";

/// A test that takes longer hangs, unless the variable says how many seconds it may take.
const LIMIT: Duration = Duration::from_secs(300);
const LIMIT_VARIABLE: &str = "AFD_BED_LIMIT";

/// How long the kernel may take to end the processes of a bed.
const END: Duration = Duration::from_secs(10);

/// Held by the keeper for as long as its bed is there.
const LOCK: &str = "lock";

enum Event {
    Ended,
    Orphaned,
}

/// Runs a test in a bed of its own and removes the bed: when the test ends, when the suite dies (our standard input
/// closes), or when the test hangs.
pub(crate) fn keep(test: &str) -> anyhow::Result<ExitCode> {
    sweep()?;
    let name = format!("{NAME_PREFIX}{}", process::id());
    let folder = env::temp_dir().join(&name);
    // It gets its name when it is locked, so that nobody takes it for abandoned.
    let unnamed = env::temp_dir().join(format!("afd-unnamed-{}", process::id()));
    fs::create_dir(&unnamed).with_context(|| format!("making {}", unnamed.display()))?;
    let lock = File::create(unnamed.join(LOCK)).context("making the bed's lock")?;
    lock.lock().context("locking the bed")?;
    fs::rename(&unnamed, &folder).with_context(|| format!("naming {}", folder.display()))?;
    let outcome = cgroups::make(&name).and_then(|()| run(test, &folder));
    let removed = remove(&folder, &name);
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

fn run(test: &str, folder: &Path) -> anyhow::Result<ExitCode> {
    // When `unshare` is killed, process 1 of the bed becomes our child, and can be waited for.
    set_child_subreaper(Pid::from_raw(1)).context("asking to be given the bed's orphans")?;
    // Should this process be killed too, the kernel still ends the bed.
    let mut unshare = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(UNSHARE)
        .arg(env::current_exe().context("asking for our own path")?)
        .args([INIT, test])
        .arg(folder)
        .stdin(Stdio::null())
        .spawn()
        .context("starting unshare")?;
    let pid = Pid::from_child(&unshare);
    let (events, next) = mpsc::channel();
    let orphaned = events.clone();
    thread::spawn(move || {
        let _ = stdin().read_to_end(&mut Vec::new());
        let _ = orphaned.send(Event::Orphaned);
    });
    let waiter = thread::spawn(move || {
        let status = unshare.wait();
        let _ = events.send(Event::Ended);
        status
    });
    let given = env::var(LIMIT_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let limit = given.map_or(LIMIT, Duration::from_secs);
    let event = next.recv_timeout(limit);
    if !matches!(event, Ok(Event::Ended)) {
        if event.is_err() {
            // Whoever reads this may be gone, which must not keep us from cleaning up.
            let _ = writeln!(stderr(), "the test took more than {limit:?} and is ended");
        }
        kill_process(pid, Signal::KILL).context("killing the bed")?;
    }
    let status = waiter.join().expect("the waiting thread does not panic").context("waiting for the bed")?;
    // Process 1 counts as ended when every other process of the bed has.
    while wait(WaitOptions::empty()).is_ok() {}
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remove(folder: &Path, name: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    // The kernel may still be about to end the bed of a killed keeper.
    while let Err(error) = cgroups::remove(name) {
        if begun.elapsed() > END {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

/// Removes what beds left whose keepers were killed: a folder that nobody locks, and its control groups.
fn sweep() -> anyhow::Result<()> {
    for entry in fs::read_dir(env::temp_dir()).context("reading the folder of temporary files")? {
        let Ok(entry) = entry else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(NAME_PREFIX) {
            continue;
        }
        if let Some(_lock) = abandoned(&entry.path()) {
            remove(&entry.path(), &name).with_context(|| format!("removing what is left of {name}"))?;
        }
    }
    Ok(())
}

/// The lock of a bed that nobody keeps.
fn abandoned(folder: &Path) -> Option<File> {
    // Without a lock the bed has just been removed.
    let lock = File::open(folder.join(LOCK)).ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

/// Everything on this machine that bears a bed's name: its folder, control groups, processes and mounts, each as a line.
///
/// # Errors
/// When the control groups or the processes cannot be listed.
pub fn traces(name: &str) -> anyhow::Result<Vec<String>> {
    let folder = env::temp_dir().join(name);
    let mut traces: Vec<String> =
        cgroups::of(name)?.iter().map(|group| format!("control group {}", group.display())).collect();
    if folder.exists() {
        traces.push(format!("folder {}", folder.display()));
    }
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let process = entry.context("reading /proc")?.path();
        for (what, file) in [("process", "cmdline"), ("mount", "mountinfo")] {
            // Processes come and go while we look.
            let text = fs::read(process.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            traces.extend(
                text.lines()
                    .filter(|line| line.contains(name))
                    .map(|line| format!("{what} of {}: {line}", process.display())),
            );
        }
    }
    Ok(traces)
}
