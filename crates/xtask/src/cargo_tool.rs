//! Programs from crates.io that run beside cargo, each installed once and kept.

use std::path::PathBuf;

use anyhow::Context;

use crate::{steps::Steps, workspace::Workspace};

/// Where this version of the program of a crate is, installed first where it is missing, with these options of `cargo install`.
pub(crate) fn installed(
    steps: &Steps<'_>,
    workspace: &Workspace,
    name: &str,
    version: &str,
    options: &[&str],
) -> anyhow::Result<PathBuf> {
    let folder = workspace.tools().join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        // It runs for seconds: optimising it would take longer. In a folder of its own it does not wait for other builds.
        let build = tempfile::tempdir().context("making a temporary folder")?;
        let mut install =
            workspace.cargo(&format!("install {name} --locked --debug --version {version} --root"));
        install
            .arg(&folder)
            .args(options)
            .env("CARGO_TARGET_DIR", build.path())
            .env("CARGO_PROFILE_DEV_DEBUG", "false");
        steps.run(name, &mut install)?;
    }
    Ok(program)
}
