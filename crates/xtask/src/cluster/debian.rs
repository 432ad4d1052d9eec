//! Container runtime and network plugins, unpacked from Debian packages.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    steps::Steps,
    store::{key, make},
    workspace::on_path,
};

const PACKAGES: [&str; 3] = ["containerd", "containernetworking-plugins", "runc"];

/// The folder that the packages are unpacked in.
pub(super) fn unpacked(steps: &Steps<'_>, store: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        on_path("apt-get").is_some() && on_path("dpkg").is_some(),
        "the cluster tests need the programs of the Debian packages {}, but there is no apt-get. {}",
        PACKAGES.join(", "),
        super::WITHOUT_CLUSTER
    );
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let names = PACKAGES.iter().map(|name| (*name).to_owned());
    let key = key(names.chain([release, env::consts::ARCH.to_owned()]));
    make(store, &format!("debian-{key}"), |folder| {
        let packages = tempfile::tempdir().context("making a temporary folder")?;
        let mut download = Command::new("apt-get");
        download.current_dir(packages.path()).args(["download", "--quiet"]).args(PACKAGES);
        if rustix::process::geteuid().is_root() {
            download.args(["--option", "APT::Sandbox::User=root"]);
        }
        if steps.run("apt-get download", &mut download).is_err() {
            steps.run("apt-get update", Command::new("apt-get").args(["update", "--quiet"]))?;
            steps.run("apt-get download", &mut download)?;
        }
        for package in fs::read_dir(packages.path()).context("reading the packages")? {
            let package = package.context("reading the packages")?.path();
            steps.run("dpkg --extract", Command::new("dpkg").arg("--extract").arg(package).arg(folder))?;
        }
        Ok(())
    })
}
