use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;

/// A child that is a shell script, and how often it woke us.
fn shell(script: &str, patience: Duration) -> (Child, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let launcher = Launcher { program: "/bin/sh".into(), patience, wake };
    (launcher.child(["-c".into(), script.into()]), woken)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(30);
const ECHO: &str = r#"while read line; do echo '{"answer": "sample", "value": 7}'; done"#;

fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_process_answers_many_requests() {
    let (mut child, woken) = shell(ECHO, LONG);
    for _ in 0..3 {
        assert_eq!(child.ask("sample", LONG).expect("it answers"), json!(7));
    }
    assert_eq!(child.restarts(), 0);
    assert_eq!(woken.load(Ordering::SeqCst), 0, "an answer that is waited for wakes nobody");
}

#[test]
fn a_late_answer_wakes_and_is_there_when_asked_for_again() {
    let (mut child, woken) =
        shell(r#"read line; sleep 0.3; echo '{"answer": "discover", "value": 1}'; read line"#, SHORT);
    assert!(matches!(child.ask("discover", LONG), Err(AskError::Pending)));
    assert!(matches!(child.ask("sample", LONG), Err(AskError::Pending)), "one request at a time");
    until(|| woken.load(Ordering::SeqCst) == 1);
    assert_eq!(child.ask("discover", LONG).expect("it has come"), json!(1));
}

#[test]
fn a_hang_costs_the_process_its_life_and_a_rest() {
    let (mut child, _) = shell("read line; exec sleep 1000", SHORT);
    until(|| match child.ask("sample", Duration::from_millis(100)) {
        Err(AskError::Pending) => false,
        Err(AskError::TimedOut { ask: "sample", .. }) => true,
        other => panic!("{other:?}"),
    });
    assert!(matches!(child.ask("sample", LONG), Err(AskError::Resting(_))));
}

#[test]
fn a_crash_is_told_with_its_signal_and_the_process_comes_back_after_its_rest() {
    let (mut child, _) = shell("read line; kill -SEGV $$", LONG);
    let error = child.ask("sample", LONG).expect_err("it crashed").to_string();
    assert!(error.contains("SIGSEGV"), "{error}");
    let mut told = Vec::new();
    until(|| match child.ask("sample", LONG) {
        Err(AskError::Resting(_)) => false,
        other => {
            told.push(other.expect_err("it crashes again").to_string());
            true
        }
    });
    assert_eq!(child.restarts(), 1);
    let AskError::Resting(rest) = child.ask("sample", LONG).expect_err("it rests longer") else { panic!() };
    assert!(rest > FIRST_REST, "{rest:?}");
}

#[test]
fn what_the_library_prints_is_no_answer_and_events_come_unasked() {
    let (mut child, woken) = shell(
        r#"read line; echo "NVRM: hello"; echo '{"event": {"xid": 79}}'; echo '{"answer": "sample", "value": 1}'; read line"#,
        LONG,
    );
    assert_eq!(child.ask("sample", LONG).expect("it answers"), json!(1));
    assert_eq!(child.events(), [json!({"xid": 79})]);
    assert!(child.events().is_empty());
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_released_child_does_not_run_until_it_is_taken_back() {
    let (mut child, _) = shell(ECHO, LONG);
    child.ask("sample", LONG).expect("it answers");
    child.release();
    assert!(matches!(child.ask("sample", LONG), Err(AskError::Released)));
    child.take_back();
    assert_eq!(child.ask("sample", LONG).expect("it answers at once"), json!(7));
}

#[test]
fn a_program_that_is_not_there_is_an_error_of_its_own() {
    let launcher = Launcher { program: "/nonexistent".into(), patience: SHORT, wake: Arc::new(|| ()) };
    let mut child = launcher.child([]);
    assert!(matches!(child.ask("sample", LONG), Err(AskError::Start(_))));
    assert!(matches!(child.ask("sample", LONG), Err(AskError::Resting(_))));
}
