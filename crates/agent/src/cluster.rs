//! The agent in a cluster: what its Node should say, and the way to the API server.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    path::Path,
    time::Duration,
};

use afd_apiserver::slices::{self, Slices};
use afd_derive::{
    compat::{self, CompatOptions},
    condition, labels,
    labels::LabelOptions,
    offer::Offered,
    report,
};
use afd_model::{DeviceId, Inventory};
use afd_publish::node::{self, Resources, Wanted, WantedCondition};
use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::watch;

use crate::{agent_metrics::AgentMetrics, args::RunArgs, release::Release};

/// How often in a row a device must be seen gone before the Node says so.
const LOOKS_UNTIL_GONE: u32 = 3;
const CONNECT: Duration = Duration::from_secs(10);

/// How the Node is made to say something.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    labels: LabelOptions,
    compat: CompatOptions,
}

impl NodeOptions {
    /// As the command line says. Sets of vendors' labels are `auto` unless it says otherwise.
    pub fn new(labels: LabelOptions, compat: CompatOptions) -> NodeOptions {
        // The keeper of the Node leaves every key alone that somebody else owns, which is what `auto` means.
        let switches = compat.switches.auto_on();
        NodeOptions { labels, compat: CompatOptions { switches, ..compat } }
    }

    /// Whether integrated GPUs count.
    pub fn include_integrated(&self) -> bool {
        self.labels.include_integrated
    }

    /// What the Node should say of an inventory and of what is offered of it.
    pub fn wanted(&self, inventory: &Inventory, offered: &Offered) -> Wanted {
        let prefix = &self.labels.prefix;
        let report = (!inventory.devices.is_empty())
            .then(|| (format!("{prefix}/report"), report::report(inventory, offered)));
        let condition = condition::condition(inventory, self.labels.include_integrated, &offered.verdict);
        Wanted {
            labels: labels::labels(inventory, &self.labels, offered.allocation),
            compat: compat::labels(inventory, &self.labels, &self.compat),
            annotations: report.into_iter().collect::<BTreeMap<_, _>>(),
            condition: condition.map(|condition| WantedCondition {
                kind: format!("{prefix}/Ready"),
                status: condition.status.to_owned(),
                reason: condition.reason,
                message: condition.message,
            }),
        }
    }
}

/// Holds an inventory back that lacks a device, until the device was missing several times in a row: a driver that is being
/// loaded, or a bus that is rescanned, must not take labels from a Node.
#[derive(Debug)]
pub struct Steady {
    told: Inventory,
    missing: u32,
}

impl Default for Steady {
    fn default() -> Steady {
        Steady { told: Inventory::empty(), missing: 0 }
    }
}

impl Steady {
    /// Takes note of a look.
    pub fn look(&mut self, inventory: &Inventory) {
        let here = |id: DeviceId| inventory.devices.iter().any(|device| device.id == id);
        let gone = self.told.devices.iter().any(|device| !here(device.id));
        self.missing = if gone { self.missing + 1 } else { 0 };
        if self.missing == 0 || self.missing >= LOOKS_UNTIL_GONE {
            self.missing = 0;
            self.told = inventory.clone();
        }
    }

    /// What the Node may be told.
    pub fn inventory(&self) -> &Inventory {
        &self.told
    }
}

/// To whom the API server's word is told.
pub struct Tell {
    /// The extended resources of the Node.
    pub resources: watch::Sender<Option<Resources>>,
    /// Its ResourceSlices.
    pub slices: watch::Sender<Slices>,
    /// Whether the Node's driver is about to be replaced.
    pub release: Release,
}

/// Keeps the Node, and follows what is offered on it and whether a driver is about to be replaced, after a random time.
pub async fn keep(
    client: Client,
    args: RunArgs,
    metrics: AgentMetrics,
    wanted: watch::Receiver<Option<Wanted>>,
    tell: Tell,
) {
    let name = args.node_name.unwrap_or_default();
    tokio::time::sleep(part_of(args.start_spread)).await;
    let counters = metrics.kubernetes();
    let slices = slices::follow(client.clone(), &name, counters.calls.clone(), tell.slices);
    let observe = move |labels: &BTreeMap<String, String>| {
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        tell.release.node_says(afd_nvidia::upgrade::is_near(labels));
    };
    let heard = node::Heard { resources: tell.resources, labels: Box::new(observe) };
    tokio::join!(node::keep(client, &name, counters, wanted, heard), slices);
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) >> 11;
    time.mul_f64(random as f64 / (1_u64 << 53) as f64)
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
    // The keeper rests by itself, and counts what failed.
    config.default_retry = false;
    Client::try_from(config).context("the client of the API server")
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, PciAddress, Variant, Vendor};

    use super::*;

    fn inventory(buses: &[u8]) -> Inventory {
        let device = |bus: &u8| {
            Device::bare(
                PciAddress { domain: 0, bus: *bus, device: 0, function: 0 },
                Vendor::Amd,
                Variant::Gpu,
            )
        };
        Inventory { devices: buses.iter().map(device).collect(), ..Inventory::empty() }
    }

    #[test]
    fn a_device_is_gone_when_it_was_missing_three_times_in_a_row() {
        let mut steady = Steady::default();
        let mut told = |buses: &[u8]| {
            steady.look(&inventory(buses));
            steady.inventory().devices.len()
        };
        assert_eq!(told(&[1, 2]), 2);
        assert_eq!((told(&[1]), told(&[1])), (2, 2));
        assert_eq!(told(&[1, 2]), 2, "it was there after all");
        assert_eq!((told(&[]), told(&[1]), told(&[1])), (2, 2, 1));
        assert_eq!(told(&[1, 3]), 2, "a new device is told at once");
    }

    #[test]
    fn a_random_part_is_a_part() {
        for _ in 0..100 {
            assert!(part_of(Duration::from_secs(10)) <= Duration::from_secs(10));
        }
        assert_eq!(part_of(Duration::ZERO), Duration::ZERO);
    }
}
