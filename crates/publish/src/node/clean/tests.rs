//! Cleaning against a fake API server, with tokio's paused time.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{super::FIELD_MANAGER, *};
use crate::testing::{FakeApi, FakeApiFault, FakeNode, FakeNodeField, counters};

const PREFIX: &str = "accelerator.llm-d.ai";
const ALL: CleanOptions<'static> = CleanOptions { prefix: PREFIX, managed_by: None };
/// The number of fields that [`full`] adds.
const OWN_FIELDS: usize = 9;

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
    let removed = clean(api.client(), "node", PREFIX, counters()).await.expect("it is cleaned");
    assert_eq!(removed, Some(RemovedFields { labels: 3, annotations: 3, conditions: 3 }));
    assert_eq!(fields(&api, "node"), foreign_fields().map(|(field, _)| field));
    assert_eq!(api.writes().len(), 1, "{:?}", api.writes());
    assert_eq!(clean(api.client(), "node", PREFIX, counters()).await.expect("it is clean"), None);
    assert_eq!(api.writes().len(), 1, "nothing is written to a clean Node");
}

/// The API server refuses an empty map where owners were lost.
#[tokio::test]
async fn no_body_has_an_empty_map() {
    let one = |field: FakeNodeField, value: Value| {
        let mut node = untouched("node");
        node.update(FIELD_MANAGER, field, Some(value));
        node
    };
    for node in [
        one(FakeNodeField::Label(own("count")), json!("1")),
        one(FakeNodeField::Annotation(own("report")), json!("1")),
        one(FakeNodeField::Condition(own("Ready")), json!({ "type": own("Ready"), "status": "True" })),
    ] {
        let api = FakeApi::new([node]);
        assert_eq!(clean_all(api.client(), ALL, counters()).await.cleaned, 1);
        let body = &api.writes()[0].body;
        for map in ["/metadata/labels", "/metadata/annotations", "/status/conditions"] {
            let content = body.pointer(map).map(ToString::to_string);
            assert!(content.as_deref().is_none_or(|content| !["{}", "[]"].contains(&content)), "{body}");
        }
        assert_eq!(fields(&api, "node").len(), foreign_fields().len());
    }
}

#[tokio::test]
async fn own_keys_are_removed_even_if_their_owner_was_lost() {
    let mut node = full("node");
    node.forget_owners();
    let api = FakeApi::new([node]);
    let cleaned = clean_all(api.client(), ALL, counters()).await;
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
    api.fail(Some(FakeApiFault::RefusesNode("b", 403)));
    let cleaned = clean_all(api.client(), ALL, counters()).await;
    let failed: Vec<&str> = cleaned.failed.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!((cleaned.cleaned, &failed[..]), (2, &["b"][..]));
    let traces: BTreeMap<&str, usize> =
        ["a", "b", "c", "d"].map(|name| (name, fields(&api, name).len())).into();
    let others = foreign_fields().len();
    assert_eq!(
        traces,
        BTreeMap::from([("a", others), ("b", others + OWN_FIELDS), ("c", others), ("d", others)])
    );
    assert_eq!(api.with_node("d", |node| node.version()), untouched("d").version(), "it was written");
    assert_eq!(api.requests("get").len(), MAX_ROUNDS - 1, "the failed one is tried again");
}

