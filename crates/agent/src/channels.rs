//! The channels between the loop, the tasks and the servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use afd_apiserver::slices::NodeSlices;
use afd_kubelet::{KubeletReport, UnitNames};
use afd_model::{DeviceId, PodNetworks};
use afd_publish::{
    http::LatestPages,
    node::{DesiredNode, NodeNotice},
    page::RenderedPages,
};
use tokio::sync::watch;

use crate::{cluster::ClusterSenders, cluster_view::ClusterReceivers};

/// How many Events may wait for the API server; more are dropped.
const MAX_NOTICES: usize = 16;

/// Wakes the loop.
#[derive(Clone, Debug)]
pub struct LoopWaker {
    sender: SyncSender<()>,
    discovery: Arc<AtomicBool>,
    wedged: Arc<Mutex<BTreeMap<DeviceId, u64>>>,
}

/// The loop's end of its wakers.
#[derive(Debug)]
pub struct WakeUps {
    receiver: Receiver<()>,
    discovery: Arc<AtomicBool>,
    wedged: Arc<Mutex<BTreeMap<DeviceId, u64>>>,
}

impl LoopWaker {
    /// A waker, and the end of the loop.
    pub fn new() -> (LoopWaker, WakeUps) {
        let (sender, receiver) = mpsc::sync_channel(1);
        let discovery = Arc::new(AtomicBool::new(false));
        let wedged = Arc::default();
        let waker = LoopWaker { sender, discovery: Arc::clone(&discovery), wedged: Arc::clone(&wedged) };
        (waker, WakeUps { receiver, discovery, wedged })
    }

    /// Adds devices that their drivers have given up, with the bindings of these, for the next discovery.
    pub fn add_wedged(&self, devices: impl Iterator<Item = (DeviceId, u64)>) {
        self.wedged.lock().unwrap_or_else(PoisonError::into_inner).extend(devices);
    }

    /// Wakes the loop, which takes in what others have reported.
    pub fn wake(&self) {
        // A full channel means that it is about to wake anyway.
        let _ = self.sender.try_send(());
    }

    /// Wakes the loop, which discovers then: something on the host may have changed.
    pub fn wake_to_discover(&self) {
        self.discovery.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// [`LoopWaker::wake`] as a function.
    pub fn wake_fn(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = self.clone();
        Arc::new(move || waker.wake())
    }

    /// [`LoopWaker::wake_to_discover`] as a function.
    pub fn discover_fn(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = self.clone();
        Arc::new(move || waker.wake_to_discover())
    }
}

impl WakeUps {
    /// Waits until a waker wakes the loop.
    ///
    /// # Errors
    /// When none did so in time.
    pub fn wait(&self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// The devices that their drivers have given up since the last call, with the bindings of these.
    pub fn take_wedged(&self) -> BTreeMap<DeviceId, u64> {
        std::mem::take(&mut *self.wedged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a discovery was requested since the last call.
    pub fn take_discovery(&self) -> bool {
        let _ = self.receiver.try_recv();
        self.discovery.swap(false, Ordering::Relaxed)
    }
}

/// Both ends of all channels that hold the latest value of something.
pub struct Channels {
    /// From the API server to the loop.
    pub cluster: ClusterSenders,
    /// From the kubelet to the loop.
    pub kubelet: watch::Sender<Option<KubeletReport>>,
    /// From the loop to the task that asks the kubelet.
    pub names: watch::Receiver<Option<Arc<UnitNames>>>,
    /// The loop's ends of both.
    pub reports: ClusterReceivers,
    /// From the loop to the servers and the reconciler.
    pub outputs: LoopOutputs,
    /// The servers' end: the latest pages.
    pub pages: LatestPages,
    /// The reconciler's end: the desired state of the Node.
    pub desired: watch::Receiver<Option<DesiredNode>>,
    /// The end of the task that records Events.
    pub notices: tokio::sync::mpsc::Receiver<NodeNotice>,
}

/// What the loop publishes.
pub struct LoopOutputs {
    /// The rendered pages.
    pub pages: watch::Sender<Option<Arc<RenderedPages>>>,
    /// The desired state of the Node.
    pub desired: watch::Sender<Option<DesiredNode>>,
    /// What becomes an Event.
    pub notices: tokio::sync::mpsc::Sender<NodeNotice>,
}

impl Channels {
    /// Channels without any value yet.
    #[expect(clippy::new_without_default, reason = "channels are not a value")]
    pub fn new() -> Channels {
        let (pages_sender, pages) = watch::channel(None);
        let (desired_sender, desired) = watch::channel(None);
        let (notice_sender, notices) = tokio::sync::mpsc::channel(MAX_NOTICES);
        let (resources_sender, resources) = watch::channel(None);
        let (node_sender, node) = watch::channel(None);
        let (slices_sender, slices) = watch::channel(NodeSlices::Pending);
        let (kubelet_sender, kubelet) = watch::channel(None);
        let (names_sender, names) = watch::channel(None);
        let (pods_sender, pods) = watch::channel(PodNetworks::new());
        let (wanted_sender, wanted_pods) = watch::channel(BTreeSet::new());
        Channels {
            cluster: ClusterSenders {
                resources: resources_sender,
                node: node_sender,
                slices: slices_sender,
                pods: pods_sender,
                wanted_pods,
            },
            kubelet: kubelet_sender,
            names,
            reports: ClusterReceivers {
                resources,
                node,
                slices,
                kubelet,
                names: names_sender,
                pods,
                wanted_pods: wanted_sender,
            },
            outputs: LoopOutputs { pages: pages_sender, desired: desired_sender, notices: notice_sender },
            pages,
            desired,
            notices,
        }
    }
}
