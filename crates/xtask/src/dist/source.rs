//! What is released: the files of the commit that is checked out, and nothing else of the checkout.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};

/// The commit, with its version and its time.
#[derive(Clone, Debug)]
pub(super) struct ReleaseSource {
    /// The checkout.
    repository: PathBuf,
    /// The version in `Cargo.toml` and in `Chart.yaml`.
    pub(super) version: String,
    /// The commit, as git names it.
    pub(super) commit: String,
    /// When it was made, in seconds since 1970: the time of everything that is released.
    pub(super) time: u64,
    /// The same as RFC 3339 writes it.
    pub(super) written_time: String,
}

impl ReleaseSource {
    /// The commit that a checkout is at. A tag of it has to name its version.
    pub(super) fn of(repository: &Path) -> anyhow::Result<ReleaseSource> {
        let git = |arguments: &[&str]| git(repository, arguments);
        let manifest = git(&["show", "HEAD:Cargo.toml"])?;
        let chart = git(&["show", "HEAD:daemonset/chart/Chart.yaml"])?;
        let source = ReleaseSource {
            repository: repository.to_owned(),
            version: version(&manifest, &chart)?,
            commit: git(&["rev-parse", "HEAD"])?,
            time: git(&["log", "-1", "--format=%ct"])?.parse().context("reading the time of the commit")?,
            written_time: git(&["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"])?,
        };
        check_tags(&source.version, &git(&["tag", "--points-at", "HEAD"])?)?;
        Ok(source)
    }

    /// One for tests.
    #[cfg(test)]
    pub(super) fn example() -> ReleaseSource {
        ReleaseSource {
            repository: PathBuf::new(),
            version: "1.2.3".to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            time: 1_700_000_000,
            written_time: "2023-11-14T22:13:20Z".to_owned(),
        }
    }

    /// Whether files of the checkout differ from the commit: they are not released.
    pub(super) fn has_changes(&self) -> anyhow::Result<bool> {
        Ok(!git(&self.repository, &["status", "--porcelain"])?.is_empty())
    }

    /// Writes the files of the commit into an empty folder. Recorded hosts are left out: no artefact has any.
    pub(super) fn export(&self, folder: &Path) -> anyhow::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let mut archive = command(&self.repository);
        archive.args(["archive", "--format=tar", &self.commit, "--", ".", ":(exclude)fixtures"]);
        let mut archive = archive.stdout(Stdio::piped()).spawn().context("starting git")?;
        let content = archive.stdout.take().context("git has a standard output")?;
        // Cargo compares times: what was built of another commit must not count as built of this one.
        let mut unpacking = tar::Archive::new(content);
        unpacking.set_preserve_mtime(false);
        unpacking.unpack(folder).with_context(|| format!("writing {}", folder.display()))?;
        ensure!(archive.wait().context("waiting for git")?.success(), "git archive failed");
        Ok(())
    }

    /// Gives a folder and all that is in it the time of the commit.
    pub(super) fn set_times(&self, folder: &Path) -> anyhow::Result<()> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.time);
        let mut paths = vec![folder.to_owned()];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
                for entry in entries {
                    paths.push(entry.with_context(|| format!("reading {}", path.display()))?.path());
                }
            }
            let file = File::open(&path).and_then(|file| file.set_modified(time));
            file.with_context(|| format!("setting the time of {}", path.display()))?;
        }
        Ok(())
    }
}

fn command(repository: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repository).env("TZ", "UTC");
    git
}

fn git(repository: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = command(repository).args(arguments).output().context("starting git")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {} failed: {error}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout).context("git prints UTF-8")?.trim().to_owned())
}

/// The version of the workspace, which the chart has as its own and as that of the program.
fn version(manifest: &str, chart: &str) -> anyhow::Result<String> {
    let after = |text: &str, start: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(start))?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    let workspace = manifest.split_once("[workspace.package]").context("Cargo.toml describes a workspace")?.1;
    let version = after(workspace, "version = ").context("Cargo.toml has a version")?;
    for key in ["version:", "appVersion:"] {
        let other = after(chart, key).with_context(|| format!("Chart.yaml has no {key}"))?;
        ensure!(other == version, "{key} {other} of Chart.yaml is not {version} as in Cargo.toml");
    }
    Ok(version)
}

/// A tag `v...` of the commit is that of its version.
fn check_tags(version: &str, tags: &str) -> anyhow::Result<()> {
    let mut releases = tags.lines().filter(|tag| tag.starts_with('v')).peekable();
    if releases.peek().is_some() && !releases.any(|tag| tag[1..] == *version) {
        bail!("the commit has the tags {}, and the version {version}", tags.replace('\n', ", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[workspace]\nversion = \"9\"\n[workspace.package]\nversion = \"1.2.3\"\n";

    #[test]
    fn manifest_chart_and_tag_have_one_version() {
        let chart = "apiVersion: v2\nversion: 1.2.3\nappVersion: \"1.2.3\"\n";
        assert_eq!(version(MANIFEST, chart).expect("they agree"), "1.2.3");
        let error = version(MANIFEST, "version: 1.2.4\nappVersion: 1.2.3\n").expect_err("they differ");
        assert_eq!(error.to_string(), "version: 1.2.4 of Chart.yaml is not 1.2.3 as in Cargo.toml");
        version(MANIFEST, "version: 1.2.3\n").expect_err("there is no appVersion");

        check_tags("1.2.3", "").expect("a commit needs no tag");
        check_tags("1.2.3", "nightly").expect("it is no release");
        check_tags("1.2.3", "v1.2.3\nv1.2.3-rc.1").expect("one of them is the version");
        check_tags("1.2.3", "v1.2.4").expect_err("it is another version");
    }
}
