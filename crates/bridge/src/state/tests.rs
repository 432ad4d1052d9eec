//! Which pods are looked after, in which order of events.

use serde_json::{Value, json};

use super::*;
use crate::{FIELD_MANAGER, selector::DEFAULT_SELECTORS};

const MARKERS: usize = 2;
const HOST: &str = "kubernetes.io/hostname";

fn object(value: Value) -> FollowedObject {
    serde_json::from_value(value).expect("it is an object")
}

fn node(name: &str, labels: Value) -> FollowedObject {
    object(json!({ "metadata": { "name": name, "uid": name, "labels": labels } }))
}

/// A pod on node `n`, with labels that its template has and those that the bridge owns.
fn pod(uid: &str, template: Value, owned: &[(&str, &str)]) -> FollowedObject {
    let mut labels = template;
    let mut fields = serde_json::Map::new();
    for (key, value) in owned {
        labels[*key] = json!(value);
        fields.insert(format!("f:{key}"), json!({}));
    }
    let entry = json!({ "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": { "f:metadata": { "f:labels": fields } } });
    object(json!({
        "metadata": { "name": uid, "namespace": "ml", "uid": uid, "labels": labels, "managedFields": [entry] },
        "spec": { "nodeName": "n" },
    }))
}

fn decode() -> Value {
    json!({ "llm-d.ai/role": "decode" })
}

/// A state whose lists are complete, and have a Node.
fn listed() -> BridgeState {
    let selectors = DEFAULT_SELECTORS.map(|selector| selector.parse().expect("it is a selector"));
    let mut state = BridgeState::new(BridgeKeys::new("p.example", None), selectors.to_vec(), "afd");
    state.node_event(FollowEvent::Listing);
    state.node_event(FollowEvent::Seen(&node("n", json!({ HOST: "n" }))));
    state.node_event(FollowEvent::Listed);
    for list in 0..=MARKERS {
        state.pod_event(list, FollowEvent::Listing);
        state.pod_event(list, FollowEvent::Listed);
    }
    state
}

fn next(state: &mut BridgeState) -> Option<String> {
    state.next_pod().map(|(uid, _)| uid.to_string())
}

#[test]
fn nothing_is_written_before_all_lists_are_complete() {
    let selectors = DEFAULT_SELECTORS.map(|selector| selector.parse().expect("it is a selector"));
    let mut state = BridgeState::new(BridgeKeys::new("p.example", None), selectors.to_vec(), "afd");
    let marked = pod("1", json!({}), &[(HOST, "n"), ("p.example/bridge", "true")]);
    state.pod_event(MARKERS, FollowEvent::Seen(&marked));
    for list in 0..=MARKERS {
        assert_eq!(next(&mut state), None, "it may be in a list that is not complete");
        state.pod_event(list, FollowEvent::Listed);
    }
    state.node_event(FollowEvent::Listed);
    assert_eq!(next(&mut state).as_deref(), Some("1"), "it has opted out while there was no bridge");
}

#[test]
fn a_pod_is_written_once_and_again_when_its_node_changes() {
    let mut state = listed();
    state.pod_event(0, FollowEvent::Seen(&pod("1", decode(), &[])));
    state.pod_event(1, FollowEvent::Seen(&pod("1", decode(), &[])));
    assert_eq!((next(&mut state).as_deref(), next(&mut state)), (Some("1"), None));
    let written = pod("1", decode(), &[(HOST, "n"), ("p.example/bridge", "true")]);
    state.pod_seen(None, &written);
    state.pod_event(0, FollowEvent::Seen(&written));
    state.node_event(FollowEvent::Seen(&node("n", json!({ HOST: "n", "other": "1" }))));
    assert_eq!(next(&mut state), None, "nothing that is copied has changed");
    state.node_event(FollowEvent::Gone(&node("n", json!({}))));
    state.node_event(FollowEvent::Seen(&node("n", json!({}))));
    assert_eq!(next(&mut state), None, "the Node is without labels for a while");
    state.node_event(FollowEvent::Seen(&node("n", json!({ HOST: "n", "topology.kubernetes.io/zone": "z" }))));
    assert_eq!(next(&mut state).as_deref(), Some("1"));
}

