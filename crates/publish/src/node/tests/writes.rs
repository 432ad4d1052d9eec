//! Conflicts, and owners that were lost.

use std::collections::BTreeSet;

use super::{
    super::{api::NodeApi, plan::MetadataKeys, writer::NodeWriter},
    *,
};

const MEMORY: &str = "accelerator.llm-d.ai/memory-mib";

/// The memory is not known; the count is.
fn undecided_memory(count: usize) -> DesiredNode {
    let mut desired = desired(count);
    desired.labels.undecided.insert_key(MEMORY);
    desired
}

/// A Node with both labels of ours.
fn labelled() -> FakeNode {
    let mut node = FakeNode::new(NODE);
    node.update(FIELD_MANAGER, label(COUNT), Some(json!("8")));
    node.update(FIELD_MANAGER, label(MEMORY), Some(json!("81559")));
    node
}

/// Plans on a version of the Node, changes the Node, and writes.
async fn write_after(
    node: FakeNode,
    desired: &DesiredNode,
    change: impl FnOnce(&mut FakeNode),
) -> ReconcilerTest {
    let test = ReconcilerTest::with(node, None);
    let api = NodeApi::new(test.api.client(), test.counters());
    let observed = api.get(NODE).await.expect("the server answers");
    test.with_node(change);
    let writer = NodeWriter { api: &api, name: NODE, prefix: PREFIX };
    writer.write_metadata(observed, desired, &MetadataKeys::default()).await.expect("it is written");
    test
}

#[tokio::test]
async fn a_write_that_carries_undecided_keys_is_planned_again_on_another_version() {
    let test = write_after(labelled(), &undecided_memory(7), |node| {
        node.update("other", label(MEMORY), Some(json!("1")));
    })
    .await;
    assert_eq!(test.requested("apply"), 2, "the first one was refused");
    test.with_node(|node| assert_eq!((node.label(COUNT), node.label(MEMORY)), (Some("7"), Some("1"))));
    assert_eq!(test.contested(MEMORY, "other"), 0, "nothing is decided that is contested");
}

#[tokio::test]
async fn a_condition_that_is_carried_is_planned_again_on_another_version() {
    let problem = |status: &str| json!({ "type": PROBLEM, "status": status, "reason": "Reason" });
    let field = FakeNodeField::Condition(PROBLEM.to_owned());
    let mut node = FakeNode::new(NODE);
    node.update(FIELD_MANAGER, field.clone(), Some(problem("False")));
    let test = ReconcilerTest::with(node, None);
    let api = NodeApi::new(test.api.client(), test.counters());
    let observed = api.get(NODE).await.expect("the server answers");
    test.with_node(|node| node.update("kubectl-edit", field.clone(), Some(problem("True"))));
    let wanted = with_conditions(&[
        (READY, condition(ConditionStatus::True, "AllHealthy")),
        (PROBLEM, Decision::Undecided),
    ]);
    let writer = NodeWriter { api: &api, name: NODE, prefix: PREFIX };
    writer.write_status(observed, &wanted, &BTreeSet::new()).await.expect("it is written");
    assert_eq!(test.requested("apply status"), 2, "the first one was refused");
    test.with_node(|node| {
        assert_eq!(node.value(&field), Some(&problem("True")), "it is not decided, so it is not corrected");
        assert!(node.condition(READY).is_some());
    });
}

#[tokio::test]
async fn an_undecided_key_that_was_removed_stays_away() {
    let test =
        write_after(labelled(), &undecided_memory(7), |node| node.update("other", label(MEMORY), None)).await;
    test.with_node(|node| assert_eq!((node.label(COUNT), node.label(MEMORY)), (Some("7"), None)));
}

