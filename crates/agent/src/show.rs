//! `afd show`: the current state of this node, as a table, JSON, labels or metrics.

mod table;

use afd_derive::{
    compat::{CompatOptions, CompatSet},
    labels::LabelOptions,
    paths::{self, PathRules},
    series::{InCluster, SeriesDetail},
};
use afd_model::{Decision, Inventory};

pub use table::table;

use crate::{
    probes::Probes,
    render::{self, DoorPage, PageInputs},
};

/// The inventory as JSON, with a final newline.
///
/// # Errors
/// When it cannot be encoded.
pub fn json(inventory: &Inventory) -> serde_json::Result<String> {
    serde_json::to_string_pretty(inventory).map(|text| text + "\n")
}

/// AFD's own labels and those in the vendors' spellings, one `key=value` per line.
pub fn labels(
    inventory: &Inventory,
    options: &LabelOptions,
    compat: &CompatOptions,
    rules: &PathRules,
) -> String {
    let mut labels = afd_derive::labels::labels(inventory, options, Decision::Absent);
    labels.extend(paths::labels(inventory, &rules.verdicts(inventory, options.include_integrated), options));
    labels.extend(afd_derive::compat::labels(inventory, options, compat));
    labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// The metrics of one sample, without the agent's own: AFD's, or those of the given sets if there are any, some of which name
/// the node.
///
/// # Errors
/// When they cannot be encoded.
pub fn metrics(
    probes: &mut Probes,
    sets: &[CompatSet],
    detail: SeriesDetail,
    rules: &PathRules,
    include_integrated: bool,
    node: Option<&str>,
) -> anyhow::Result<String> {
    let inventory = probes.discover();
    let sampling = probes.sample(None);
    let (cluster, door) = (InCluster::default(), DoorPage::default());
    let inputs = PageInputs { inventory: &inventory, paths: &[], sampling: &sampling, cluster, door, detail };
    if sets.is_empty() {
        let paths = rules.verdicts(&inventory, include_integrated);
        let inputs = PageInputs { paths: &paths, ..inputs };
        return Ok(String::from_utf8(render::metrics(inputs, &[])?)?);
    }
    let pages = sets.iter().flat_map(|set| set.pages().map(|page| (*set, page)));
    let pages: Result<Vec<_>, _> =
        pages.map(|(set, page)| render::compat_metrics(set, page, inputs, node)).collect();
    Ok(String::from_utf8(pages?.concat())?)
}

/// The metrics of dcgm-exporter, of one sample.
///
/// # Errors
/// When they cannot be encoded.
pub fn dcgm(probes: &mut Probes, node: Option<&str>) -> anyhow::Result<String> {
    let inventory = probes.discover();
    let sampling = probes.sample(None);
    let (cluster, door, detail) = (InCluster::default(), DoorPage::default(), SeriesDetail::default());
    let inputs = PageInputs { inventory: &inventory, paths: &[], sampling: &sampling, cluster, door, detail };
    Ok(String::from_utf8(render::dcgm(inputs, node)?)?)
}
