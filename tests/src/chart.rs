//! The Helm chart, as tests install it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::workspace;

/// The folder of the chart.
pub fn chart() -> PathBuf {
    workspace().join("daemonset/chart")
}

/// Writes values of the chart into a folder; the option with which Helm reads them.
///
/// # Panics
/// When they cannot be written, or the path of the folder is not UTF-8.
pub fn values_option(folder: &Path, values: &Value) -> String {
    let file = folder.join("values.yaml");
    // Every JSON is YAML.
    fs::write(&file, values.to_string()).expect("values can be written");
    format!("--values={}", file.to_str().expect("temporary paths are UTF-8"))
}
