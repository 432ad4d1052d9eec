//! How often the Node is written.

use super::*;

fn second(test: &ReconcilerTest, verb: &str) -> Vec<u64> {
    let start = test.api.requests("get")[0].at;
    test.api.requests(verb).iter().map(|request| (request.at - start).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn after_two_writes_the_last_desired_state_is_written_once_a_minute() {
    let test = ReconcilerTest::with(FakeNode::new(NODE), None);
    test.run_while(Duration::from_secs(200), async || {
        for count in 0..100 {
            test.desired.send_replace(Some(desired(count)));
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert_eq!(second(&test, "apply"), [0, 1, 60, 120]);
    assert_eq!(test.with_node(|node| node.label(COUNT).map(str::to_owned)).as_deref(), Some("99"));
    assert_eq!(test.requested("get"), 1, "it waits with the Node as it was last read");
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_minute_is_written_at_once() {
    let test = ReconcilerTest::with(FakeNode::new(NODE), None);
    test.run_while(Duration::from_secs(300), async || {
        for count in [7, 6] {
            test.desired.send_replace(Some(desired(count)));
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(198)).await;
        test.desired.send_replace(Some(desired(5)));
    })
    .await;
    assert_eq!(second(&test, "apply"), [0, 1, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_desired_state_that_returns_before_it_was_written_costs_no_write() {
    let test = ReconcilerTest::new();
    test.run_while(Duration::from_secs(300), async || {
        for count in [8, 7, 6, 7] {
            test.desired.send_replace(Some(desired(count)));
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert_eq!(second(&test, "apply"), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn metadata_and_conditions_have_their_own_budget() {
    let test = ReconcilerTest::with(FakeNode::new(NODE), None);
    let statuses =
        [ConditionStatus::True, ConditionStatus::False, ConditionStatus::False, ConditionStatus::Unknown];
    test.run_while(Duration::from_secs(200), async || {
        for (count, status) in (0..).zip(statuses) {
            let conditions = with_conditions(&[(READY, condition(status, "Reason"))]).conditions;
            test.desired.send_replace(Some(DesiredNode { conditions, ..desired(count) }));
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert_eq!(second(&test, "apply"), [0, 1, 60]);
    assert_eq!(second(&test, "apply status"), [0, 1, 60]);
    let status = test.with_node(|node| node.condition(READY).map(|ready| ready["status"].clone()));
    assert_eq!(status, Some(json!("Unknown")));
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_is_hourly_and_only_for_what_is_decided() {
    let ready = condition(ConditionStatus::True, "AllHealthy");
    let test = ReconcilerTest::with(FakeNode::new(NODE), Some(with_conditions(&[(READY, ready.clone())])));
    test.run(3 * HOUR).await;
    let beats = test.requested("apply status");
    assert!((3..=4).contains(&beats), "{beats} in three hours");
    assert_eq!(test.requested("apply"), 1, "labels have no heartbeat");
    let undecided = with_conditions(&[(READY, Decision::Undecided)]);
    let test = ReconcilerTest::with(test.with_node(|node| node.clone()), Some(undecided));
    test.run(3 * HOUR).await;
    assert_eq!(test.api.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_continues_after_a_restart() {
    let mut node = FakeNode::new(NODE);
    let old = json!({
        "type": READY, "status": "True", "reason": "AllHealthy", "message": "message",
        "lastTransitionTime": "2020-01-01T00:00:00Z", "lastHeartbeatTime": "2020-01-01T00:00:00Z",
    });
    node.update(FIELD_MANAGER, FakeNodeField::Condition(READY.to_owned()), Some(old));
    let desired = with_conditions(&[(READY, condition(ConditionStatus::True, "AllHealthy"))]);
    let test = ReconcilerTest::with(node, Some(desired));
    test.run(Duration::from_secs(10)).await;
    assert_eq!((test.requested("apply status"), test.requested("create")), (1, 0), "it is overdue");
    let ready = test.with_node(|node| node.condition(READY).cloned()).expect("it is there");
    assert_eq!(ready["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_ne!(ready["lastHeartbeatTime"], "2020-01-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_off_costs_no_write() {
    let ready = condition(ConditionStatus::True, "AllHealthy");
    let mut test = ReconcilerTest::with(FakeNode::new(NODE), Some(with_conditions(&[(READY, ready)])));
    test.limits.heartbeat = None;
    test.run(48 * HOUR).await;
    assert_eq!(test.requested("apply status"), 1);
}
