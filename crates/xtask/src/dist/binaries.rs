//! The programs: built for both platforms with one compiler and one linker, and examined.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::{
    elf::{self, GlibcVersion},
    platform::Platform,
    source::ReleaseSource,
    tools::{self, BuildTools},
};
use crate::steps::Steps;

/// The glibc that is linked against: the oldest one that the standard library of Rust supports.
const GLIBC: &str = "2.17";
/// The document that states which glibc a program needs.
const STATED_IN: &str = "docs/releasing.md";
/// Kernels for Arm have pages of up to 64 KiB.
const ARM_PAGE_BYTES: u64 = 64 << 10;
/// What the programs of both platforms print of every recorded host.
const COMPARED: [&str; 4] = ["json", "labels", "metrics", "table"];

/// A program for a platform.
#[derive(Clone, Debug)]
pub(super) struct BuiltBinary {
    pub(super) platform: Platform,
    pub(super) file: PathBuf,
}

/// Builds the program of the sources in a folder. Neither that folder nor the one of the build is in the result.
pub(super) fn build(
    steps: &Steps<'_>,
    tools: &BuildTools,
    source: (&ReleaseSource, &Path),
    platform: Platform,
    target: &Path,
) -> anyhow::Result<BuiltBinary> {
    let (release, folder) = source;
    tools::add_target(steps, folder, &platform.target())?;
    let arguments = "--release --locked --package afd-agent --bin afd --target";
    let mut cargo = tools.cargo_zigbuild(folder, arguments);
    cargo
        .arg(format!("{}.{GLIBC}", platform.target()))
        .env("AFD_GLIBC", GLIBC)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_INCREMENTAL", "0")
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(folder, target)?.join("\u{1f}"));
    steps.run(&format!("binary for {}", platform.machine), &mut cargo)?;
    let file = target.join(platform.target()).join("release/afd");
    Ok(BuiltBinary { platform, file })
}

/// Flags that have the compiler write other paths into the program.
fn remapped(source: &Path, target: &Path) -> anyhow::Result<Vec<String>> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or(home).context("HOME is not set")?;
    let flag = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // The last one that matches counts.
    Ok(vec![flag(&cargo, "/cargo"), flag(target, "/target"), flag(source, "/afd")])
}

/// Checks that a program runs where the documentation says that it does; what it needs.
pub(super) fn check(binary: &BuiltBinary, source: &Path) -> anyhow::Result<GlibcVersion> {
    let content = fs::read(&binary.file).with_context(|| format!("reading {}", binary.file.display()))?;
    let facts = elf::facts(&content).with_context(|| format!("reading {}", binary.file.display()))?;
    let machine = binary.platform.machine;
    ensure!(facts.machine == machine, "the program for {machine} is for {}", facts.machine);
    let text = fs::read_to_string(source.join(STATED_IN)).with_context(|| format!("reading {STATED_IN}"))?;
    let stated = elf::stated(&text).with_context(|| format!("{STATED_IN} states no glibc"))?;
    let (major, minor) = facts.glibc;
    ensure!(facts.glibc <= stated, "{machine} needs glibc {major}.{minor}, more than {STATED_IN} states");
    ensure!(
        machine != "aarch64" || facts.page_bytes >= ARM_PAGE_BYTES,
        "segments are aligned to {} bytes: a kernel with pages of 64 KiB does not start the program",
        facts.page_bytes
    );
    let path = source.to_string_lossy();
    let has_path = content.windows(path.len()).any(|bytes| bytes == path.as_bytes());
    ensure!(!has_path, "the program for {machine} contains the path {path}");
    Ok(facts.glibc)
}

/// Runs the programs of two platforms, each in its image, on every recorded host; how many outputs were compared. All are equal.
pub(super) fn compare(
    images: [(Platform, &Path); 2],
    emulator: &Path,
    fixtures: &Path,
) -> anyhow::Result<usize> {
    let mut hosts: Vec<PathBuf> = fs::read_dir(fixtures)
        .with_context(|| format!("reading {}", fixtures.display()))?
        .map(|entry| Ok(entry?.path().join("root")))
        .collect::<std::io::Result<_>>()
        .context("reading the hosts")?;
    hosts.retain(|root| root.is_dir());
    hosts.sort();
    let mut compared = 0;
    for host in &hosts {
        for format in COMPARED {
            let show = |(platform, image): (Platform, &Path)| {
                let mut command = platform.command(image, "usr/bin/afd", Some(emulator));
                output(command.args(["show", "--output", format, "--host-root"]).arg(host))
            };
            let [one, other] = images.map(show);
            let [(platform, _), (other_platform, _)] = images;
            ensure!(
                one? == other?,
                "of {}, {} and {} print different {format}",
                host.display(),
                platform.machine,
                other_platform.machine
            );
            compared += 1;
        }
    }
    ensure!(compared > 0, "there are no hosts in {}", fixtures.display());
    Ok(compared)
}

/// The standard output of a program, which must succeed.
pub(super) fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.env_remove("AFD_LOG").output();
    let output = output.with_context(|| format!("starting {:?}", command.get_program()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed with {}: {error}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dist::platform::PLATFORMS, workspace::Workspace};

    #[test]
    fn the_documentation_states_what_is_linked_against() {
        let root = Workspace::find().expect("the tests run in the workspace").root;
        let text = fs::read_to_string(root.join(STATED_IN)).expect("it can be read");
        assert_eq!(elf::stated(&text), elf::stated(&format!("glibc {GLIBC}")));
    }

    #[test]
    fn a_program_of_another_system_or_for_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::create_dir_all(folder.path().join("docs")).expect("a folder can be made");
        let state = |text: &str| fs::write(folder.path().join(STATED_IN), text).expect("it can be written");
        let file = env::current_exe().expect("a test has a path");
        let native = Platform::native().expect("the tests run on one of the platforms");
        let check = |platform| check(&BuiltBinary { platform, file: file.clone() }, folder.path());
        state("It needs glibc 2.99 or newer.");
        check(native).expect("this machine has an older one");
        let other = PLATFORMS.into_iter().find(|platform| *platform != native).expect("there are two");
        let error = check(other).expect_err("it is for this machine").to_string();
        assert!(error.ends_with(&format!("is for {}", native.machine)), "{error}");
        state("It needs glibc 2.2 or newer.");
        let error = check(native).expect_err("no standard library supports it").to_string();
        assert!(error.contains("more than docs/releasing.md states"), "{error}");
    }
}
