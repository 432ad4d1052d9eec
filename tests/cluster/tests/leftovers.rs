//! A bed leaves nothing behind, however its test ends: in success, in failure, in a panic, or killed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read the state of the machine and start programs"
)]

use std::{
    env,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use afd_test_cluster::{Bed, KubernetesVersion, NAME_PREFIX, Suite, traces, until};
use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const WAITS: &str = "waits_in_a_full_bed";
const PANICS: &str = "panics_in_a_bed";

fn main() -> ExitCode {
    Suite::new()
        .on_request(WAITS, waits)
        .on_request(PANICS, panics)
        .outside("nothing_remains_after_the_suite_is_killed", || nothing_remains_after_killing(Victim::Suite))
        .outside("the_next_bed_removes_that_of_a_killed_keeper", || {
            nothing_remains_after_killing(Victim::Keeper)
        })
        .outside("nothing_remains_after_a_panic", nothing_remains_after_a_panic)
        .outside("a_missing_requirement_fails_with_instructions", missing_requirements)
        .main()
}

#[derive(Clone, Copy)]
enum Victim {
    Suite,
    Keeper,
}

async fn waits() -> anyhow::Result<()> {
    let bed = Bed::builder().version(KubernetesVersion::V1_37).node().start().await?;
    std::fs::write(bed.folder().join("up"), "")?;
    std::future::pending().await
}

async fn panics() -> anyhow::Result<()> {
    let _bed = Bed::builder().start().await?;
    panic!("on purpose, after the API server was ready");
}

async fn nothing_remains_after_killing(victim: Victim) -> anyhow::Result<()> {
    let beds = tempfile::tempdir()?;
    let mut suite = start(Command::new(env::current_exe()?), WAITS, beds.path())?;
    let keeper = keeper_of(&suite).await?;
    let bed = folder_of(keeper, beds.path());
    until("the bed is up", async || {
        ensure!(bed.join("up").exists(), "{} is not up", bed.display());
        Ok(())
    })
    .await?;
    let while_up = traces(&bed)?;
    for kind in ["process", "mount", "control group", "folder"] {
        ensure!(while_up.iter().any(|trace| trace.starts_with(kind)), "there is no {kind}: {while_up:?}");
    }
    for program in ["etcd", "kube-apiserver", "containerd", "kubelet"] {
        let is_process =
            |trace: &String| trace.starts_with("process") && trace.contains(&format!("/{program} "));
        ensure!(while_up.iter().any(is_process), "there is no {program}: {while_up:?}");
    }
    match victim {
        Victim::Suite => suite.kill()?,
        Victim::Keeper => kill(keeper)?,
    }
    suite.wait()?;
    if matches!(victim, Victim::Keeper) {
        until("the kernel has removed its part", async || ensure_removed(&bed, is_lasting)).await?;
        ensure!(!traces(&bed)?.is_empty(), "a killed keeper cannot remove anything");
        start(Command::new(env::current_exe()?), PANICS, beds.path())?.wait()?;
    }
    until("nothing remains", async || ensure_removed(&bed, |_| false)).await
}

async fn nothing_remains_after_a_panic() -> anyhow::Result<()> {
    let beds = tempfile::tempdir()?;
    let suite = start(Command::new(env::current_exe()?), PANICS, beds.path())?;
    let keeper = keeper_of(&suite).await?;
    let output = suite.wait_with_output()?;
    ensure!(!output.status.success(), "a panic is a success");
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains("on purpose") && text.contains("the end of kube-apiserver.log"),
        "it prints {text}"
    );
    ensure_removed(&folder_of(keeper, beds.path()), |_| false)
}

async fn missing_requirements() -> anyhow::Result<()> {
    // The build may be in a folder of root, which another user cannot enter.
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    let copy = folder.path().join("suite");
    std::fs::copy(env::current_exe()?, &copy)?;

    let mut unprivileged = Command::new(&copy);
    unprivileged.uid(65534).gid(65534);
    fails_with(unprivileged, "please run them as root")?;

    let mut no_namespaces = Command::new("setpriv");
    no_namespaces.arg("--bounding-set=-sys_admin").arg(&copy);
    fails_with(no_namespaces, "docker run --privileged")?;

    let mut no_tools = Command::new(&copy);
    no_tools.env("PATH", folder.path());
    fails_with(no_tools, "please install the package util-linux")?;

    let mut no_programs = Command::new(&copy);
    for variable in ["AFD_CLUSTER_PROGRAMS", "KUBEBUILDER_ASSETS", "TEST_ASSET_KUBE_APISERVER"] {
        no_programs.env_remove(variable);
    }
    fails_with(no_programs, "`cargo xtask setup` builds them")
}

fn fails_with(suite: Command, reason: &str) -> anyhow::Result<()> {
    let output = start(suite, PANICS, &env::temp_dir())?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success(), "a test passes although it cannot run: {text}");
    ensure!(text.contains(reason), "instead of {reason:?} it prints {text}");
    Ok(())
}

/// Starts this suite again with a single test. Its beds have a folder of their own, so that beds of other suites do not
/// remove them.
fn start(mut suite: Command, test: &str, beds: &Path) -> anyhow::Result<Child> {
    let command = suite.args(["--ignored", "--exact", test]).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("TMPDIR", beds).spawn().with_context(|| format!("starting {test}"))
}

/// The keeper that a suite has started.
async fn keeper_of(suite: &Child) -> anyhow::Result<u32> {
    let children = format!("/proc/{0}/task", suite.id());
    until("the suite has started a keeper", async || {
        for thread in std::fs::read_dir(&children)? {
            for child in std::fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
                let arguments = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if arguments.contains("\0bed-keeper\0") {
                    return Ok(child.parse()?);
                }
            }
        }
        bail!("it has no such child")
    })
    .await
}

fn folder_of(keeper: u32, beds: &Path) -> PathBuf {
    beds.join(format!("{NAME_PREFIX}{keeper}"))
}

fn kill(process: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("a process has an id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Whether the kernel does not remove it with the processes.
fn is_lasting(trace: &str) -> bool {
    trace.starts_with("folder") || trace.starts_with("control group")
}

fn ensure_removed(bed: &Path, may_remain: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let remaining: Vec<String> = traces(bed)?.into_iter().filter(|trace| !may_remain(trace)).collect();
    ensure!(remaining.is_empty(), "these remain: {remaining:#?}");
    Ok(())
}
