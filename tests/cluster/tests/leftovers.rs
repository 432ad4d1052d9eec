//! Nothing of a bed remains, however its test ends: in success, in failure, in panic, or killed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests look at the machine and start programs"
)]

use std::{
    env,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, ExitCode, Stdio},
};

use afd_test_cluster::{Bed, NAME_PREFIX, Suite, Version, traces, until};
use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const WAITS: &str = "waits_in_a_full_bed";
const PANICS: &str = "panics_in_a_bed";

fn main() -> ExitCode {
    Suite::new()
        .on_request(WAITS, waits)
        .on_request(PANICS, panics)
        .outside("nothing_remains_after_the_suite_is_killed", || nothing_remains_after_killing(Victim::Suite))
        .outside("the_next_bed_removes_what_a_killed_keeper_left", || {
            nothing_remains_after_killing(Victim::Keeper)
        })
        .outside("nothing_remains_after_a_panic", nothing_remains_after_a_panic)
        .outside("who_lacks_something_is_told_what_to_do", who_lacks_something_is_told)
        .main()
}

#[derive(Clone, Copy)]
enum Victim {
    Suite,
    Keeper,
}

async fn waits() -> anyhow::Result<()> {
    let bed = Bed::builder().version(Version::V1_37).node().start().await?;
    std::fs::write(bed.folder().join("up"), "")?;
    std::future::pending().await
}

async fn panics() -> anyhow::Result<()> {
    let _bed = Bed::builder().start().await?;
    panic!("on purpose, after the API server was ready");
}

async fn nothing_remains_after_killing(victim: Victim) -> anyhow::Result<()> {
    let mut suite = start(Command::new(env::current_exe()?), WAITS)?;
    let keeper = keeper_of(&suite).await?;
    let name = format!("{NAME_PREFIX}{keeper}");
    until("the bed is up", async || {
        ensure!(env::temp_dir().join(&name).join("up").exists(), "{name} is not up");
        Ok(())
    })
    .await?;
    let while_up = traces(&name)?;
    for what in ["process", "mount", "control group", "folder"] {
        ensure!(while_up.iter().any(|trace| trace.starts_with(what)), "no {what} is seen: {while_up:?}");
    }
    for program in ["etcd", "kube-apiserver", "containerd", "kubelet"] {
        let seen = |trace: &String| trace.starts_with("process") && trace.contains(&format!("/{program} "));
        ensure!(while_up.iter().any(seen), "{program} is not seen: {while_up:?}");
    }
    match victim {
        Victim::Suite => suite.kill()?,
        Victim::Keeper => kill(keeper)?,
    }
    suite.wait()?;
    if matches!(victim, Victim::Keeper) {
        until("the kernel has ended the bed", async || gone(&name, lasting)).await?;
        ensure!(!traces(&name)?.is_empty(), "a killed keeper cannot have cleaned up");
        start(Command::new(env::current_exe()?), PANICS)?.wait()?;
    }
    until("nothing remains", async || gone(&name, |_| false)).await
}

async fn nothing_remains_after_a_panic() -> anyhow::Result<()> {
    let suite = start(Command::new(env::current_exe()?), PANICS)?;
    let keeper = keeper_of(&suite).await?;
    let output = suite.wait_with_output()?;
    ensure!(!output.status.success(), "a panic is a success");
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("on purpose") && text.contains("the end of kube-apiserver.log"), "it says {text}");
    gone(&format!("{NAME_PREFIX}{keeper}"), |_| false)
}

async fn who_lacks_something_is_told() -> anyhow::Result<()> {
    // The build may lie where only its owner may go.
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    let own = folder.path().join("suite");
    std::fs::copy(env::current_exe()?, &own)?;

    let mut nobody = Command::new(&own);
    nobody.uid(65534).gid(65534);
    fails_with(nobody, "please run them as root")?;

    let mut no_namespaces = Command::new("setpriv");
    no_namespaces.arg("--bounding-set=-sys_admin").arg(&own);
    fails_with(no_namespaces, "docker run --privileged")?;

    let mut no_tools = Command::new(&own);
    no_tools.env("PATH", folder.path());
    fails_with(no_tools, "please install the package util-linux")?;

    let mut no_programs = Command::new(&own);
    for variable in ["AFD_CLUSTER_PROGRAMS", "KUBEBUILDER_ASSETS", "TEST_ASSET_KUBE_APISERVER"] {
        no_programs.env_remove(variable);
    }
    fails_with(no_programs, "`cargo xtask setup` builds them")
}

fn fails_with(suite: Command, reason: &str) -> anyhow::Result<()> {
    let output = start(suite, PANICS)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success(), "a test passes where it cannot run: {text}");
    ensure!(text.contains(reason), "instead of {reason:?} it says {text}");
    Ok(())
}

/// Starts this suite anew with a single test.
fn start(mut suite: Command, test: &str) -> anyhow::Result<Child> {
    let command = suite.args(["--ignored", "--exact", test]).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("starting {test}"))
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

fn kill(process: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).context("a process has an id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// What the kernel does not remove by itself.
fn lasting(trace: &str) -> bool {
    trace.starts_with("folder") || trace.starts_with("control group")
}

fn gone(name: &str, expected: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let remaining: Vec<String> = traces(name)?.into_iter().filter(|trace| !expected(trace)).collect();
    ensure!(remaining.is_empty(), "these remain: {remaining:#?}");
    Ok(())
}
