//! Packages of the builder's Debian, also for another architecture and of another release: downloaded and unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::steps::Steps;

/// Where packages come from: the archives that this machine is set up with, in a state of apt apart from the machine's.
#[derive(Debug)]
pub(super) struct DebianArchive {
    folder: PathBuf,
    architecture: &'static str,
    /// The release, if it is not the machine's.
    suite: Option<&'static str>,
}

impl DebianArchive {
    /// The archive for an architecture, whose lists are kept in a folder.
    pub(super) fn open(
        steps: &Steps<'_>,
        folder: PathBuf,
        architecture: &'static str,
        suite: Option<&'static str>,
    ) -> anyhow::Result<DebianArchive> {
        for name in ["lists/partial", "cache/archives/partial", "sources"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let archive = DebianArchive { folder, architecture, suite };
        if let Some(suite) = suite {
            let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", machines_archive()?);
            let path = archive.folder.join("sources/archive.list");
            fs::write(&path, source).with_context(|| format!("writing {}", path.display()))?;
        }
        steps.run("apt-get update", archive.apt().args(["update", "--quiet"]))?;
        Ok(archive)
    }

    /// Downloads packages and unpacks each into a folder of its name.
    pub(super) fn unpack(&self, steps: &Steps<'_>, packages: &[&str], to: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        let files = tempfile::tempdir().context("making a temporary folder")?;
        let mut download = self.apt();
        let names = packages.iter().map(|package| format!("{package}:{}", self.architecture));
        download.current_dir(files.path()).args(["download", "--quiet"]).args(names);
        steps.run("apt-get download", &mut download)?;
        for entry in fs::read_dir(files.path()).context("reading the packages")? {
            let file = entry.context("reading the packages")?.path();
            // NAME_VERSION_ARCHITECTURE.deb
            let name = file.file_name().context("a package has a name")?.to_string_lossy().into_owned();
            let name = name.split('_').next().context("a package has a name")?;
            let mut unpack = Command::new("dpkg-deb");
            steps.run("dpkg-deb", unpack.arg("--raw-extract").arg(&file).arg(to.join(name)))?;
        }
        Ok(())
    }

    fn apt(&self) -> Command {
        let mut apt = Command::new("apt-get");
        let option = |name: &str, value: &str| ["--option".to_owned(), format!("{name}={value}")];
        let below = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        apt.args(option("APT::Architecture", self.architecture))
            .args(option("APT::Architectures", self.architecture))
            .args(option("APT::Sandbox::User", "root"))
            .args(option("Acquire::Languages", "none"))
            .args(option("Dir::Cache", &below("cache")))
            .args(option("Dir::State::Lists", &below("lists")))
            .args(option("Dir::State::status", "/dev/null"));
        if self.suite.is_some() {
            apt.args(option("Dir::Etc::SourceList", "/dev/null"))
                .args(option("Dir::Etc::SourceParts", &below("sources")));
        }
        apt
    }
}

/// The keys of all releases of Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The address of the archive that this machine has its own packages from.
fn machines_archive() -> anyhow::Result<String> {
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]);
    let output = list.output().context("starting apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = text.lines().find(|line| !line.contains("security"));
    let address = address.context("this machine has no packages of Debian: run apt-get update first")?;
    ensure!(output.status.success(), "apt-get does not list its archives");
    Ok(address.to_owned())
}
