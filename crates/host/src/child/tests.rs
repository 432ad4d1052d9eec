use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use super::*;

/// A child that is a shell script, and how often it called `wake`.
fn shell(script: &str, timeout: Duration) -> (Child, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let launcher = Launcher { program: "/bin/sh".into(), environment: &[("ANSWER", "7")], timeout, wake };
    (launcher.child(["-c".into(), script.into()]), woken)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);
const ECHO: &str = r#"while read line; do echo '{"response": "sample", "value": 7}'; done"#;

fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "timed out");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_has_the_variables_of_its_launcher() {
    let script = r#"while read line; do echo "{\"response\": \"sample\", \"value\": $ANSWER}"; done"#;
    let (mut child, _) = shell(script, LONG);
    assert_eq!(child.request("sample", LONG).expect("it responds"), json!(7));
}

#[test]
fn one_process_serves_many_requests() {
    let (mut child, woken) = shell(ECHO, LONG);
    for _ in 0..3 {
        assert_eq!(child.request("sample", LONG).expect("it responds"), json!(7));
    }
    assert_eq!(child.restarts(), 0);
    assert_eq!(woken.load(Ordering::SeqCst), 0, "a response that is awaited does not wake the owner");
}

#[test]
fn a_late_response_wakes_the_owner_and_is_returned_to_the_next_request() {
    let (mut child, woken) =
        shell(r#"read line; sleep 0.3; echo '{"response": "discover", "value": 1}'; read line"#, SHORT);
    assert!(matches!(child.request("discover", LONG), Err(RequestError::Pending)));
    assert!(matches!(child.request("sample", LONG), Err(RequestError::Pending)), "one request at a time");
    until(|| woken.load(Ordering::SeqCst) == 1);
    assert_eq!(child.request("discover", LONG).expect("it has arrived"), json!(1));
}

#[test]
fn a_late_response_wakes_the_owner_also_while_it_waits_for_another_one() {
    let (mut child, woken) =
        shell(r#"read line; sleep 0.3; echo '{"response": "discover", "value": 1}'; read line"#, SHORT);
    assert!(matches!(child.request("discover", LONG), Err(RequestError::Pending)));
    child.launcher.timeout = Duration::from_millis(600);
    assert!(matches!(child.request("sample", LONG), Err(RequestError::Pending)));
    assert_eq!(woken.load(Ordering::SeqCst), 1, "else the response waits for the next regular discovery");
}

#[test]
fn a_missed_deadline_kills_the_process_and_starts_a_back_off() {
    let (mut child, _) = shell("read line; exec sleep 1000", SHORT);
    until(|| match child.request("sample", Duration::from_millis(100)) {
        Err(RequestError::Pending) => false,
        Err(RequestError::TimedOut { request: "sample", .. }) => true,
        other => panic!("{other:?}"),
    });
    assert!(matches!(child.request("sample", LONG), Err(RequestError::BackingOff(_))));
}

#[test]
fn a_crash_is_reported_with_its_signal_and_the_process_restarts_after_its_back_off() {
    let (mut child, _) = shell("read line; kill -SEGV $$", LONG);
    let error = child.request("sample", LONG).expect_err("it crashed").to_string();
    assert!(error.contains("SIGSEGV"), "{error}");
    until(|| match child.request("sample", LONG) {
        Err(RequestError::BackingOff(_)) => false,
        other => {
            other.expect_err("it crashes again");
            true
        }
    });
    assert_eq!(child.restarts(), 1);
    let RequestError::BackingOff(backoff) =
        child.request("sample", LONG).expect_err("it backs off for longer")
    else {
        panic!()
    };
    assert!(backoff > INITIAL_BACKOFF, "{backoff:?}");
}

#[test]
fn output_of_the_library_is_no_response_and_events_need_no_request() {
    let (mut child, woken) = shell(
        r#"read line; echo "NVRM: hello"; echo '{"event": {"xid": 79}}'; echo '{"response": "sample", "value": 1}'; read line"#,
        LONG,
    );
    assert_eq!(child.request("sample", LONG).expect("it responds"), json!(1));
    assert_eq!(child.events(), [json!({"xid": 79})]);
    assert!(child.events().is_empty());
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_released_child_does_not_run_until_it_is_reacquired() {
    let (mut child, _) = shell(ECHO, LONG);
    child.request("sample", LONG).expect("it responds");
    child.release();
    assert!(matches!(child.request("sample", LONG), Err(RequestError::Released)));
    child.reacquire();
    assert_eq!(child.request("sample", LONG).expect("it responds at once"), json!(7));
}

#[test]
fn a_missing_program_is_an_error_of_its_own() {
    let launcher =
        Launcher { program: "/nonexistent".into(), environment: &[], timeout: SHORT, wake: Arc::new(|| ()) };
    let mut child = launcher.child([]);
    assert!(matches!(child.request("sample", LONG), Err(RequestError::Start(_))));
    assert!(matches!(child.request("sample", LONG), Err(RequestError::BackingOff(_))));
}
