//! Inventory and samples to the bytes that are served.

use std::time::{Duration, Instant};

use afd_derive::{
    compat::{CompatSet, dcgm},
    series::{self, InCluster},
};
use afd_model::{Allocation, Inventory, Sampling};
use afd_publish::page::{Page, Pages};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder, proto::MetricFamily};

/// The text of `/metrics`: devices first, then the agent's own families.
///
/// # Errors
/// When a family has no series, which the callers never pass.
pub fn metrics(
    inventory: &Inventory,
    sampling: &Sampling,
    cluster: &InCluster<'_>,
    own: &[MetricFamily],
) -> prometheus::Result<Vec<u8>> {
    let families = series::families(inventory, &sampling.samples, &sampling.problems, cluster);
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&families, &mut text)?;
    TextEncoder::new().encode(own, &mut text)?;
    Ok(text)
}

/// The text of `/compat/dcgm`, of a node that is called `node`.
///
/// # Errors
/// When a family has no series, which the table never gives.
pub fn dcgm(
    inventory: &Inventory,
    sampling: &Sampling,
    allocations: &[Allocation],
    node: Option<&str>,
) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(16 * 1024);
    TextEncoder::new().encode(&dcgm::families(inventory, &sampling.samples, allocations, node), &mut text)?;
    Ok(text)
}

/// The text of `/compat/<set>`.
///
/// # Errors
/// When a family has no series, which the sets never make.
pub fn compat_metrics(
    set: CompatSet,
    inventory: &Inventory,
    sampling: &Sampling,
) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&set.metric_families(inventory, &sampling.samples), &mut text)?;
    Ok(text)
}

/// The answers of one turn of the loop.
///
/// # Errors
/// When something cannot be encoded.
pub fn pages(
    inventory: &Inventory,
    sampling: &Sampling,
    cluster: &InCluster<'_>,
    own: &[MetricFamily],
    node: Option<&str>,
    sets: &[CompatSet],
    patience: Duration,
) -> anyhow::Result<Pages> {
    let compat = sets
        .iter()
        .map(|set| Ok((set.as_str(), Page::new(TEXT_FORMAT, compat_metrics(*set, inventory, sampling)?))))
        .collect::<prometheus::Result<_>>()?;
    Ok(Pages {
        compat,
        metrics: Page::new(TEXT_FORMAT, metrics(inventory, sampling, cluster, own)?),
        dcgm: Page::new(TEXT_FORMAT, dcgm(inventory, sampling, cluster.allocations, node)?),
        inventory: Page::new("application/json", crate::show::json(inventory)?),
        made: Instant::now(),
        patience,
    })
}
