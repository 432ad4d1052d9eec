//! `cargo xtask image`: the agent's container image, built where no registry can be reached.
//!
//! `daemonset/Containerfile` begins with an image that has a Rust compiler. Here that is an image without files, into which
//! this machine's `/usr` and its cargo are mounted for the time of the build. What comes out is the same: the last stage
//! takes the binary and the libraries from the first. It is measured as a registry would hold it, and started.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    setup,
    steps::{Workspace, run},
};

/// Compressed, as a registry holds it: 30 MiB.
const BUDGET_BYTES: u64 = 30 * 1024 * 1024;
const BUILDER: &str = "localhost/afd-builder";
const IMAGE: &str = "localhost/afd";
/// What a merged `/usr` (Debian 12 and later) has links to.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Builds the image, says how large it is, starts the binary in it, and leaves it as an OCI archive in the build folder.
pub(crate) fn image(workspace: &Workspace) -> anyhow::Result<()> {
    setup::install_missing(&setup::IMAGE)?;
    let store = Store(tempfile::tempdir().context("making a temporary folder")?);
    let places = Places::find(workspace)?;
    builder(&store, &places)?;
    let mut build = store.buildah(&["build", "--isolation", "chroot", "--network", "host", "--tag", IMAGE]);
    build.args(["--build-arg", &format!("BUILDER={BUILDER}")]);
    for (folder, mode) in places.all() {
        build.arg("--volume").arg(format!("{0}:{0}:{mode}", folder.display()));
    }
    build.args(["--file", "daemonset/Containerfile", "."]).current_dir(&workspace.root);
    run(&mut build)?;

    let archive = workspace.target.join("afd.oci.tar");
    let _ = fs::remove_file(&archive);
    run(store.buildah(&["push", IMAGE]).arg(format!("oci-archive:{}", archive.display())))?;
    let bytes = layers(&archive)?;
    println!("{}: layers of {:.1} MiB, compressed", archive.display(), bytes as f64 / 1024.0 / 1024.0);
    ensure!(bytes <= BUDGET_BYTES, "the image is larger than {BUDGET_BYTES} bytes");
    start(&store, &workspace.root.join("fixtures/hosts/gaudi2-x8/root"))
}

/// Buildah's images and containers, apart from those of the machine.
struct Store(TempDir);

impl Store {
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

    /// What a command says.
    fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.buildah(arguments).output().context("starting buildah")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "buildah {} failed: {error}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// What the build sees of this machine, where it is here too: so it finds what has been built before.
struct Places {
    cargo: PathBuf,
    rustup: PathBuf,
    target: PathBuf,
}

impl Places {
    fn find(workspace: &Workspace) -> anyhow::Result<Places> {
        fs::create_dir_all(&workspace.target).context("making the build folder")?;
        Ok(Places {
            cargo: folder_of_home("CARGO_HOME", ".cargo")?,
            rustup: folder_of_home("RUSTUP_HOME", ".rustup")?,
            target: workspace.target.clone(),
        })
    }

    /// Each with what may be done with it. Links of `/usr/bin`, that of `cc` among them, lead to `/etc/alternatives`.
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
fn builder(store: &Store, places: &Places) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let root = folder.path().join("root");
    for (place, _) in places.all().into_iter().chain([(Path::new("/tmp"), "")]) {
        let inside = root.join(place.strip_prefix("/").context("a place is an absolute path")?);
        fs::create_dir_all(&inside).with_context(|| format!("making {}", inside.display()))?;
    }
    for name in MERGED.iter().filter(|name| Path::new("/usr").join(name).is_dir()) {
        symlink(format!("usr/{name}"), root.join(name)).with_context(|| format!("linking {name}"))?;
    }
    let file = folder.path().join("Containerfile");
    let Places { cargo, rustup, target } = places;
    let (cargo, rustup, target) = (cargo.display(), rustup.display(), target.display());
    let content = format!(
        "FROM scratch\nCOPY root/ /\n\
         ENV PATH={cargo}/bin:/usr/bin CARGO_HOME={cargo} RUSTUP_HOME={rustup} CARGO_TARGET_DIR={target}\n"
    );
    fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    run(store.buildah(&["build", "--tag", BUILDER, "--file"]).arg(&file).arg(folder.path()))
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

/// The bytes of an OCI archive's layers: `index.json` names the manifest, and that the layers with their sizes
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

/// Starts the binary in the image over a host.
fn start(store: &Store, host: &Path) -> anyhow::Result<()> {
    let container = store.ask(&["from", IMAGE])?;
    let volume = format!("{}:/host:ro", host.display());
    let show = ["--", "/usr/bin/afd", "show", "--host-root", "/host", "--output", "labels"];
    let labels = store.ask(
        &[&["run", "--isolation", "chroot", "--volume", &volume, &container], show.as_slice()].concat(),
    )?;
    ensure!(labels.contains("accelerator.llm-d.ai/count=8"), "in the image, afd says {labels:?}");
    println!("started in the image, afd tells {} labels of a host with 8 devices", labels.lines().count());
    Ok(())
}
