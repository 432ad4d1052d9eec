//! The agent's connection to the cluster: a client of the API server, and the tasks that use it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use afd_apiserver::slices::{self, NodeSlices};
use afd_derive::report;
use afd_model::DeviceId;
use afd_publish::node::{self, DesiredNode, ExtendedResources, NodeMetadata, NodeObserver};
use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::watch;

use crate::{agent_metrics::AgentMetrics, args::RunArgs, node_options, release::Releases};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Receives what the API server reports.
pub struct ClusterSenders {
    /// The extended resources of the Node.
    pub resources: watch::Sender<Option<ExtendedResources>>,
    /// The devices on the Node when this agent started.
    pub previous_devices: watch::Sender<Option<BTreeSet<DeviceId>>>,
    /// Its ResourceSlices.
    pub slices: watch::Sender<NodeSlices>,
}

/// Reconciles the own Node, and follows its offers and announced driver replacements; starts after a random delay.
pub async fn follow(
    client: Client,
    args: RunArgs,
    metrics: AgentMetrics,
    desired: watch::Receiver<Option<DesiredNode>>,
    senders: ClusterSenders,
    releases: Releases,
) {
    let name = args.node_name.unwrap_or_default();
    let report_key = node_options::report_key(&args.labels.label_prefix);
    tokio::time::sleep(afd_apiserver::jitter(args.start_spread)).await;
    let counters = metrics.node_counters();
    let slices = slices::follow(client.clone(), &name, counters.calls.clone(), senders.slices);
    let previous_devices = senders.previous_devices;
    let observe_metadata = move |node: &NodeMetadata<'_>| {
        releases.observe_node(node.labels);
        previous_devices.send_if_modified(|devices| {
            let is_first = devices.is_none();
            devices.get_or_insert_with(|| {
                node.annotations.get(&report_key).map(|text| report::devices(text)).unwrap_or_default()
            });
            is_first
        });
    };
    let observer = NodeObserver { resources: senders.resources, metadata: Box::new(observe_metadata) };
    tokio::join!(node::reconcile(client, &name, counters, desired, observer), slices);
}

/// A client of the API server, by a kubeconfig or the pod's own service account.
///
/// # Errors
/// When there is neither, or it cannot be used.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
        }
        None => Config::incluster().context(
            "this is not a pod with a service account; use --kubeconfig, or --no-kubernetes to run without a cluster",
        )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    afd_apiserver::client(config).context("the client of the API server cannot be created")
}