#[tokio::test]
async fn a_node_that_was_deleted_meanwhile_is_no_failure() {
    let api = FakeApi::new([full("a")]);
    api.fail(Some(FakeApiFault::RefusesNode("a", 404)));
    let cleaned = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((cleaned.cleaned, cleaned.failed.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_find_a_node_does_not_mean_that_it_was_deleted() {
    let api = FakeApi::new([full("a"), full("b")]);
    api.fail(Some(FakeApiFault::ProxyRefusesNode("a", 404)));
    let cleaned = clean_all(api.client(), ALL, counters()).await;
    let failed: Vec<&str> = cleaned.failed.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!((cleaned.cleaned, &failed[..]), (1, &["a"][..]));
    assert_eq!(api.requests("get").len(), MAX_ROUNDS - 1, "it is tried again");
    assert!(clean(api.client(), "a", PREFIX, counters()).await.is_err());
}

/// A Node that the agents of a release keep.
fn kept_by(release: &str, prefix: &str, name: &str) -> FakeNode {
    let mut node = full(name);
    let field = FakeNodeField::Annotation(format!("{prefix}/{MANAGED_BY}"));
    node.update(FIELD_MANAGER, field, Some(json!(release)));
    node
}

#[tokio::test]
async fn the_nodes_of_another_release_are_left_whatever_its_prefix_is() {
    let mut imitated = full("imitated");
    let field = FakeNodeField::Annotation(format!("example.com/{MANAGED_BY}"));
    imitated.update("helm", field, Some(json!("x/y")));
    let mut lost = kept_by("afd/other", PREFIX, "lost");
    lost.forget_owners();
    let nodes = [
        kept_by("afd/mine", PREFIX, "mine"),
        kept_by("afd/other", PREFIX, "other"),
        kept_by("afd/other", "gpu.example.com", "other-prefix"),
        full("unknown"),
        imitated,
        lost,
    ];
    let api = FakeApi::new(nodes);
    let before: BTreeMap<String, u64> = ["other", "other-prefix", "lost"]
        .map(|name| (name.to_owned(), api.with_node(name, |node| node.version())))
        .into();
    let options = CleanOptions { managed_by: Some("afd/mine"), ..ALL };
    let result = clean_all(api.client(), options, counters()).await;
    assert_eq!((result.cleaned, result.left, result.failed.len()), (3, 3, 0), "{result:?}");
    for (name, version) in before {
        assert_eq!(api.with_node(&name, |node| node.version()), version, "{name} was written");
    }
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((result.cleaned, result.left), (3, 0), "without a release, all are cleaned");
}

#[tokio::test]
async fn a_node_that_another_release_takes_over_after_the_list_is_left() {
    let api = FakeApi::new([kept_by("afd/other", PREFIX, "node")]);
    let node_api = NodeApi::new(api.client(), counters());
    let options = CleanOptions { managed_by: Some("afd/mine"), ..ALL };
    let outcome = NodeCleaner::new(&node_api, options).clean("node", None).await;
    assert!(matches!(outcome, Ok(CleanOutcome::OfAnotherRelease)));
    assert!(api.writes().is_empty());
}

fn many(count: usize) -> FakeApi {
    FakeApi::new((0..count).map(|number| full(&format!("node-{number}"))))
}

#[tokio::test(start_paused = true)]
async fn several_nodes_are_cleaned_at_a_time() {
    let api = many(64);
    api.fail(Some(FakeApiFault::Slow(Duration::from_secs(1))));
    let start = Instant::now();
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!(result.cleaned, 64);
    assert_eq!(result.removed, RemovedFields { labels: 192, annotations: 192, conditions: 192 });
    // One page, and one call for each Node.
    assert_eq!(start.elapsed().as_secs() as usize, 1 + 64 / MAX_CONCURRENT);
    assert_eq!((api.writes().len(), api.requests("get").len()), (64, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_changed_since_it_was_listed_is_read_again() {
    let api = FakeApi::new([full("node")]);
    let node_api = NodeApi::new(api.client(), counters());
    let cleaner = NodeCleaner::new(&node_api, CleanOptions { managed_by: Some("afd/mine"), ..ALL });
    let listed = async || node_api.get("node").await.expect("it exists").metadata;
    let old = listed().await;
    let vendor = FakeNodeField::Label("nvidia.com/gpu.count".to_owned());
    api.with_node("node", |node| node.update("gpu-feature-discovery", vendor.clone(), Some(json!("8"))));
    let outcome = cleaner.clean("node", Some(&old)).await;
    assert!(matches!(outcome, Ok(CleanOutcome::Cleaned(RemovedFields { labels: 2, .. }))));
    assert_eq!(api.with_node("node", |node| node.value(&vendor).cloned()), Some(json!("8")));
    // Meanwhile another release has it.
    let old = listed().await;
    let field = FakeNodeField::Annotation(own(MANAGED_BY));
    api.with_node("node", |node| node.update(FIELD_MANAGER, field.clone(), Some(json!("afd/other"))));
    api.take_writes();
    let outcome = cleaner.clean("node", Some(&old)).await;
    assert!(matches!(outcome, Ok(CleanOutcome::OfAnotherRelease)));
    assert_eq!(api.writes().len(), 1, "only the one that was refused");
    assert!(fields(&api, "node").contains(&field), "it was cleaned");
}

#[tokio::test]
async fn a_field_that_another_manager_owns_as_well_is_given_up_and_stays() {
    let shared = [
        FakeNodeField::Label("nvidia.com/gpu.count".to_owned()),
        FakeNodeField::Condition("AcceleratedHardwareReady".to_owned()),
    ];
    let mut node = full("node");
    for field in &shared {
        node.share("other", field);
    }
    let api = FakeApi::new([node]);
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((result.cleaned, result.removed.labels, result.removed.conditions), (1, 2, 2));
    let left = fields(&api, "node");
    assert!(shared.iter().all(|field| left.contains(field)), "{left:?}");
    assert_eq!(left.len(), foreign_fields().len() + shared.len(), "{left:?}");
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!(result.cleaned, 0, "AFD still owns something");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_many_pages_that_expires_begins_again() {
    let count = PAGE_SIZE as usize * 2 + 1;
    let api = many(count);
    api.fail(Some(FakeApiFault::ListExpires(2)));
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((result.cleaned, result.failed.len()), (count, 0));
    assert_eq!(api.requests("list").len(), 2 * 2 + 3, "{:?}", api.requests("list"));
    assert_eq!(api.writes().len(), count, "a clean Node is written again");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_always_expires_ends() {
    let api = many(PAGE_SIZE as usize + 1);
    api.fail(Some(FakeApiFault::ListExpires(u32::MAX)));
    let error = clean_all(api.client(), ALL, counters()).await.unlisted.expect("there is no list");
    assert!(overload::has_code(&error, 410), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_pauses_all_calls_and_nothing_is_lost() {
    let api = many(40);
    api.fail(Some(FakeApiFault::BusyTimes(20, 7)));
    let start = Instant::now();
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((result.cleaned, result.failed.len(), result.untried), (40, 0, 0));
    let refused = 20;
    let calls = api.writes().len() + api.requests("get").len();
    assert!(calls <= 40 + refused + 2 * MAX_CONCURRENT, "{calls} calls");
    // Not more than are made at a time are refused before each pause.
    assert!(start.elapsed() >= Duration::from_secs(7 * 2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_day_is_asked_again_within_minutes() {
    let api = many(4);
    api.fail(Some(FakeApiFault::BusyTimes(1, 86_400)));
    let start = Instant::now();
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!(result.cleaned, 4);
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_overloaded_gets_few_requests_and_the_nodes_are_counted() {
    let api = many(200);
    api.fail(Some(FakeApiFault::Refuses("patch status", 503)));
    let start = Instant::now();
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!((result.cleaned, result.failed.len() + result.untried), (0, 200));
    assert!(result.untried > 0, "all were tried");
    assert!(api.writes().len() <= 200, "{} requests", api.writes().len());
    assert!(start.elapsed() < Duration::from_secs(900), "longer than the deadline of the job");
}

#[tokio::test]
async fn a_second_run_goes_on_where_the_first_one_was_interrupted() {
    let api = many(20);
    let node_api = NodeApi::new(api.client(), counters());
    let cleaner = NodeCleaner::new(&node_api, ALL);
    for number in 0..12 {
        let outcome = cleaner.clean(&format!("node-{number}"), None).await;
        assert!(matches!(outcome, Ok(CleanOutcome::Cleaned(_))));
    }
    api.take_writes();
    let result = clean_all(api.client(), ALL, counters()).await;
    assert_eq!(result.cleaned, 8);
    assert_eq!((api.requests("get").len(), api.writes().len()), (0, 8), "a clean Node is asked for");
}
