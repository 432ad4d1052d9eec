//! `afd run`: the agent. One thread observes the host, another serves.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use afd_apiserver::MAX_RESPONSE_BYTES;
use afd_host::{
    Host,
    child::{ChildNote, ChildRegistry, Launcher},
};
use afd_model::DeviceId;
use afd_probe::device::driver_binding;
use afd_publish::http::{HealthLimits, TokenVerifier};
use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::{
    agent_loop::{self, LoopParts},
    allocations,
    args::RunArgs,
    channels::{Channels, LoopWaker},
    cluster::{self, ClusterConnection},
    cluster_view::ClusterReceivers,
    control::{self, LoopRequests},
    listeners::Listeners,
    memory,
    node_claim::{NodeClaim, NodeLockKind},
    node_options::NodeOptions,
    probes::{ProbeOptions, Probes},
    release::{ReleaseController, Releases},
    uevents::Uevents,
};

/// How long the loop waits for a vendor's library before it goes on without its response.
const LIBRARY_TIMEOUT: Duration = Duration::from_secs(2);

/// The shortest time that the first discovery has before the agent counts as unhealthy.
const MIN_START_LIMIT: Duration = Duration::from_secs(120);

/// What the agent is started with.
pub struct AgentConfig {
    /// The host.
    pub host: Host,
    /// The options of `afd run`.
    pub args: RunArgs,
    /// How the probes are constructed.
    pub probe_options: ProbeOptions,
    /// What the Node shows.
    pub node_options: NodeOptions,
    /// The path of this program.
    pub program: PathBuf,
}

/// Runs the agent until SIGTERM or SIGINT. Where another agent keeps the Node, this one waits until that one ends.
///
/// # Errors
/// When an address or the control socket cannot be listened on, or the client of the API server cannot be created.
pub fn run(config: AgentConfig) -> anyhow::Result<()> {
    // Before there are threads, which read what this sets.
    memory::keep_little();
    let AgentConfig { host, args, probe_options, node_options, program } = config;
    let lock = NodeLockKind::new(args.node_lock, &host);
    let (waker, wake_ups) = LoopWaker::new();
    let registry = ChildRegistry::adopting_orphans();
    let launcher = Launcher {
        wake: waker.discover_fn(),
        wake_for_event: waker.wake_fn(),
        log: Arc::new(|note| match note {
            ChildNote::Confined(confinement) => {
                tracing::info!(confinement, "the process of a library is confined");
            }
            ChildNote::Printed(line) => tracing::warn!(line, "printed by the process of a library"),
        }),
        ..Launcher::new(program, LIBRARY_TIMEOUT, registry.clone())
    };
    // For the thread of kernel events: what it reads must be of the moment of the event.
    let event_host = Host::open(host.root())?;
    let probes = Probes::new(host, &probe_options, &launcher);
    let metrics = probes.metrics().clone();
    metrics.publish_build(args.node_name.as_deref());
    let releases = Releases::new(waker.discover_fn());
    let (requests, loop_requests) = LoopRequests::new(waker.clone());
    let result = block_on(async {
        let end = Arc::new(Notify::new());
        let mut stop = pin!(stop_signal(Arc::clone(&end)).context("listening for signals")?);
        let Channels { cluster, kubelet, names, reports, outputs, pages, desired, notices } = Channels::new();
        let connection = match args.no_kubernetes {
            true => None,
            false => Some(cluster::connect(args.kubeconfig.as_deref(), MAX_RESPONSE_BYTES).await?),
        };
        let claim = NodeClaim::new(lock, connection.as_ref(), &args);
        let listeners = tokio::select! {
            listeners = Listeners::bind_with_claim(&args.http, claim.clone()) => listeners?,
            () = &mut stop => return Ok(()),
        };
        let tokens = connection
            .as_ref()
            .filter(|_| args.http.kubernetes_auth)
            .map(|connection| TokenVerifier::new(connection.client.clone(), metrics.node_counters().calls));
        let discovering_since = Arc::new(OnceLock::new());
        let health = HealthLimits {
            discovering_since: Arc::clone(&discovering_since),
            first_discovery: args.stale_after().max(MIN_START_LIMIT),
        };
        let sites = listeners.sites(&args.http, pages, &health, tokens, &metrics.http_counters())?;
        // Everything but the listeners waits for the claim.
        let working = async {
            claim.held().await;
            if let Some(ClusterConnection { client, .. }) = connection {
                let task = cluster::follow(client, args.clone(), metrics.clone(), desired, cluster, notices);
                tokio::spawn(task);
                tokio::spawn(wake_on_reports(reports.clone(), waker.clone()));
            }
            if let Some(directory) = args.pod_resources.clone() {
                let waker = waker.clone();
                allocations::spawn(directory, names, kubelet, metrics, move || waker.wake())?;
            }
            if let Some(path) = &args.control_socket {
                tokio::spawn(control::serve(control::listen(path)?, releases.clone(), requests));
            }
            thread::spawn(move || forward_uevents(&event_host, &waker));
            let releases = ReleaseController::new(releases);
            let parts = LoopParts {
                probes,
                args,
                reports,
                outputs,
                releases,
                requests: loop_requests,
                end,
                wake_ups,
            };
            discovering_since.get_or_init(Instant::now);
            thread::spawn(move || agent_loop::run(parts, &node_options));
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            () = sites.serve(&mut stop) => Ok(()),
            failed = working => failed,
        }
    });
    // The kernel kills the processes of libraries with this one, but not what they have started.
    registry.kill_all();
    result
}

/// Runs a future on a single-threaded runtime.
///
/// # Errors
/// When the runtime cannot be started, or the future fails.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(future);
    // A thread that hangs in a lookup of a name or hashes a password does not delay the end.
    runtime.shutdown_background();
    result
}

/// Completes on SIGTERM and SIGINT, and when the loop ends the agent.
pub(crate) fn stop_signal(end: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end.notified() => {}
        }
    })
}

/// Wakes the loop when the API server reports another Node or other offers.
async fn wake_on_reports(mut reports: ClusterReceivers, waker: LoopWaker) {
    loop {
        let changed = tokio::select! {
            changed = reports.node.changed() => changed,
            changed = reports.resources.changed() => changed,
            changed = reports.slices.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        waker.wake();
    }
}

/// Wakes the loop on kernel events that may change the inventory, forever.
fn forward_uevents(host: &Host, waker: &LoopWaker) {
    let uevents = match Uevents::listen() {
        Ok(uevents) => uevents,
        Err(error) => {
            tracing::info!(%error, "kernel events are not available; changes are found by periodic discovery");
            return;
        }
    };
    let mut wedged = Vec::new();
    loop {
        let result = uevents.wait(Duration::from_secs(3600), &mut wedged);
        // A rule of udev may bind the driver again before the loop discovers. One that is not bound now has given nothing up.
        let bound = wedged.drain(..).map(DeviceId::from);
        waker.add_wedged(bound.filter_map(|device| Some((device, driver_binding(host, device)?))));
        match result {
            Ok(true) => waker.wake_to_discover(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "kernel events failed; retrying in a minute");
                thread::sleep(Duration::from_secs(60));
            }
        }
    }
}
