//! The direction of dependencies between the crates.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::collections::{BTreeMap, BTreeSet};

use afd_tests::workspace;
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The workspace crates that a crate may use. Vendors never see each other; `derive` sees only `model`; `publish` never
/// sees a probe.
const ALLOWED: [(&str, &[&str]); 27] = [
    ("afd-model", &[]),
    ("afd-host", &[]),
    ("afd-probe", &["afd-host", "afd-model"]),
    ("afd-nvidia", &["afd-host", "afd-model", "afd-probe"]),
    ("afd-amd", &["afd-host", "afd-model", "afd-probe"]),
    ("afd-intel", &["afd-host", "afd-model", "afd-probe"]),
    ("afd-gaudi", &["afd-host", "afd-model", "afd-probe"]),
    ("afd-tpu", &["afd-host", "afd-model", "afd-probe"]),
    ("afd-apiserver", &["afd-model"]),
    ("afd-bridge", &["afd-apiserver", "afd-model"]),
    ("afd-kubelet", &["afd-model"]),
    ("afd-track", &["afd-model"]),
    ("afd-derive", &["afd-model"]),
    ("afd-publish", &["afd-apiserver", "afd-derive", "afd-model"]),
    (
        "afd-agent",
        &[
            "afd-amd",
            "afd-apiserver",
            "afd-bridge",
            "afd-derive",
            "afd-gaudi",
            "afd-host",
            "afd-intel",
            "afd-kubelet",
            "afd-model",
            "afd-nvidia",
            "afd-probe",
            "afd-publish",
            "afd-tpu",
            "afd-track",
        ],
    ),
    (
        "afd-tests",
        &[
            "afd-agent",
            "afd-apiserver",
            "afd-derive",
            "afd-fake-driver",
            "afd-host",
            "afd-kubelet",
            "afd-model",
            "afd-publish",
            "afd-test-cluster",
            "afd-track",
        ],
    ),
    ("afd-fake-recorded", &["afd-probe"]),
    ("afd-fake-nvml", &["afd-fake-recorded", "afd-nvidia"]),
    ("afd-fake-amdsmi", &["afd-amd", "afd-fake-recorded"]),
    ("afd-fake-rocmsmi", &["afd-amd", "afd-fake-recorded"]),
    ("afd-fake-hlml", &["afd-fake-recorded", "afd-gaudi"]),
    ("afd-fake-driver", &["afd-gaudi", "afd-intel", "afd-probe"]),
    ("afd-fake-levelzero", &["afd-fake-recorded", "afd-intel", "afd-probe"]),
    ("afd-fake-clock", &[]),
    ("afd-fake-hostile", &[]),
    ("afd-test-cluster", &[]),
    ("afd-xtask", &[]),
];

/// External crates that a vendor's crate and the crates below it must not use.
const NOT_FOR_PROBES: [&str; 4] = ["tokio", "kube", "hyper", "prometheus"];

#[test]
fn crates_depend_in_one_direction() {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes the workspace");
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        let tests = name == "afd-tests";
        let probes =
            allowed.contains("afd-probe") && name != "afd-agent" || name == "afd-probe" || name == "afd-host";
        for dependency in &package.dependencies {
            let counts = dependency.kind == DependencyKind::Normal || tests;
            let is_member = dependency.name.starts_with("afd-") && dependency.name != name;
            if counts && is_member && !allowed.contains(dependency.name.as_str()) {
                wrong.push(format!("{name} must not use {}", dependency.name));
            }
            if counts && probes && NOT_FOR_PROBES.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} must not use {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
