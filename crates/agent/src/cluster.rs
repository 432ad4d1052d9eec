//! The agent in a cluster: what its Node should say, and the way to the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use afd_apiserver::slices::{self, NodeSlices};
use afd_derive::{
    compat::{self, CompatOptions},
    condition, labels,
    labels::LabelOptions,
    offer::Offered,
    paths::{self, PathVerdict, Rules},
    report,
};
use afd_model::{DeviceId, Inventory};
use afd_publish::node::{self, DesiredCondition, DesiredNode, ExtendedResources, NodeMetadata};
use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::watch;

use crate::{agent_metrics::AgentMetrics, args::RunArgs, release::Release};

const CONNECT: Duration = Duration::from_secs(10);

/// How the Node is made to say something.
#[derive(Debug)]
pub struct NodeOptions {
    labels: LabelOptions,
    compat: CompatOptions,
    rules: Rules,
}

impl NodeOptions {
    /// As the command line says. Sets of vendors' labels are `auto` unless it says otherwise.
    pub fn new(labels: LabelOptions, compat: CompatOptions, rules: Rules) -> NodeOptions {
        // The keeper of the Node leaves every key alone that somebody else owns, which is what `auto` means.
        let switches = compat.switches.auto_on();
        NodeOptions { labels, compat: CompatOptions { switches, ..compat }, rules }
    }

    /// What each path says of an inventory.
    pub fn paths(&self, inventory: &Inventory) -> Vec<PathVerdict<'_>> {
        self.rules.ask(inventory, self.labels.include_integrated)
    }

    /// Whether integrated GPUs count.
    pub fn include_integrated(&self) -> bool {
        self.labels.include_integrated
    }

    /// What the Node should say of an inventory and of what is offered of it.
    pub fn wanted(&self, inventory: &Inventory, offered: &Offered) -> DesiredNode {
        let prefix = &self.labels.prefix;
        let verdicts = self.paths(inventory);
        let mut own = labels::labels(inventory, &self.labels, offered.allocation);
        own.extend(paths::labels(inventory, &verdicts, &self.labels));
        let report = (!inventory.devices.is_empty())
            .then(|| (report_key(prefix), report::report(inventory, offered, &verdicts)));
        let condition = condition::condition(inventory, self.labels.include_integrated, &offered.verdict);
        DesiredNode {
            labels: own,
            compat: compat::labels(inventory, &self.labels, &self.compat),
            annotations: report.into_iter().collect::<BTreeMap<_, _>>(),
            condition: condition.map(|condition| DesiredCondition {
                kind: format!("{prefix}/Ready"),
                status: condition.status.to_owned(),
                reason: condition.reason,
                message: condition.message,
            }),
        }
    }
}

fn report_key(prefix: &str) -> String {
    format!("{prefix}/report")
}

/// To whom the API server's word is told.
pub struct Tell {
    /// The extended resources of the Node.
    pub resources: watch::Sender<Option<ExtendedResources>>,
    /// The devices that the Node told of before this agent.
    pub before: watch::Sender<Option<BTreeSet<DeviceId>>>,
    /// Its ResourceSlices.
    pub slices: watch::Sender<NodeSlices>,
    /// Whether the Node's driver is about to be replaced.
    pub release: Release,
}

/// Keeps the Node, and follows what is offered on it and whether a driver is about to be replaced, after a random time.
pub async fn keep(
    client: Client,
    args: RunArgs,
    metrics: AgentMetrics,
    wanted: watch::Receiver<Option<DesiredNode>>,
    tell: Tell,
) {
    let name = args.node_name.unwrap_or_default();
    let report_key = report_key(&args.labels.label_prefix);
    tokio::time::sleep(afd_apiserver::jitter(args.start_spread)).await;
    let counters = metrics.kubernetes();
    let slices = slices::follow(client.clone(), &name, counters.calls.clone(), tell.slices);
    let observe = move |node: &NodeMetadata<'_>| {
        let labels = node.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        tell.release.node_says(afd_nvidia::upgrade::is_near(labels));
        tell.before.send_if_modified(|before| {
            let first = before.is_none();
            before.get_or_insert_with(|| {
                node.annotations.get(&report_key).map(|text| report::devices(text)).unwrap_or_default()
            });
            first
        });
    };
    let heard = node::NodeObserver { resources: tell.resources, metadata: Box::new(observe) };
    tokio::join!(node::reconcile(client, &name, counters, wanted, heard), slices);
}

/// The way to the API server: a kubeconfig, or the pod's own service account.
///
/// # Errors
/// When there is neither, or it is of no use.
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
            "this is no pod of a cluster with a service account; give --kubeconfig, or --no-kubernetes to go without one",
        )?,
    };
    config.connect_timeout = Some(CONNECT);
    afd_apiserver::client(config).context("the client of the API server")
}
