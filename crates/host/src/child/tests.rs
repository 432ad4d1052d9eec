use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use super::*;

/// The registry of all tests: there is one per program.
fn registry() -> ChildRegistry {
    static REGISTRY: OnceLock<ChildRegistry> = OnceLock::new();
    REGISTRY.get_or_init(ChildRegistry::adopting_orphans).clone()
}

/// Runs a program. One that is not registered is killed by the tests that end what processes have left behind.
pub(crate) fn run_registered(command: &mut Command) -> io::Result<ExitStatus> {
    let registry = registry();
    let mut child = registry.start(command)?;
    let status = child.wait();
    registry.forget(child.id());
    status
}

/// A child that is a shell script, and how often it called `wake` or `wake_for_event`.
fn shell(script: &str, timeout: Duration) -> (Child, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let environment = &[("ANSWER", "7"), ("PATH", "/usr/bin:/bin")];
    let launcher = Launcher {
        environment,
        wake_for_event: wake.clone(),
        wake,
        ..Launcher::new("/bin/sh".into(), timeout, registry())
    };
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
fn a_process_has_the_variables_of_its_launcher_and_no_others() {
    let script = r#"read line; echo "{\"response\": \"sample\", \"value\": \"$ANSWER$CARGO_MANIFEST_DIR$HOME\"}"; read line"#;
    let (mut child, _) = shell(script, LONG);
    assert_eq!(child.request::<Value>("sample", LONG).expect("it responds"), json!("7"));
}

#[test]
fn one_process_serves_many_requests() {
    let (mut child, woken) = shell(ECHO, LONG);
    for _ in 0..3 {
        assert_eq!(child.request::<Value>("sample", LONG).expect("it responds"), json!(7));
    }
    assert_eq!(child.restarts(), 0);
    assert_eq!(woken.load(Ordering::SeqCst), 0, "a response that is awaited does not wake the owner");
}

#[test]
fn a_late_response_wakes_the_owner_and_is_returned_to_the_next_request() {
    let (mut child, woken) =
        shell(r#"read line; sleep 0.3; echo '{"response": "discover", "value": 1}'; read line"#, SHORT);
    assert!(matches!(child.request::<Value>("discover", LONG), Err(RequestError::Pending)));
    assert!(
        matches!(child.request::<Value>("sample", LONG), Err(RequestError::Pending)),
        "one request at a time"
    );
    until(|| woken.load(Ordering::SeqCst) == 1);
    assert_eq!(child.request::<Value>("discover", LONG).expect("it has arrived"), json!(1));
}

#[test]
fn a_late_response_wakes_the_owner_also_while_it_waits_for_another_one() {
    let (mut child, woken) =
        shell(r#"read line; sleep 0.3; echo '{"response": "discover", "value": 1}'; read line"#, SHORT);
    assert!(matches!(child.request::<Value>("discover", LONG), Err(RequestError::Pending)));
    child.launcher.timeout = Duration::from_millis(600);
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::Pending)));
    // Else the response waits for the next regular discovery.
    until(|| woken.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_missed_deadline_kills_the_process_and_starts_a_back_off() {
    let (mut child, _) = shell("read line; exec sleep 1000", SHORT);
    until(|| match child.request::<Value>("sample", Duration::from_millis(100)) {
        Err(RequestError::Pending) => false,
        Err(RequestError::TimedOut { request: "sample", .. }) => true,
        other => panic!("{other:?}"),
    });
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::BackingOff(_))));
}

#[test]
fn a_crash_is_reported_with_its_signal_and_the_process_restarts_after_its_back_off() {
    let (mut child, _) = shell("read line; kill -SEGV $$", LONG);
    let error = child.request::<Value>("sample", LONG).expect_err("it crashed").to_string();
    assert!(error.contains("SIGSEGV"), "{error}");
    until(|| match child.request::<Value>("sample", LONG) {
        Err(RequestError::BackingOff(_)) => false,
        other => {
            other.expect_err("it crashes again");
            true
        }
    });
    assert_eq!(child.restarts(), 1);
    let RequestError::BackingOff(backoff) =
        child.request::<Value>("sample", LONG).expect_err("it backs off for longer")
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
    assert_eq!(child.request::<Value>("sample", LONG).expect("it responds"), json!(1));
    assert_eq!(child.events(), [json!({"xid": 79})]);
    assert!(child.events().is_empty());
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_released_child_does_not_run_until_it_is_reacquired() {
    let (mut child, _) = shell(ECHO, LONG);
    child.request::<Value>("sample", LONG).expect("it responds");
    child.release();
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::Released)));
    child.reacquire();
    assert_eq!(child.request::<Value>("sample", LONG).expect("it responds at once"), json!(7));
}

