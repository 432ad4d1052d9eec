//! The programs that make a release, each installed once and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::{debian::DebianArchive, platform::Platform};
use crate::{
    cargo_tool, cluster, python,
    setup::{self, install_missing},
    steps::Steps,
    store,
    workspace::{Workspace, without_package_variables},
};

/// The purpose under which they are kept.
const STORE: &str = "release";
const CARGO_CYCLONEDX: &str = "0.5.9";
/// The linker and the C compiler for any platform and version of glibc, and the program that has cargo use it.
const ZIG: [&str; 2] = ["cargo-zigbuild==0.24.1", "ziglang==0.15.2"];
/// The schemas of CycloneDX.
const SCHEMAS: [&str; 1] = ["cyclonedx-python-lib[json-validation]==11.12.0"];
/// The release of Debian whose emulator knows `openat2`, which AFD needs: QEMU 9.2 or newer.
const EMULATOR_SUITE: &str = "trixie";

/// What packs artefacts.
#[derive(Debug)]
pub(super) struct PackTools {
    pub(super) helm: PathBuf,
    pub(super) cargo_cyclonedx: PathBuf,
    /// A Python that validates bills of materials.
    pub(super) schemas: PathBuf,
}

impl PackTools {
    /// Finds them, and installs them first where they are missing.
    pub(super) fn find(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<PackTools> {
        let (cargo_cyclonedx, schemas) = PackTools::packages(steps, workspace)?;
        let helm = cluster::go_tools(steps, workspace, "tests/cluster/modules/helm")?.join("helm");
        Ok(PackTools { helm, cargo_cyclonedx, schemas })
    }

    /// Those that come from packages.
    pub(super) fn packages(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<(PathBuf, PathBuf)> {
        install_missing(steps, &setup::PACK)?;
        let store = store::open(workspace, STORE)?;
        let cyclonedx = cargo_tool::installed(steps, workspace, "cargo-cyclonedx", CARGO_CYCLONEDX, &[])?;
        Ok((cyclonedx, python::environment(steps, &store, "cyclonedx", &SCHEMAS)?.join("bin/python")))
    }
}

/// What builds programs for all platforms, and runs those of another one.
#[derive(Debug)]
pub(super) struct BuildTools {
    zig: PathBuf,
    /// The emulator of the platform that this machine is not.
    pub(super) emulator: PathBuf,
}

impl BuildTools {
    /// Finds them, and installs them first where they are missing.
    pub(super) fn find(
        steps: &Steps<'_>,
        workspace: &Workspace,
        foreign: Platform,
    ) -> anyhow::Result<BuildTools> {
        install_missing(steps, &setup::DIST)?;
        let store = store::open(workspace, STORE)?;
        let zig = python::environment(steps, &store, "zig", &ZIG)?;
        let native = Platform::native().context("a release is built on one of its platforms")?;
        let program = format!("qemu-{}", foreign.machine);
        let name = format!("{program}-{EMULATOR_SUITE}-{}", native.machine);
        let folder = store::make(&store, &name, |folder| {
            let temporary = tempfile::tempdir().context("making a temporary folder")?;
            let (lists, packages) = (temporary.path().join("apt"), temporary.path().join("packages"));
            let archive = DebianArchive::open(steps, lists, native.architecture, Some(EMULATOR_SUITE))?;
            archive.unpack(steps, &["qemu-user"], &packages)?;
            // The package has one for every processor.
            let from = packages.join("qemu-user/usr/bin").join(&program);
            fs::copy(&from, folder.join(&program)).with_context(|| format!("copying {}", from.display()))?;
            Ok(())
        })?;
        let emulator = folder.join(program);
        Ok(BuildTools { zig, emulator })
    }

    /// `cargo zigbuild` in a folder. Its arguments are separated by spaces.
    pub(super) fn cargo_zigbuild(&self, folder: &Path, arguments: &str) -> Command {
        let mut command = Command::new(self.zig.join("bin/cargo-zigbuild"));
        without_package_variables(&mut command);
        command.current_dir(folder).arg("zigbuild").args(arguments.split_whitespace());
        command.env("CARGO_ZIGBUILD_ZIG_PATH", self.zig_program());
        command
    }

    fn zig_program(&self) -> PathBuf {
        let libraries = fs::read_dir(self.zig.join("lib")).into_iter().flatten().flatten();
        let mut programs = libraries.map(|python| python.path().join("site-packages/ziglang/zig"));
        programs.find(|program| program.is_file()).unwrap_or_else(|| "zig".into())
    }
}

/// Installs the standard library of a target where the compiler lacks it.
pub(super) fn add_target(steps: &Steps<'_>, source: &Path, target: &str) -> anyhow::Result<()> {
    let mut ask = Command::new("rustc");
    let output = ask.current_dir(source).args(["--print", "sysroot"]).output().context("starting rustc")?;
    let sysroot = String::from_utf8(output.stdout).context("rustc prints UTF-8")?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    steps.run("standard library", add.current_dir(source).args(["target", "add", target]))
}
