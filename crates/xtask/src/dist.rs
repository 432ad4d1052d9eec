//! `cargo xtask dist`: everything that a release consists of, from the commit that is checked out.
//!
//! Programs for two platforms that run with an old glibc, an image with the newest one, the chart, Debian packages, bills of
//! materials and checksums. The same commit gives the same bytes, in whatever folder it is built: `--verify` shows it.

mod bill;
mod binaries;
mod chart;
mod debian;
mod elf;
mod layers;
mod listing;
mod oci;
mod packages;
mod platform;
mod source;
mod tools;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use self::{
    binaries::BuiltBinary,
    listing::{ArtefactFolder, SUMS},
    packages::PackageTexts,
    platform::{PLATFORMS, Platform},
    source::ReleaseSource,
    tools::{BuildTools, PackTools},
    tree::FileTree,
};
use crate::{containerfile::ImageStage, image, steps::Steps, workspace::Workspace};

/// What makes artefacts, and for whom.
struct Packing<'a> {
    steps: &'a Steps<'a>,
    tools: &'a PackTools,
    release: &'a ReleaseSource,
    /// The name of the image in the chart, if it is not the default.
    image: Option<&'a str>,
}

/// Makes a release in the folder `dist` of the build folder and lists it. With `verify` it is built twice, and compared.
pub(crate) fn dist(
    steps: &Steps<'_>,
    workspace: &Workspace,
    image: Option<&str>,
    verify: bool,
) -> anyhow::Result<()> {
    let release = ReleaseSource::of(&workspace.root)?;
    if release.has_changes()? {
        steps.print("note: the checkout has changes, which are not part of the release");
    }
    let native = Platform::native().context("a release is built on one of its platforms")?;
    let foreign = PLATFORMS.into_iter().find(|platform| *platform != native).context("there are two")?;
    let build = BuildTools::find(steps, workspace, foreign)?;
    let tools = PackTools::find(steps, workspace)?;
    let packing = Packing { steps, tools: &tools, release: &release, image };
    let libraries = [layers::libraries(steps, native)?, layers::libraries(steps, foreign)?];
    let builds = workspace.target.join("dist-build");

    let make = |name: &str, output: &Path| -> anyhow::Result<Vec<(BuiltBinary, FileTree)>> {
        let folder = builds.join(name);
        let (source, target) = (folder.join("source"), folder.join("target"));
        release.export(&source)?;
        let binary = |platform| binaries::build(steps, &build, (&release, &source), platform, &target);
        let binaries = [binary(native)?, binary(foreign)?];
        let platforms: Vec<_> = binaries.into_iter().zip(libraries.clone()).collect();
        packing.pack(&source, &platforms, output)?;
        Ok(platforms)
    };
    let output = workspace.target.join("dist");
    let platforms = make("first", &output)?;
    let artefacts = ArtefactFolder::read(&output)?;
    if verify {
        let again = tempfile::tempdir().context("making a temporary folder")?;
        make("second-in-another-folder", again.path())?;
        artefacts.check_equal(&ArtefactFolder::read(again.path())?)?;
        let second = builds.join("second-in-another-folder");
        fs::remove_dir_all(&second).with_context(|| format!("removing {}", second.display()))?;
        steps.print(&format!("built twice: {} files, byte for byte equal", artefacts.len()));
    }
    run_both(steps, workspace, &build, &platforms)?;
    steps.print(&format!("\n{}\n{}", output.display(), artefacts.table()));
    Ok(())
}

