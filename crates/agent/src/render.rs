//! Renders inventory and samples as the pages that are served.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use afd_derive::{
    compat::{
        CompatSet,
        metrics::{CompatInput, DoorFault, DoorInput, ENDPOINT_PICKER_PAGE, MetricSet, door_families},
    },
    paths::PathVerdict,
    series::{self, InCluster, SeriesDetail},
};
use afd_model::{Allocation, Inventory, Sampling};
use afd_publish::page::{InventoryPages, Page, PageContent, RenderedPages};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder, proto::MetricFamily};

use crate::{
    args::DocsUrl,
    live::{LiveInputs, LiveReport},
    status_page::{self, PageFrame},
};

/// What the pages show.
#[derive(Clone, Copy, Debug)]
pub struct PageInputs<'t> {
    /// The inventory.
    pub inventory: &'t Inventory,
    /// The verdicts of all paths.
    pub paths: &'t [PathVerdict<'t>],
    /// The last sample of the devices.
    pub sampling: &'t Sampling,
    /// What the cluster reports of them.
    pub cluster: InCluster<'t>,
    /// What only the page for endpoint pickers shows.
    pub door: DoorPage<'t>,
    /// What `/metrics` shows on request.
    pub detail: SeriesDetail,
}

/// What only the page for endpoint pickers shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoorPage<'t> {
    /// The devices that are busy there because of a fault.
    pub faults: &'t [DoorFault],
    /// The allocations, with pods that serve with a device which another one holds.
    pub holders: &'t [Allocation],
}

/// What the pages depend on besides.
#[derive(Clone, Copy, Debug)]
pub struct PageSettings<'t> {
    /// The name of the node, if it has one.
    pub node: Option<&'t str>,
    /// The vendors' own metrics to serve.
    pub compat_metrics: &'t [CompatSet],
    /// The age from which on the pages are stale.
    pub stale_after: Duration,
    /// Where the documentation is read.
    pub docs: Option<&'t DocsUrl>,
}

/// `/metrics`: the devices' families, then the agent's own.
///
/// # Errors
/// When a family has no series, which no caller passes.
pub fn metrics(inputs: PageInputs<'_>, own: &[MetricFamily]) -> prometheus::Result<Vec<u8>> {
    let PageInputs { inventory, paths, sampling, cluster, door: _, detail } = inputs;
    let families = series::families(inventory, sampling, &cluster, paths, detail);
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&families, &mut text)?;
    TextEncoder::new().encode(own, &mut text)?;
    Ok(text)
}

/// `/compat/dcgm`.
///
/// # Errors
/// When a family has no series, which the table never returns.
pub fn dcgm(inputs: PageInputs<'_>, node: Option<&str>) -> prometheus::Result<Vec<u8>> {
    let (set, page) = CompatSet::of_page(ENDPOINT_PICKER_PAGE).expect("a record has the page");
    compat_metrics(set, page, inputs, node)
}

/// The page for endpoint pickers.
///
/// # Errors
/// When a family has no series, which the table never returns.
fn door(inputs: PageInputs<'_>, node: Option<&str>) -> prometheus::Result<Vec<u8>> {
    let PageInputs { inventory, sampling, door: DoorPage { faults, holders }, .. } = inputs;
    let page = CompatInput { inventory, samples: &sampling.samples, allocations: holders, node };
    let mut text = Vec::with_capacity(16 * 1024);
    TextEncoder::new().encode(&door_families(&DoorInput { page, faults }), &mut text)?;
    Ok(text)
}

/// `/compat/<page>`.
///
/// # Errors
/// When a family has no series, which no set returns.
pub fn compat_metrics(
    set: CompatSet,
    page: &'static MetricSet,
    inputs: PageInputs<'_>,
    node: Option<&str>,
) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(64 * 1024);
    let PageInputs { inventory, sampling, cluster, .. } = inputs;
    let input = CompatInput {
        inventory,
        samples: &sampling.samples,
        allocations: cluster.allocations.unwrap_or_default(),
        node,
    };
    TextEncoder::new().encode(&set.page_families(page, &input), &mut text)?;
    Ok(text)
}

