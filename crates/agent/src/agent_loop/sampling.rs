//! What the pages show: the inventory that is believed, and a sample of its devices.

use std::{sync::Arc, time::Instant};

use afd_derive::{paths::PathVerdict, series::InCluster};
use afd_model::Inventory;
use afd_publish::page::RenderedPages;

use super::AgentLoop;
use crate::{
    args::FaultyOnDoor,
    clock,
    cluster_view::ClusterView,
    door,
    live::LiveInputs,
    node_options::NodeOptions,
    render::{self, DoorPage, InventoryRendering, PageInputs, PageSettings},
};

/// What the pages show, and what is computed from it once.
pub(super) struct ShownInventory<'o> {
    pub(super) inventory: Arc<Inventory>,
    paths: Vec<PathVerdict<'o>>,
    rendered: InventoryRendering,
}

impl<'o> ShownInventory<'o> {
    pub(super) fn new(
        inventory: Arc<Inventory>,
        options: &'o NodeOptions,
        node: Option<&str>,
    ) -> ShownInventory<'o> {
        let paths = options.paths(&inventory);
        let rendered = render::inventory(&inventory, node);
        ShownInventory { inventory, paths, rendered }
    }
}

impl AgentLoop<'_> {
    /// Samples and renders the pages, and requests the discovery that the sample requires.
    pub(super) fn sample_and_render(&mut self, view: &ClusterView) {
        let pods = self.parts.reports.pods.borrow().clone();
        self.parts.probes.set_pods(&pods);
        let sampling = self.parts.probes.sample(view.allocations.as_deref());
        let (held, inventory) = (view.allocations.as_deref(), &self.shown.inventory);
        if self.rdma_use.update(Instant::now(), inventory, &sampling, held, &view.offers) {
            self.pace.request();
        }
        let expected = self.tracker.believed().expected.as_deref();
        let faults = match self.parts.args.http.door_failed {
            FaultyOnDoor::Busy => {
                door::faults(self.tracker.confirmed_faults(), &self.shown.inventory, &view.held_of_gone)
            }
            FaultyOnDoor::Keep => Vec::new(),
        };
        let holders = view.allocations.as_deref().unwrap_or_default();
        let holders = door::with_partners(holders, &pods, &self.shown.inventory.devices);
        let inputs = PageInputs {
            inventory: &self.shown.inventory,
            paths: &self.shown.paths,
            sampling: &sampling,
            cluster: InCluster {
                allocations: view.allocations.as_deref(),
                offers: &view.counts,
                allocatable: view.allocatable.as_ref(),
                published_health: view.offers.published.as_ref().map(|published| &published.health),
                expected,
            },
            door: DoorPage { faults: &faults, holders: &holders },
            detail: self.parts.args.metrics.series_detail(),
        };
        match self.render(inputs) {
            Ok(pages) => drop(self.parts.outputs.pages.send_replace(Some(Arc::new(pages)))),
            Err(error) => tracing::error!(%error, "pages cannot be rendered"),
        }
        if sampling.has_news {
            self.pace.request_now();
        } else if sampling.rediscover {
            self.pace.request();
        }
    }

    fn render(&self, inputs: PageInputs<'_>) -> anyhow::Result<RenderedPages> {
        let args = &self.parts.args;
        let settings = PageSettings {
            node: args.node_name.as_deref(),
            compat_metrics: &args.metrics.compat_metrics,
            stale_after: args.stale_after(),
            docs: args.http.docs_url.as_ref(),
        };
        let inputs = LiveInputs {
            page: inputs,
            conditions: Some(&self.conditions),
            node: settings.node,
            sampled_at: clock::wall_seconds(),
            interval: args.sample_interval,
            stale_after: settings.stale_after,
        };
        render::pages(&self.shown.rendered, inputs, &self.parts.probes.metrics().families(), settings)
    }
}
