//! The ResourceSlices of this node (resource.k8s.io): which devices DRA drivers publish.
//!
//! Selected by the field `spec.nodeName`; slices that belong to no single node (`allNodes`, `nodeSelector`) are not
//! included. The API version is v1, else v1beta2, else v1beta1; a server that serves none of them has no DRA, which is not
//! an error. Once the API group was served, a 404 is one: servers that are upgraded and load balancers answer so for a moment.

mod kept;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{ApiCalls, Backoff, CallError, MAX_BACKOFF, MAX_WATCH_DURATION, WATCH_TIMEOUT_SECONDS};
use kept::{KeptSlices, MAX_SLICES};
pub use wire::USED_ATTRIBUTES;
use wire::{ResourceApiVersion, ResourceSlice};

/// How often a server without DRA is queried.
const NO_DRA_INTERVAL: Duration = Duration::from_secs(600);
const OBJECT: &str = "ResourceSlices";

/// A device that a driver publishes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PublishedDevice {
    /// The DRA driver.
    pub driver: String,
    /// Its pool.
    pub pool: String,
    /// The generation of the pool.
    pub generation: i64,
    /// Its name in the pool.
    pub name: String,
    /// Its string and version attributes of [`USED_ATTRIBUTES`]; a name without a domain belongs to the driver's domain.
    pub attributes: Arc<BTreeMap<String, String>>,
    /// Whether it can be allocated: it has no taint with the effect `NoSchedule` or `NoExecute`.
    pub allocatable: bool,
}

/// What the DRA drivers of a node publish.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishedDevices {
    /// The devices of complete pools, sorted.
    pub devices: Vec<PublishedDevice>,
    /// The drivers of complete pools, including those without a device.
    pub drivers: BTreeSet<String>,
    /// Drivers with an incomplete pool: its missing slices may contain any device.
    pub incomplete: BTreeSet<String>,
    /// How many devices were not read, because there are too many. Their drivers are incomplete.
    pub skipped: u64,
}

/// The state of the ResourceSlices of this node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NodeSlices {
    /// They were not listed yet.
    #[default]
    Pending,
    /// They were never listed because of an error.
    Unavailable,
    /// What they publish.
    Known(PublishedDevices),
}

/// Follows the ResourceSlices of a node, forever. What was known stays known after an error.
pub async fn follow(client: Client, node: &str, calls: ApiCalls, sender: watch::Sender<NodeSlices>) {
    let mut backoff = Backoff::default();
    let mut failing = false;
    let mut group_known = false;
    loop {
        let begun = Instant::now();
        let end = list_and_watch(&client, node, &calls, &sender, &mut group_known).await;
        // Only a watch lasts that long: a failure after it is the first one.
        if begun.elapsed() > MAX_BACKOFF {
            backoff.reset();
            failing = false;
        }
        let delay = match end {
            Ok(end) => {
                failing = false;
                match end {
                    SliceWatchEnd::NoApi => NO_DRA_INTERVAL,
                    SliceWatchEnd::Ended => backoff.next_delay(None),
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "ResourceSlices cannot be read; retrying");
                }
                failing = true;
                send_unavailable(&sender);
                backoff.next_delay(error.retry_after)
            }
        };
        sleep(delay).await;
    }
}

/// What the DRA drivers of a node publish now.
///
/// # Errors
/// When the slices cannot be read.
pub async fn read(client: &Client, node: &str, calls: &ApiCalls) -> Result<PublishedDevices, CallError> {
    let Some(version) = api_version(client, calls).await? else { return Ok(PublishedDevices::default()) };
    let api: Api<ResourceSlice> = Api::all_with(client.clone(), &version);
    let parameters = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let list = calls.call("list", OBJECT, api.list(&parameters)).await?;
    let mut slices = KeptSlices::default();
    list.items.into_iter().take(MAX_SLICES).for_each(|slice| slices.insert(slice));
    Ok(slices.published())
}

enum SliceWatchEnd {
    /// The server has no ResourceSlices.
    NoApi,
    /// A watch ended.
    Ended,
}

