//! The image for all platforms: the program, and the C and C++ libraries of the builder's Debian for each of them. Vendor libraries,
//! which are loaded at run time, are linked to these. Who runs what in it is read from the Containerfile.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    binaries::BuiltBinary,
    debian::DebianArchive,
    oci::{INDEX, MANIFEST, OciBlobs, hexadecimal},
    platform::Platform,
    source::ReleaseSource,
    tree::{EXECUTABLE, FileTree, READABLE, gzip},
};
use crate::{containerfile::ImageStage, steps::Steps};

const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "libstdc++6"];
/// As in the Containerfile.
const LIBRARIES: [&str; 7] = [
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
];
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Downloads the libraries of a platform.
pub(super) fn libraries(steps: &Steps<'_>, platform: Platform) -> anyhow::Result<FileTree> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let lists = folder.path().join("apt");
    let packages = folder.path().join("packages");
    let archive = DebianArchive::open(steps, lists, platform.architecture, None)?;
    archive.unpack(steps, &PACKAGES, &packages)?;
    let mut tree = FileTree::default();
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let found = |name: &str| {
        let usual = platform.library_folder();
        let folders = PACKAGES.iter().flat_map(|package| {
            let root = packages.join(package);
            [root.join(&usual), root.join("usr").join(&usual)]
        });
        let file = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
        file.with_context(|| format!("no package has {name}"))
    };
    for name in LIBRARIES {
        tree.add(platform.library_folder().join(name), READABLE, read(&found(name)?)?);
    }
    let loader = Path::new(platform.loader);
    let name = loader.file_name().context("the loader has a name")?.to_string_lossy();
    tree.add(loader, EXECUTABLE, read(&found(&name)?)?);
    let mut licensed = vec!["libc6".to_owned()];
    for package in PACKAGES {
        // Programs that search images for known faults read the versions here.
        let control = read(&packages.join(package).join("DEBIAN/control"))?;
        licensed.extend(package_of_licences(&String::from_utf8_lossy(&control)));
        tree.add(Path::new("var/lib/dpkg/status.d").join(package), READABLE, control);
    }
    for package in licensed {
        let path = Path::new("usr/share/doc").join(&package).join("copyright");
        if !packages.join(&package).is_dir() {
            archive.unpack(steps, &[&package], &packages)?;
        }
        tree.add(&path, READABLE, read(&packages.join(&package).join(&path))?);
    }
    Ok(tree)
}

/// The package that has the licences of GCC's libraries, by what one of them depends on: `gcc-14-base (= 14.2.0-19)`.
fn package_of_licences(control: &str) -> Option<String> {
    let depends = control.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let mut names = depends.split(", ").filter_map(|dependency| dependency.split(' ').next());
    names.find(|name| name.starts_with("gcc-") && name.ends_with("-base")).map(str::to_owned)
}

/// Writes what is in the image of a platform into a folder, as its root.
pub(super) fn lay_out(libraries: &FileTree, binary: &BuiltBinary, root: &Path) -> anyhow::Result<()> {
    libraries.write(root)?;
    program(binary)?.write(root)
}

fn program(binary: &BuiltBinary) -> anyhow::Result<FileTree> {
    let content = fs::read(&binary.file).with_context(|| format!("reading {}", binary.file.display()))?;
    let mut tree = FileTree::default();
    tree.add("usr/bin/afd", EXECUTABLE, content);
    Ok(tree)
}

/// The image as an archive.
pub(super) fn image(
    release: &ReleaseSource,
    stage: &ImageStage,
    platforms: &[(BuiltBinary, FileTree)],
) -> anyhow::Result<Vec<u8>> {
    let mut blobs = OciBlobs::default();
    let mut manifests = Vec::new();
    for (binary, libraries) in platforms {
        let (mut layers, mut digests) = (Vec::new(), Vec::new());
        // The libraries first: most releases share them.
        for tree in [libraries, &program(binary)?] {
            let layer = tree.tar(release.time)?;
            digests.push(format!("sha256:{}", hexadecimal(&layer)));
            layers.push(blobs.add(LAYER, &gzip(&layer)?));
        }
        let config = config(release, stage, binary.platform, &digests)?;
        let config = blobs.add_json(CONFIG, &config)?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut manifest = blobs.add_json(MANIFEST, &manifest)?;
        manifest["platform"] = json!({ "architecture": binary.platform.architecture, "os": "linux" });
        manifests.push(manifest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": annotations(release),
    });
    let index = blobs.add_json(INDEX, &index)?;
    blobs.archive(&release.version, index, release.time)
}

/// What is known of the release, under the keys of the specification.
pub(super) fn annotations(release: &ReleaseSource) -> Value {
    json!({
        "org.opencontainers.image.created": release.written_time,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": release.commit,
        "org.opencontainers.image.title": "Accelerator Feature Discovery",
        "org.opencontainers.image.version": release.version,
    })
}

/// The configuration of a platform's image.
fn config(
    release: &ReleaseSource,
    stage: &ImageStage,
    platform: Platform,
    digests: &[String],
) -> anyhow::Result<Value> {
    let ports = stage.instruction("EXPOSE")?.into_iter().map(|port| (format!("{port}/tcp"), json!({})));
    Ok(json!({
        "created": release.written_time,
        "architecture": platform.architecture,
        "os": "linux",
        "config": {
            "User": stage.instruction("USER")?.concat(),
            "Env": stage.instruction("ENV")?,
            "ExposedPorts": ports.collect::<serde_json::Map<_, _>>(),
            "Entrypoint": stage.instruction("ENTRYPOINT")?,
            "Cmd": stage.instruction("CMD")?,
            "Labels": annotations(release),
        },
        "rootfs": { "type": "layers", "diff_ids": digests },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_image_runs_what_the_containerfile_says() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        let stage = ImageStage::read(&workspace.root).expect("there is a Containerfile");
        let release = ReleaseSource::example();
        let platform = Platform::native().expect("the tests run on one of the platforms");
        let config = config(&release, &stage, platform, &["sha256:0".to_owned()]);
        let config = config.expect("it has all instructions");
        let run = &config["config"];
        assert_eq!(run["User"], "65532:65532");
        assert_eq!(run["Env"], json!(["GLIBC_TUNABLES=glibc.malloc.tcache_count=0"]));
        assert_eq!(run["Entrypoint"], json!(["/usr/bin/afd"]));
        assert_eq!(run["Cmd"], json!(["run"]));
        assert!(run["ExposedPorts"]["9109/tcp"].is_object(), "{run}");
        assert_eq!(config["architecture"], platform.architecture);
        let containerfile = fs::read_to_string(workspace.root.join("daemonset/Containerfile"));
        let containerfile = containerfile.expect("it can be read");
        // Both images have the same libraries.
        let missing: Vec<_> = LIBRARIES.iter().filter(|name| !containerfile.contains(*name)).collect();
        assert_eq!(missing, [&"libc.so.6"], "the program is linked to it");
    }

    #[test]
    fn the_licences_of_gcc_are_in_a_package_of_their_own() {
        let control = "Package: libgcc-s1\nDepends: gcc-12-base (= 12.2.0-14), libc6 (>= 2.35)\n";
        assert_eq!(package_of_licences(control).as_deref(), Some("gcc-12-base"));
        assert_eq!(package_of_licences("Package: libc6\nDepends: libgcc-s1\n"), None);
    }
}
