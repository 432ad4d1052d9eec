//! What the Helm chart needs to know of the vendors, from their records: `daemonset/chart/vendors.json` and `mounts.json`.

use serde::Serialize;

use super::{HostMount, MountCondition, NetworkSource, SHARED_MOUNTS, VENDORS, VendorLibrary, VendorRecord};

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
    /// Servers on the node that are queried.
    network: Vec<ChartNetworkSource>,
    /// The port of servers within pods, which are queried with `pods.watch`.
    pod_port: Option<u16>,
    /// Paths of the host that are mounted besides those of every vendor.
    mounts: Vec<ChartMount>,
}

#[derive(Serialize)]
struct ChartNetworkSource {
    option: &'static str,
    /// The value that sets the address.
    value: &'static str,
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
    /// The type of the volume, which Kubernetes checks.
    r#type: &'static str,
    reason: &'static str,
    /// `always`, `libraryOnHost`, or the value that has to be true.
    when: &'static str,
}

/// The paths that are mounted whatever the devices are.
pub fn chart_mounts() -> String {
    let mounts: Vec<ChartMount> = SHARED_MOUNTS.iter().map(chart_mount).collect();
    serde_json::to_string_pretty(&mounts).expect("strings and lists are JSON") + "\n"
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
        network: record.network.iter().flat_map(|network| network.sources).map(chart_source).collect(),
        pod_port: record.network.as_ref().and_then(|network| Some(network.pods.as_ref()?.port)),
        mounts: record.mounts.iter().map(chart_mount).collect(),
    }
}

fn chart_source(source: &NetworkSource) -> ChartNetworkSource {
    ChartNetworkSource { option: source.option, value: source.chart_value }
}

fn chart_mount(mount: &HostMount) -> ChartMount {
    ChartMount {
        host_path: mount.host_path,
        r#type: if mount.is_file { "File" } else { "Directory" },
        reason: mount.reason,
        when: match mount.when {
            MountCondition::Always => "always",
            MountCondition::LibraryOnHost => "libraryOnHost",
            MountCondition::Value(value) => value,
        },
    }
}
