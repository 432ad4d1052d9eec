//! The programs of a Kubernetes cluster for `tests/cluster`: built from Go modules, unpacked from Debian packages without
//! installing them, and a validator of manifests from PyPI. Each lot is made once, in the folder of tools, under a name that tells what it is made from.

mod validator;

use std::{
    env, fs,
    fs::File,
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use crate::steps::{Workspace, on_path, run};

/// The variable that tells the tests where the programs are.
pub(crate) const PROGRAMS: &str = "AFD_CLUSTER_PROGRAMS";

/// Unpacked into the folder `debian`.
const DEBIAN: [&str; 3] = ["containerd", "containernetworking-plugins", "runc"];

/// Go names etcd's program after the last part of its module's path.
const ETCD: (&str, &str) = ("server", "etcd");

/// The folder with all programs of a cluster, made first where it is not there: a folder for each of
/// `tests/cluster/modules`, `debian`, and `kubernetes-validate`.
pub(crate) fn programs(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let store = workspace.tools().join("cluster");
    fs::create_dir_all(&store).with_context(|| format!("making {}", store.display()))?;
    let mut lots = vec![("debian".to_owned(), debian(&store)?)];
    lots.push(("kubernetes-validate".to_owned(), validator::validator(&store)?));
    let go = go()?;
    let modules = workspace.root.join("tests/cluster/modules");
    for entry in fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))? {
        let module = entry.context("reading the modules")?.path();
        let name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        lots.push((name, built(&store, &module, &go)?));
    }
    lots.sort();
    let key = key(lots.iter().map(|(_, lot)| lot.to_string_lossy().into_owned()));
    make(&store, &format!("all-{key}"), |folder| {
        lots.iter().try_for_each(|(name, lot)| {
            symlink(lot, folder.join(name)).with_context(|| format!("linking {}", lot.display()))
        })
    })
}

/// Builds the tools of a Go module.
fn built(store: &Path, module: &Path, go: &Path) -> anyhow::Result<PathBuf> {
    let name = module.file_name().context("a module has a name")?.to_string_lossy();
    let description = fs::read_to_string(module.join("go.mod")).context("reading go.mod")?;
    let mut sources: Vec<String> = Vec::new();
    for entry in fs::read_dir(module).context("reading a module")? {
        let file = entry.context("reading a module")?.path();
        sources.push(fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    sources.sort();
    let flags = linker_flags(&description);
    let mut version = Command::new(go);
    let version =
        version.arg("version").env("GOTOOLCHAIN", "local").output().context("asking Go for its version")?;
    sources.extend([flags.clone(), String::from_utf8_lossy(&version.stdout).into_owned()]);
    make(store, &format!("{name}-{}", key(sources)), |folder| {
        let mut build = Command::new(go);
        build
            .current_dir(module)
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")])
            .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
            // Go takes an existing folder for many programs only with the slash.
            .arg(folder.join(""))
            .arg("tool");
        run(&mut build)?;
        let (from, to) = (folder.join(ETCD.0), folder.join(ETCD.1));
        if from.exists() { fs::rename(from, to).context("renaming etcd") } else { Ok(()) }
    })
}

/// Small programs, and Kubernetes is told the version that its module has in `go.mod`.
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

/// Unpacks the Debian packages.
fn debian(store: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        on_path("apt-get").is_some() && on_path("dpkg").is_some(),
        "the cluster tests need the programs of these Debian packages: {}; apt-get is not here. The other tests run \
         without: cargo test --workspace --exclude afd-test-cluster",
        DEBIAN.join(", ")
    );
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let names = DEBIAN.iter().map(|name| (*name).to_owned());
    let key = key(names.chain([release, env::consts::ARCH.to_owned()]));
    make(store, &format!("debian-{key}"), |folder| {
        let packages = tempfile::tempdir().context("making a temporary folder")?;
        let mut download = Command::new("apt-get");
        download.current_dir(packages.path()).args(["download", "--quiet"]).args(DEBIAN);
        if rustix::process::geteuid().is_root() {
            download.args(["--option", "APT::Sandbox::User=root"]);
        }
        if run(&mut download).is_err() {
            run(Command::new("apt-get").args(["update", "--quiet"]))?;
            run(&mut download)?;
        }
        for package in fs::read_dir(packages.path()).context("reading the packages")? {
            let package = package.context("reading the packages")?.path();
            run(Command::new("dpkg").arg("--extract").arg(package).arg(folder))?;
        }
        Ok(())
    })
}

fn go() -> anyhow::Result<PathBuf> {
    let installed = PathBuf::from("/usr/local/go/bin/go");
    match on_path("go").or_else(|| installed.is_file().then_some(installed)) {
        Some(go) => Ok(go),
        None => bail!(
            "the cluster tests build Kubernetes with Go 1.26 or newer, which is not here: please install it from \
             https://go.dev/dl. The other tests run without: cargo test --workspace --exclude afd-test-cluster"
        ),
    }
}

/// A folder of the store, filled first where it is not there. It gets its name when it is complete.
fn make(store: &Path, name: &str, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let folder = store.join(name);
    if !folder.is_dir() {
        let filling =
            tempfile::tempdir_in(store).with_context(|| format!("making a folder in {}", store.display()))?;
        let inside = filling.path().join(name);
        fs::create_dir(&inside).with_context(|| format!("making {}", inside.display()))?;
        fill(&inside).with_context(|| format!("making {name}"))?;
        match fs::rename(&inside, &folder) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            done => done.with_context(|| format!("naming {}", folder.display()))?,
        }
    }
    // CI removes what nobody has used for two weeks.
    let used = File::open(&folder).and_then(|file| file.set_modified(SystemTime::now()));
    used.with_context(|| format!("noting the use of {}", folder.display()))?;
    Ok(folder)
}

fn key(sources: impl IntoIterator<Item = String>) -> String {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_is_told_its_version_and_nothing_else_is() {
        assert_eq!(linker_flags("module x\n\nrequire go.etcd.io/etcd/server/v3 v3.6.16\n"), "-s -w");
        let flags = linker_flags("require (\n\tk8s.io/kubernetes v1.37.2 // indirect\n)\n");
        assert!(flags.contains(".gitVersion=v1.37.2 ") && flags.ends_with(".gitMinor=37"), "{flags}");
    }

    #[test]
    fn a_folder_is_filled_once_and_not_at_all_after_a_failure() {
        let store = tempfile::tempdir().expect("a temporary folder can be made");
        make(store.path(), "lot", |_| bail!("no")).expect_err("filling fails");
        assert!(!store.path().join("lot").exists());
        let folder = make(store.path(), "lot", |folder| Ok(fs::write(folder.join("program"), "")?));
        assert!(folder.expect("filling works").join("program").exists());
        make(store.path(), "lot", |_| bail!("filled twice")).expect("it is there");
        assert_eq!(fs::read_dir(store.path()).expect("the store can be read").count(), 1);
    }
}
