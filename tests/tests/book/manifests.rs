//! The blocks that are marked `yaml`: manifests, values of the chart (`yaml values`) and web configurations (`yaml web-config`).

use std::fs;

use afd_publish::web_config::WebConfig;
use afd_test_cluster::{Bed, KubernetesVersion, succeed};
use afd_tests::chart::chart;
use anyhow::{Context, bail, ensure};
use rcgen::generate_simple_self_signed;
use serde_json::Value;

use super::{is_label, pages};

/// Kinds of Kubernetes itself, which its own schemas check.
const API_VERSIONS: [&str; 6] = [
    "v1",
    "apps/v1",
    "batch/v1",
    "rbac.authorization.k8s.io/v1",
    "resource.k8s.io/v1",
    "networking.k8s.io/v1",
];

/// Every manifest can be read, one of Kubernetes is valid in the oldest and the newest supported version, and no label of ours is
/// one that AFD does not write.
pub(super) async fn manifests() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let file = bed.folder().join("documented.yaml");
    let mut checked = 0;
    let pages = pages()?;
    for block in pages.iter().flat_map(|page| page.code_blocks()).filter(|block| block.language == "yaml") {
        for document in block.text.split("\n---\n") {
            let place = || format!("{}:\n{document}", block.page.display());
            let value: Value = serde_saphyr::from_str(document).with_context(place)?;
            labels(&value).with_context(place)?;
            match block.kind {
                "" => {}
                "values" => {
                    fs::write(&file, document)?;
                    let mut helm = bed.helm()?;
                    succeed(helm.args(["template", "afd"]).arg(chart()).arg("--values").arg(&file))
                        .with_context(place)?;
                    continue;
                }
                "web-config" => {
                    web_config(document).with_context(place)?;
                    continue;
                }
                kind => bail!("{kind} is checked by nothing: {}", place()),
            }
            let version = value["apiVersion"].as_str().with_context(place)?;
            ensure!(value["kind"].is_string(), "no kind: {}", place());
            if API_VERSIONS.contains(&version) {
                fs::write(&file, document)?;
                for version in [KubernetesVersion::V1_34, KubernetesVersion::V1_37] {
                    succeed(bed.validate(version)?.arg("--quiet").arg(&file)).with_context(place)?;
                }
                checked += 1;
            }
        }
    }
    ensure!(checked >= 5, "only {checked} manifests were checked");
    Ok(())
}

/// The agent accepts a web configuration, with files of the names that it has.
fn web_config(document: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let certified = generate_simple_self_signed(["localhost".to_owned()])?;
    for name in ["tls.crt", "ca.crt"] {
        fs::write(folder.path().join(name), certified.cert.pem())?;
    }
    fs::write(folder.path().join("tls.key"), certified.signing_key.serialize_pem())?;
    let file = folder.path().join("web-config.yml");
    fs::write(&file, document)?;
    WebConfig::load(&file)?;
    Ok(())
}

/// All keys and values below a value that are spelt as labels.
fn labels(value: &Value) -> anyhow::Result<()> {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                ensure!(is_label(key), "AFD writes no label {key}");
                labels(value)?;
            }
        }
        Value::Array(values) => values.iter().try_for_each(labels)?,
        Value::String(text) if !text.contains(char::is_whitespace) => {
            ensure!(is_label(text), "AFD writes no label {text}");
        }
        _ => {}
    }
    Ok(())
}
