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
/// How the names of pods begin in what has failed.
const POD: &str = "pod ";
/// How often the list begins again.
const MAX_RESTARTS: usize = 32;
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub struct BridgeRemains {
    /// Pods whose labels were removed.
    pub pods: usize,
    /// DeviceTaintRules that were deleted.
    pub rules: usize,
    /// What is left, by its name, and why.
    pub failed: Vec<(String, CallError)>,
}

/// Removes everything, the DeviceTaintRules first, since they take capacity. Pods that have ended are included. What fails keeps
/// nothing else from being removed.
pub async fn clean(client: &Client, calls: &ApiCalls, prefix: &str) -> BridgeRemains {
    let keys = BridgeKeys::new(prefix, None);
    let mut remains = BridgeRemains::default();
    if let Err(error) = clean_rules(client, calls, &keys, &mut remains).await {
        remains.failed.push(("DeviceTaintRules".to_owned(), error));
    }
    if let Err(error) = clean_pods(client, calls, &keys, &mut remains).await {
        remains.failed.push(("pods".to_owned(), error));
    }
    remains
}

async fn clean_rules(
    client: &Client,
    calls: &ApiCalls,
    keys: &BridgeKeys,
    remains: &mut BridgeRemains,
) -> Result<(), CallError> {
    let Some(api) = repeated(async || TaintApi::discover(client, calls, false).await).await? else {
        return Ok(());
    };
    let label = format!("{}={MARKED}", keys.marker());
    for rule in repeated(async || api.list(&label).await).await? {
        match repeated(async || api.delete(&rule, WRITE_TIMEOUT).await).await {
            Ok(()) => remains.rules += 1,
            Err(error) => {
                let name = rule["metadata"]["name"].as_str().unwrap_or_default();
                remains.failed.push((format!("DeviceTaintRule {name}"), error));
            }
        }
    }
    Ok(())
}

/// # Errors
/// When the pods cannot be listed, or the server does not recover from overload.
async fn clean_pods(
    client: &Client,
    calls: &ApiCalls,
    keys: &BridgeKeys,
    remains: &mut BridgeRemains,
) -> Result<(), CallError> {
    let mut parameters = ListParams::default().labels(keys.marker()).limit(PAGE_SIZE);
    let mut restarts = MAX_RESTARTS;
    loop {
        let page = repeated(async || {
            let list = Request::new("/api/v1/pods").list(&parameters).map_err(kube::Error::BuildRequest);
            let list = async { client.request::<ObjectList<FollowedObject>>(list?).await };
            calls.call("list", "pods", list).await
        });
        let page = match page.await {
            Err(error) if error.is_too_long() && parameters.limit > Some(1) => {
                parameters.limit = parameters.limit.map(|size| size / 2);
                continue;
            }
            // It has taken longer than the server keeps an old version. Those that are clean do not come again.
            Err(error) if is_expired(&error) && parameters.continue_token.is_some() && restarts > 0 => {
                restarts -= 1;
                parameters.continue_token = None;
                // They come again.
                remains.failed.retain(|(name, _)| !name.starts_with(POD));
                continue;
            }
            page => page?,
        };
        let own = page.items.iter().filter(|pod| PodKeys::new(&pod.metadata, keys).has_owned());
        let cleaned = stream::iter(own).map(async |pod| (pod, clean_pod(client, calls, pod).await));
        let cleaned: Vec<_> = cleaned.buffer_unordered(MAX_CONCURRENT).collect().await;
        for (pod, result) in cleaned {
            match result {
                Ok(is_cleaned) => remains.pods += usize::from(is_cleaned),
                // Without an answer it is this pod, or else the next list fails.
                Err(error) if error.is_temporary() && error.status().is_some() => return Err(error),
                Err(error) => {
                    let [namespace, name] = [&pod.metadata.namespace, &pod.metadata.name]
                        .map(|text| text.as_deref().unwrap_or_default());
                    remains.failed.push((format!("{POD}{namespace}/{name}"), error));
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

fn is_expired(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.code == 410)
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
        Err(error) if error.is_not_found() || error.status().is_some_and(|status| status.code == 409) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes a call until it succeeds, as long as its failure may be one of overload.
async fn repeated<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    let mut backoff = Backoff::default();
    for _ in 1..MAX_ATTEMPTS {
        match call().await {
            Err(error) if error.is_temporary() && !error.is_too_long() => {
                sleep(backoff.next_delay(error.retry_after)).await;
            }
            result => return result,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        FIELD_MANAGER,
        testing::{FakeApiServer, failure, taint_group},
    };

    fn pod(name: &str) -> Value {
        let fields = json!({ "f:metadata": { "f:labels": { "f:p.example/bridge": {} } } });
        let entry = json!({ "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields });
        let labels = json!({ "p.example/bridge": "true" });
        json!({ "metadata": { "name": name, "namespace": "ml", "uid": name, "labels": labels, "managedFields": [entry] } })
    }

    #[tokio::test]
    async fn the_rules_go_first_and_one_refused_object_keeps_no_other_from_being_removed() {
        let server = FakeApiServer::new(|request, _| {
            let list = |items: Value| (200, json!({ "metadata": {}, "items": items }));
            let rules = ["afd-1", "afd-2"].map(|name| json!({ "metadata": { "name": name, "uid": name } }));
            match request {
                _ if request.contains("/afd-1") || request.contains("/pods/refused") => failure(403),
                _ if request.starts_with("GET /api/v1/pods") => list(json!(["refused", "well"].map(pod))),
                _ if request.contains("devicetaintrules?") => list(json!(rules)),
                _ => taint_group(request).unwrap_or((200, json!({ "metadata": {} }))),
            }
        });
        let remains = clean(&server.client, &server.calls, "p.example").await;
        let failed: Vec<&str> = remains.failed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((remains.rules, remains.pods), (1, 1));
        assert_eq!(failed, ["DeviceTaintRule afd-1", "pod ml/refused"]);
        let requests = server.requests();
        let place = |part: &str| requests.iter().position(|request| request.contains(part));
        assert!(place("DELETE") < place("/api/v1/pods"), "{requests:?}");
    }
}
