//! Python environments with packages from PyPI, each made once and kept.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    steps::Steps,
    store::{key, make},
};

/// The environment that contains these packages, made first where it is missing: `bin/python`. This needs Debian's
/// `python3-venv`.
pub(crate) fn environment(
    steps: &Steps<'_>,
    store: &Path,
    name: &str,
    packages: &[&str],
) -> anyhow::Result<PathBuf> {
    let mut version = Command::new("python3");
    let version = version.arg("--version").output().context("asking Python for its version")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let key = key(packages.iter().map(|package| (*package).to_owned()).chain([version]));
    make(store, &format!("{name}-{key}"), |folder| {
        steps.run("python venv", Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
        steps.run(name, &mut install)
    })
}
