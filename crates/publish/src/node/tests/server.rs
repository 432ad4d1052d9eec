//! Watches that end, servers that do not answer, and another manager that overwrites a label.

use afd_apiserver::{MAX_WATCH_DURATION, WATCH_TIMEOUT_SECONDS};

use super::*;
use crate::testing::FakeApiFault;

#[tokio::test(start_paused = true)]
async fn an_unchanged_node_costs_one_watch_every_five_minutes_and_no_write() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::WatchEndsAfter(Duration::from_secs(WATCH_TIMEOUT_SECONDS.into()))));
    test.run(HOUR).await;
    assert_eq!((test.requested("get"), test.api.writes().len()), (1, 1), "from the start");
    assert_eq!(test.requested("watch"), 13);
}

#[tokio::test(start_paused = true)]
async fn changes_of_others_end_no_watch() {
    let test = ReconcilerTest::new();
    test.run_while(HOUR / 60, async || {
        for number in 0..20 {
            sleep(Duration::from_secs(1)).await;
            test.with_node(|node| {
                node.update("other", annotation("other/time"), Some(json!(number.to_string())))
            });
        }
    })
    .await;
    assert_eq!((test.requested("watch"), test.requested("get"), test.api.writes().len()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_for_one_version_of_the_node_names_no_version_of_a_bookmark() {
    // What carries the version of the Node: a condition that is not decided.
    let state =
        |ready| with_conditions(&[(READY, condition(ready, "Reason")), (PROBLEM, Decision::Undecided)]);
    let mut node = FakeNode::new(NODE);
    let problem = json!({ "type": PROBLEM, "status": "False", "reason": "NoProblem", "message": "" });
    node.update(FIELD_MANAGER, FakeNodeField::Condition(PROBLEM.to_owned()), Some(problem));
    let mut first = state(ConditionStatus::True);
    first.inherits = true;
    let test = ReconcilerTest::with(node, Some(first));
    test.api.fail(Some(FakeApiFault::Bookmarks(1_000_000)));
    test.run_while(Duration::from_secs(120), async || {
        sleep(Duration::from_secs(60)).await;
        let mut second = state(ConditionStatus::False);
        second.inherits = true;
        test.desired.send_replace(Some(second));
    })
    .await;
    test.with_node(|node| {
        assert_eq!(node.condition(READY).map(|ready| ready["status"].clone()), Some(json!("False")));
    });
    assert_eq!((test.counted("apply status", "409"), test.requested("get")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_restarted_with_a_back_off() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::WatchEndsAfter(Duration::ZERO)));
    test.run(HOUR).await;
    let watches = test.api.requests("watch");
    assert!((50..=70).contains(&watches.len()), "{} watches per hour", watches.len());
    assert!(test.requested("get") <= watches.len() + 1);
    assert!(watches.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lost_its_connection_times_out() {
    let test = ReconcilerTest::new();
    test.run_while(MAX_WATCH_DURATION + HOUR / 60, async || {
        sleep(Duration::from_secs(10)).await;
        // Without a watch that reports it.
        test.api.lose_watches();
        test.with_node(|node| node.update("another-manager", label(COUNT), Some(json!("99"))));
    })
    .await;
    assert_eq!(test.with_node(|node| node.label(COUNT).map(str::to_owned)).as_deref(), Some("8"));
    assert_eq!((test.counted("watch", "timeout"), test.requested("watch")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_response_times_out_and_is_counted() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::Unresponsive));
    test.run(Duration::from_secs(60)).await;
    assert_eq!((test.requested("get"), test.counted("get", "timeout")), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected_even_if_the_desired_state_changes() {
    let test = ReconcilerTest::new();
    test.api.fail(Some(FakeApiFault::Busy(90)));
    test.run_while(HOUR, async || {
        for count in 0.. {
            test.desired.send_replace(Some(desired(count)));
            sleep(Duration::from_secs(5)).await;
        }
    })
    .await;
    let gets = test.api.requests("get");
    assert!((30..=40).contains(&gets.len()), "{} requests per hour", gets.len());
    assert!(gets.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_secs(90)));
}

#[tokio::test(start_paused = true)]
async fn a_field_manager_that_overwrites_a_label_at_once_is_corrected_with_a_back_off() {
    let test = ReconcilerTest::new();
    test.run_while(HOUR, async || {
        loop {
            sleep(Duration::from_millis(200)).await;
            if test.with_node(|node| node.label(COUNT) == Some("8")) {
                test.with_node(|node| node.update("another-manager", label(COUNT), Some(json!("0"))));
            }
        }
    })
    .await;
    let applies = test.api.requests("apply");
    assert!((25..=65).contains(&applies.len()), "{} writes per hour", applies.len());
    assert!(applies[1].at - applies[0].at < Duration::from_secs(1), "the first change is corrected at once");
    assert!(test.contested(COUNT, "another-manager") >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_observed_while_nothing_is_desired() {
    let test = ReconcilerTest::with(FakeNode::new(NODE), None);
    let mut facts = test.node.subscribe();
    test.run_while(HOUR / 60, async || {
        facts.clone().changed().await.expect("the Node is read");
        test.with_node(|node| node.update("operator", label("upgrade"), Some(json!("started"))));
        sleep(Duration::from_secs(1)).await;
    })
    .await;
    assert!(facts.borrow_and_update().as_ref().is_some_and(|facts| facts.labels["upgrade"] == "started"));
    assert_eq!(test.api.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_observed_without_another_change() {
    let test = ReconcilerTest::new();
    test.run(HOUR / 60).await;
    assert!(test.node.borrow().as_ref().is_some_and(|facts| facts.labels[COUNT] == "8"));
}

#[tokio::test(start_paused = true)]
async fn own_writes_wake_no_receiver_and_those_of_others_do() {
    let test = ReconcilerTest::new();
    let expect = format!("{PREFIX}/expect");
    let mut facts = test.node.subscribe();
    let mut wakes = facts.clone();
    let woken = std::sync::Mutex::new(0);
    test.run_while(HOUR, async || {
        let mut wakes = wakes.clone();
        let count = async {
            while wakes.changed().await.is_ok() {
                *woken.lock().expect("no test panics with the lock") += 1;
            }
        };
        let changes = async {
            for count in [7, 6, 8] {
                sleep(Duration::from_secs(120)).await;
                test.desired.send_replace(Some(desired(count)));
            }
            sleep(Duration::from_secs(120)).await;
            assert_eq!(*woken.lock().expect("no test panics with the lock"), 1, "by the first read only");
            test.with_node(|node| node.update("kubectl-annotate", annotation(&expect), Some(json!("any=8"))));
        };
        tokio::join!(count, changes);
    })
    .await;
    wakes.mark_unchanged();
    assert_eq!(*woken.lock().expect("no test panics with the lock"), 2);
    let facts = facts.borrow_and_update().clone().expect("the Node was read");
    assert_eq!((&facts.labels[COUNT][..], &facts.annotations[&expect][..]), ("8", "any=8"));
}