#[test]
fn a_missing_program_is_an_error_of_its_own() {
    let launcher = Launcher::new("/nonexistent".into(), SHORT, registry());
    let mut child = launcher.child([]);
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::Start(_))));
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::BackingOff(_))));
}

/// Whether a process lives. A zombie does not.
fn lives(pid: u32) -> bool {
    procfs::process::Process::new(pid as i32)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// The pid that a process wrote as its only event.
fn reported_pid(child: &mut Child) -> u32 {
    let mut events = Vec::new();
    until(|| {
        events.extend(child.events());
        !events.is_empty()
    });
    events[0].as_u64().expect("it is a pid") as u32
}

#[test]
fn a_process_that_closes_its_output_and_hangs_is_killed() {
    let (mut child, _) =
        shell(r#"read line; echo "{\"event\": $$}"; sleep 0.1; exec >&- 2>&-; exec sleep 1000"#, LONG);
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::Ended(_))));
    assert!(!lives(reported_pid(&mut child)));
}

#[test]
fn bytes_that_are_no_utf_8_are_dropped_and_an_answer_after_them_is_taken() {
    let (mut child, _) =
        shell(r#"read line; printf 'caf\351\n'; echo '{"response": "sample", "value": 1}'; read line"#, LONG);
    assert_eq!(child.request::<Value>("sample", LONG).expect("it responds"), json!(1));
    assert_eq!(child.dropped().output, 1);
}

#[test]
fn a_line_without_end_kills_the_process() {
    let (mut child, _) = shell("read line; exec cat /dev/zero", LONG);
    let Err(RequestError::Killed(reason)) = child.request::<Value>("sample", LONG) else { panic!() };
    assert_eq!(reason, "it wrote a line of more than 4 MiB");
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::BackingOff(_))));
}

#[test]
fn output_without_end_kills_the_process() {
    let (mut child, _) = shell("read line; exec yes", LONG);
    let Err(RequestError::Killed(reason)) = child.request::<Value>("sample", LONG) else { panic!() };
    assert_eq!(reason, "it wrote more than 16 MiB that was not asked for");
    assert!(child.dropped().output > 100_000);
    let (mut child, _) = shell("read line; yes >&2; true", LONG);
    let error = child.request::<Value>("sample", LONG).expect_err("it prints without end");
    assert!(matches!(error, RequestError::Killed(_)), "{error}");
    assert!(child.dropped().log > 100_000);
}

#[test]
fn the_log_of_a_process_is_passed_on() {
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (mut child, _) = shell("read line; echo hello >&2; exit 3", LONG);
    let sink = Arc::clone(&lines);
    child.launcher.log = Arc::new(move |note| {
        let ChildNote::Printed(line) = note else { panic!("{note:?}") };
        sink.lock().expect("no panic").push(line.to_owned());
    });
    let Err(RequestError::Ended(status)) = child.request::<Value>("sample", LONG) else { panic!() };
    assert_eq!(status, "exit status: 3");
    until(|| *lines.lock().expect("no panic") == ["hello"]);
}

