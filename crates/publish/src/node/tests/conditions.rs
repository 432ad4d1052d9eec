//! Conditions and their Events.

use super::*;
use crate::testing::FakeApiFault;

const ALIAS: &str = "AcceleratedHardwareReady";

#[tokio::test(start_paused = true)]
async fn a_transition_of_either_condition_is_an_event_and_a_good_start_is_none() {
    let healthy = with_conditions(&[
        (READY, condition(ConditionStatus::True, "AllHealthy")),
        (PROBLEM, condition(ConditionStatus::False, "NoFault")),
        (ALIAS, condition(ConditionStatus::True, "NoFault")),
    ]);
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(healthy));
    test.run_while(Duration::from_secs(60), async || {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((test.requested("apply status"), test.requested("create")), (1, 0));
        test.desired.send_replace(Some(with_conditions(&[
            (READY, condition(ConditionStatus::False, "DeviceMissing")),
            (PROBLEM, condition(ConditionStatus::True, "DeviceMissing")),
            (ALIAS, condition(ConditionStatus::False, "DeviceMissing")),
        ])));
        sleep(Duration::from_secs(1)).await;
    })
    .await;
    assert_eq!(test.requested("apply status"), 2, "one write for all conditions");
    let events = test.api.requests("create");
    let notes: Vec<_> = events.iter().filter_map(|event| event.body["note"].as_str()).collect();
    assert_eq!(
        notes,
        [format!("{READY} is False: message"), format!("{PROBLEM} is True: message")],
        "the alias has none"
    );
    assert!(events.iter().all(|event| event.body["type"] == "Warning"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_knows_nothing_yet_keeps_everything() {
    let mut healthy = with_conditions(&[
        (READY, condition(ConditionStatus::True, "AllHealthy")),
        (PROBLEM, condition(ConditionStatus::False, "NoFault")),
    ]);
    healthy.annotations = BTreeMap::from([(REPORT.to_owned(), "{}".to_owned())]).into();
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(healthy));
    test.run(Duration::from_secs(10)).await;
    let before = test.with_node(|node| node.clone());
    let mut undecided = with_conditions(&[(READY, Decision::Undecided), (PROBLEM, Decision::Undecided)]);
    undecided.labels = Default::default();
    undecided.labels.undecided.insert_key(COUNT);
    undecided.annotations.undecided.insert_key(REPORT);
    let test = ReconcilerTest::with(before.clone(), Some(undecided.clone()));
    test.run(2 * HOUR).await;
    assert_eq!(test.api.writes().len(), 0);
    // Another machine inherits nothing.
    let test = ReconcilerTest::with(before, Some(DesiredNode { inherits: false, ..undecided }));
    test.run(Duration::from_secs(10)).await;
    assert_eq!(test.with_node(|node| node.fields().count()), 0);
    assert_eq!(test.requested("create"), 0, "a removal is no Event");
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_another_manager_owns_is_counted_once_and_left_alone() {
    let mut node = FakeNode::new(NODE);
    let foreign = json!({ "type": ALIAS, "status": "True", "reason": "NeuronHealthy" });
    let alias = FakeNodeField::Condition(ALIAS.to_owned());
    node.update("eks-node-monitoring-agent", alias.clone(), Some(foreign.clone()));
    let wanted = with_conditions(&[(ALIAS, condition(ConditionStatus::False, "DeviceMissing"))]);
    let test = ReconcilerTest::with(node, Some(wanted.clone()));
    test.run_while(HOUR, async || {
        for count in 0..5 {
            sleep(Duration::from_secs(100)).await;
            let conditions = wanted.conditions.clone();
            test.desired.send_replace(Some(DesiredNode { conditions, ..desired(count) }));
        }
    })
    .await;
    assert_eq!(test.with_node(|node| node.value(&alias).cloned()), Some(foreign));
    assert_eq!((test.contested(ALIAS, "eks-node-monitoring-agent"), test.requested("apply status")), (1, 0));
    test.with_node(|node| node.update("eks-node-monitoring-agent", alias.clone(), None));
    test.run(Duration::from_secs(10)).await;
    let status = test.with_node(|node| node.value(&alias).map(|alias| alias["status"].clone()));
    assert_eq!(status, Some(json!("False")), "it is free now");
}

#[tokio::test(start_paused = true)]
async fn conditions_are_written_even_if_metadata_cannot_be() {
    let desired = with_conditions(&[(READY, condition(ConditionStatus::False, "GpuLost"))]);
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(desired));
    test.api.fail(Some(FakeApiFault::Refuses("apply", 403)));
    test.run(Duration::from_secs(60)).await;
    assert!(test.with_node(|node| node.condition(READY).is_some() && node.label(COUNT).is_none()));
    let applies = test.requested("apply");
    assert!((4..=7).contains(&applies), "{applies} attempts in a minute");
    assert_eq!(test.requested("apply status"), 1);
}
