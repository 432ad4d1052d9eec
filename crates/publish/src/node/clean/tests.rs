//! Cleaning against a fake API server, with tokio's paused time.

use std::collections::BTreeMap;

use afd_apiserver::ApiCalls;
use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::json;

use super::{super::FIELD_MANAGER, *};
use crate::testing::{FakeApi, FakeApiFault, FakeNode, FakeNodeField};

const PREFIX: &str = "accelerator.llm-d.ai";

fn counters() -> NodeCounters {
    let vector = |labels: &[&str]| {
        IntCounterVec::new(Opts::new("counter", "Counter."), labels).expect("the names are valid")
    };
    NodeCounters {
        calls: ApiCalls::new(vector(&["verb", "code"])),
        label_writes: IntCounter::new("writes", "Writes.").expect("the name is valid"),
        contested: vector(&["key", "owner"]),
    }
}

fn own(name: &str) -> String {
    format!("{PREFIX}/{name}")
}

fn foreign_fields() -> [(FakeNodeField, &'static str); 4] {
    [
        (FakeNodeField::Label("zone".to_owned()), "cloud"),
        (FakeNodeField::Annotation(own("expect")), "kubectl-annotate"),
        (FakeNodeField::Annotation(own("ignore")), "kubectl-annotate"),
        (FakeNodeField::Condition("Ready".to_owned()), "kubelet"),
    ]
}

/// A Node with everything that AFD writes, and with fields of others.
fn full(name: &str) -> FakeNode {
    let mut node = untouched(name);
    let condition = |kind: &str| json!({ "type": kind, "status": "True" });
    for field in [
        FakeNodeField::Label(own("count")),
        FakeNodeField::Label("llm-d.ai/accelerator-vendor".to_owned()),
        FakeNodeField::Label("nvidia.com/gpu.count".to_owned()),
        FakeNodeField::Annotation(own("report")),
        FakeNodeField::Annotation(own("expected")),
        FakeNodeField::Annotation(own("incidents")),
    ] {
        node.update(FIELD_MANAGER, field, Some(json!("1")));
    }
    for kind in [own("Ready"), own("Problem"), "AcceleratedHardwareReady".to_owned()] {
        let value = condition(&kind);
        node.update(FIELD_MANAGER, FakeNodeField::Condition(kind), Some(value));
    }
    node
}

fn untouched(name: &str) -> FakeNode {
    let mut node = FakeNode::new(name);
    for (field, owner) in foreign_fields() {
        let value = match &field {
            FakeNodeField::Condition(kind) => json!({ "type": kind, "status": "True" }),
            FakeNodeField::Label(_) | FakeNodeField::Annotation(_) => json!("x"),
        };
        node.update(owner, field, Some(value));
    }
    node
}

fn fields(api: &FakeApi, name: &str) -> Vec<FakeNodeField> {
    api.with_node(name, |node| node.fields().cloned().collect())
}

#[tokio::test]
async fn everything_of_ours_is_removed_and_nothing_of_others() {
    let api = FakeApi::new([full("node")]);
    assert!(clean(api.client(), "node", PREFIX, counters()).await.expect("it is cleaned"));
    assert_eq!(fields(&api, "node"), foreign_fields().map(|(field, _)| field));
    assert_eq!(api.writes().len(), 2, "{:?}", api.writes());
    for write in api.writes() {
        let metadata = &write.body["metadata"];
        assert!(metadata.get("labels").is_none() && metadata.get("annotations").is_none(), "{metadata}");
    }
    assert!(!clean(api.client(), "node", PREFIX, counters()).await.expect("it is clean"));
    assert_eq!(api.writes().len(), 2, "nothing is written to a clean Node");
}

#[tokio::test]
async fn own_keys_are_removed_even_if_their_owner_was_lost() {
    let mut node = full("node");
    node.forget_owners();
    let api = FakeApi::new([node]);
    let cleaned = clean_all(api.client(), PREFIX, counters()).await.expect("Nodes are listed");
    assert_eq!((cleaned.cleaned, cleaned.failed.len()), (1, 0));
    let left = fields(&api, "node");
    let is_own = |field: &FakeNodeField| match field {
        FakeNodeField::Annotation(key) => {
            key.starts_with(PREFIX) && ![own("expect"), own("ignore")].contains(key)
        }
        FakeNodeField::Label(key) | FakeNodeField::Condition(key) => key.starts_with(PREFIX),
    };
    assert!(!left.iter().any(is_own), "{left:?}");
    for (field, _) in foreign_fields() {
        assert!(left.contains(&field), "{field:?} is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_without_a_trace_are_skipped_and_a_failure_does_not_stop_the_others() {
    let nodes = ["a", "b", "c"].map(full).into_iter().chain([untouched("d")]);
    let api = FakeApi::new(nodes);
    api.fail(Some(FakeApiFault::RefusesNode("b", 429)));
    let cleaned = clean_all(api.client(), PREFIX, counters()).await.expect("Nodes are listed");
    let failed: Vec<&str> = cleaned.failed.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!((cleaned.cleaned, &failed[..]), (2, &["b"][..]));
    let traces: BTreeMap<&str, usize> =
        ["a", "b", "c", "d"].map(|name| (name, fields(&api, name).len())).into();
    let others = foreign_fields().len();
    assert_eq!(traces, BTreeMap::from([("a", others), ("b", others + 9), ("c", others), ("d", others)]));
    assert_eq!(api.with_node("d", |node| node.version()), untouched("d").version(), "it was written");
    assert_eq!(api.requests("get").len(), 2 + MAX_ROUNDS, "the failed one is tried again");
}

#[tokio::test]
async fn a_node_that_was_deleted_meanwhile_is_no_failure() {
    let api = FakeApi::new([full("a")]);
    api.fail(Some(FakeApiFault::RefusesNode("a", 404)));
    let cleaned = clean_all(api.client(), PREFIX, counters()).await.expect("Nodes are listed");
    assert_eq!((cleaned.cleaned, cleaned.failed.len()), (0, 0));
}
