use afd_model::{Known, Missing};
use serde_json::{Value, json};

use super::*;
use crate::library::tests::{Acme, enrichment, report};

fn known(library: &Enrichment<Acme>, call: &str) -> Known<u32> {
    let report = library.report().expect("there is a report");
    report
        .device(crate::library::tests::address(1), library.spec.unit_of)
        .expect("it is reported")
        .answers
        .known(call)
}

fn device(answers: Value) -> Value {
    let mut all = json!({ "acmeGetBus": { "value": 1 } });
    all.as_object_mut().expect("an object").extend(answers.as_object().expect("an object").clone());
    json!({ "system": { "acmeInit": { "value": null } }, "devices": [{ "answers": all }] })
}

fn taken(library: &mut Enrichment<Acme>, reported: Value) {
    library.take(report(reported), &[]);
}

#[test]
fn a_report_that_the_library_refused_replaces_no_report() {
    let refused = [
        json!({ "system": { "acmeInit": { "error": "NO_DRIVER" } } }),
        json!({ "system": { "acmeInit": { "value": null }, "acmeGetCount": { "error": "NO_DRIVER" } } }),
    ];
    for refused in refused {
        let mut library = enrichment(None);
        taken(&mut library, device(json!({ "acmeGetName": { "value": 7 } })));
        assert_eq!((library.status(), library.is_fresh()), (LibraryStatus::Answering, true));
        library.is_fresh = false;
        taken(&mut library, refused.clone());
        assert_eq!((library.status(), library.is_fresh()), (LibraryStatus::Silent, false));
        assert_eq!(known(&library, "acmeGetName"), Known::Value(7));
        let problems: Vec<_> = library.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(problems, [Missing::Unreadable]);
        let recording = library.recording().expect("what it answered is recorded").1;
        assert_eq!(recording["system"], refused["system"]);
    }
}

#[test]
fn a_value_is_retained_unless_the_driver_or_the_device_may_be_another_one() {
    let failed = || device(json!({ "acmeGetName": { "error": "NO_PERM" }, "acmeGetUuid": { "value": "A" } }));
    let named = || device(json!({ "acmeGetName": { "value": 7 }, "acmeGetUuid": { "value": "A" } }));
    let mut library = enrichment(None);
    taken(&mut library, named());
    taken(&mut library, failed());
    assert_eq!(known(&library, "acmeGetName"), Known::Value(7));
    taken(
        &mut library,
        device(json!({ "acmeGetName": { "error": "NO_PERM" }, "acmeGetUuid": { "value": "B" } })),
    );
    assert_eq!(known(&library, "acmeGetName").missing(), Some(Missing::NotPermitted), "another board");
    taken(&mut library, named());
    library.reacquire();
    assert_eq!(library.status(), LibraryStatus::Starting);
    assert_eq!(known(&library, "acmeGetName"), Known::Value(7), "static facts stay until it answers");
    taken(&mut library, failed());
    assert_eq!(known(&library, "acmeGetName").missing(), Some(Missing::NotPermitted));
}

#[test]
fn an_answer_that_stays_pending_is_a_problem() {
    let mut library = enrichment(None);
    let pending = |library: &mut Enrichment<Acme>| {
        library.failure(&RequestError::Pending).map(|problem| problem.reason)
    };
    assert_eq!(pending(&mut library), Some(Missing::Pending), "it has never answered");
    taken(&mut library, device(json!({})));
    assert_eq!(pending(&mut library), None);
    assert_eq!(pending(&mut library), Some(Missing::Pending));
    assert_eq!(library.status(), LibraryStatus::Silent);
}

#[test]
fn a_library_that_was_initialised_before_has_less_time() {
    let mut library = enrichment(None);
    let start = library.spec.start_deadline;
    assert_eq!(library.deadline(DISCOVER), start);
    taken(&mut library, device(json!({})));
    library.process.end();
    assert_eq!(library.deadline(DISCOVER), start / 2);
}

#[test]
fn no_samples_are_due_while_it_is_released_not_there_unused_or_paused() {
    let host = afd_host::testing::TestHost::new();
    let mut library = enrichment(None);
    assert!(!library.is_sampled(), "it was not queried yet");
    taken(&mut library, device(json!({})));
    assert!(library.is_sampled());
    library.failure(&RequestError::Ended("killed".to_owned()));
    assert_eq!((library.status(), library.is_sampled()), (LibraryStatus::Silent, true), "a fault grows old");
    taken(&mut library, device(json!({})));
    library.sample(&host.open(), "sample", &mut Sampling::default(), true);
    assert!(!library.is_sampled(), "a device sleeps");
    library.is_suspended = false;
    library.pause_sampling();
    assert!(!library.is_sampled(), "the kernel has all");
    taken(&mut library, device(json!({})));
    library.responsiveness.absent();
    assert!(!library.is_sampled());
    taken(&mut library, device(json!({})));
    library.release();
    assert!(!library.is_sampled());
    library.reacquire();
    assert!(library.is_sampled());
    library.end();
    assert!(!library.is_sampled());
}
