//! The channels between the loop, the tasks and the servers.

use std::sync::{
    Arc,
    mpsc::{self, Receiver, SyncSender},
};

use afd_apiserver::slices::NodeSlices;
use afd_kubelet::KubeletReport;
use afd_publish::{http::LatestPages, node::DesiredNode, page::RenderedPages};
use tokio::sync::watch;

use crate::{cluster::ClusterSenders, cluster_view::ClusterReceivers};

/// Wakes the loop, which then discovers.
#[derive(Clone, Debug)]
pub struct LoopWaker(SyncSender<()>);

impl LoopWaker {
    /// A waker, and the receiver of the loop.
    pub fn new() -> (LoopWaker, Receiver<()>) {
        let (sender, receiver) = mpsc::sync_channel(1);
        (LoopWaker(sender), receiver)
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        // A full channel means that it is about to wake anyway.
        let _ = self.0.try_send(());
    }

    /// The same, as a function.
    pub fn as_fn(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = self.clone();
        Arc::new(move || waker.wake())
    }
}

/// Both ends of all channels that hold the latest value of something.
pub struct Channels {
    /// From the API server to the loop.
    pub cluster: ClusterSenders,
    /// From the kubelet to the loop.
    pub kubelet: watch::Sender<Option<KubeletReport>>,
    /// The loop's ends of both.
    pub reports: ClusterReceivers,
    /// From the loop to the servers and the reconciler.
    pub outputs: LoopOutputs,
    /// The servers' end: the latest pages.
    pub pages: LatestPages,
    /// The reconciler's end: the desired state of the Node.
    pub desired: watch::Receiver<Option<DesiredNode>>,
}

/// What the loop publishes.
pub struct LoopOutputs {
    /// The rendered pages.
    pub pages: watch::Sender<Option<Arc<RenderedPages>>>,
    /// The desired state of the Node.
    pub desired: watch::Sender<Option<DesiredNode>>,
}

impl Channels {
    /// Channels without any value yet.
    #[expect(clippy::new_without_default, reason = "channels are not a value")]
    pub fn new() -> Channels {
        let (pages_sender, pages) = watch::channel(None);
        let (desired_sender, desired) = watch::channel(None);
        let (resources_sender, resources) = watch::channel(None);
        let (previous_sender, previous_devices) = watch::channel(None);
        let (slices_sender, slices) = watch::channel(NodeSlices::Pending);
        let (kubelet_sender, kubelet) = watch::channel(None);
        Channels {
            cluster: ClusterSenders {
                resources: resources_sender,
                previous_devices: previous_sender,
                slices: slices_sender,
            },
            kubelet: kubelet_sender,
            reports: ClusterReceivers { resources, previous_devices, slices, kubelet },
            outputs: LoopOutputs { pages: pages_sender, desired: desired_sender },
            pages,
            desired,
        }
    }
}