/// Installs the packages that [`rehearse`] needs, besides what Go builds.
pub(crate) fn prepare(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<()> {
    PackTools::packages(steps, workspace).map(drop)
}

/// Packs the release program that the image was built from, twice and without building anything: what can fail in a release
/// besides a build fails here.
pub(crate) fn rehearse(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<()> {
    let release = ReleaseSource::of(&workspace.root)?;
    let tools = PackTools::find(steps, workspace)?;
    let packing = Packing { steps, tools: &tools, release: &release, image: None };
    let platform = Platform::native().context("a release is built on one of its platforms")?;
    let binary = BuiltBinary { platform, file: image::binary(workspace) };
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let pack = |name: &str| -> anyhow::Result<ArtefactFolder> {
        let (source, output) =
            (folder.path().join(name).join("source"), folder.path().join(name).join("dist"));
        release.export(&source)?;
        packing.pack_program(&source, &binary, None, &output)?;
        packing.finish(&source, &output)?;
        ArtefactFolder::read(&output)
    };
    let artefacts = pack("first")?;
    artefacts.check_equal(&pack("second-in-another-folder")?)?;
    steps.print(&format!(
        "packed twice: {} files, byte for byte equal\n{}",
        artefacts.len(),
        artefacts.table()
    ));
    Ok(())
}

impl Packing<'_> {
    /// Everything, with an image of all platforms.
    fn pack(
        &self,
        source: &Path,
        platforms: &[(BuiltBinary, FileTree)],
        output: &Path,
    ) -> anyhow::Result<()> {
        let (steps, version) = (self.steps, &self.release.version);
        if output.exists() {
            fs::remove_dir_all(output).with_context(|| format!("removing {}", output.display()))?;
        }
        let stage = ImageStage::read(source)?;
        let mut stated = Vec::new();
        for (binary, _) in platforms {
            let glibc = binaries::check(binary, source)?;
            stated.push(format!("{}: glibc {}.{} or newer", binary.platform.machine, glibc.0, glibc.1));
        }
        // What the program of this machine prints, that of the other one would print as well.
        let texts = PackageTexts::of(&platforms[0].0.file, source)?;
        for (binary, _) in platforms {
            self.pack_program(source, binary, Some(&texts), output)?;
        }
        let image = layers::image(self.release, &stage, platforms)?;
        write(&output.join(format!("afd-{version}-image.oci.tar")), &image)?;
        self.finish(source, output)?;
        steps.print(&stated.join("\n"));
        Ok(())
    }

    /// What there is for each platform: an archive, a Debian package and a bill of materials.
    fn pack_program(
        &self,
        source: &Path,
        binary: &BuiltBinary,
        texts: Option<&PackageTexts>,
        output: &Path,
    ) -> anyhow::Result<()> {
        let Packing { steps, tools, release, .. } = *self;
        fs::create_dir_all(output).with_context(|| format!("making {}", output.display()))?;
        let own;
        let texts = match texts {
            Some(texts) => texts,
            None => {
                own = PackageTexts::of(&binary.file, source)?;
                &own
            }
        };
        let content = fs::read(&binary.file).with_context(|| format!("reading {}", binary.file.display()))?;
        let glibc = elf::facts(&content)?.glibc;
        let (version, platform) = (&release.version, binary.platform);
        let name = format!("afd-{version}-{}-linux", platform.machine);
        write(&output.join(format!("{name}.tar.gz")), &texts.archive(release, binary, &name)?)?;
        let package = output.join(format!("afd_{version}_{}.deb", platform.architecture));
        texts.debian(steps, release, binary, glibc, &package)?;
        packages::check(&package)?;
        let bill = output.join(format!("{name}.cdx.json"));
        bill::write(steps, tools, (release, source), platform, &bill)
    }

    /// What there is once: the chart, and the checksums of all.
    fn finish(&self, source: &Path, output: &Path) -> anyhow::Result<()> {
        let Packing { steps, tools, release, image, .. } = *self;
        let archive = chart::package(steps, &tools.helm, (release, source), image, output)?;
        let artefact = chart::artefact(release, source, &archive)?;
        write(&archive.with_extension("oci.tar"), &artefact)?;
        for file in ArtefactFolder::read(output)?.layouts() {
            // Another program reads the layout and compares every digest.
            let copy = tempfile::tempdir().context("making a temporary folder")?;
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]);
            skopeo.arg(format!("oci-archive:{}", output.join(file).display()));
            steps.run("layout", skopeo.arg(format!("oci:{}:copy", copy.path().display())))?;
        }
        let sums = ArtefactFolder::read(output)?.sums();
        write(&output.join(SUMS), sums.as_bytes())
    }
}

/// Runs the programs of both platforms with the libraries of their images, and compares what they print.
fn run_both(
    steps: &Steps<'_>,
    workspace: &Workspace,
    build: &BuildTools,
    platforms: &[(BuiltBinary, FileTree)],
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let mut images: Vec<(Platform, PathBuf)> = Vec::new();
    for (binary, libraries) in platforms {
        let root = folder.path().join(binary.platform.machine);
        layers::lay_out(libraries, binary, &root)?;
        images.push((binary.platform, root));
    }
    let [(one, one_root), (other, other_root)] = images.as_slice() else {
        anyhow::bail!("there are two platforms");
    };
    let fixtures = workspace.root.join("fixtures/hosts");
    let images = [(*one, one_root.as_path()), (*other, other_root.as_path())];
    let compared = binaries::compare(images, &build.emulator, &fixtures)?;
    ensure!(compared > 100, "only {compared} outputs were compared");
    steps.print(&format!("{compared} outputs of recorded hosts are equal on both platforms"));
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(file, content).with_context(|| format!("writing {}", file.display()))
}
