//! Which rules there are, against a fake API server.

use super::*;
use crate::{
    follow::FollowEvent,
    lease::LeaseTerm,
    testing::{FakeApiServer, failure, taint_group},
};
use tokio::time::Instant;

fn device(generation: i64) -> TaintedDevice {
    TaintedDevice {
        node: "n".to_owned(),
        node_uid: "1".to_owned(),
        failed: FailedDevice {
            driver: "gpu.example.com".to_owned(),
            pool: "n".to_owned(),
            generation,
            device: "gpu-0".to_owned(),
            reason: "DeviceLost".to_owned(),
        },
    }
}

#[test]
fn a_rule_is_for_one_node_device_generation_and_effect() {
    let keys = BridgeKeys::new("p.example", None);
    let own = rule(&device(1), DeviceTaintEffect::None, &keys);
    let is_of = |device: &TaintedDevice, effect| is_rule_of(&own, device, effect, &keys);
    assert!(is_of(&device(1), DeviceTaintEffect::None));
    let other_reason = FailedDevice { reason: "Other".to_owned(), ..device(1).failed };
    assert!(is_of(&TaintedDevice { failed: other_reason, ..device(1) }, DeviceTaintEffect::None));
    assert!(!is_of(&device(2), DeviceTaintEffect::None), "another generation");
    assert!(!is_of(&device(1), DeviceTaintEffect::NoSchedule), "another effect");
    let recreated = TaintedDevice { node_uid: "2".to_owned(), ..device(1) };
    assert!(!is_of(&recreated, DeviceTaintEffect::None), "another Node of this name");
    assert!(own["metadata"]["name"].as_str().is_some_and(|name| name.len() == 20));
    let name = |device, prefix| {
        let keys = BridgeKeys::new(prefix, None);
        rule(&device, DeviceTaintEffect::None, &keys)["metadata"]["name"].clone()
    };
    assert_ne!(name(device(1), "p.example"), name(recreated, "p.example"));
    assert_ne!(name(device(1), "p.example"), name(device(1), "q.example"));
}

#[test]
fn a_reason_that_cannot_be_the_value_of_a_taint_counts_for_nothing() {
    for (reason, is_well) in
        [("Xid79", true), ("", false), ("a b", false), ("-a", false), (&"a".repeat(64), false)]
    {
        let failed = FailedDevice { reason: reason.to_owned(), ..device(1).failed };
        let text = FailedDevices { v: 1, devices: vec![failed, device(2).failed] };
        let text = serde_json::to_string(&text).expect("it can be encoded");
        assert_eq!(parse(&text).map(|devices| devices.len()), Some(1 + usize::from(is_well)), "{reason}");
    }
}

/// Bridges of a state whose Nodes alone are listed, with two failed devices; the limit is `max_taints`.
async fn compare(
    server: &FakeApiServer,
    max_taints: usize,
    memory: &mut TaintMemory,
) -> Result<usize, String> {
    let options = crate::testing::options(max_taints);
    let term = LeaseTerm::until(Instant::now() + INTERVAL, INTERVAL);
    let keys = BridgeKeys::new("p.example", None);
    let mut state = BridgeState::new(keys, Vec::new(), "afd");
    let devices = [0, 1].map(|number| FailedDevice { device: format!("gpu-{number}"), ..device(1).failed });
    let annotation = FailedDevices { v: 1, devices: devices.to_vec() };
    let annotation = serde_json::to_string(&annotation).expect("it can be encoded");
    let entry = json!({ "manager": "afd", "time": "2999-01-01T00:00:00Z" });
    let annotations = json!({ "p.example/failed-devices": annotation });
    let node = json!({ "metadata": { "name": "n", "uid": "1", "annotations": annotations, "managedFields": [entry] } });
    let node = serde_json::from_value(node).expect("it is a Node");
    state.node_event(FollowEvent::Seen(&node));
    state.node_event(FollowEvent::Listed);
    let worker =
        BridgeWorker { client: &server.client, calls: &server.calls, options: &options, term: &term };
    let compared = worker.compare_taints(&RefCell::new(state), memory).await;
    compared.map_err(|error| error.to_string())
}

/// A server with a slice of both devices, and these rules; it refuses writes that contain a text.
fn server(rules: Value, refused: &'static str) -> FakeApiServer {
    FakeApiServer::new(move |request, body| {
        let list = |items: Value| (200, json!({ "metadata": {}, "items": items }));
        let version = json!({ "groupVersion": "resource.k8s.io/v1", "version": "v1" });
        let devices = json!([{ "name": "gpu-0" }, { "name": "gpu-1" }]);
        let pool = json!({ "name": "n", "generation": 1, "resourceSliceCount": 1 });
        let slice = json!({ "metadata": { "name": "slice" }, "spec": { "driver": "gpu.example.com", "nodeName": "n", "pool": pool, "devices": devices } });
        match request {
            _ if request.ends_with("/apis/resource.k8s.io") => (
                200,
                json!({ "name": "resource.k8s.io", "versions": [version], "preferredVersion": version }),
            ),
            _ if request.contains("resourceslices") => list(json!([slice])),
            _ if request.starts_with("GET") && request.contains("devicetaintrules") => list(rules.clone()),
            _ if request.starts_with("GET") => taint_group(request).unwrap_or_else(|| failure(404)),
            _ if request.contains(refused) || body.to_string().contains(refused) => failure(409),
            _ => (201, json!({})),
        }
    })
}

#[tokio::test]
async fn devices_are_tainted_without_the_lists_of_pods_and_one_refused_rule_keeps_no_other_back() {
    let server = server(json!([]), "gpu-0");
    let mut memory = TaintMemory::default();
    assert_eq!(compare(&server, 1, &mut memory).await, Ok(2));
    assert_eq!((server.count("POST"), memory.refused.len()), (2, 1), "{:?}", server.requests());
}

#[tokio::test]
async fn a_rule_that_cannot_be_deleted_counts_for_the_limit_and_others_are_deleted() {
    let stale = |name: &str| json!({ "metadata": { "name": name, "uid": name } });
    let server = server(json!([stale("afd-1"), stale("afd-2")]), "afd-1");
    let mut memory = TaintMemory::default();
    assert_eq!(compare(&server, 1, &mut memory).await, Ok(2));
    assert_eq!((server.count("DELETE"), server.count("POST")), (2, 0), "{:?}", server.requests());
}

#[tokio::test]
async fn an_api_that_was_there_and_is_not_is_an_error() {
    let server = FakeApiServer::new(|_, _| failure(404));
    let mut memory = TaintMemory::default();
    assert_eq!(compare(&server, 1, &mut memory).await, Ok(0));
    memory.has_api = true;
    compare(&server, 1, &mut memory).await.expect_err("the API is gone");
}

#[test]
fn an_annotation_of_another_version_counts_for_nothing() {
    let text = |v: u32| serde_json::to_string(&FailedDevices { v, devices: vec![device(1).failed] });
    let text = |v| text(v).expect("it can be encoded");
    assert_eq!(parse(&text(1)), Some(vec![device(1).failed]));
    assert_eq!((parse(&text(2)), parse("x")), (None, None));
}
