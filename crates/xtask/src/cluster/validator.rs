//! `kubernetes-validate` from PyPI: checks manifests against the schemas of several versions of Kubernetes, which it
//! contains.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::store::{key, make};
use crate::steps::Steps;

const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The Python environment that contains it, made first where it is missing: `bin/python -m kubernetes_validate`.
pub(super) fn validator(steps: &Steps<'_>, store: &Path) -> anyhow::Result<PathBuf> {
    let mut version = Command::new("python3");
    let version = version.arg("--version").output().context("asking Python for its version")?;
    let key = key([PACKAGE.to_owned(), String::from_utf8_lossy(&version.stdout).into_owned()]);
    make(store, &format!("kubernetes-validate-{key}"), |folder| {
        // This needs Debian's python3-venv.
        steps.run("python venv", Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]);
        steps.run("kubernetes-validate", &mut install)
    })
}