#[test]
fn a_pod_that_opts_out_is_read_and_one_that_is_deleted_is_forgotten() {
    let mut state = listed();
    let owned = [(HOST, "n"), ("p.example/bridge", "true")];
    for uid in ["out", "deleted"] {
        state.pod_event(0, FollowEvent::Seen(&pod(uid, decode(), &owned)));
        state.pod_event(MARKERS, FollowEvent::Seen(&pod(uid, decode(), &owned)));
    }
    assert_eq!(next(&mut state), None);
    // The event has the pod as it was before.
    state.pod_event(0, FollowEvent::Gone(&pod("out", decode(), &owned)));
    assert_eq!(next(&mut state), None, "it still has the marker, so that it comes with its new labels");
    state.pod_event(MARKERS, FollowEvent::Seen(&pod("out", json!({}), &owned)));
    assert_eq!(next(&mut state).as_deref(), Some("out"));
    let mut deleted = pod("deleted", decode(), &owned);
    deleted.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("it is a time");
    state.pod_event(0, FollowEvent::Gone(&deleted));
    state.pod_event(MARKERS, FollowEvent::Gone(&deleted));
    assert_eq!((next(&mut state), state.pods.len()), (None, 1));
}

#[test]
fn a_pod_opts_out_by_the_marker_and_what_a_list_lacks_is_gone() {
    let mut state = listed();
    let opted_out = json!({ "llm-d.ai/role": "decode", "p.example/bridge": "false" });
    state.pod_event(MARKERS, FollowEvent::Seen(&pod("1", opted_out, &[])));
    assert_eq!(next(&mut state), None);
    state.pod_event(0, FollowEvent::Seen(&pod("2", decode(), &[])));
    state.pod_event(0, FollowEvent::Listing);
    state.pod_event(0, FollowEvent::Listed);
    assert!(
        next(&mut state).is_none() && !state.pods.contains_key("2"),
        "it ended while nothing was watched"
    );
}

/// A pod at a version.
fn version(number: u64, mut pod: FollowedObject) -> FollowedObject {
    pod.metadata.resource_version = Some(number.to_string());
    pod
}

#[test]
fn a_pod_that_opts_in_again_before_the_response_that_cleaned_it_is_written() {
    let owned = [(HOST, "n"), ("p.example/bridge", "true")];
    let mut state = listed();
    state.pod_event(MARKERS, FollowEvent::Seen(&version(9, pod("1", json!({}), &owned))));
    assert_eq!(next(&mut state).as_deref(), Some("1"), "it has opted out");
    // The write is version 10. The user has seen it, and the watch is faster than the response to the bridge.
    state.pod_event(0, FollowEvent::Seen(&version(11, pod("1", decode(), &[]))));
    state.cleaned("1", &version(10, pod("1", json!({}), &[])));
    assert_eq!(next(&mut state).as_deref(), Some("1"));
    state.cleaned("1", &version(12, pod("1", json!({}), &[])));
    assert!(state.pods.is_empty(), "the response is of a later version than the watch");
}

#[test]
fn a_list_that_is_behind_another_one_changes_nothing_back() {
    let owned = [(HOST, "n"), ("p.example/bridge", "true")];
    let opted_out = json!({ "llm-d.ai/role": "decode", "p.example/bridge": "false" });
    let mut state = listed();
    state.pod_event(MARKERS, FollowEvent::Seen(&version(9, pod("1", opted_out.clone(), &[]))));
    state.pod_event(0, FollowEvent::Seen(&version(11, pod("1", decode(), &[]))));
    state.pod_event(MARKERS, FollowEvent::Seen(&version(10, pod("1", opted_out.clone(), &[]))));
    state.pod_event(MARKERS, FollowEvent::Gone(&version(11, pod("1", opted_out, &[]))));
    assert_eq!(next(&mut state).as_deref(), Some("1"), "it opts in at its latest version");
    // Nor does the response to an earlier write.
    state.pod_seen(None, &version(13, pod("1", decode(), &[])));
    state.pod_seen(None, &version(12, pod("1", decode(), &owned)));
    assert_eq!(next(&mut state).as_deref(), Some("1"), "another manager has removed the labels");
    // A new list changes nothing of that; one of a server that was restored from a backup does.
    state.pod_event(0, FollowEvent::Listing);
    state.pod_event(0, FollowEvent::Seen(&version(5, pod("1", decode(), &owned))));
    assert_eq!(next(&mut state).as_deref(), Some("1"), "it has no labels at its latest version");
    state.pod_event(1, FollowEvent::Restored);
    state.pod_event(0, FollowEvent::Seen(&version(5, pod("1", decode(), &owned))));
    state.pod_event(0, FollowEvent::Listed);
    assert_eq!(next(&mut state), None, "the pod has the labels");
}

