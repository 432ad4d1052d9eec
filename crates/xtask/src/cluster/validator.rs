//! `kubernetes-validate` from PyPI: manifests against the schemas of Kubernetes' versions, which it carries.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::steps::run;

const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The Python environment that has it, made first where it is not there: `bin/python -m kubernetes_validate`.
pub(super) fn validator(store: &Path) -> anyhow::Result<PathBuf> {
    let mut version = Command::new("python3");
    let version = version.arg("--version").output().context("asking Python for its version")?;
    let key = super::key([PACKAGE.to_owned(), String::from_utf8_lossy(&version.stdout).into_owned()]);
    super::make(store, &format!("kubernetes-validate-{key}"), |folder| {
        // It needs Debian's python3-venv.
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(folder.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ]))
    })
}
