//! Removes what bridges wrote: the labels of pods, and DeviceTaintRules. They are found by the marker.

use std::time::Duration;

use afd_apiserver::{ApiCalls, Backoff, CallError};
use futures_util::{StreamExt, stream};
use kube::{
    Client,
    api::ListParams,
    core::{ObjectList, Request},
};
use tokio::time::sleep;

use crate::{
    follow::FollowedObject,
    keys::{BridgeKeys, MARKED},
    plan::PodKeys,
    taint_api::TaintApi,
    writer::{WrittenPod, apply},
};

const PAGE_SIZE: u32 = 250;
const MAX_CONCURRENT: usize = 8;
/// How often a call is tried.
const MAX_ATTEMPTS: usize = 8;
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BridgeRemains {
    /// Pods whose labels were removed.
    pub pods: usize,
    /// DeviceTaintRules that were deleted.
    pub rules: usize,
}

/// Removes everything. Pods that have ended are included.
///
/// # Errors
/// When a call fails although it was repeated.
pub async fn clean(client: &Client, calls: &ApiCalls, prefix: &str) -> Result<BridgeRemains, CallError> {
    let keys = BridgeKeys::new(prefix, None);
    let mut removed = BridgeRemains::default();
    let mut parameters = ListParams::default().labels(keys.marker()).limit(PAGE_SIZE);
    loop {
        let page = repeated(async || {
            let list = Request::new("/api/v1/pods").list(&parameters).map_err(kube::Error::BuildRequest);
            let list = async { client.request::<ObjectList<FollowedObject>>(list?).await };
            calls.call("list", "pods", list).await
        });
        let page = page.await?;
        let own = page.items.iter().filter(|pod| PodKeys::new(&pod.metadata, &keys).has_owned());
        let cleaned =
            stream::iter(own).map(|pod| clean_pod(client, calls, pod)).buffer_unordered(MAX_CONCURRENT);
        let cleaned: Vec<_> = cleaned.collect().await;
        for result in cleaned {
            removed.pods += usize::from(result?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => break,
        }
    }
    let Some(api) = TaintApi::discover(client, calls).await? else { return Ok(removed) };
    let label = format!("{}={MARKED}", keys.marker());
    for rule in repeated(async || api.list(&label).await).await? {
        repeated(async || api.delete(&rule).await).await?;
        removed.rules += 1;
    }
    Ok(removed)
}

/// Gives up the labels of a pod, which removes them; false if it does not exist any more.
async fn clean_pod(client: &Client, calls: &ApiCalls, pod: &FollowedObject) -> Result<bool, CallError> {
    let metadata = &pod.metadata;
    let (name, namespace, uid) = (&metadata.name, &metadata.namespace, &metadata.uid);
    let [name, namespace, uid] = [name, namespace, uid].map(|text| text.as_deref().unwrap_or_default());
    let pod = WrittenPod { request: Request::new(format!("/api/v1/namespaces/{namespace}/pods")), name, uid };
    let body = pod.body(&serde_json::json!({}));
    let result =
        repeated(async || calls.call("apply", "a pod", apply(client, &pod, &body, WRITE_TIMEOUT)).await);
    match result.await {
        Ok(_) => Ok(true),
        // Without the pod, or with another one of this name.
        Err(error) if error.status().is_some_and(|status| [404, 409].contains(&status.code)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a call until it succeeds, as long as its failure may be one of overload.
async fn repeated<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    let mut backoff = Backoff::default();
    for _ in 1..MAX_ATTEMPTS {
        match call().await {
            Err(error) if error.status().is_none_or(|status| [429, 503, 504].contains(&status.code)) => {
                sleep(backoff.next_delay(error.retry_after)).await;
            }
            result => return result,
        }
    }
    call().await
}
