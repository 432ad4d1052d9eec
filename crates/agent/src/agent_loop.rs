//! The loop of the agent: discovers, samples, renders pages and decides what the Node should show.
//!
//! It runs in a thread of its own, because reading a kernel file may block. The last pages are still served then, and
//! `/healthz` fails.

mod desired;
mod sampling;

use std::{
    sync::{Arc, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use afd_derive::{offer, vendors::VENDORS};
use afd_model::{Inventory, NodeFacts};
use afd_publish::node::NodeNotice;
use afd_track::Conditions;
use tokio::sync::Notify;

use self::{desired::DesiredInputs, sampling::ShownInventory};
use crate::{
    args::RunArgs,
    channels::{LoopOutputs, WakeUps},
    clock,
    cluster_view::{ClusterReceivers, ClusterView},
    control::LoopRequest,
    discovery_pace::DiscoveryPace,
    door::LastSeen,
    early_samples::EarlySamples,
    incidents::{INCIDENTS, IncidentMemory},
    memory::UnusedMemory,
    node_options::NodeOptions,
    probes::Probes,
    rdma_use::RdmaUse,
    release::ReleaseController,
    tracker::Tracker,
};

/// Further events usually follow an event: a driver that is loaded raises one for each of its devices.
const SETTLE_TIME: Duration = Duration::from_millis(200);

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
    /// Requests of an operator.
    pub requests: Receiver<LoopRequest>,
    /// Ends the agent.
    pub end: Arc<Notify>,
    /// Wakes the loop. The channel stays open, because `releases` has a waker.
    pub wake_ups: WakeUps,
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
    tracker: Tracker,
    /// The result of the last discovery.
    discovered: Inventory,
    discovered_at: Instant,
    /// Whether it was not yet taken in.
    is_new: bool,
    pace: DiscoveryPace,
    early_samples: EarlySamples,
    /// When what is believed may change by time alone.
    deadline: Option<Duration>,
    shown: ShownInventory<'o>,
    /// What the desired state was last computed from.
    desired_for: Option<DesiredInputs>,
    incidents: IncidentMemory,
    last_seen: LastSeen,
    rdma_use: RdmaUse,
    /// The conditions, as they would be written now.
    conditions: Conditions,
    memory: UnusedMemory,
}

impl<'o> AgentLoop<'o> {
    /// Discovers for the first time.
    fn new(mut parts: LoopParts, node_options: &'o NodeOptions) -> AgentLoop<'o> {
        let options = parts.args.track_options();
        let mut tracker = Tracker::new(parts.probes.host(), options, parts.args.state_dir.as_deref());
        for record in VENDORS {
            parts.releases.expect(record.probe, tracker.is_released_at_start(record.probe));
        }
        parts.releases.apply(&mut parts.probes, None);
        let discovered = parts.probes.discover();
        tracing::info!(devices = discovered.devices.len(), nics = discovered.nics.len(), "first inventory");
        parts.probes.restore_error_counts(&tracker.take_error_counts());
        let mut memory = UnusedMemory::new();
        memory.request();
        AgentLoop {
            tracker,
            shown: ShownInventory::new(
                Arc::new(discovered.clone()),
                node_options,
                parts.args.node_name.as_deref(),
            ),
            parts,
            node_options,
            discovered,
            discovered_at: Instant::now(),
            is_new: true,
            pace: DiscoveryPace::default(),
            early_samples: EarlySamples::default(),
            deadline: None,
            desired_for: None,
            incidents: IncidentMemory::default(),
            last_seen: LastSeen::default(),
            rdma_use: RdmaUse::default(),
            conditions: Conditions::default(),
            memory,
        }
    }

    /// One iteration: believes, publishes, samples, waits for the next sample or an event, and discovers if due.
    fn turn(&mut self) {
        let started = Instant::now();
        self.end_for_stale_library();
        let view = self.track();
        self.sample_and_render(&view);
        self.memory.return_unused();
        self.wait(started);
        self.answer_requests();
        if self.tracker.take_refitted() {
            let note =
                "the machine has other devices in place of the earlier ones; these are expected from now on";
            self.notify(NodeNotice { reason: "MachineRefitted", note: note.to_owned() });
        }
        self.apply_releases();
        let is_due = self.discovered_at.elapsed() >= self.parts.args.discovery_interval
            || self.pace.due_in(self.discovered_at.elapsed()) == Some(Duration::ZERO)
            || self.deadline.is_some_and(|deadline| clock::since_boot() >= deadline);
        if is_due {
            self.rediscover();
        }
    }

    /// Ends the agent where the library in its container is older than the loaded driver, so that the container is created again
    /// with the current library. Where that did not help, the library of the host itself is of another version: a fault.
    fn end_for_stale_library(&mut self) {
        for probe in self.parts.probes.stale_libraries() {
            let record = VENDORS.iter().find(|record| record.probe == probe);
            let devices = self.discovered.devices.iter();
            let version = devices
                .filter(|device| record.is_some_and(|record| record.vendor == device.vendor))
                .find_map(|device| device.driver_version.value());
            let may_end = |version: &&String| self.tracker.may_end_for(probe, version, &self.parts.probes);
            if let Some(version) = version.filter(may_end) {
                tracing::warn!(
                    probe,
                    driver = version,
                    "LibraryStale: the library in this container is not of the version of the loaded driver; ending, so \
                     that the container is created again with the current one"
                );
                self.parts.end.notify_one();
                loop {
                    thread::park();
                }
            }
        }
    }

    /// Waits for the next sample, an event, or a discovery that is due earlier.
    fn wait(&mut self, started: Instant) {
        loop {
            let until_sample = self.parts.args.sample_interval.saturating_sub(started.elapsed());
            let until_discovery = self.pace.due_in(self.discovered_at.elapsed());
            let wait = until_discovery.map_or(until_sample, |until| until.min(until_sample));
            if wait.is_zero() || self.parts.wake_ups.wait(wait).is_err() {
                break;
            }
            // A release does not wait for further events: the replacement of the driver waits for it.
            self.apply_releases();
            thread::sleep(SETTLE_TIME);
            if self.early_samples.take() {
                break;
            }
            // What has woken the loop meanwhile does so once: first it is taken in, then it is looked at.
            self.take_wake_ups();
            self.answer_requests();
            self.apply_releases();
        }
        if started.elapsed() >= self.parts.args.sample_interval {
            self.early_samples.waited();
        }
        self.take_wake_ups();
    }

    /// Takes in what those who wake the loop leave for it.
    fn take_wake_ups(&mut self) {
        for (device, binding) in self.parts.wake_ups.take_wedged() {
            self.parts.probes.wedged(device, binding);
        }
        if self.parts.wake_ups.take_discovery() {
            self.pace.request();
        }
    }

    /// Takes in what was observed, and publishes the desired state of the Node.
    fn track(&mut self) -> ClusterView {
        let node = self.parts.reports.node.borrow().clone();
        // A probe may report something else for this Node: discover again before anything is written.
        if node.as_ref().is_some_and(|node| self.parts.probes.set_node(node)) {
            self.rediscover();
        }
        let inventory = self.is_new.then_some(&self.discovered);
        self.tracker.observe(inventory, &self.parts.probes, node.as_ref());
        self.is_new = false;
        self.recall_incidents(node.as_ref());
        let believed = self.tracker.believed();
        if !Arc::ptr_eq(&believed.inventory, &self.shown.inventory) {
            let name = self.parts.args.node_name.as_deref();
            self.shown = ShownInventory::new(Arc::clone(&believed.inventory), self.node_options, name);
        }
        let include_integrated = self.node_options.include_integrated();
        let former = self.last_seen.update(&believed.for_node);
        let view = self.parts.reports.view(&believed.for_node, &former, include_integrated);
        if let Some(skipped) = view.skipped_devices {
            self.parts.probes.metrics().slices_skipped(skipped);
        }
        let for_node = Arc::clone(&believed.for_node);
        let offers = self.tracker.observe_offers(view.complete.then_some(&view.offers));
        let offered = offers.map(|offers| offer::offered(&for_node, offers, include_integrated));
        let verdict = offered.as_ref().map(|offered| offered.verdict.clone()).unwrap_or_default();
        let conditions = self.tracker.conditions(&verdict);
        self.conditions = conditions.clone();
        self.tracker.save(&self.parts.probes);
        self.deadline = self.tracker.next_deadline();
        if let Some(offered) = offered {
            self.publish_desired(offered.without_allocated(), conditions);
        }
        view
    }

    /// Gives the probes the errors that an earlier agent remembered on the Node.
    fn recall_incidents(&mut self, node: Option<&NodeFacts>) {
        let key = self.node_options.key(INCIDENTS);
        let inherits = self.tracker.believed().inherits;
        let boot_id = self.tracker.boot_id().to_owned();
        if self.incidents.recall(node, inherits, &key, &boot_id, &mut self.parts.probes) {
            self.pace.request();
        }
    }

    fn answer_requests(&mut self) {
        while let Ok(request) = self.parts.requests.try_recv() {
            if let Some(notice) = request.answer(&mut self.tracker, &mut self.parts.probes) {
                self.notify(notice);
            }
        }
    }

    /// Has an Event recorded. One that finds no room is lost: Events are informational.
    fn notify(&self, notice: NodeNotice) {
        let _ = self.parts.outputs.notices.try_send(notice);
    }

    /// Releases and reacquires the drivers that the Node and the operator say.
    fn apply_releases(&mut self) {
        let node = self.parts.reports.node.borrow().clone();
        self.tracker.observe(None, &self.parts.probes, node.as_ref());
        let released = &self.tracker.believed().released;
        for record in VENDORS {
            self.parts.releases.announce(record.probe, released.contains(record.probe));
            self.parts.releases.expect(record.probe, self.tracker.is_released_at_start(record.probe));
        }
        self.parts.releases.apply(&mut self.parts.probes, Some(&self.shown.inventory));
    }

    fn rediscover(&mut self) {
        let mut discovered = self.parts.probes.discover();
        discovered.problems.extend(self.parts.reports.health_conflicts(&discovered));
        discovered.host.rdma_carries_traffic = self.rdma_use.verdict();
        let is_changed = discovered != self.discovered;
        log_changes(&self.discovered, &discovered);
        self.pace.discovered(is_changed);
        self.discovered = discovered;
        self.discovered_at = Instant::now();
        self.is_new = true;
        self.memory.request();
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
