//! The workflows of `.github/workflows`: they call what runs here as well, and a linter reads them.

use std::process::Command;

use crate::{cluster, steps::Steps, workspace::Workspace};

/// The module whose tool is the linter.
const MODULE: &str = "crates/xtask/modules/actionlint";

/// Lints the workflows. Programs of the machine that the linter would start are left out: their versions vary.
pub(crate) fn check(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<()> {
    let actionlint = cluster::go_tools(steps, workspace, MODULE)?.join("actionlint");
    let mut lint = Command::new(actionlint);
    steps
        .run("workflows", lint.current_dir(&workspace.root).args(["-no-color", "-shellcheck=", "-pyflakes="]))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// The files with steps, and the steps of all of them that use an action.
    fn files() -> Vec<(PathBuf, String)> {
        let root = Workspace::find().expect("the tests run in the workspace").root.join(".github");
        let mut files = Vec::new();
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder can be read") {
                let path = entry.expect("an entry can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).expect("a file can be read");
                    files.push((path, text));
                }
            }
        }
        files
    }

    fn file(name: &str) -> String {
        let mut files = files().into_iter();
        files.find_map(|(path, text)| path.ends_with(name).then_some(text)).expect("the workflow exists")
    }

    #[test]
    fn workflows_run_the_commands_of_the_project() {
        let (ci, release) = (file("workflows/ci.yml"), file("workflows/release.yml"));
        assert!(ci.contains("run: .ci/run\n"), "{ci}");
        assert!(release.contains("run: cargo xtask dist --verify "), "{release}");
        for workflow in [ci, release] {
            assert!(workflow.contains("uses: ./.github/actions/prepare\n"), "{workflow}");
            let builds = ["cargo build", "cargo test", "buildah", "docker ", "helm package", "dpkg-deb"];
            assert_eq!(builds.iter().find(|word| workflow.contains(**word)), None, "it builds by itself");
        }
    }

    #[test]
    fn actions_are_pinned_to_a_commit_with_its_version() {
        for (path, text) in files() {
            for line in text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action) {
                if line.starts_with("./") {
                    continue;
                }
                let (action, version) = line.split_once(" # ").unwrap_or((line, ""));
                let commit = action.split_once('@').map_or("", |(_, commit)| commit);
                let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(is_commit && version.starts_with('v'), "{}: {line}", path.display());
            }
        }
    }
}
