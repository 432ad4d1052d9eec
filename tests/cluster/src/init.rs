//! Process 1 of a bed: makes mounts and addresses, starts the test and reaps orphans until the test ends.

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

use crate::{requirements::HIDDEN, suite::TEST};

/// The node's address. The kubelet rejects loopback addresses, but accepts any other address of `lo`.
pub(crate) const NODE_ADDRESS: &str = "10.99.0.1";

/// The address of the Service `kubernetes`: on `lo`, pods reach the API server there without a kube-proxy.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";

/// Values that the kubelet would set for the whole machine unless they are set already.
const SYSCTLS: [(&str, &str); 3] =
    [("vm/overcommit_memory", "1"), ("kernel/panic", "10"), ("kernel/panic_on_oops", "1")];

/// Prepares the bed, runs the test in it and exits as the test does; the kernel then kills all other processes of the bed.
pub(crate) fn run(test: &str, folder: &Path) -> anyhow::Result<ExitCode> {
    ip(&["link", "set", "lo", "up"])?;
    for address in [NODE_ADDRESS, SERVICE_ADDRESS] {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    for folder in HIDDEN {
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("hiding {folder}"))?;
    }
    for (name, value) in SYSCTLS {
        let file = Path::new("/run").join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).with_context(|| format!("writing {}", file.display()))?;
        mount_bind(&file, Path::new("/proc/sys").join(name)).with_context(|| format!("hiding {name}"))?;
    }
    let (inside, kubelet) = (Path::new("/var/lib/kubelet"), folder.join("kubelet"));
    for folder in [inside, &kubelet, &folder.join("logs")] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    mount_bind(&kubelet, inside).context("mounting the kubelet's folder")?;
    let child = Command::new(env::current_exe().context("reading the path of this program")?)
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
                bail!("the test was terminated by signal {signal}");
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
