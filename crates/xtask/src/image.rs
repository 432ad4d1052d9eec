//! `cargo xtask image`: the agent's container image, built where no registry can be reached.
//!
//! `daemonset/Containerfile` begins with an image that has a Rust compiler. Here that is an image without files, into which
//! this machine's `/usr` and its cargo are mounted during the build. The result is the same: the last stage takes the binary
//! and the libraries from the first. Its size is measured as a registry would store it, and the binary in it is started.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{setup, steps::Steps, workspace::Workspace};

/// Compressed, as a registry stores it: 30 MiB.
const BUDGET_BYTES: u64 = 30 * 1024 * 1024;
const BUILDER: &str = "localhost/afd-builder";
const IMAGE: &str = "localhost/afd";
/// The links of a merged `/usr` (Debian 12 and later).
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Builds the image, prints its size, starts the binary in it, and leaves it as an OCI archive in the build folder.
pub(crate) fn image(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<()> {
    setup::install_missing(steps, &setup::IMAGE)?;
    let store = BuildahStore(tempfile::tempdir().context("making a temporary folder")?);
    let mounts = Mounts::find(workspace)?;
    builder(steps, &store, &mounts)?;
    let mut build = store.buildah(&["build", "--isolation", "chroot", "--network", "host", "--tag", IMAGE]);
    build.args(["--build-arg", &format!("BUILDER={BUILDER}")]);
    for (folder, mode) in mounts.all() {
        build.arg("--volume").arg(format!("{0}:{0}:{mode}", folder.display()));
    }
    build.args(["--file", "daemonset/Containerfile", "."]).current_dir(&workspace.root);
    steps.run("image", &mut build)?;

    let archive = workspace.target.join("afd.oci.tar");
    let _ = fs::remove_file(&archive);
    let mut push = store.buildah(&["push", IMAGE]);
    steps.run("image archive", push.arg(format!("oci-archive:{}", archive.display())))?;
    let bytes = layers(&archive)?;
    let size = bytes as f64 / 1024.0 / 1024.0;
    steps.print(&format!("{}: layers of {size:.1} MiB, compressed", archive.display()));
    ensure!(bytes <= BUDGET_BYTES, "the image is larger than {BUDGET_BYTES} bytes");
    start(steps, &store, &workspace.root.join("fixtures/hosts/gaudi2-x8/root"))
}

/// The binary that the image contains, once it is built.
pub(crate) fn binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("release/afd")
}

/// Buildah's images and containers, apart from those of the machine.
struct BuildahStore(TempDir);

impl BuildahStore {
    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(self.0.path().join("images"))
            .arg("--runroot")
            .arg(self.0.path().join("run"));
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command
    }

    /// The standard output of a command, which must succeed.
    fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.buildah(arguments).output().context("starting buildah")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "buildah {} failed: {error}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The folders of this machine that the build sees, under the same paths: so it finds what has been built before.
struct Mounts {
    cargo: PathBuf,
    rustup: PathBuf,
    target: PathBuf,
}

impl Mounts {
    fn find(workspace: &Workspace) -> anyhow::Result<Mounts> {
        fs::create_dir_all(&workspace.target).context("making the build folder")?;
        Ok(Mounts {
            cargo: folder_of_home("CARGO_HOME", ".cargo")?,
            rustup: folder_of_home("RUSTUP_HOME", ".rustup")?,
            target: workspace.target.clone(),
        })
    }

    /// Each with its mode. Links of `/usr/bin`, that of `cc` among them, point to `/etc/alternatives`.
    fn all(&self) -> [(&Path, &str); 5] {
        [
            (Path::new("/usr"), "ro"),
            (Path::new("/etc/alternatives"), "ro"),
            (&self.cargo, "rw"),
            (&self.rustup, "ro"),
            (&self.target, "rw"),
        ]
    }
}

/// Makes the image that the build begins with.
fn builder(steps: &Steps<'_>, store: &BuildahStore, mounts: &Mounts) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let root = folder.path().join("root");
    for (mount, _) in mounts.all().into_iter().chain([(Path::new("/tmp"), "")]) {
        let inside = root.join(mount.strip_prefix("/").context("a mount has an absolute path")?);
        fs::create_dir_all(&inside).with_context(|| format!("making {}", inside.display()))?;
    }
    for name in MERGED.iter().filter(|name| Path::new("/usr").join(name).is_dir()) {
        symlink(format!("usr/{name}"), root.join(name)).with_context(|| format!("linking {name}"))?;
    }
    let file = folder.path().join("Containerfile");
    let Mounts { cargo, rustup, target } = mounts;
    let (cargo, rustup, target) = (cargo.display(), rustup.display(), target.display());
    let content = format!(
        "FROM scratch\nCOPY root/ /\n\
         ENV PATH={cargo}/bin:/usr/bin CARGO_HOME={cargo} RUSTUP_HOME={rustup} CARGO_TARGET_DIR={target}\n"
    );
    fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    let mut build = store.buildah(&["build", "--tag", BUILDER, "--file"]);
    steps.run("image of the compiler", build.arg(&file).arg(folder.path()))
}

/// A folder that a variable names, or one of the user's home.
fn folder_of_home(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    let folder = env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(name)))
        .with_context(|| format!("neither {variable} nor HOME is set"))?;
    ensure!(folder.is_dir(), "there is no {}", folder.display());
    Ok(folder)
}

/// The bytes of an OCI archive's layers: `index.json` names the manifest, which lists the layers with their sizes
/// (OCI image specification, `image-layout.md` and `manifest.md`).
fn layers(archive: &Path) -> anyhow::Result<u64> {
    let read = |name: &str| -> anyhow::Result<Value> {
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--to-stdout", "--file"]).arg(archive).arg(name);
        let output = tar.output().context("starting tar")?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("reading {name} of the archive"))
    };
    let index = read("index.json")?;
    let digest = index["manifests"][0]["digest"].as_str().context("the index names no manifest")?;
    let manifest = read(&format!("blobs/{}", digest.replacen(':', "/", 1)))?;
    let layers = manifest["layers"].as_array().context("the manifest names no layers")?;
    Ok(layers.iter().filter_map(|layer| layer["size"].as_u64()).sum())
}

/// Starts the binary in the image on a host root.
fn start(steps: &Steps<'_>, store: &BuildahStore, host: &Path) -> anyhow::Result<()> {
    let container = store.output(&["from", IMAGE])?;
    let volume = format!("{}:/host:ro", host.display());
    let show = ["--", "/usr/bin/afd", "show", "--host-root", "/host", "--output", "labels"];
    let labels = store.output(
        &[&["run", "--isolation", "chroot", "--volume", &volume, &container], show.as_slice()].concat(),
    )?;
    ensure!(labels.contains("accelerator.llm-d.ai/count=8"), "in the image, afd prints {labels:?}");
    let count = labels.lines().count();
    steps.print(&format!("in the image, afd prints {count} labels of a host with 8 devices"));
    Ok(())
}
