//! What the Helm chart needs to know of the vendors, from their records: `daemonset/chart/vendors.json`.

use serde::Serialize;

use super::{VENDORS, VendorLibrary, VendorMount, VendorRecord};

/// One vendor as the chart's templates read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChartVendor {
    /// Name of the probe, and key of the vendor's values.
    name: &'static str,
    /// Whether the vendor has a set of labels, which a value of `compat` switches.
    has_labels: bool,
    /// The keys of that set that are fixed.
    label_keys: Vec<&'static str>,
    /// Regular expressions (RE2) that match its other keys.
    label_key_patterns: Vec<String>,
    /// The library of the vendor.
    library: Option<ChartLibrary>,
    /// Folders of the host that the probe reads besides sysfs and procfs.
    mounts: Vec<ChartMount>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChartLibrary {
    root_option: &'static str,
    /// The value that sets the root.
    value: Option<&'static str>,
    device_files: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChartMount {
    host_path: &'static str,
    reason: &'static str,
    by_default: bool,
}

/// The content of the file: a list of the vendors in the order of their probes.
pub fn chart_vendors() -> String {
    let vendors: Vec<ChartVendor> = VENDORS.into_iter().map(chart_vendor).collect();
    serde_json::to_string_pretty(&vendors).expect("strings and lists are JSON") + "\n"
}

fn chart_vendor(record: &VendorRecord) -> ChartVendor {
    ChartVendor {
        name: record.probe,
        has_labels: record.labels.is_some(),
        label_keys: record.label_keys(),
        label_key_patterns: record.label_key_patterns(),
        library: record.library.as_ref().map(|library: &VendorLibrary| ChartLibrary {
            root_option: library.root_option,
            value: library.chart_value,
            device_files: library.device_files,
        }),
        mounts: record.mounts.iter().map(chart_mount).collect(),
    }
}

fn chart_mount(mount: &VendorMount) -> ChartMount {
    ChartMount { host_path: mount.host_path, reason: mount.reason, by_default: mount.by_default }
}
