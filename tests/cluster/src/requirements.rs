//! What a bed needs of the machine, and instructions for where it is missing.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{bail, ensure};

/// The folders that a bed hides with empty file systems of its own.
pub(crate) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// The arguments that put a program into the namespaces of a bed.
pub(crate) const UNSHARE: [&str; 7] =
    ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];

const TOOLS: [(&str, &str); 3] = [("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2")];

/// Fails with instructions where a bed cannot be made on this machine.
pub(crate) fn check() -> anyhow::Result<()> {
    for (program, package) in TOOLS {
        ensure!(on_path(program).is_some(), "`{program}` is missing: please install the package {package}");
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "these tests make namespaces, mounts and control groups, which needs root: please run them as root or in a \
         privileged container, e.g. `sudo --preserve-env=HOME,PATH cargo xtask test`"
    );
    let unshared = Command::new("unshare").args(UNSHARE).arg("true").stdin(Stdio::null()).output();
    match unshared {
        Ok(output) if output.status.success() => {}
        Ok(output) => bail!(
            "private namespaces cannot be made on this machine ({}): a container needs to be privileged for these tests, e.g. \
             `docker run --privileged`",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => bail!("unshare cannot be started: {error}"),
    }
    let temporary = env::temp_dir();
    ensure!(
        !is_hidden(&temporary),
        "temporary files are in {}, which a bed hides: please set TMPDIR to a folder outside of {}",
        temporary.display(),
        HIDDEN.join(", ")
    );
    if let Ok(own) = env::current_exe() {
        ensure!(
            !is_hidden(&own),
            "the build is in {}, which a bed hides: please set CARGO_TARGET_DIR to a folder outside of {}",
            own.display(),
            HIDDEN.join(", ")
        );
    }
    Ok(())
}

/// Whether a bed hides a file.
pub(crate) fn is_hidden(file: &Path) -> bool {
    HIDDEN.iter().any(|folder| file.starts_with(folder))
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_in_var_lib_is_hidden() {
        assert!(is_hidden(Path::new("/var/lib/ci/target/debug/deps/node")));
        assert!(!is_hidden(Path::new("/var/library")));
    }
}
