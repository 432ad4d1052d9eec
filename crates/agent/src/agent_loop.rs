//! The loop of the agent: discovers, samples, renders pages and decides what the Node should show.
//!
//! It runs in a thread of its own, because reading a kernel file may block. The last pages are still served then, and
//! `/healthz` fails.

use std::{
    sync::{Arc, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use afd_derive::{offer::Offered, paths::PathVerdict, series::InCluster};
use afd_model::Inventory;
use afd_publish::page::{Page, RenderedPages};

use crate::{
    args::RunArgs,
    channels::LoopOutputs,
    cluster_view::{ClusterReceivers, ClusterView},
    device_debounce::DeviceDebounce,
    node_options::NodeOptions,
    offer_debounce::OfferDebounce,
    probes::Probes,
    release::ReleaseController,
    render::{self, PageInputs, PageSettings},
};

/// Further events usually follow an event: a driver that is loaded raises one for each of its devices.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// How many sample intervals the loop may miss before it counts as stuck.
const MAX_MISSED_SAMPLES: u32 = 6;

/// What the loop reads from and writes to.
pub struct LoopParts {
    /// The probes.
    pub probes: Probes,
    /// The options of `afd run`.
    pub args: RunArgs,
    /// The latest reports of the cluster.
    pub reports: ClusterReceivers,
    /// What the loop publishes.
    pub outputs: LoopOutputs,
    /// Releases and reacquires drivers.
    pub releases: ReleaseController,
    /// Wakes the loop. The channel stays open, because `releases` has a waker.
    pub wake_ups: Receiver<()>,
}

/// Runs the loop forever.
pub fn run(parts: LoopParts, node_options: &NodeOptions) -> ! {
    let mut agent_loop = AgentLoop::new(parts, node_options);
    loop {
        agent_loop.turn();
    }
}

/// The loop and its state.
struct AgentLoop<'o> {
    parts: LoopParts,
    node_options: &'o NodeOptions,
    inventory: Inventory,
    discovered_at: Instant,
    /// The verdicts of all paths on the inventory.
    paths: Vec<PathVerdict<'o>>,
    status_page: Arc<Page>,
    devices: DeviceDebounce,
    offers: OfferDebounce,
    /// The revision of the devices and the offers for which the desired state was last computed.
    desired_for: Option<(u64, Offered)>,
}

impl<'o> AgentLoop<'o> {
    /// Discovers for the first time.
    fn new(mut parts: LoopParts, node_options: &'o NodeOptions) -> AgentLoop<'o> {
        let inventory = parts.probes.discover();
        tracing::info!(devices = inventory.devices.len(), nics = inventory.nics.len(), "first inventory");
        let paths = node_options.paths(&inventory);
        let status_page = render::status_page(&inventory, &paths, parts.args.node_name.as_deref());
        let mut devices = DeviceDebounce::default();
        devices.update(&inventory, parts.reports.previous_devices.borrow().as_ref());
        AgentLoop {
            parts,
            node_options,
            inventory,
            discovered_at: Instant::now(),
            paths,
            status_page,
            devices,
            offers: OfferDebounce::default(),
            desired_for: None,
        }
    }

    /// One iteration: samples, publishes, waits for the next sample or an event, and discovers if due.
    fn turn(&mut self) {
        let started = Instant::now();
        let rediscover = self.sample_and_publish(started);
        let wait = self.parts.args.sample_interval.saturating_sub(started.elapsed());
        let woken = rediscover || self.parts.wake_ups.recv_timeout(wait).is_ok();
        // Before the settle time: the replacement of the driver waits for it.
        self.parts.releases.apply(&mut self.parts.probes, &self.inventory);
        if woken {
            thread::sleep(SETTLE_TIME);
            let _ = self.parts.wake_ups.try_recv();
        }
        if woken || self.discovered_at.elapsed() >= self.parts.args.discovery_interval {
            self.rediscover();
        }
    }

    /// Publishes the desired state of the Node and a new sample; returns whether the sample requires a discovery.
    fn sample_and_publish(&mut self, now: Instant) -> bool {
        let inventory = self.devices.inventory().unwrap_or(&self.inventory);
        let view = self.parts.reports.view(inventory, self.node_options.include_integrated());
        self.publish_desired(&view, now);
        let sampling = self.parts.probes.sample();
        let inputs = PageInputs {
            inventory: &self.inventory,
            paths: &self.paths,
            sampling: &sampling,
            cluster: InCluster { allocations: &view.allocations, offers: &view.counts },
        };
        match self.render(inputs) {
            Ok(pages) => drop(self.parts.outputs.pages.send_replace(Some(Arc::new(pages)))),
            Err(error) => tracing::error!(%error, "pages cannot be rendered"),
        }
        sampling.rediscover
    }

    fn render(&self, inputs: PageInputs<'_>) -> anyhow::Result<RenderedPages> {
        let args = &self.parts.args;
        let settings = PageSettings {
            node: args.node_name.as_deref(),
            compat_metrics: &args.metrics.compat_metrics,
            stale_after: args.sample_interval * MAX_MISSED_SAMPLES + Duration::from_secs(10),
        };
        render::pages(
            Arc::clone(&self.status_page),
            inputs,
            &self.parts.probes.metrics().families(),
            settings,
        )
    }

    /// Publishes the desired state of the Node, if it has changed; none before the API server has reported the offers.
    fn publish_desired(&mut self, view: &ClusterView, now: Instant) {
        let Some(inventory) = self.devices.inventory() else { return };
        let include_integrated = self.node_options.include_integrated();
        let Some(offered) = self.offers.update(view, inventory, include_integrated, now) else { return };
        let desired_for = Some((self.devices.revision(), offered.without_allocated()));
        if self.desired_for == desired_for {
            return;
        }
        self.desired_for = desired_for;
        let desired = Some(self.node_options.desired(inventory, &offered));
        self.parts.outputs.desired.send_if_modified(|last| {
            let changed = *last != desired;
            *last = desired;
            changed
        });
    }

    fn rediscover(&mut self) {
        let inventory = self.parts.probes.discover();
        log_changes(&self.inventory, &inventory);
        self.paths = self.node_options.paths(&inventory);
        self.status_page = render::status_page(&inventory, &self.paths, self.parts.args.node_name.as_deref());
        self.devices.update(&inventory, self.parts.reports.previous_devices.borrow().as_ref());
        self.inventory = inventory;
        self.discovered_at = Instant::now();
    }
}

fn log_changes(before: &Inventory, now: &Inventory) {
    let devices = now.devices.len();
    if before == now {
        tracing::debug!(devices, "inventory unchanged");
        return;
    }
    let ids = |inventory: &Inventory| inventory.devices.iter().map(|device| device.id).collect::<Vec<_>>();
    let (old, new) = (ids(before), ids(now));
    for device in old.iter().filter(|id| !new.contains(id)) {
        tracing::warn!(%device, "device removed");
    }
    for device in new.iter().filter(|id| !old.contains(id)) {
        tracing::info!(%device, "device added");
    }
    tracing::info!(devices, problems = now.problems.len(), "inventory changed");
}
