//! What must hold before a change is merged.

use std::{path::PathBuf, process::Command};

use crate::{
    cluster, image, setup,
    steps::{Workspace, on_path, run},
};

/// The version of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.20.2";

/// Formatting, lints, documentation, licences and sources, fuzz targets, the image, and at the end the tests.
pub(crate) fn ci(workspace: &Workspace) -> anyhow::Result<()> {
    setup::install_missing(&setup::CI)?;
    test_programs(workspace)?;
    run(&mut workspace.cargo("fmt --all --check"))?;
    run(&mut workspace.cargo("fmt --manifest-path fuzz/Cargo.toml --check"))?;
    run(&mut workspace.cargo("clippy --workspace --all-targets -- -D warnings"))?;
    run(workspace.cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"))?;
    let deny = "--workspace check --hide-inclusion-graph bans licenses sources";
    run(Command::new(cargo_deny(workspace)?).current_dir(&workspace.root).args(deny.split(' ')))?;
    // Checked, not built: fuzzing itself needs a nightly compiler and cargo-fuzz.
    run(workspace
        .cargo("check --manifest-path fuzz/Cargo.toml --target-dir")
        .arg(workspace.target.join("fuzz")))?;
    image::image(workspace)?;
    test(workspace)
}

/// All tests, with the programs that they need.
pub(crate) fn test(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = test_programs(workspace)?;
    run(workspace.cargo("test --workspace").env(cluster::PROGRAMS, programs))
}

/// All tests, accepting what they print as expected.
pub(crate) fn bless(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = test_programs(workspace)?;
    run(workspace
        .cargo("test --workspace --no-fail-fast")
        .env(cluster::PROGRAMS, programs)
        .env("UPDATE_EXPECT", "1"))
}

/// The programs that the tests need; says how to run tests by hand.
pub(crate) fn setup(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = test_programs(workspace)?;
    println!("export {}={}", cluster::PROGRAMS, programs.display());
    Ok(())
}

fn test_programs(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    setup::install_missing(&setup::TESTS)?;
    cluster::programs(workspace)
}

/// Where cargo-deny is, installed first where it is not.
fn cargo_deny(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    if let Some(program) = on_path("cargo-deny") {
        return Ok(program);
    }
    let folder = workspace.tools().join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        let install = format!("install cargo-deny --locked --version {CARGO_DENY} --root");
        run(workspace.cargo(&install).arg(&folder))?;
    }
    Ok(program)
}
