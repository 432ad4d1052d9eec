//! The agent's connection to the cluster: a client of the API server, and the tasks that use it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use afd_apiserver::{
    MAX_LIST_BYTES, pods,
    slices::{self, NodeSlices},
};
use afd_derive::vendors::VENDORS;
use afd_model::{NodeFacts, PodName, PodNetworks};
use afd_publish::node::{
    self, DesiredNode, ExtendedResources, NodeNotice, NodeObserver, NodeSettings, WriteLimits,
};
use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::{mpsc, watch};

use crate::{agent_metrics::AgentMetrics, args::RunArgs};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Receives what the API server reports, and what is to be read of it.
pub struct ClusterSenders {
    /// The extended resources of the Node.
    pub resources: watch::Sender<Option<ExtendedResources>>,
    /// What the Node says of its machine, and what others wrote on it.
    pub node: watch::Sender<Option<NodeFacts>>,
    /// Its ResourceSlices.
    pub slices: watch::Sender<NodeSlices>,
    /// The pods that are wanted.
    pub pods: watch::Sender<PodNetworks>,
    /// From the loop: the pods that hold devices.
    pub wanted_pods: watch::Receiver<BTreeSet<PodName>>,
}

/// Reconciles the own Node, and follows its offers; starts after a random delay.
pub async fn follow(
    client: Client,
    args: RunArgs,
    metrics: AgentMetrics,
    desired: watch::Receiver<Option<DesiredNode>>,
    senders: ClusterSenders,
    notices: mpsc::Receiver<NodeNotice>,
) {
    let name = args.node_name.unwrap_or_default();
    let settings = NodeSettings {
        name: name.clone(),
        prefix: args.labels.label_prefix,
        limits: WriteLimits {
            interval: args.write_interval,
            heartbeat: Some(args.heartbeat_interval).filter(|interval| !interval.is_zero()),
            ..WriteLimits::default()
        },
    };
    tokio::time::sleep(afd_apiserver::jitter(args.start_spread)).await;
    let counters = metrics.node_counters();
    let slices = slices::follow(client.clone(), &name, counters.calls.clone(), senders.slices);
    let observer = NodeObserver { resources: senders.resources, node: senders.node };
    let notices = node::record_notices(client.clone(), settings.clone(), counters.clone(), notices);
    let variables: Vec<&str> =
        VENDORS.iter().filter_map(|record| record.pod_server()).map(|own| own.ports_variable).collect();
    let pods = async {
        if args.read_pods {
            let calls = counters.calls.clone();
            pods::follow(client.clone(), &name, calls, &variables, senders.wanted_pods, senders.pods).await;
        }
    };
    tokio::join!(
        node::reconcile(client.clone(), settings, counters.clone(), desired, observer),
        slices,
        notices,
        pods
    );
}

/// A client of the API server, by a kubeconfig or the pod's own service account.
///
/// # Errors
/// When there is neither, or it cannot be used.
pub async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    Ok(connect(kubeconfig, MAX_LIST_BYTES).await?.client)
}

/// A client for a user of a cluster: by a kubeconfig, by that of `KUBECONFIG` or of the home directory as kubectl finds it, or by
/// the pod's own service account; with the context that the kubeconfig names, or another one.
///
/// # Errors
/// When there is none of them, or it cannot be used.
pub async fn user_client(kubeconfig: Option<&Path>, context: Option<String>) -> anyhow::Result<Client> {
    let (file, name) = match kubeconfig {
        Some(path) => {
            (Kubeconfig::read_from(path), format!("the kubeconfig {} cannot be used", path.display()))
        }
        None => (Kubeconfig::read(), "the kubeconfig cannot be used".to_owned()),
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = match file {
        Ok(file) => Config::from_custom_kubeconfig(file, &options).await.context(name)?,
        Err(error) => {
            let in_cluster = Config::incluster().ok().filter(|_| kubeconfig.is_none());
            in_cluster.map_or_else(|| Err(error).context(name), Ok)?
        }
    };
    Ok(open(config, MAX_LIST_BYTES)?.client)
}

/// A client, and the address of its API server, which stands for the cluster.
pub struct ClusterConnection {
    /// The client.
    pub client: Client,
    /// The address.
    pub server: String,
}

/// The same as [`client`], with the address of the API server and a limit for the bytes of a response.
///
/// # Errors
/// The same.
pub async fn connect(kubeconfig: Option<&Path>, max_response: usize) -> anyhow::Result<ClusterConnection> {
    let config = match kubeconfig {
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
    open(config, max_response)
}

fn open(mut config: Config, max_response: usize) -> anyhow::Result<ClusterConnection> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let server = config.cluster_url.to_string();
    let client = afd_apiserver::client(config, max_response)
        .context("the client of the API server cannot be created")?;
    Ok(ClusterConnection { client, server })
}