#[tokio::test]
async fn a_vendors_key_that_is_taken_meanwhile_is_left_to_its_owner_and_counted() {
    let mut desired = undecided_memory(7);
    desired.compat = BTreeMap::from([(VENDOR_COUNT.to_owned(), "7".to_owned())]).into();
    let test = write_after(FakeNode::new(NODE), &desired, |node| {
        node.update("nfd-master", label(VENDOR_COUNT), Some(json!("4")));
        node.update("kubectl-edit", label(COUNT), Some(json!("99")));
    })
    .await;
    test.with_node(|node| assert_eq!((node.label(COUNT), node.label(VENDOR_COUNT)), (Some("7"), Some("4"))));
    assert_eq!((test.contested(VENDOR_COUNT, "nfd-master"), test.contested(COUNT, "kubectl-edit")), (1, 0));
    let forced = &test.api.requests("apply")[1];
    assert!(forced.body["metadata"]["resourceVersion"].is_string(), "a forced apply holds for one version");
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_another_manager_changed_is_corrected() {
    let mut wanted = with_conditions(&[(READY, condition(ConditionStatus::True, "AllHealthy"))]);
    wanted.annotations = BTreeMap::from([(REPORT.to_owned(), "{}".to_owned())]).into();
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(wanted.clone()));
    test.run_while(Duration::from_secs(200), async || {
        sleep(Duration::from_secs(10)).await;
        test.with_node(|node| node.update("kubectl-annotate", annotation(REPORT), Some(json!("mine"))));
        sleep(Duration::from_secs(10)).await;
        test.with_node(|node| assert_eq!(node.annotation(REPORT), Some("{}")));
        let mut changed = wanted.clone();
        changed.labels = desired(7).labels;
        test.desired.send_replace(Some(changed));
    })
    .await;
    test.with_node(|node| assert_eq!((node.label(COUNT), node.annotation(REPORT)), (Some("7"), Some("{}"))));
    assert_eq!(test.contested(REPORT, "kubectl-annotate"), 1);
}

#[tokio::test(start_paused = true)]
async fn own_keys_whose_owner_was_lost_are_adopted_or_removed() {
    let mut node = labelled();
    node.update(FIELD_MANAGER, label("accelerator.llm-d.ai/product.Old"), Some(json!("8")));
    node.update(FIELD_MANAGER, annotation(REPORT), Some(json!("old")));
    node.update("admin", annotation("accelerator.llm-d.ai/expect"), Some(json!("any=8")));
    node.update("admin", label("zone"), Some(json!("a")));
    let problem = json!({ "type": PROBLEM, "status": "True", "reason": "DeviceMissing" });
    node.update(FIELD_MANAGER, FakeNodeField::Condition(PROBLEM.to_owned()), Some(problem));
    node.forget_owners();
    let conditions = with_conditions(&[(PROBLEM, Decision::Absent)]).conditions;
    let test = ReconcilerTest::with(node, Some(DesiredNode { conditions, ..undecided_memory(7) }));
    test.run(Duration::from_secs(10)).await;
    test.with_node(|node| {
        let fields: Vec<_> = node.fields().cloned().collect();
        assert_eq!(
            fields,
            [label(COUNT), label(MEMORY), label("zone"), annotation("accelerator.llm-d.ai/expect")]
        );
        assert_eq!((node.label(COUNT), node.label(MEMORY)), (Some("7"), Some("81559")));
    });
    assert!(test.with_node(|node| node.annotation("accelerator.llm-d.ai/expect") == Some("any=8")));
    test.run(HOUR).await;
    assert_eq!(test.requested("patch"), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn a_vendors_key_returns_once_its_owner_has_left() {
    let mut node = FakeNode::new(NODE);
    node.update("nfd-master", label(VENDOR_COUNT), Some(json!("4")));
    let mut desired = desired(8);
    desired.compat = BTreeMap::from([(VENDOR_COUNT.to_owned(), "8".to_owned())]).into();
    let test = ReconcilerTest::with(node, Some(desired));
    test.run_while(Duration::from_secs(100), async || {
        sleep(Duration::from_secs(10)).await;
        test.with_node(|node| node.update("nfd-master", label(VENDOR_COUNT), None));
    })
    .await;
    test.with_node(|node| assert_eq!(node.label(VENDOR_COUNT), Some("8")));
}
