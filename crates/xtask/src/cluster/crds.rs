//! Custom resource definitions of schedulers and autoscalers, from Go modules whose versions and digests `tests/cluster/crds` pins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::go::go;
use crate::store::{key, make};

/// The modules, each with a folder and its files that are taken.
const MODULES: [(&str, &str, &[&str]); 2] = [
    ("sigs.k8s.io/karpenter", "pkg/apis/crds", &["karpenter.sh_nodepools.yaml"]),
    (
        "sigs.k8s.io/kueue",
        "config/components/crd/bases",
        &["kueue.x-k8s.io_resourceflavors.yaml", "kueue.x-k8s.io_topologies.yaml"],
    ),
];

/// The folder with all files, made first where it is missing. `pins` is the folder with `go.mod` and `go.sum`.
pub(super) fn definitions(store: &Path, pins: &Path) -> anyhow::Result<PathBuf> {
    let read = |name: &str| {
        fs::read_to_string(pins.join(name)).with_context(|| format!("reading the {name} of the CRDs"))
    };
    let description = read("go.mod")?;
    make(store, &format!("crds-{}", key([description.clone(), read("go.sum")?])), |folder| {
        for (module, source, files) in MODULES {
            let source = download(pins, &description, module)?.join(source);
            for file in files {
                fs::copy(source.join(file), folder.join(file))
                    .with_context(|| format!("copying {file} of {module}"))?;
            }
        }
        Ok(())
    })
}

/// The folder of a module in Go's cache. Go compares its digest with that of `go.sum`.
fn download(pins: &Path, description: &str, module: &str) -> anyhow::Result<PathBuf> {
    let version = description.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '));
    let version = version.with_context(|| format!("{module} has no version"))?;
    let output = Command::new(go()?.0)
        .current_dir(pins)
        .envs([("GOFLAGS", ""), ("GOTOOLCHAIN", "local")])
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .output()
        .context("starting Go")?;
    ensure!(
        output.status.success(),
        "{module} cannot be downloaded: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading the report of Go")?;
    report["Dir"].as_str().map(PathBuf::from).with_context(|| format!("Go reports no folder of {module}"))
}
