//! Reconciles the own Node with the desired labels, annotations and conditions.
//!
//! Uses server-side apply with one field manager. Nothing is written while nothing that is decided changes, except for an hourly
//! heartbeat of the conditions. What is not decided stays as the Node has it, and is never forced. A key that another field
//! manager owns is never overwritten, except under AFD's own prefix, where it is corrected and counted. Each apply contains the
//! Node's uid, so that a new Node of the same name is not mistaken for the old one and a deleted Node is not created. What is
//! not desired is removed; a failed call or a shutdown removes nothing. [`clean`] removes everything.

mod api;
mod clean;
mod events;
mod heartbeat;
mod observed;
mod owners;
mod pace;
mod plan;
mod reconciler;
mod refusal;
mod retry;
mod status;
mod watching;
mod writer;

use afd_apiserver::Backoff;
use afd_derive::decided::{DecidedKeys, KeyFamilies};
use afd_model::{Condition, Decision, NodeFacts};
use kube::Client;
use tokio::{sync::watch, time::sleep};

pub use api::{NodeCounters, age};
pub use clean::{CleanOptions, CleanedNodes, MANAGED_BY, RemovedFields, clean, clean_all};
pub use events::{NodeNotice, record_notices};
pub use observed::ExtendedResources;
pub use pace::WriteLimits;
use reconciler::NodeReconciler;

/// The field manager of all writes.
pub const FIELD_MANAGER: &str = "accelerator-feature-discovery";

/// The desired state of the Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DesiredNode {
    /// AFD's own labels: under its prefix, or `llm-d.ai/accelerator-*`.
    pub labels: DecidedKeys,
    /// Labels under the vendors' keys, which are never taken from another field manager.
    pub compat: DecidedKeys,
    /// Annotations.
    pub annotations: DecidedKeys,
    /// The families of all labels that AFD can write under its prefix. A stale one is removed from any owner, since a restored
    /// Node has the owner that restored it.
    pub label_families: KeyFamilies,
    /// The same for annotations.
    pub annotation_families: KeyFamilies,
    /// All conditions that AFD may write. One of ours that is not here is removed.
    pub conditions: Vec<DesiredCondition>,
    /// Whether what is undecided stays as the Node has it. Otherwise the Node is that of another machine: what is undecided is
    /// removed.
    pub inherits: bool,
}

/// A condition of the Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredCondition {
    /// Its type, `accelerator.llm-d.ai/Ready`. One outside of AFD's prefix is left to another field manager that owns it.
    pub kind: String,
    /// What it should be.
    pub state: Decision<Condition>,
}

/// Which Node is reconciled, and how.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The name of the Node.
    pub name: String,
    /// The prefix of AFD's own keys, without the slash.
    pub prefix: String,
    /// How often it is written at most.
    pub limits: WriteLimits,
}

/// Receives what the Node contains, whenever it is read and differs. What AFD itself wrote does not wake the receivers.
pub struct NodeObserver {
    /// What it says of its machine, and what others wrote on it. Sent before the resources.
    pub node: watch::Sender<Option<NodeFacts>>,
    /// Its extended resources.
    pub resources: watch::Sender<Option<ExtendedResources>>,
}

/// Reconciles a Node until the sender of desired states is dropped. While there is no desired state, the Node is only observed,
/// since the desired state may depend on it.
pub async fn reconcile(
    client: Client,
    settings: NodeSettings,
    counters: NodeCounters,
    mut desired: watch::Receiver<Option<DesiredNode>>,
    observer: NodeObserver,
) {
    let mut reconciler = NodeReconciler::new(client, settings, counters, observer);
    let mut backoff = Backoff::default();
    loop {
        let current = desired.borrow_and_update().clone();
        if let Err(error) = reconciler.reconcile(current.as_ref()).await {
            let delay = backoff.next_delay(error.retry_after);
            tracing::warn!(%error, retry_seconds = delay.as_secs(), "reconciling the Node failed; retrying");
            // Not interrupted by a new desired state, so that an overloaded server gets no more requests.
            sleep(delay).await;
            continue;
        }
        backoff.reset();
        if reconciler.wait(&mut desired).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
