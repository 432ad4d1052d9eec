//! The process outside of a bed that makes it, and removes it however the test ends.

use std::{
    env, fs,
    fs::File,
    io::{self, Read, Write, stderr, stdin},
    path::Path,
    process::{self, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use crate::{cgroups, requirements::UNSHARE, suite::INIT};

/// The prefix of the folder and the control groups of every bed.
pub const NAME_PREFIX: &str = "afd-bed-";

/// A test that takes longer is terminated, unless the variable sets another limit in seconds.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);
const LIMIT_VARIABLE: &str = "AFD_BED_LIMIT";

/// How long the kernel may take to remove the processes of a bed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Locked by the keeper as long as its bed exists.
const LOCK: &str = "lock";

enum KeeperEvent {
    Ended,
    Orphaned,
}

/// Runs a test in a bed of its own and removes the bed: when the test ends, when the suite dies (our standard input
/// closes), or when the test hangs.
pub(crate) fn keep(test: &str) -> anyhow::Result<ExitCode> {
    sweep()?;
    let name = format!("{NAME_PREFIX}{}", process::id());
    let folder = env::temp_dir().join(&name);
    // It gets its name when it is locked, so that no other keeper considers it abandoned.
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
    set_child_subreaper(Pid::from_raw(1)).context("becoming the parent of the bed's orphans")?;
    // If this process is killed too, the kernel still kills the bed.
    let mut unshare = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(UNSHARE)
        .arg(env::current_exe().context("reading the path of this program")?)
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
        let _ = orphaned.send(KeeperEvent::Orphaned);
    });
    let waiter = thread::spawn(move || {
        let status = unshare.wait();
        let _ = events.send(KeeperEvent::Ended);
        status
    });
    let seconds = env::var(LIMIT_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let limit = seconds.map_or(DEFAULT_LIMIT, Duration::from_secs);
    let event = next.recv_timeout(limit);
    if !matches!(event, Ok(KeeperEvent::Ended)) {
        if event.is_err() {
            // The reader of this may have ended, which must not prevent the removal.
            let _ = writeln!(stderr(), "the test took more than {limit:?} and was terminated");
        }
        kill_process(pid, Signal::KILL).context("killing the bed")?;
    }
    let status = waiter.join().expect("the waiting thread does not panic").context("waiting for the bed")?;
    // Process 1 has ended once every other process of the bed has.
    while wait(WaitOptions::empty()).is_ok() {}
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remove(folder: &Path, name: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    // The kernel may still be removing the bed of a killed keeper.
    while let Err(error) = cgroups::remove(name) {
        if begun.elapsed() > REMOVAL_TIMEOUT {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    match fs::remove_dir_all(folder) {
        // Another keeper has found it abandoned too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("removing {}", folder.display())),
    }
}

/// Removes the beds whose keepers were killed: folders that no process locks, with their control groups.
fn sweep() -> anyhow::Result<()> {
    for entry in fs::read_dir(env::temp_dir()).context("reading the folder of temporary files")? {
        let Ok(entry) = entry else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(NAME_PREFIX) {
            continue;
        }
        if let Some(_lock) = abandoned(&entry.path()) {
            remove(&entry.path(), &name).with_context(|| format!("removing the abandoned bed {name}"))?;
        }
    }
    Ok(())
}

/// The lock of a bed, where no keeper holds it.
fn abandoned(folder: &Path) -> Option<File> {
    // A bed without this file has just been removed.
    let lock = File::open(folder.join(LOCK)).ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

/// Everything on this machine that belongs to the bed of a folder, by its name: the folder itself, control groups,
/// processes and mounts, each as a line.
///
/// # Errors
/// When the control groups or the processes cannot be listed.
pub fn traces(folder: &Path) -> anyhow::Result<Vec<String>> {
    let name = folder.file_name().and_then(|name| name.to_str()).context("a bed's folder has a name")?;
    let mut traces: Vec<String> =
        cgroups::existing(name)?.iter().map(|group| format!("control group {}", group.display())).collect();
    if folder.exists() {
        traces.push(format!("folder {}", folder.display()));
    }
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let process = entry.context("reading /proc")?.path();
        for (what, file) in [("process", "cmdline"), ("mount", "mountinfo")] {
            // A process may end in the meantime.
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
