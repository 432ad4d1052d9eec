//! The ResourceSlices of this node (resource.k8s.io): which devices DRA drivers publish.
//!
//! Asked for by field selector, the own node alone. Slices that are bound to no node (`allNodes`, `nodeSelector`) do not
//! come. Version v1, else v1beta2, else v1beta1, whichever the server has; a server without any has no DRA, which is no
//! failure.

mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
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

use crate::{Calls, Failure, LONGEST_REST, LONGEST_WATCH, Rest, WATCH_SECONDS};
use wire::{Slice, Version};

/// How often a server without DRA is asked again.
const NO_API: Duration = Duration::from_secs(600);
const OBJECT: &str = "ResourceSlices";

/// A device that a driver publishes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PublishedDevice {
    /// The driver.
    pub driver: String,
    /// Its pool.
    pub pool: String,
    /// Its name in the pool.
    pub name: String,
    /// Its attributes, those that are texts and versions; a name without domain is the driver's.
    pub attributes: BTreeMap<String, String>,
    /// Whether the driver lets pods have it: no taint with effect `NoSchedule` or `NoExecute`.
    pub allocatable: bool,
}

/// What the drivers of a node publish.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// The devices of complete pools, sorted.
    pub devices: Vec<PublishedDevice>,
    /// The drivers of complete pools, those that publish no device too.
    pub drivers: BTreeSet<String>,
    /// Drivers with a pool of which not all slices are there: nothing can be said of what it lacks.
    pub incomplete: BTreeSet<String>,
}

/// What is known of the slices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Slices {
    /// They were not asked for yet.
    #[default]
    NotAsked,
    /// The API server did not tell.
    Unknown,
    /// They say this.
    Known(Published),
}

/// Follows what is published for a node, for ever. An error changes nothing: what was known stays.
pub async fn follow(client: Client, node: &str, calls: Calls, tell: watch::Sender<Slices>) {
    let mut rest = Rest::default();
    let mut failing = false;
    loop {
        let pause = match round(&client, node, &calls, &tell).await {
            Ok(Round::NoApi) => NO_API,
            Ok(Round::Watched(lived)) => rest.after_watch(lived),
            Err(failure) => {
                if !failing {
                    tracing::warn!(error = %failure, "the devices of DRA drivers are not known; trying again");
                }
                failing = true;
                tell.send_if_modified(|last| {
                    let first = *last == Slices::NotAsked;
                    if first {
                        *last = Slices::Unknown;
                    }
                    first
                });
                sleep(rest.longer(failure.retry_after)).await;
                continue;
            }
        };
        failing = false;
        sleep(pause).await;
    }
}

enum Round {
    /// The server knows no ResourceSlices.
    NoApi,
    /// They were watched for this long.
    Watched(Duration),
}

/// Lists the slices, and watches them until a watch ends before its time.
async fn round(
    client: &Client,
    node: &str,
    calls: &Calls,
    tell: &watch::Sender<Slices>,
) -> Result<Round, Failure> {
    let Some(version) = version(client, calls).await? else {
        publish(tell, Published::default());
        return Ok(Round::NoApi);
    };
    let api: Api<Slice> = Api::all_with(client.clone(), &version);
    let selector = format!("spec.nodeName={node}");
    let list = calls.call("list", OBJECT, api.list(&ListParams::default().fields(&selector))).await?;
    let mut seen = list.metadata.resource_version.unwrap_or_default();
    let mut slices: BTreeMap<String, Slice> =
        list.items.into_iter().map(|slice| (slice.name(), slice)).collect();
    publish(tell, wire::published(slices.values()));
    let parameters = WatchParams::default().fields(&selector).timeout(WATCH_SECONDS);
    loop {
        let begun = Instant::now();
        let stream = calls.call("watch", OBJECT, api.watch(&parameters, &seen)).await?;
        tokio::pin!(stream);
        let ended = loop {
            let event = timeout_at(begun + LONGEST_WATCH, stream.next()).await;
            let Ok(Some(Ok(event))) = event else { break event };
            match event {
                WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                    seen = slice.version();
                    slices.insert(slice.name(), slice);
                }
                WatchEvent::Deleted(slice) => {
                    seen = slice.version();
                    slices.remove(&slice.name());
                }
                WatchEvent::Bookmark(mark) => {
                    seen = mark.metadata.resource_version;
                    continue;
                }
                // Too old a version, most of the time: list anew.
                WatchEvent::Error(status) => break Ok(Some(Err(kube::Error::Api(status)))),
            }
            publish(tell, wire::published(slices.values()));
        };
        // Only a watch that the server ended in its time goes on where it was.
        let lived = begun.elapsed();
        if !matches!(ended, Ok(None)) || lived <= LONGEST_REST {
            return Ok(Round::Watched(lived));
        }
    }
}

/// The newest version that the server has; none where it has none that is known here.
async fn version(client: &Client, calls: &Calls) -> Result<Option<Version>, Failure> {
    let request = http::Request::get("/apis/resource.k8s.io").body(Vec::new()).expect("the path is valid");
    let group =
        calls.call("get", "the API group of ResourceSlices", client.request::<APIGroup>(request)).await;
    match group {
        Ok(group) => Ok(Version::ALL
            .into_iter()
            .find(|version| group.versions.iter().any(|served| served.version == version.as_str()))),
        Err(failure) if failure.status().is_some_and(|status| status.code == 404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn publish(tell: &watch::Sender<Slices>, published: Published) {
    let slices = Slices::Known(published);
    tell.send_if_modified(|last| {
        let changed = *last != slices;
        *last = slices;
        changed
    });
}

#[cfg(test)]
mod tests;