#[test]
fn a_pod_that_could_not_be_written_is_tried_after_all_others() {
    let mut state = listed();
    state.pod_event(0, FollowEvent::Seen(&pod("refused", decode(), &[])));
    assert_eq!(next(&mut state).as_deref(), Some("refused"));
    assert_eq!(state.count_failure("refused", false), 1);
    state.examine("refused");
    state.pod_event(0, FollowEvent::Seen(&pod("new", decode(), &[])));
    assert_eq!([next(&mut state), next(&mut state)].map(|uid| uid.expect("both differ")), ["new", "refused"]);
}

#[test]
fn a_pod_that_has_ended_before_the_response_to_its_write_is_read_and_not_kept() {
    let mut state = listed();
    state.pod_event(0, FollowEvent::Seen(&version(9, pod("1", decode(), &[]))));
    assert_eq!(next(&mut state).as_deref(), Some("1"));
    let owned = [(HOST, "n"), ("p.example/bridge", "true")];
    state.pod_event(0, FollowEvent::Seen(&version(10, pod("1", decode(), &owned))));
    state.pod_event(0, FollowEvent::Gone(&version(11, pod("1", decode(), &owned))));
    state.pod_seen(None, &version(10, pod("1", decode(), &owned)));
    assert_eq!(next(&mut state).as_deref(), Some("1"));
}

/// Whether the taints are woken.
async fn wakes_taints(state: &BridgeState) -> bool {
    tokio::time::timeout(std::time::Duration::from_millis(1), state.taints_wake.notified()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_silent_for_hours_counts_at_once_when_it_is_back() {
    let mut state = listed();
    let seen = |time: &str| {
        let entry = json!({ "manager": "afd", "time": time });
        let annotations = json!({ "p.example/failed-devices": "{}" });
        object(
            json!({ "metadata": { "name": "n", "uid": "n", "annotations": annotations, "managedFields": [entry] } }),
        )
    };
    state.node_event(FollowEvent::Seen(&seen("2026-01-01T00:00:00Z")));
    assert!(wakes_taints(&state).await, "the annotation is new");
    state.node_event(FollowEvent::Seen(&seen("2026-01-01T01:00:00Z")));
    assert!(!wakes_taints(&state).await, "its heartbeat is hourly");
    state.node_event(FollowEvent::Seen(&seen("2026-01-01T05:00:00Z")));
    assert!(wakes_taints(&state).await);
}

const NODES: usize = 15_000;
const PODS: usize = 100_000;
/// What the chart's limit leaves room for, with the page of a list and the program.
const MAX_BYTES: usize = 96 << 20;

/// The memory of this process, in bytes.
#[expect(clippy::disallowed_methods, reason = "a test reads the file")]
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the kernel has this file");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("it is a number");
    pages * 4096
}

#[test]
fn a_large_cluster_is_kept_in_little_memory() {
    let mut state = listed();
    let before = resident();
    let mut large = node(
        "n",
        json!({ HOST: "n", "p.example/present": "true", "p.example/product": "NVIDIA-H100-80GB-HBM3" }),
    );
    let mut owned = pod("uid", decode(), &[(HOST, "n"), ("p.example/bridge", "true")]);
    for number in 0..NODES {
        large.metadata.name = Some(format!("ip-10-0-0-{number}.region.compute.example"));
        state.node_event(FollowEvent::Seen(&large));
    }
    for number in 0..PODS {
        owned.metadata.uid = Some(format!("{number:08}-1111-2222-3333-444444444444"));
        owned.metadata.name = Some(format!("llm-d-modelservice-decode-6f7d8c9b5d-{number:05}"));
        owned.spec.node_name = format!("ip-10-0-0-{}.region.compute.example", number % NODES);
        state.pod_event(0, FollowEvent::Seen(&owned));
    }
    assert_eq!((state.nodes.len(), state.pods.len()), (NODES + 1, PODS));
    let used = resident().saturating_sub(before);
    assert!(used < MAX_BYTES, "{used} bytes");
    // A change of every Node looks after each pod on it once.
    assert_eq!(state.queue.len(), PODS, "the product is missing on all of them");
}
