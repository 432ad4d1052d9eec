//! `afd run`: the loop of the agent, and the server of what it learns.
//!
//! One thread asks the kernel, another serves. A kernel file that hangs stops the first alone: what was learnt goes on
//! being served, and `/healthz` says that the loop is stuck.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use afd_apiserver::slices::NodeSlices;
use afd_derive::{offer::Offered, series::InCluster};
use afd_host::{Host, child::Launcher};
use afd_model::Inventory;
use afd_publish::{
    http::{self, ListenerRole},
    node::DesiredNode,
    page::RenderedPages,
};
use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    args::RunArgs,
    cluster::{self, NodeOptions},
    control, holders,
    offers::{Heard, SteadyOffers, Told as Cluster},
    release::{Holder, Release},
    render::{self, Turn},
    steady::Steady,
    survey::{Libraries, Survey},
    uevents::Uevents,
};

/// After an event more are likely to follow: a driver that loads raises one for each of its devices.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the loop waits for a vendor's library before it goes on without its word.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many sample intervals the loop may miss before it counts as stuck.
const MISSED_TURNS: u32 = 6;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be served on.
pub fn run(
    host: Host,
    args: &RunArgs,
    options: NodeOptions,
    libraries: impl FnOnce(Launcher) -> Option<Libraries>,
    program: PathBuf,
) -> anyhow::Result<()> {
    let (event, events) = mpsc::sync_channel(1);
    let wake = event.clone();
    // A full channel means that the loop is going to look already.
    let wake = Arc::new(move || {
        let _ = wake.try_send(());
    });
    let release = Release::new(wake.clone());
    let survey = Survey::new(host, libraries(Launcher { program, timeout: PATIENCE, wake }), &args.metrics);
    block_on(async {
        let listener = listen(args.listen, "--listen").await?;
        let dcgm = match args.dcgm_listen {
            Some(address) => Some(listen(address, "--dcgm-listen").await?),
            None => None,
        };
        let stop = stop_signal().context("listening for signals")?;
        let (publish, pages) = watch::channel(None);
        let (want, wanted) = watch::channel(None);
        let (tell_resources, resources) = watch::channel(None);
        let (tell_before, before) = watch::channel(None);
        let (tell_slices, slices) = watch::channel(NodeSlices::Pending);
        let (tell_kubelet, kubelet) = watch::channel(None);
        let heard = Heard { resources, before, slices, kubelet };
        if !args.no_kubernetes {
            let client = cluster::client(args.kubeconfig.as_deref()).await?;
            let tell = cluster::Tell {
                resources: tell_resources,
                before: tell_before,
                slices: tell_slices,
                release: release.clone(),
            };
            tokio::spawn(cluster::keep(client, args.clone(), survey.metrics().clone(), wanted, tell));
            tokio::spawn(wake_on_offers(heard.clone(), event.clone()));
        }
        if let Some(folder) = args.pod_resources.clone() {
            let (metrics, wake) = (survey.metrics().clone(), event.clone());
            let changed = move || {
                let _ = wake.try_send(());
            };
            tokio::spawn(async move { holders::follow(&folder, tell_kubelet, metrics, changed).await });
        }
        if let Some(path) = &args.control_socket {
            tokio::spawn(control::serve(control::listen(path)?, release.clone()));
        }
        let told = Told {
            publish,
            want,
            options: Arc::new(options),
            steady: Steady::default(),
            offers: SteadyOffers::default(),
            about: None,
        };
        start_loop(survey, args, heard, event, events, told, Holder::new(release));
        tracing::info!(address = %listener.local_addr()?, "serving");
        if let Some(listener) = dcgm {
            tracing::info!(dcgm = %listener.local_addr()?, "serving dcgm-exporter's metrics");
            tokio::spawn(http::serve(listener, ListenerRole::Dcgm, pages.clone(), std::future::pending()));
        }
        http::serve(listener, ListenerRole::Agent, pages, stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Runs something on a runtime of one thread.
///
/// # Errors
/// When the runtime cannot be started, or as the thing itself fails.
pub fn block_on<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(what)
}

/// To whom the loop tells what it has learnt, and what it has told.
struct Told {
    publish: watch::Sender<Option<Arc<RenderedPages>>>,
    want: watch::Sender<Option<DesiredNode>>,
    options: Arc<NodeOptions>,
    steady: Steady,
    offers: SteadyOffers,
    /// The look and the offers that the Node was last told of.
    about: Option<(u64, Offered)>,
}

/// Wakes the loop when the API server tells of another offer.
async fn wake_on_offers(mut heard: Heard, wake: mpsc::SyncSender<()>) {
    loop {
        let changed = tokio::select! {
            changed = heard.resources.changed() => changed,
            changed = heard.slices.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        // A full channel means that the loop is going to look already.
        let _ = wake.try_send(());
    }
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({option})"))
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Starts the thread that asks the kernel, and the one that waits for its events. Both end with the process: they hold
/// nothing that would have to be given back.
fn start_loop(
    survey: Survey,
    args: &RunArgs,
    heard: Heard,
    event: mpsc::SyncSender<()>,
    events: mpsc::Receiver<()>,
    told: Told,
    holder: Holder,
) {
    thread::spawn(move || forward_uevents(&event));
    let args = args.clone();
    thread::spawn(move || turn(survey, &events, &heard, &args, told, holder));
}

fn forward_uevents(event: &mpsc::SyncSender<()>) {
    let uevents = match Uevents::listen() {
        Ok(uevents) => uevents,
        Err(error) => {
            tracing::info!(%error, "no kernel events here; devices are found by the periodic look");
            // The loop waits on the other end of the channel, which has to stay open.
            loop {
                thread::park();
            }
        }
    };
    loop {
        match uevents.wait(Duration::from_secs(3600)) {
            // A full channel means that the loop is going to look already.
            Ok(true) => drop(event.try_send(())),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "kernel events failed; trying again in a minute");
                thread::sleep(Duration::from_secs(60));
            }
        }
    }
}

/// Discovers, samples and publishes, for ever.
fn turn(
    mut survey: Survey,
    events: &mpsc::Receiver<()>,
    heard: &Heard,
    args: &RunArgs,
    mut told: Told,
    mut holder: Holder,
) {
    let (sample_interval, discovery_interval) = (args.sample_interval, args.discovery_interval);
    let patience = sample_interval * MISSED_TURNS + Duration::from_secs(10);
    let mut inventory = discover(&mut survey, None);
    let options = Arc::clone(&told.options);
    let node = args.node_name.as_deref();
    let mut paths = options.paths(&inventory);
    let mut front = render::front(&inventory, &paths, node);
    told.look(&inventory, heard);
    let mut looked = Instant::now();
    loop {
        let begun = Instant::now();
        let known = told.steady.inventory().unwrap_or(&inventory);
        let cluster = heard.join(known, told.options.include_integrated());
        told.want(&cluster, begun);
        let sampling = survey.sample();
        let in_cluster = InCluster { allocations: &cluster.allocations, offers: &cluster.counts };
        let own = survey.metrics().families();
        let sets = &args.metrics.compat_metrics;
        let turn = Turn { inventory: &inventory, paths: &paths, sampling: &sampling, cluster: in_cluster };
        match render::pages(Arc::clone(&front), turn, &own, node, sets, patience) {
            Ok(pages) => drop(told.publish.send_replace(Some(Arc::new(pages)))),
            Err(error) => tracing::error!(%error, "the answer could not be rendered"),
        }
        let event = sampling.rediscover
            || events.recv_timeout(sample_interval.saturating_sub(begun.elapsed())).is_ok();
        // At once: whoever replaces the driver waits for it.
        holder.follow(&mut survey, &inventory);
        if event {
            thread::sleep(SETTLE);
            let _ = events.try_recv();
        }
        if event || looked.elapsed() >= discovery_interval {
            inventory = discover(&mut survey, Some(inventory));
            paths = options.paths(&inventory);
            front = render::front(&inventory, &paths, node);
            told.look(&inventory, heard);
            looked = Instant::now();
        }
    }
}

impl Told {
    /// Takes note of a look for devices.
    fn look(&mut self, inventory: &Inventory, heard: &Heard) {
        self.steady.look(inventory, heard.before.borrow().as_ref());
    }

    /// What the Node should say now; nothing before the API server was asked what is offered.
    fn want(&mut self, cluster: &Cluster, now: Instant) {
        let Some(inventory) = self.steady.inventory() else { return };
        let integrated = self.options.include_integrated();
        let Some(offered) = self.offers.look(cluster, inventory, integrated, now) else { return };
        let about = Some((self.steady.looks(), offered.without_allocated()));
        if self.about == about {
            return;
        }
        self.about = about;
        let wanted = Some(self.options.wanted(inventory, &offered));
        self.want.send_if_modified(|last| {
            let changed = *last != wanted;
            *last = wanted;
            changed
        });
    }
}

/// Looks again, and logs what is new.
fn discover(survey: &mut Survey, before: Option<Inventory>) -> Inventory {
    let inventory = survey.discover();
    let devices = inventory.devices.len();
    match before {
        None => tracing::info!(devices, nics = inventory.nics.len(), "first inventory"),
        Some(before) if before != inventory => {
            let ids =
                |inventory: &Inventory| inventory.devices.iter().map(|device| device.id).collect::<Vec<_>>();
            let (old, new) = (ids(&before), ids(&inventory));
            for gone in old.iter().filter(|id| !new.contains(id)) {
                tracing::warn!(device = %gone, "device is gone");
            }
            for came in new.iter().filter(|id| !old.contains(id)) {
                tracing::info!(device = %came, "device is new");
            }
            tracing::info!(devices, problems = inventory.problems.len(), "inventory changed");
        }
        Some(_) => tracing::debug!(devices, "inventory unchanged"),
    }
    inventory
}
