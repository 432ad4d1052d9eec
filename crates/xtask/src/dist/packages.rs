//! The Debian package and the archive of a platform: the program, its manual page, completions for shells and the licence.

use std::{fs, path::Path, process::Command};

use anyhow::Context;

use super::{
    binaries::{BuiltBinary, output},
    elf::GlibcVersion,
    source::ReleaseSource,
    tree::{EXECUTABLE, FileTree, READABLE, gzip},
};
use crate::steps::Steps;

/// A shell, and where Debian's shells read the completions of `afd`.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/afd", "completions/afd.bash"),
    ("fish", "usr/share/fish/vendor_completions.d/afd.fish", "completions/afd.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_afd", "completions/_afd"),
];
const DESCRIPTION: &str = "discovers the accelerators of a Kubernetes node\n \
    Accelerator Feature Discovery publishes the accelerators of a node (NVIDIA, AMD and\n \
    Intel GPUs, Intel Gaudi, Google TPU) as node labels, conditions and Prometheus metrics.\n";

/// What every package has besides the program.
#[derive(Debug)]
pub(super) struct PackageTexts {
    manual: Vec<u8>,
    completions: Vec<Vec<u8>>,
    licence: Vec<u8>,
    changes: Vec<u8>,
}

impl PackageTexts {
    /// Those of a program that this machine runs, and of its sources.
    pub(super) fn of(program: &Path, source: &Path) -> anyhow::Result<PackageTexts> {
        let read = |name: &str| fs::read(source.join(name)).with_context(|| format!("reading {name}"));
        let complete =
            |(shell, ..): &(&str, &str, &str)| output(Command::new(program).args(["completions", shell]));
        Ok(PackageTexts {
            manual: output(Command::new(program).arg("man"))?,
            completions: SHELLS.iter().map(complete).collect::<anyhow::Result<_>>()?,
            licence: read("LICENSE")?,
            changes: read("CHANGELOG.md")?,
        })
    }

    /// The archive for systems without packages: `NAME.tar.gz` with a folder of its name.
    pub(super) fn archive(
        &self,
        release: &ReleaseSource,
        binary: &BuiltBinary,
        name: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let mut tree = FileTree::default();
        let folder = Path::new(name);
        tree.add(folder.join("afd"), EXECUTABLE, program(binary)?);
        tree.add(folder.join("afd.1"), READABLE, self.manual.as_slice());
        tree.add(folder.join("LICENSE"), READABLE, self.licence.as_slice());
        for ((_, _, path), content) in SHELLS.iter().zip(&self.completions) {
            tree.add(folder.join(path), READABLE, content.as_slice());
        }
        gzip(&tree.tar(release.time)?)
    }

    /// Writes the Debian package, which needs this version of glibc.
    pub(super) fn debian(
        &self,
        steps: &Steps<'_>,
        release: &ReleaseSource,
        binary: &BuiltBinary,
        glibc: GlibcVersion,
        file: &Path,
    ) -> anyhow::Result<()> {
        let mut tree = FileTree::default();
        tree.add("usr/bin/afd", EXECUTABLE, program(binary)?);
        tree.add("usr/share/man/man1/afd.1.gz", READABLE, gzip(&self.manual)?);
        tree.add("usr/share/doc/afd/copyright", READABLE, self.licence.as_slice());
        tree.add("usr/share/doc/afd/changelog.gz", READABLE, gzip(&self.changes)?);
        for ((_, path, _), content) in SHELLS.iter().zip(&self.completions) {
            tree.add(*path, READABLE, content.as_slice());
        }
        let architecture = binary.platform.architecture;
        let control = control(&release.version, architecture, glibc, tree.bytes());
        tree.add("DEBIAN/control", READABLE, control);
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let root = folder.path().join("afd");
        tree.write(&root)?;
        let mut build = Command::new("dpkg-deb");
        // With one thread the compressed bytes do not depend on the machine.
        build
            .args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"])
            .arg(&root)
            .arg(file)
            .env("SOURCE_DATE_EPOCH", release.time.to_string());
        steps.run(&format!("Debian package for {architecture}"), &mut build)
    }
}

fn program(binary: &BuiltBinary) -> anyhow::Result<Vec<u8>> {
    fs::read(&binary.file).with_context(|| format!("reading {}", binary.file.display()))
}

/// The description of a package (Debian policy, chapter 5).
fn control(version: &str, architecture: &str, glibc: GlibcVersion, bytes: usize) -> String {
    let (major, minor) = glibc;
    let kibibytes = bytes.div_ceil(1024);
    format!(
        "Package: afd\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: Accelerator Feature Discovery <afd@localhost>\nInstalled-Size: {kibibytes}\n\
         Depends: libc6 (>= {major}.{minor})\nSection: admin\nPriority: optional\nDescription: {DESCRIPTION}"
    )
}

/// Checks that a Debian package has what it should.
pub(super) fn check(file: &Path) -> anyhow::Result<()> {
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(file))?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let paths = SHELLS.iter().map(|(_, path, _)| *path).chain(["usr/bin/afd", "usr/share/man/man1/afd.1.gz"]);
    for path in paths {
        let line = list.lines().find(|line| line.ends_with(&format!(" ./{path}")));
        let line = line.with_context(|| format!("{} has no {path}", file.display()))?;
        let (mode, rest) = line.split_once(' ').context("a line begins with permissions")?;
        let expected = if path.starts_with("usr/bin/") { "-rwxr-xr-x" } else { "-rw-r--r--" };
        anyhow::ensure!(mode == expected && rest.starts_with("root/root "), "{path} is {line}");
        let size = rest.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
        anyhow::ensure!(size.is_some_and(|size| size > 100), "{path} is nearly empty: {line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_states_what_it_needs() {
        let control = control("1.2.3", "arm64", (2, 17), 2049);
        assert!(control.starts_with("Package: afd\nVersion: 1.2.3\nArchitecture: arm64\n"), "{control}");
        assert!(control.contains("\nInstalled-Size: 3\nDepends: libc6 (>= 2.17)\n"), "{control}");
        // Each line of the long description begins with a space; the last line ends.
        let (_, description) = control.split_once("\nDescription: ").expect("it has a description");
        assert!(description.lines().skip(1).all(|line| line.starts_with(' ')), "{description}");
        assert!(control.ends_with('\n'));
    }
}
