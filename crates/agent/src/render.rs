//! Inventory and samples to the bytes that are served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use afd_derive::{
    compat::{
        CompatSet,
        metrics::{CompatInput, ENDPOINT_PICKER_PAGE},
    },
    paths::PathVerdict,
    series::{self, InCluster},
};
use afd_model::{Inventory, Sampling};
use afd_publish::page::{Page, RenderedPages};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder, proto::MetricFamily};

/// What one turn of the loop has learnt.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'t> {
    /// The devices and what surrounds them.
    pub inventory: &'t Inventory,
    /// What the rules say of them.
    pub paths: &'t [PathVerdict<'t>],
    /// Their moving values.
    pub sampling: &'t Sampling,
    /// What Kubernetes tells of them.
    pub cluster: InCluster<'t>,
}

/// The text of `/metrics`: devices first, then the agent's own families.
///
/// # Errors
/// When a family has no series, which the callers never pass.
pub fn metrics(turn: Turn<'_>, own: &[MetricFamily]) -> prometheus::Result<Vec<u8>> {
    let Turn { inventory, paths, sampling, cluster } = turn;
    let families = series::families(inventory, &sampling.samples, &sampling.problems, &cluster, paths);
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&families, &mut text)?;
    TextEncoder::new().encode(own, &mut text)?;
    Ok(text)
}

/// The text of `/compat/dcgm`, of a node that is called `node`.
///
/// # Errors
/// When a family has no series, which the table never gives.
pub fn dcgm(turn: Turn<'_>, node: Option<&str>) -> prometheus::Result<Vec<u8>> {
    let set = CompatSet::of_page(ENDPOINT_PICKER_PAGE).expect("a record has the page");
    compat_metrics(set, turn, node)
}

/// The text of `/compat/<set>`.
///
/// # Errors
/// When a family has no series, which the sets never make.
pub fn compat_metrics(set: CompatSet, turn: Turn<'_>, node: Option<&str>) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(64 * 1024);
    let Turn { inventory, sampling, cluster, .. } = turn;
    let input = CompatInput { inventory, samples: &sampling.samples, allocations: cluster.allocations, node };
    TextEncoder::new().encode(&set.metric_families(&input), &mut text)?;
    Ok(text)
}

/// The page for people, which changes with the inventory alone.
pub fn front(inventory: &Inventory, paths: &[PathVerdict<'_>], node: Option<&str>) -> Arc<Page> {
    Arc::new(Page::new("text/html; charset=utf-8", crate::front::page(inventory, paths, node)))
}

/// The answers of one turn of the loop, beside the page for people.
///
/// # Errors
/// When something cannot be encoded.
pub fn pages(
    front: Arc<Page>,
    turn: Turn<'_>,
    own: &[MetricFamily],
    node: Option<&str>,
    sets: &[CompatSet],
    patience: Duration,
) -> anyhow::Result<RenderedPages> {
    let compat = sets
        .iter()
        .map(|set| Ok((set.as_str(), Page::new(TEXT_FORMAT, compat_metrics(*set, turn, node)?))))
        .collect::<prometheus::Result<_>>()?;
    Ok(RenderedPages {
        status_page: front,
        compat,
        metrics: Page::new(TEXT_FORMAT, metrics(turn, own)?),
        dcgm: Page::new(TEXT_FORMAT, dcgm(turn, node)?),
        inventory: Page::new("application/json", crate::show::json(turn.inventory)?),
        rendered_at: Instant::now(),
        stale_after: patience,
    })
}
