//! What a bed needs of the machine, and what to do where it is missing.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{bail, ensure};

/// What a bed covers with empty file systems of its own.
pub(crate) const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// The arguments that put a program into the namespaces of a bed.
pub(crate) const UNSHARE: [&str; 7] =
    ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];

const TOOLS: [(&str, &str); 3] = [("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2")];

/// Fails, with what to do, where a bed cannot be made on this machine.
pub(crate) fn check() -> anyhow::Result<()> {
    for (program, package) in TOOLS {
        ensure!(on_path(program).is_some(), "`{program}` is missing: please install the package {package}");
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "these tests make namespaces, mounts and control groups, which needs root: please run them as root or in a \
         privileged container, e.g. `sudo --preserve-env=HOME,PATH cargo xtask test`"
    );
    let made = Command::new("unshare").args(UNSHARE).arg("true").stdin(Stdio::null()).output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) => bail!(
            "this machine makes no private namespaces ({}): a container needs to be privileged for these tests, e.g. \
             `docker run --privileged`",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => bail!("unshare cannot be started: {error}"),
    }
    let temporary = env::temp_dir();
    ensure!(
        !covered(&temporary),
        "temporary files are in {}, which a bed covers: please set TMPDIR to a folder outside of {}",
        temporary.display(),
        COVERED.join(", ")
    );
    if let Ok(own) = env::current_exe() {
        ensure!(
            !covered(&own),
            "the build is in {}, which a bed covers: please set CARGO_TARGET_DIR to a folder outside of {}",
            own.display(),
            COVERED.join(", ")
        );
    }
    Ok(())
}

/// Whether a file cannot be seen from inside a bed.
pub(crate) fn covered(file: &Path) -> bool {
    COVERED.iter().any(|folder| file.starts_with(folder))
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_under_var_lib_is_seen_as_covered() {
        assert!(covered(Path::new("/var/lib/ci/target/debug/deps/node")));
        assert!(!covered(Path::new("/var/library")));
    }
}
