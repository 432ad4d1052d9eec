//! Reconciles the own Node with the desired labels, annotations and condition.
//!
//! Uses server-side apply with one field manager. Nothing is written while nothing changes; a change is one write. A key that
//! another field manager owns is never overwritten, except under AFD's own prefix, where it is corrected and counted. Each
//! apply contains the Node's uid, so that a new Node of the same name is not mistaken for the old one and a deleted Node is not
//! created. What is not desired is removed; a failed call or a shutdown removes nothing. [`clean`] removes everything.

mod api;
mod events;
mod observed;
mod plan;
mod reconciler;

use std::collections::BTreeMap;

use afd_apiserver::Backoff;
use kube::Client;
use tokio::{sync::watch, time::sleep};

pub use api::{NodeCounters, clean, clean_all};
pub use observed::ExtendedResources;
use reconciler::NodeReconciler;

/// The field manager of all writes.
pub const FIELD_MANAGER: &str = "accelerator-feature-discovery";

/// The desired state of the Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DesiredNode {
    /// AFD's own labels: under its prefix, or `llm-d.ai/accelerator-*`.
    pub labels: BTreeMap<String, String>,
    /// Labels under the vendors' keys, which are never taken from another field manager.
    pub compat: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The condition, if any.
    pub condition: Option<DesiredCondition>,
}

/// A condition of the Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredCondition {
    /// Its type, `accelerator.llm-d.ai/Ready`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason in CamelCase.
    pub reason: String,
    /// A human-readable message.
    pub message: String,
}

/// Receives what the Node contains, whenever it is read.
pub struct NodeObserver {
    /// Its extended resources.
    pub resources: watch::Sender<Option<ExtendedResources>>,
    /// Called with its labels and annotations, before the resources are sent.
    pub metadata: Box<dyn Fn(&NodeMetadata<'_>) + Send + Sync>,
}

/// The labels and annotations of the Node, from all field managers.
#[derive(Clone, Copy, Debug)]
pub struct NodeMetadata<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Reconciles the Node of this name until the sender of desired states is dropped.
pub async fn reconcile(
    client: Client,
    name: &str,
    counters: NodeCounters,
    mut desired: watch::Receiver<Option<DesiredNode>>,
    observer: NodeObserver,
) {
    let mut reconciler = NodeReconciler::new(client, name, counters, observer);
    let mut backoff = Backoff::default();
    loop {
        let current = desired.borrow_and_update().clone();
        let result = match &current {
            Some(desired) => reconciler.reconcile(desired).await,
            // The desired state may depend on the resources.
            None => reconciler.observe().await,
        };
        match result {
            Ok(()) if current.is_none() => {
                backoff.reset();
                if desired.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Ok(()) => backoff.reset(),
            Err(error) => {
                let delay = backoff.next_delay(error.retry_after);
                tracing::warn!(%error, retry_seconds = delay.as_secs(), "reconciling the Node failed; retrying");
                // Not interrupted by a new desired state, so that an overloaded server gets no more requests.
                sleep(delay).await;
                continue;
            }
        }
        if reconciler.wait(&mut desired).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
