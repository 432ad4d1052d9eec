//! The programs of a cluster that are written in Go: the tools of the modules in `tests/cluster/modules`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::ProgramSet;
use crate::{
    steps::Steps,
    store::{key, make},
    workspace::on_path,
};

/// Go names etcd's program after the last part of its module's path.
const ETCD: (&str, &str) = ("server", "etcd");

/// Neither optimised nor inlined, and without debugging information: such programs are built in two thirds of the time.
const COMPILER_FLAGS: &str = "all=-N -l -dwarf=false";

/// Builds the tools of all modules in a folder.
pub(super) fn modules(steps: &Steps<'_>, store: &Path, modules: &Path) -> anyhow::Result<Vec<ProgramSet>> {
    let (go, version) = go()?;
    let entries = fs::read_dir(modules).with_context(|| format!("reading {}", modules.display()))?;
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .context("reading the modules")?;
    folders.sort();
    folders.iter().map(|module| module_tools(steps, store, module, (&go, &version))).collect()
}

/// Builds the tools of one module.
pub(super) fn module(steps: &Steps<'_>, store: &Path, module: &Path) -> anyhow::Result<PathBuf> {
    let (go, version) = go()?;
    let (_, programs) = module_tools(steps, store, module, (&go, &version))?;
    Ok(programs)
}

/// Builds the tools of a module, unless they have been built from the same sources with the same flags and compiler.
fn module_tools(
    steps: &Steps<'_>,
    store: &Path,
    module: &Path,
    (go, version): (&Path, &str),
) -> anyhow::Result<ProgramSet> {
    let name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
    let description = fs::read_to_string(module.join("go.mod")).context("reading go.mod")?;
    let mut sources: Vec<String> = Vec::new();
    for entry in fs::read_dir(module).context("reading a module")? {
        let file = entry.context("reading a module")?.path();
        sources.push(fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    sources.sort();
    let linker_flags = linker_flags(&description);
    sources.extend([linker_flags.clone(), COMPILER_FLAGS.to_owned(), version.to_owned()]);
    let programs = make(store, &format!("{name}-{}", key(sources)), |folder| {
        let mut build = Command::new(go);
        build
            .current_dir(module)
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")])
            .args(["build", "-trimpath", "-buildvcs=false"])
            .args(["-gcflags", COMPILER_FLAGS, "-ldflags", &linker_flags, "-o"])
            // Go accepts an existing folder for several programs only with the slash.
            .arg(folder.join(""))
            .arg("tool");
        steps.run(&name, &mut build)?;
        let (from, to) = (folder.join(ETCD.0), folder.join(ETCD.1));
        if from.exists() { fs::rename(from, to).context("renaming etcd") } else { Ok(()) }
    })?;
    Ok((name, programs))
}

/// Programs without symbol tables. Kubernetes is given the version that `go.mod` requires.
fn linker_flags(description: &str) -> String {
    const VERSION: &str = "k8s.io/component-base/version";
    let mut flags = "-s -w".to_owned();
    let version = description.lines().find_map(|line| {
        let version = line.trim().strip_prefix("require ").unwrap_or(line.trim());
        version.strip_prefix("k8s.io/kubernetes v")?.split_whitespace().next()
    });
    if let Some(version) = version {
        let mut parts = version.split('.');
        flags += &format!(" -X {VERSION}.gitVersion=v{version}");
        for (name, part) in [("gitMajor", parts.next()), ("gitMinor", parts.next())] {
            flags += &format!(" -X {VERSION}.{name}={}", part.unwrap_or_default());
        }
    }
    flags
}

/// The compiler and its version.
pub(super) fn go() -> anyhow::Result<(PathBuf, String)> {
    let installed = PathBuf::from("/usr/local/go/bin/go");
    let go = match on_path("go").or_else(|| installed.is_file().then_some(installed)) {
        Some(go) => go,
        None => bail!(
            "the cluster tests build Kubernetes with Go 1.26 or newer, which is missing: please install it from \
             https://go.dev/dl. {}",
            super::WITHOUT_CLUSTER
        ),
    };
    let version = Command::new(&go).arg("version").env("GOTOOLCHAIN", "local").output();
    let version = version.context("asking Go for its version")?;
    Ok((go, String::from_utf8_lossy(&version.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kubernetes_is_given_its_version() {
        assert_eq!(linker_flags("module x\n\nrequire go.etcd.io/etcd/server/v3 v3.6.16\n"), "-s -w");
        let flags = linker_flags("require (\n\tk8s.io/kubernetes v1.37.2 // indirect\n)\n");
        assert!(flags.contains(".gitVersion=v1.37.2 ") && flags.ends_with(".gitMinor=37"), "{flags}");
    }
}
