//! The bridge from Nodes to what schedulers and routers read elsewhere: labels of the pods that opt in, and DeviceTaintRules of
//! failed devices.
//!
//! Several bridges of a release may run; the one that holds the Lease works. It watches the metadata of Nodes and the pods that opt
//! in, keeps some hundred bytes of each, and writes a pod only if a label differs, by server-side apply with a field manager of its
//! own. It never takes a key from another manager, and it forgets everything when it loses the Lease.

mod clean;
mod follow;
mod keys;
mod lease;
mod node;
mod owners;
mod plan;
mod selector;
mod state;
mod taint_api;
mod taints;
#[cfg(test)]
mod testing;
mod writer;

use std::{cell::RefCell, convert::Infallible, pin::pin, time::Duration};

use afd_apiserver::ApiCalls;
use kube::Client;

pub use clean::{BridgeRemains, clean};
use keys::BridgeKeys;
pub use keys::DEFAULT_RACK;
use lease::{LeaderLease, LeaseTerm};
pub use selector::{DEFAULT_SELECTORS, MAX_SELECTORS, PodSelector, SelectorError};
use state::BridgeState;
pub use taints::DeviceTaintEffect;

/// The field manager of the labels of pods.
pub const FIELD_MANAGER: &str = "accelerator-feature-discovery-bridge";

/// How the bridge works.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// The prefix of AFD's keys, without the slash.
    pub prefix: String,
    /// The pods that opt in: those that one of these selects.
    pub selectors: Vec<PodSelector>,
    /// The label of Nodes that is copied as the rack; the domain of the fabric by default.
    pub rack_label: Option<String>,
    /// The most pods that are written in a second.
    pub writes_per_second: f64,
    /// The effect of the taints of failed devices; none: there are no taints.
    pub taints: Option<DeviceTaintEffect>,
    /// The most taints of devices in the cluster at a time.
    pub max_taints: usize,
    /// The field manager of the agents, by which the last write of a Node's agent is known.
    pub agent_manager: &'static str,
    /// The Lease.
    pub lease: LeaseOptions,
}

impl BridgeOptions {
    /// A key of a selector that the bridge itself writes, which is a mistake: what it writes must not decide whether a pod opts in.
    pub fn selected_own_key(&self) -> Option<String> {
        let keys = BridgeKeys::new(&self.prefix, self.rack_label.as_deref()).keys.into_iter();
        let selected = |key: &String| self.selectors.iter().any(|selector| selector.has_key(key));
        keys.map(|key| key.pod).find(selected)
    }
}

/// The Lease that one of the bridges holds.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this bridge is.
    pub identity: String,
    /// How long it is valid after it was renewed.
    pub duration: Duration,
}

/// Works whenever this bridge holds the Lease, until `stop` completes; then it releases the Lease.
pub async fn run(client: Client, calls: ApiCalls, options: BridgeOptions, stop: impl Future<Output = ()>) {
    let mut lease = LeaderLease::new(client.clone(), calls.clone(), options.lease.clone());
    let mut stop = pin!(stop);
    loop {
        tracing::info!(identity = options.lease.identity, "waiting for the lease");
        let term = tokio::select! {
            biased;
            () = &mut stop => return,
            term = lease.acquire() => term,
        };
        tracing::info!(identity = options.lease.identity, "holding the lease");
        let worker = BridgeWorker { client: &client, calls: &calls, options: &options, term: &term };
        let mut work = pin!(worker.work());
        tokio::select! {
            // The end of the term first, so that nothing is written after it.
            biased;
            () = &mut stop => {
                // What was sent may still have an effect: another bridge must not work before.
                let finished = tokio::time::timeout(term.write_timeout, term.finish());
                tokio::select! {
                    biased;
                    never = &mut work => match never {},
                    _ = finished => break,
                }
            }
            () = lease.hold(&term) => {}
            never = &mut work => match never {},
        }
        tracing::warn!("the lease is lost");
    }
    lease.release().await;
    tracing::info!("stopped");
}

/// What the work of the holder of the Lease needs.
#[derive(Clone, Copy)]
struct BridgeWorker<'b> {
    client: &'b Client,
    calls: &'b ApiCalls,
    options: &'b BridgeOptions,
    term: &'b LeaseTerm,
}

impl BridgeWorker<'_> {
    /// Follows Nodes and pods, and writes what differs.
    async fn work(self) -> Infallible {
        let options = self.options;
        let keys = BridgeKeys::new(&options.prefix, options.rack_label.as_deref());
        let state = RefCell::new(BridgeState::new(keys, options.selectors.clone(), options.agent_manager));
        tokio::select! {
            never = self.follow_nodes(&state) => never,
            never = self.follow_pods(&state) => never,
            never = self.write_pods(&state) => never,
            never = self.keep_taints(&state) => never,
        }
    }
}
