//! Process 1 of a bed: makes its mounts and addresses, starts the test and reaps orphans until the test ends.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, bail, ensure};
use rustix::{
    mount::{MountFlags, mount, mount_bind},
    process::{Pid, WaitOptions, wait},
};

use crate::{requirements::COVERED, suite::TEST};

/// The node's address. The kubelet refuses loopback addresses, but takes any other one on `lo`.
pub(crate) const NODE_ADDRESS: &str = "10.99.0.1";

/// The address of the Service `kubernetes`: on `lo`, pods reach the API server there without a kube-proxy.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";

/// What the kubelet sets for the whole machine unless it is so already.
const SYSCTLS: [(&str, &str); 3] =
    [("vm/overcommit_memory", "1"), ("kernel/panic", "10"), ("kernel/panic_on_oops", "1")];

/// Makes the bed's world, runs the test in it and ends as the test does; with this process ends everything else.
pub(crate) fn run(test: &str, folder: &Path) -> anyhow::Result<ExitCode> {
    ip(&["link", "set", "lo", "up"])?;
    for address in [NODE_ADDRESS, SERVICE_ADDRESS] {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    for covered in COVERED {
        mount("tmpfs", covered, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("covering {covered}"))?;
    }
    for (name, value) in SYSCTLS {
        let file = Path::new("/run").join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).with_context(|| format!("writing {}", file.display()))?;
        mount_bind(&file, Path::new("/proc/sys").join(name)).with_context(|| format!("covering {name}"))?;
    }
    let (inside, kubelet) = (Path::new("/var/lib/kubelet"), folder.join("kubelet"));
    for folder in [inside, &kubelet, &folder.join("logs")] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    mount_bind(&kubelet, inside).context("giving the kubelet a folder")?;
    let child = Command::new(env::current_exe().context("asking for our own path")?)
        .args([TEST, test])
        .arg(folder)
        .spawn()
        .context("starting the test")?;
    reap_until(Pid::from_child(&child))
}

fn reap_until(test: Pid) -> anyhow::Result<ExitCode> {
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty()).context("waiting for the test")? else {
            continue;
        };
        if pid == test {
            let status = ExitStatus::from_raw(status.as_raw());
            if let Some(signal) = status.signal() {
                bail!("the test was ended by signal {signal}");
            }
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("starting `ip`")?;
    ensure!(status.success(), "`ip {}` failed", arguments.join(" "));
    Ok(())
}
