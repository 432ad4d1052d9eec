//! `afd run`: the agent. One thread observes the host, another serves.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use afd_host::{Host, child::Launcher};
use afd_kubelet::KubeletReport;
use afd_publish::http::{self, LatestPages, ListenerRole};
use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{
    agent_loop::{self, LoopParts},
    agent_metrics::AgentMetrics,
    allocations,
    args::RunArgs,
    channels::{Channels, LoopWaker},
    cluster,
    cluster_view::ClusterReceivers,
    control::{self, LoopRequests},
    node_options::NodeOptions,
    probes::{ProbeOptions, Probes},
    release::{ReleaseController, Releases},
    uevents::Uevents,
};

/// How long the loop waits for a vendor's library before it goes on without its response.
const LIBRARY_TIMEOUT: Duration = Duration::from_secs(2);

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

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// When an address or the control socket cannot be listened on, or the client of the API server cannot be created.
pub fn run(config: AgentConfig) -> anyhow::Result<()> {
    let AgentConfig { host, args, probe_options, node_options, program } = config;
    let (waker, wake_ups) = LoopWaker::new();
    let launcher =
        Launcher { program, environment: &[], timeout: LIBRARY_TIMEOUT, wake: waker.discover_fn() };
    let probes = Probes::new(host, &probe_options, &launcher);
    let metrics = probes.metrics().clone();
    let releases = Releases::new(waker.discover_fn());
    let (requests, loop_requests) = LoopRequests::new(waker.clone());
    block_on(async {
        let listeners = Listeners::bind(&args).await?;
        let end = Arc::new(Notify::new());
        let stop = stop_signal(Arc::clone(&end)).context("listening for signals")?;
        let Channels { cluster, kubelet, reports, outputs, pages, desired, notices } = Channels::new();
        if !args.no_kubernetes {
            let client = cluster::client(args.kubeconfig.as_deref()).await?;
            tokio::spawn(cluster::follow(client, args.clone(), metrics.clone(), desired, cluster, notices));
            tokio::spawn(wake_on_reports(reports.clone(), waker.clone()));
        }
        spawn_kubelet_task(&args, kubelet, metrics, waker.clone());
        if let Some(path) = &args.control_socket {
            tokio::spawn(control::serve(control::listen(path)?, releases.clone(), requests));
        }
        thread::spawn(move || forward_uevents(&waker));
        let releases = ReleaseController::new(releases);
        let parts =
            LoopParts { probes, args, reports, outputs, releases, requests: loop_requests, end, wake_ups };
        thread::spawn(move || agent_loop::run(parts, &node_options));
        listeners.serve(pages, stop).await
    })
}

/// Runs a future on a single-threaded runtime.
///
/// # Errors
/// When the runtime cannot be started, or the future fails.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(future)
}

/// The listeners of the HTTP servers.
struct Listeners {
    agent: TcpListener,
    dcgm: Option<TcpListener>,
}

impl Listeners {
    async fn bind(args: &RunArgs) -> anyhow::Result<Listeners> {
        Ok(Listeners {
            agent: listen(args.listen, "--listen").await?,
            dcgm: match args.dcgm_listen {
                Some(address) => Some(listen(address, "--dcgm-listen").await?),
                None => None,
            },
        })
    }

    /// Serves until `stop`.
    async fn serve(self, pages: LatestPages, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        tracing::info!(address = %self.agent.local_addr()?, "serving");
        if let Some(listener) = self.dcgm {
            tracing::info!(dcgm = %listener.local_addr()?, "serving the metrics of dcgm-exporter");
            tokio::spawn(http::serve(listener, ListenerRole::Dcgm, pages.clone(), std::future::pending()));
        }
        http::serve(self.agent, ListenerRole::Agent, pages, stop).await;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({option})"))
}

/// Completes on SIGTERM and SIGINT, and when the loop ends the agent.
fn stop_signal(end: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
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

/// Follows the allocations, if the kubelet's socket is given.
fn spawn_kubelet_task(
    args: &RunArgs,
    sender: watch::Sender<Option<KubeletReport>>,
    metrics: AgentMetrics,
    waker: LoopWaker,
) {
    if let Some(directory) = args.pod_resources.clone() {
        tokio::spawn(async move {
            allocations::follow(&directory, sender, metrics, || waker.wake()).await;
        });
    }
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
fn forward_uevents(waker: &LoopWaker) {
    let uevents = match Uevents::listen() {
        Ok(uevents) => uevents,
        Err(error) => {
            tracing::info!(%error, "kernel events are not available; changes are found by periodic discovery");
            return;
        }
    };
    loop {
        match uevents.wait(Duration::from_secs(3600)) {
            Ok(true) => waker.wake_to_discover(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "kernel events failed; retrying in a minute");
                thread::sleep(Duration::from_secs(60));
            }
        }
    }
}