#[test]
fn what_a_process_starts_does_not_outlive_it() {
    // In its group, and in a session of its own, where it becomes an orphan.
    for start in ["sleep 1000", "setsid sleep 1000"] {
        let script = format!(r#"read line; {start} & echo "{{\"event\": $!}}"; {ECHO}"#);
        let (mut child, _) = shell(&script, SHORT);
        let _ = child.request::<Value>("sample", LONG);
        let pid = reported_pid(&mut child);
        assert!(lives(pid));
        // Until it has left the group.
        thread::sleep(Duration::from_millis(200));
        until(|| child.release().is_empty());
        assert!(!lives(pid), "{start}");
    }
}

#[test]
fn a_process_that_has_not_ended_is_reported_and_no_other_one_is_started() {
    let (mut child, _) = shell(ECHO, LONG);
    child.request::<Value>("sample", LONG).expect("it responds");
    // Stands for one that hangs within the driver, and so outlives its signal.
    let stuck = registry().start(Command::new("sleep").arg("1000").process_group(0));
    let stuck = stuck.expect("sleep can be started");
    let pid = stuck.id();
    assert!(child.release().is_empty());
    child.killed = Some(KilledProcess::for_test(stuck, registry()));
    child.reacquire();
    let Err(RequestError::NotEnded(living)) = child.request::<Value>("sample", LONG) else { panic!() };
    assert_eq!(living, [pid]);
    assert_eq!(child.release(), [pid], "release says so as well");
    child.reacquire();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid as i32).expect("it is a pid"),
        rustix::process::Signal::KILL,
    )
    .expect("it can be killed");
    until(|| child.request::<Value>("sample", LONG).is_ok());
    assert_eq!(child.starts(), 2);
}

#[test]
fn a_process_that_grows_is_killed() {
    let (mut child, _) = shell(ECHO, LONG);
    child.request::<Value>("sample", LONG).expect("it responds");
    child.launcher.max_resident_bytes = 1;
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::Killed(_))));
}

#[test]
fn memory_of_what_a_process_started_counts_as_its_own() {
    let excess = |child: &Child, limit| child.process.as_ref().expect("it runs").excess(&registry(), limit);
    let (mut child, _) = shell(ECHO, LONG);
    child.request::<Value>("sample", LONG).expect("it responds");
    let steps = (1..).map(|step: u64| step << 16);
    let alone = steps.into_iter().find(|limit| excess(&child, *limit).is_none()).expect("there is a limit");
    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done";
    // Children, children of a child, and orphans.
    for started in [many.to_owned(), format!("({many}; wait) &"), format!("({many})")] {
        let (mut child, _) = shell(&format!("{started}\n{ECHO}"), LONG);
        child.request::<Value>("sample", LONG).expect("it responds");
        until(|| excess(&child, 4 * alone).is_some());
        child.launcher.max_resident_bytes = 4 * alone;
        let error = child.request::<Value>("sample", LONG).expect_err("it is killed");
        assert!(matches!(error, RequestError::Killed(_)), "{started}: {error}");
        until(|| child.release().is_empty());
    }
    let (mut child, _) = shell(&format!("for i in $(seq 70); do sleep 100 & done\n{ECHO}"), LONG);
    child.request::<Value>("sample", LONG).expect("it responds");
    let reason = excess(&child, u64::MAX).expect("there are too many");
    assert_eq!(reason, "it started more than 64 processes");
    until(|| child.release().is_empty());
}

#[test]
fn a_process_that_asks_for_it_is_replaced_without_a_back_off() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let flag = folder.path().join("flag");
    let script = format!(
        r#"read line; if [ -e {0} ]; then echo '{{"response": "sample", "value": 1}}'; read line; fi
        touch {0}; sleep $WAIT; echo '{{"restart": "there are new device files"}}'; read line"#,
        flag.display()
    );
    let (mut child, _) = shell(&script, LONG);
    child.launcher.environment = &[("WAIT", "2.2"), ("PATH", "/usr/bin:/bin")];
    assert_eq!(child.request::<Value>("sample", LONG).expect("another process responds"), json!(1));
    assert_eq!((child.starts(), child.restarts()), (2, 0), "nothing failed");

    std::fs::remove_file(&flag).expect("a file can be removed");
    let (mut child, _) = shell(&script, LONG);
    child.launcher.environment = &[("WAIT", "0"), ("PATH", "/usr/bin:/bin")];
    let error = child.request::<Value>("sample", LONG).expect_err("it asked at once").to_string();
    assert!(error.contains("there are new device files"), "{error}");
    assert!(matches!(child.request::<Value>("sample", LONG), Err(RequestError::BackingOff(_))), "no loop");
}

#[test]
fn orphans_that_have_ended_are_reaped() {
    let script = format!(r#"read line; (sleep 0.3 & echo "{{\"event\": $!}}"); {ECHO}"#);
    let (mut child, _) = shell(&script, SHORT);
    let _ = child.request::<Value>("sample", LONG);
    let pid = reported_pid(&mut child);
    until(|| {
        let _ = child.request::<Value>("sample", LONG);
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}