/// Lists the slices, and watches them until a watch ends before its timeout. `group_known` is set once the server has served
/// the API group.
async fn list_and_watch(
    client: &Client,
    node: &str,
    calls: &ApiCalls,
    sender: &watch::Sender<NodeSlices>,
    group_known: &mut bool,
) -> Result<SliceWatchEnd, CallError> {
    let version = match api_version(client, calls).await {
        Err(error) if !*group_known && error.status().is_some_and(|status| status.code == 404) => None,
        version => version?,
    };
    let Some(version) = version else {
        send(sender, PublishedDevices::default());
        return Ok(SliceWatchEnd::NoApi);
    };
    *group_known = true;
    let api: Api<ResourceSlice> = Api::all_with(client.clone(), &version);
    let selector = format!("spec.nodeName={node}");
    let list = calls.call("list", OBJECT, api.list(&ListParams::default().fields(&selector))).await?;
    let mut resource_version = list.metadata.resource_version.unwrap_or_default();
    let mut slices = KeptSlices::default();
    for slice in list.items {
        slices.insert(slice);
        if slices.are_too_many() {
            return Ok(too_many(sender));
        }
    }
    send(sender, slices.published());
    let parameters = WatchParams::default().fields(&selector).timeout(WATCH_TIMEOUT_SECONDS);
    loop {
        let begun = Instant::now();
        let stream = calls.call("watch", OBJECT, api.watch(&parameters, &resource_version)).await?;
        tokio::pin!(stream);
        let ended = loop {
            let event = timeout_at(begun + MAX_WATCH_DURATION, stream.next()).await;
            let Ok(Some(Ok(event))) = event else { break event };
            let before = slices.bytes();
            match event {
                WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                    resource_version = slice.resource_version();
                    slices.insert(slice);
                }
                WatchEvent::Deleted(slice) => {
                    resource_version = slice.resource_version();
                    slices.remove(&slice.name());
                }
                WatchEvent::Bookmark(bookmark) => {
                    resource_version = bookmark.metadata.resource_version;
                    continue;
                }
                // Usually the resource version is too old: list again.
                WatchEvent::Error(status) => break Ok(Some(Err(kube::Error::Api(status)))),
            }
            if slices.are_too_many() {
                return Ok(too_many(sender));
            }
            send(sender, slices.published());
            if slices.has_more_room(before) {
                return Ok(SliceWatchEnd::Ended);
            }
        };
        match &ended {
            Err(_) => calls.watch_timed_out(),
            Ok(Some(Err(error))) => calls.watch_failed(error),
            Ok(_) => {}
        }
        // Only a watch that the server ended by its timeout is resumed.
        if !matches!(ended, Ok(None)) || begun.elapsed() <= MAX_BACKOFF {
            return Ok(SliceWatchEnd::Ended);
        }
    }
}

/// The newest API version that the server and this client have in common, if any.
async fn api_version(client: &Client, calls: &ApiCalls) -> Result<Option<ResourceApiVersion>, CallError> {
    let request = http::Request::get("/apis/resource.k8s.io").body(Vec::new()).expect("the path is valid");
    let group =
        calls.call("get", "the API group of ResourceSlices", client.request::<APIGroup>(request)).await?;
    let is_served =
        |version: &ResourceApiVersion| group.versions.iter().any(|served| served.version == version.as_str());
    Ok(ResourceApiVersion::ALL.into_iter().find(is_served))
}

/// More than any node has: what was known stays known.
fn too_many(sender: &watch::Sender<NodeSlices>) -> SliceWatchEnd {
    tracing::warn!(limit = MAX_SLICES, "the node has too many ResourceSlices");
    send_unavailable(sender);
    SliceWatchEnd::Ended
}

/// Says that there is no list, unless there was one.
fn send_unavailable(sender: &watch::Sender<NodeSlices>) {
    sender.send_if_modified(|last| {
        let first = *last == NodeSlices::Pending;
        if first {
            *last = NodeSlices::Unavailable;
        }
        first
    });
}

fn send(sender: &watch::Sender<NodeSlices>, published: PublishedDevices) {
    let slices = NodeSlices::Known(published);
    sender.send_if_modified(|last| {
        let skipped = |slices: &NodeSlices| match slices {
            NodeSlices::Known(published) => published.skipped,
            NodeSlices::Pending | NodeSlices::Unavailable => 0,
        };
        if skipped(&slices) > 0 && skipped(last) == 0 {
            let skipped = skipped(&slices);
            tracing::warn!(skipped, "the node's ResourceSlices have more devices than are read");
        }
        let changed = *last != slices;
        *last = slices;
        changed
    });
}

#[cfg(test)]
mod tests;