/// The pages that change only with the inventory.
#[derive(Clone, Debug)]
pub struct InventoryRendering {
    /// `/`, the status page, without what changes with each sample.
    pub frame: SharedFrame,
    /// `/inventory`.
    pub inventory: Arc<InventoryPages>,
}

/// The frame of the status page, which is made on the first request for the page.
pub type SharedFrame = Arc<LazyLock<PageFrame, Box<dyn FnOnce() -> PageFrame + Send>>>;

/// The pages that change only with the inventory, each of which is rendered on its first request. No part of `/` and of the public
/// `/inventory` is made of what [`Inventory::without_serials`] removes.
///
/// # Panics
/// Never: an inventory is JSON.
pub fn inventory(inventory: &Arc<Inventory>, node: Option<&str>) -> InventoryRendering {
    let json = |select: fn(&Inventory) -> Cow<'_, Inventory>| {
        let inventory = Arc::clone(inventory);
        Page::rendered_on_request("application/json", move || {
            let text = crate::show::json(&select(&inventory));
            text.expect("every key of an inventory is a string").into()
        })
    };
    let pages = InventoryPages {
        public: json(|inventory| Cow::Owned(inventory.without_serials())),
        complete: json(|inventory| Cow::Borrowed(inventory)),
    };
    let (inventory, node) = (Arc::clone(inventory), node.map(str::to_owned));
    let frame: Box<dyn FnOnce() -> PageFrame + Send> =
        Box::new(move || PageFrame::new(&inventory.without_serials(), node.as_deref()));
    InventoryRendering { frame: Arc::new(LazyLock::new(frame)), inventory: Arc::new(pages) }
}

/// `/`, `/live.html` and `/live`.
#[derive(Debug)]
pub struct LivePages {
    /// `/`.
    pub status_page: Page,
    /// `/live.html`.
    pub part: Page,
    /// `/live`.
    pub json: Page,
}

const HTML: &str = "text/html; charset=utf-8";

/// The pages that show the present values, each of which is rendered on its first request.
///
/// # Panics
/// Never: a report is JSON.
pub fn live(frame: &SharedFrame, report: LiveReport, docs: Option<&DocsUrl>) -> LivePages {
    let (report, docs) = (Arc::new(report), docs.cloned());
    let part = {
        let report = Arc::clone(&report);
        move || status_page::part(&report, docs.as_ref())
    };
    let (frame, whole_part) = (Arc::clone(frame), part.clone());
    LivePages {
        status_page: Page::rendered_on_request(HTML, move || {
            let PageFrame { head, tail, policy } = &**frame;
            PageContent::from([head, &*whole_part(), tail].concat()).with_policy(policy)
        }),
        part: Page::rendered_on_request(HTML, move || {
            PageContent::from(part()).with_policy("default-src 'none'; frame-ancestors 'none'")
        }),
        json: Page::rendered_on_request("application/json", move || {
            serde_json::to_vec(&*report).expect("every key of a report is a string").into()
        }),
    }
}

/// All pages.
///
/// # Errors
/// When something cannot be encoded.
pub fn pages(
    rendered: &InventoryRendering,
    inputs: LiveInputs<'_>,
    own: &[MetricFamily],
    settings: PageSettings<'_>,
) -> anyhow::Result<RenderedPages> {
    let live = live(&rendered.frame, LiveReport::new(inputs), settings.docs);
    let inputs = inputs.page;
    let compat_pages = settings.compat_metrics.iter().flat_map(|set| set.pages().map(|page| (*set, page)));
    let compat_page = |(set, page): (CompatSet, &'static MetricSet)| {
        let text = compat_metrics(set, page, inputs, settings.node)?;
        Ok((page.page, Page::new(TEXT_FORMAT, text)))
    };
    Ok(RenderedPages {
        status_page: live.status_page,
        live_part: live.part,
        live: live.json,
        compat: compat_pages.map(compat_page).collect::<prometheus::Result<_>>()?,
        metrics: Page::new(TEXT_FORMAT, metrics(inputs, own)?),
        dcgm: Page::new(TEXT_FORMAT, dcgm(inputs, settings.node)?),
        door: Page::new(TEXT_FORMAT, door(inputs, settings.node)?),
        inventory: Arc::clone(&rendered.inventory),
        rendered_at: Instant::now(),
        stale_after: settings.stale_after,
    })
}
