//! The chart: packaged by Helm, and the same archive as an OCI artefact, as `helm push` would store it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    layers::annotations,
    oci::{MANIFEST, OciBlobs},
    source::ReleaseSource,
};
use crate::steps::Steps;

/// The media types of charts (Helm, `pkg/registry/constants.go`).
const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// The line of `values.yaml` that names the image, where nothing else is said.
const REPOSITORY: &str = "  repository: localhost/afd\n";

/// Packages the chart of the sources into a folder, with the name of an image as its default; the archive.
pub(super) fn package(
    steps: &Steps<'_>,
    helm: &Path,
    source: (&ReleaseSource, &Path),
    image: Option<&str>,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let (release, root) = source;
    let chart = root.join("daemonset/chart");
    if let Some(image) = image {
        let file = chart.join("values.yaml");
        let values = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        fs::write(&file, with_image(&values, image)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    // Helm keeps the times of files.
    release.set_times(&chart)?;
    let mut command = Command::new(helm);
    command.arg("package").arg(&chart).arg("--destination").arg(folder);
    steps.run("chart", &mut command)?;
    let (name, version) = (name(&chart)?, &release.version);
    let archive = folder.join(format!("{name}-{version}.tgz"));
    ensure!(archive.is_file(), "helm has not written {}", archive.display());
    Ok(archive)
}

/// The values with the name of an image as the default.
fn with_image(values: &str, image: &str) -> anyhow::Result<String> {
    ensure!(values.matches(REPOSITORY).count() == 1, "values.yaml has not once the line {REPOSITORY:?}");
    Ok(values.replace(REPOSITORY, &format!("  repository: {image}\n")))
}

fn description(chart: &Path) -> anyhow::Result<Value> {
    let file = chart.join("Chart.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("reading {}", file.display()))
}

fn name(chart: &Path) -> anyhow::Result<String> {
    Ok(description(chart)?["name"].as_str().context("the chart has a name")?.to_owned())
}

/// The packaged chart as an OCI artefact, in an archive.
pub(super) fn artefact(release: &ReleaseSource, root: &Path, archive: &Path) -> anyhow::Result<Vec<u8>> {
    let content = fs::read(archive).with_context(|| format!("reading {}", archive.display()))?;
    let description = description(&root.join("daemonset/chart"))?;
    let mut blobs = OciBlobs::default();
    let config = blobs.add_json(CONFIG, &description)?;
    let layer = blobs.add(CONTENT, &content);
    let mut annotations = annotations(release);
    annotations["org.opencontainers.image.title"] = description["name"].clone();
    annotations["org.opencontainers.image.description"] = description["description"].clone();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": annotations,
    });
    let manifest = blobs.add_json(MANIFEST, &manifest)?;
    blobs.archive(&release.version, manifest, release.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_image_of_a_chart_can_be_named() {
        let workspace = Workspace::find().expect("the tests run in the workspace");
        let file = workspace.root.join("daemonset/chart/values.yaml");
        let values = fs::read_to_string(file).expect("the values can be read");
        let changed = with_image(&values, "registry.example/afd").expect("the values name the image once");
        assert!(changed.contains("\n  repository: registry.example/afd\n"));
        with_image(&changed, "x").expect_err("the default is gone");
    }
}
