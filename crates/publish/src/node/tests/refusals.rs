//! Writes that the API server refuses in part or as a whole: nothing else waits for them.

use super::*;
use crate::testing::FakeApiFault;

const MODEL: &str = "accelerator.llm-d.ai/model";
const OLD: &str = "accelerator.llm-d.ai/product.Old";

/// Sixty labels, an annotation and both conditions.
fn many(status: ConditionStatus) -> DesiredNode {
    let mut desired =
        with_conditions(&[(READY, condition(status, "Reason")), (PROBLEM, condition(status, "Reason"))]);
    for number in 0..58 {
        desired.labels.values.insert(format!("{PREFIX}/l{number}"), "1".to_owned());
    }
    desired.labels.values.insert(MODEL.to_owned(), "H100".to_owned());
    desired.annotations = BTreeMap::from([(REPORT.to_owned(), "{}".to_owned())]).into();
    desired
}

fn refuses(field: FakeNodeField, code: u16) -> Option<FakeApiFault> {
    Some(FakeApiFault::RefusesField(field, code))
}

#[tokio::test(start_paused = true)]
async fn one_refused_key_keeps_no_other_from_being_written() {
    for (field, code) in
        [(label(MODEL), 403), (label(COUNT), 422), (annotation(REPORT), 413), (label(MODEL), 400)]
    {
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(many(ConditionStatus::False)));
        test.api.fail(refuses(field.clone(), code));
        test.run(Duration::from_secs(4)).await;
        test.with_node(|node| {
            assert_eq!(node.value(&field), None);
            assert_eq!(node.fields().count(), 60 + 1 + 2 - 1, "{field:?}");
        });
        let applies = test.requested("apply");
        assert!(applies <= 24, "{applies} requests for one refused key of 61");
        let (FakeNodeField::Label(key) | FakeNodeField::Annotation(key)) = &field else { unreachable!() };
        assert_eq!(test.refused.with_label_values(&[key, &code.to_string()]).get(), 1);
        // It is tried again, more and more rarely, and written once it is accepted.
        test.run(Duration::from_secs(2400)).await;
        let applies = test.requested("apply") - applies;
        assert!((5..=60).contains(&applies), "{applies} requests in 40 minutes");
        test.api.fail(None);
        test.run(Duration::from_secs(400)).await;
        assert!(test.with_node(|node| node.value(&field).is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_accepted_are_no_refusal_of_keys() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::Refuses("apply", 401)));
    test.run_while(Duration::from_secs(120), async || {
        sleep(Duration::from_secs(20)).await;
        test.api.fail(None);
        sleep(Duration::from_secs(40)).await;
        assert_eq!(test.with_node(|node| node.label(COUNT).map(str::to_owned)).as_deref(), Some("8"));
    })
    .await;
    assert_eq!(test.refused.with_label_values(&[COUNT, "401"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_for_a_whole_prefix_keeps_no_own_label_from_being_written() {
    for keys in [3, 12, 30] {
        let mut desired = many(ConditionStatus::True);
        for number in 0..keys {
            desired.compat.values.insert(format!("nvidia.com/gpu.{number:02}"), "1".to_owned());
        }
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(desired));
        test.api.fail(Some(FakeApiFault::RefusesKeys("nvidia.com/", 403)));
        test.run(Duration::from_secs(600)).await;
        test.with_node(|node| assert_eq!(node.fields().count(), 60 + 1 + 2, "{keys} refused keys"));
        assert_eq!(test.refused.with_label_values(&[COUNT, "403"]).get(), 0);
        assert!(test.refused.with_label_values(&["nvidia.com/gpu.00", "403"]).get() > 0);
        let applies = test.requested("apply");
        assert!(applies <= 30 * 8, "{applies} requests for {keys} refused keys");
        test.api.fail(None);
        test.run(Duration::from_secs(400)).await;
        test.with_node(|node| assert_eq!(node.fields().count(), 60 + 1 + 2 + keys));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_webhook_undoes_is_tried_more_and_more_rarely_and_keeps_nothing_else() {
    for field in [label(MODEL), FakeNodeField::Condition(READY.to_owned())] {
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(many(ConditionStatus::True)));
        test.api.fail(Some(FakeApiFault::Strips(field.clone())));
        test.run_while(HOUR, async || {
            sleep(Duration::from_secs(1000)).await;
            let mut changed = many(ConditionStatus::False);
            changed.labels.values.insert(COUNT.to_owned(), "7".to_owned());
            test.desired.send_replace(Some(changed));
            sleep(Duration::from_secs(1)).await;
            test.with_node(|node| {
                assert_eq!(node.label(COUNT), Some("7"), "{field:?}");
                assert_eq!(
                    node.condition(PROBLEM).map(|problem| problem["status"].clone()),
                    Some(json!("False"))
                );
            });
        })
        .await;
        let (writes, watches) = (test.api.writes().len(), test.requested("watch"));
        assert!(
            writes <= 60 && watches <= 120,
            "{field:?}: {writes} writes and {watches} watches in an hour"
        );
        test.api.fail(None);
        test.run(Duration::from_secs(400)).await;
        assert!(test.with_node(|node| node.value(&field).is_some()), "{field:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_a_webhook_undoes_keeps_nothing_else() {
    let mut node = FakeNode::new(NODE);
    node.update(FIELD_MANAGER, label(OLD), Some(json!("8")));
    node.forget_owners();
    let test = ReconcilerTest::with(node, Some(many(ConditionStatus::True)));
    test.api.fail(Some(FakeApiFault::Restores(OLD.to_owned())));
    test.run(HOUR).await;
    test.with_node(|node| assert_eq!((node.label(COUNT), node.label(OLD)), (Some("8"), Some("8"))));
    let undone = |key: &str| test.refused.with_label_values(&[key, "undone"]).get();
    assert!(undone(OLD) > 0 && undone(COUNT) == 0);
    let writes = test.api.writes().len();
    assert!(writes <= 80, "{writes} writes in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_narrowed_to_one_key_keeps_the_others_no_longer() {
    let mut desired = many(ConditionStatus::True);
    for number in 0..30 {
        desired.compat.values.insert(format!("nvidia.com/gpu.{number:02}"), "1".to_owned());
    }
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(desired));
    test.api.fail(Some(FakeApiFault::RefusesKeys("nvidia.com/", 403)));
    test.run(Duration::from_secs(1000)).await;
    test.api.fail(Some(FakeApiFault::RefusesKeys("nvidia.com/gpu.17", 403)));
    test.run(Duration::from_secs(800)).await;
    test.with_node(|node| assert_eq!(node.fields().count(), 60 + 1 + 2 + 29));
}

#[tokio::test(start_paused = true)]
async fn a_condition_whose_changes_are_refused_keeps_no_other_from_being_changed() {
    const ALIAS: &str = "AcceleratedHardwareReady";
    let state = |ready| {
        let good = || condition(ConditionStatus::True, "Reason");
        with_conditions(&[(READY, condition(ready, "Reason")), (PROBLEM, good()), (ALIAS, good())])
    };
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(state(ConditionStatus::True)));
    test.run_while(Duration::from_secs(300), async || {
        sleep(Duration::from_secs(100)).await;
        // Its time in the fake server is the wall clock's, which has whole seconds.
        std::thread::sleep(Duration::from_millis(1100));
        test.api.fail(refuses(FakeNodeField::Condition(ALIAS.to_owned()), 403));
        test.desired.send_replace(Some(state(ConditionStatus::False)));
    })
    .await;
    test.with_node(|node| {
        assert_eq!(node.condition(READY).map(|ready| ready["status"].clone()), Some(json!("False")));
    });
    assert_eq!(test.refused.with_label_values(&[READY, "403"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_alias_costs_no_write_of_the_other_conditions() {
    const ALIAS: &str = "AcceleratedHardwareReady";
    let state = || condition(ConditionStatus::True, "Reason");
    let desired = with_conditions(&[(READY, state()), (PROBLEM, state()), (ALIAS, state())]);
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(desired));
    test.api.fail(refuses(FakeNodeField::Condition(ALIAS.to_owned()), 403));
    test.run(HOUR / 6).await;
    let before = test.with_node(|node| node.version());
    test.run(HOUR / 2).await;
    let written = test.with_node(|node| node.version()) - before;
    assert!(written <= 2, "{written} versions of the Node in half an hour");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_stored_without_a_response_is_over_once_that_is_seen() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::Refuses("apply", 500)));
    test.run_while(HOUR, async || {
        sleep(Duration::from_secs(30)).await;
        // By then it has failed; the Node has it nevertheless.
        test.api.fail(None);
        test.with_node(|node| node.update(FIELD_MANAGER, label(COUNT), Some(json!("8"))));
    })
    .await;
    let gets = test.requested("get");
    assert!(gets <= 10, "{gets} reads in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_refused_removal_keeps_the_key_and_nothing_else() {
    let mut node = FakeNode::new(NODE);
    node.update(FIELD_MANAGER, label(OLD), Some(json!("8")));
    let test = ReconcilerTest::with(node, Some(many(ConditionStatus::True)));
    test.api.fail(refuses(label(OLD), 403));
    test.run(Duration::from_secs(60)).await;
    test.with_node(|node| {
        assert_eq!(
            (node.label(COUNT), node.label(MODEL), node.label(OLD)),
            (Some("8"), Some("H100"), Some("8"))
        );
    });
    // As is one that only a patch can remove.
    test.api.fail(None);
    let mut node = FakeNode::new(NODE);
    node.update(FIELD_MANAGER, label(OLD), Some(json!("8")));
    node.forget_owners();
    let test = ReconcilerTest::with(node, Some(many(ConditionStatus::True)));
    test.api.fail(refuses(label(OLD), 403));
    test.run(Duration::from_secs(60)).await;
    test.with_node(|node| assert_eq!((node.label(COUNT), node.label(OLD)), (Some("8"), Some("8"))));
}

#[tokio::test(start_paused = true)]
async fn one_refused_condition_keeps_no_other_from_being_written() {
    for kind in [READY, PROBLEM] {
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(many(ConditionStatus::True)));
        test.api.fail(refuses(FakeNodeField::Condition(kind.to_owned()), 403));
        test.run_while(Duration::from_secs(200), async || {
            sleep(Duration::from_secs(1)).await;
            test.desired.send_replace(Some(many(ConditionStatus::False)));
        })
        .await;
        let other = if kind == READY { PROBLEM } else { READY };
        test.with_node(|node| {
            assert!(node.condition(kind).is_none());
            assert_eq!(node.condition(other).map(|other| other["status"].clone()), Some(json!("False")));
            assert_eq!(node.label(COUNT), Some("8"));
        });
        assert!(test.refused.with_label_values(&[kind, "403"]).get() >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_condition_does_not_wait_for_labels_that_are_refused() {
    for code in [403, 500, 409] {
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(many(ConditionStatus::True)));
        test.api.fail(Some(FakeApiFault::Refuses("apply", code)));
        test.run_while(HOUR, async || {
            // The labels are tried about once a minute by now.
            sleep(Duration::from_secs(1000)).await;
            test.desired.send_replace(Some(many(ConditionStatus::False)));
            sleep(Duration::from_secs(1)).await;
            let status = test.with_node(|node| node.condition(READY).map(|ready| ready["status"].clone()));
            assert_eq!(status, Some(json!("False")), "labels get {code}");
        })
        .await;
        let (applies, gets) = (test.requested("apply"), test.requested("get"));
        assert!(applies <= 150 && gets <= 150, "{applies} attempts and {gets} reads in an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_do_not_wait_for_conditions_that_are_refused() {
    for code in [403, 500, 409] {
        let test = ReconcilerTest::with(FakeNode::new(NODE), Some(many(ConditionStatus::True)));
        test.api.fail(Some(FakeApiFault::Refuses("apply status", code)));
        test.run_while(HOUR, async || {
            sleep(Duration::from_secs(1000)).await;
            let mut changed = many(ConditionStatus::True);
            changed.labels.values.insert(COUNT.to_owned(), "7".to_owned());
            test.desired.send_replace(Some(changed));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(test.with_node(|node| node.label(COUNT).map(str::to_owned)).as_deref(), Some("7"));
        })
        .await;
        let writes = test.api.writes().len();
        assert!(writes <= 300, "{writes} writes in an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_day_is_asked_again_after_minutes() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::Busy(86_400)));
    test.run_while(Duration::from_secs(400), async || {
        sleep(Duration::from_secs(30)).await;
        test.api.fail(None);
    })
    .await;
    test.with_node(|node| assert_eq!(node.label(COUNT), Some("8")));
    assert_eq!(test.requested("get"), 2);
}
