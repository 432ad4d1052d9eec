//! DeviceTaintRules of `resource.k8s.io`, in the newest version that the server has.
//!
//! v1 from Kubernetes 1.37, v1beta2 from 1.36, v1alpha3 before; the fields used here are the same (`k8s.io/api/resource`).

use std::time::Duration;

use afd_apiserver::{ApiCalls, CallError};
use kube::{
    Client,
    api::{ListParams, PostParams},
    core::Request,
};
use serde_json::Value;

use crate::writer::within;

const GROUP: &str = "/apis/resource.k8s.io";
const RESOURCE: &str = "devicetaintrules";
const OBJECT: &str = "DeviceTaintRules";
/// The newest first.
const VERSIONS: [&str; 3] = ["v1", "v1beta2", "v1alpha3"];

/// The rules of a server.
pub(crate) struct TaintApi<'c> {
    client: &'c Client,
    calls: &'c ApiCalls,
    version: &'static str,
    request: Request,
}

impl<'c> TaintApi<'c> {
    /// The newest version that the server has, if any. Where it was found before, its absence is an error: a server that is
    /// starting, or another one.
    ///
    /// # Errors
    /// When the server cannot be read.
    pub(crate) async fn discover(
        client: &'c Client,
        calls: &'c ApiCalls,
        was_found: bool,
    ) -> Result<Option<TaintApi<'c>>, CallError> {
        let mut missing = None;
        for version in VERSIONS {
            let path = format!("{GROUP}/{version}");
            let request = http::Request::get(&path).body(Vec::new()).expect("the path is valid");
            let resources = match calls.call("get", "an API", client.request::<Value>(request)).await {
                Err(error) if error.status().is_some_and(|status| status.code == 404) => {
                    missing = Some(error);
                    continue;
                }
                resources => resources?,
            };
            let mut names = resources["resources"].as_array().into_iter().flatten();
            if names.any(|resource| resource["name"] == RESOURCE) {
                let request = Request::new(format!("{path}/{RESOURCE}"));
                return Ok(Some(TaintApi { client, calls, version, request }));
            }
        }
        missing.filter(|_| was_found).map_or(Ok(None), Err)
    }

    /// The rules with a label.
    pub(crate) async fn list(&self, label: &str) -> Result<Vec<Value>, CallError> {
        let list = async {
            let list = self.request.list(&ListParams::default().labels(label));
            self.client.request::<Value>(list.map_err(kube::Error::BuildRequest)?).await
        };
        let mut list = self.calls.call("list", OBJECT, list).await?;
        Ok(match list["items"].take() {
            Value::Array(rules) => rules,
            _ => Vec::new(),
        })
    }

    /// Creates a rule.
    pub(crate) async fn create(&self, mut rule: Value, limit: Duration) -> Result<(), CallError> {
        rule["apiVersion"] = format!("resource.k8s.io/{}", self.version).into();
        rule["kind"] = "DeviceTaintRule".into();
        let body = serde_json::to_vec(&rule).expect("it can always be encoded");
        let create = async {
            let create = self.request.create(&PostParams::default(), body);
            within(limit, self.client.request::<Value>(create.map_err(kube::Error::BuildRequest)?)).await
        };
        self.calls.call("create", OBJECT, create).await.map(drop)
    }

    /// Deletes a rule, if it is still the one with this uid.
    pub(crate) async fn delete(&self, rule: &Value, limit: Duration) -> Result<(), CallError> {
        let metadata = &rule["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let body = serde_json::json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": metadata["uid"] },
        });
        let path = format!("{}/{name}", self.request.url_path);
        let request = http::Request::delete(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .expect("the API server has returned the name");
        let deletion = within(limit, self.client.request::<Value>(request));
        let deleted = self.calls.call("delete", OBJECT, deletion).await;
        match deleted {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
