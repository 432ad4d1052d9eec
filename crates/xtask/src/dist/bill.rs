//! The bill of materials: the crates that a program is made of, in the format of CycloneDX.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{binaries::output, platform::Platform, source::ReleaseSource, tools::PackTools};
use crate::{steps::Steps, workspace::without_package_variables};

const SPECIFICATION: &str = "1.5";
/// Fails with the reason where a document is not in the format.
const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.from_version(sys.argv[1])).validate_str(open(sys.argv[2]).read())
sys.exit(None if error is None else str(error))
";

/// Writes the bill of the program for a platform.
pub(super) fn write(
    steps: &Steps<'_>,
    tools: &PackTools,
    source: (&ReleaseSource, &Path),
    platform: Platform,
    file: &Path,
) -> anyhow::Result<()> {
    let (release, root) = source;
    let manifest = root.join("crates/agent/Cargo.toml");
    let mut cyclonedx = Command::new(&tools.cargo_cyclonedx);
    without_package_variables(&mut cyclonedx);
    cyclonedx
        .current_dir(root)
        .args(["cyclonedx", "--format", "json", "--spec-version", SPECIFICATION, "--quiet"])
        .args(["--target", &platform.target(), "--override-filename", "afd.cdx", "--manifest-path"])
        .arg(&manifest)
        .env("SOURCE_DATE_EPOCH", release.time.to_string());
    steps.run(&format!("bill of materials for {}", platform.machine), &mut cyclonedx)?;
    let written = root.join("crates/agent/afd.cdx.json");
    let text = fs::read_to_string(&written).with_context(|| format!("reading {}", written.display()))?;
    fs::write(file, without_path(&text, root)).with_context(|| format!("writing {}", file.display()))?;
    check(tools, file)
}

/// The bill without the path of the sources, by which it identifies the crates of the workspace.
fn without_path(text: &str, root: &Path) -> String {
    text.replace(&format!("file://{}", root.display()), "file:///afd")
}

/// Checks that a document is valid, and that it is about the program.
fn check(tools: &PackTools, file: &Path) -> anyhow::Result<()> {
    let mut validate = Command::new(&tools.schemas);
    output(validate.args(["-c", VALIDATE, SPECIFICATION]).arg(file))
        .with_context(|| format!("{} is not valid", file.display()))?;
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let bill: Value = serde_json::from_slice(&text).context("reading the bill of materials")?;
    let components = bill["components"].as_array().context("the bill has components")?;
    for name in ["afd-nvidia", "kube", "seccompiler"] {
        let is_listed = components.iter().any(|component| component["name"] == name);
        ensure!(is_listed, "{} does not list {name}", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_machine_is_in_a_bill() {
        let text = "\"path+file:///build/x/crates/model#afd-model@0.1.0\"";
        let expected = "\"path+file:///afd/crates/model#afd-model@0.1.0\"";
        assert_eq!(without_path(text, Path::new("/build/x")), expected);
    }
}
