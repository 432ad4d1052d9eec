//! A vendor library that misbehaves in every way it can, through the real binary: the agent goes on, stays small, has at most one
//! process of it, and ends it and all that it started; and what the library can do to the node.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use afd_tests::{
    afd,
    agent::{Agent, TIMEOUT},
    fixture::{Fixture, FixtureHost},
    hostile::HostileDriverRoot,
    memory::{AttackMemory, RETURNED},
    output,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What the agent may have of anonymous memory while a library attacks it. The budget is 24 MiB resident of a release build, and
/// the attacks took up to 410 MiB.
const MAX_ANONYMOUS_KIB: u64 = 64 << 10;
const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];

/// An agent on a host with GPUs whose library is hostile.
struct HostileSetup {
    root: HostileDriverRoot,
    folder: TempDir,
    agent: Agent,
    _host: FixtureHost,
}

/// What was seen of an agent under attack.
#[derive(Debug, Default)]
struct AttackFigures {
    anonymous_kib: u64,
    processes: usize,
    slowest_scrape: Duration,
}

impl HostileSetup {
    fn new(behavior: &str) -> HostileSetup {
        let (root, folder) = (HostileDriverRoot::new(behavior), temporary());
        let host = Fixture::named("nvidia-h100x8").copy();
        let mut command = host.afd(RUN);
        command.arg("--nvidia-driver-root").arg(root.path()).env("SECRET", "1");
        command.arg("--control-socket").arg(folder.path().join("control.sock"));
        let agent = Agent::start(command);
        HostileSetup { root, folder, agent, _host: host }
    }

    fn release(&self, more: &[&str]) -> Output {
        let socket = self.folder.path().join("control.sock");
        output(afd(["release", "nvidia", "--control-socket"]).arg(socket).args(more))
    }

    fn dropped(&self, kind: &str) -> f64 {
        let series = format!("afd_library_messages_dropped_total{{kind=\"{kind}\",probe=\"nvidia\"}}");
        self.agent.value(&series).expect("the series exists as soon as there is a library")
    }

    fn has_problem(&self, part: &str) -> bool {
        self.agent.get("/inventory").text().contains(part)
    }

    /// Watches the agent until a condition holds, and a while longer.
    fn watch(&self, what: &str, holds: impl Fn(&HostileSetup) -> bool) -> AttackFigures {
        let (start, mut held_since, mut figures) = (Instant::now(), None, AttackFigures::default());
        while held_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
            assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}");
            let scrape = Instant::now();
            assert_eq!(self.agent.get("/metrics").status, 200);
            figures.slowest_scrape = figures.slowest_scrape.max(scrape.elapsed());
            figures.anonymous_kib = figures.anonymous_kib.max(anonymous_kib(self.agent.pid()));
            figures.processes = figures.processes.max(self.root.processes().len());
            if held_since.is_none() && holds(self) {
                held_since = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{what}: {figures:?}");
        assert!(figures.anonymous_kib < MAX_ANONYMOUS_KIB, "{what}: {figures:?}");
        assert!(figures.slowest_scrape < Duration::from_secs(10), "{what}: {figures:?}");
        figures
    }

    /// Releases the driver. On a busy machine a killed process takes its time.
    fn until_released(&self) {
        self.agent.until("the driver is released", |_| self.release(&[]).status.success());
    }

    /// A release ends all that the library has, and SIGTERM ends the agent.
    fn end(self) {
        self.until_released();
        assert_eq!(self.root.processes(), Vec::<u32>::new(), "the command ends when they have ended");
        assert!(self.release(&["--end"]).status.success());
        self.terminate();
    }

    /// SIGTERM ends the agent and all that the library has.
    fn terminate(self) {
        signal(self.agent.pid(), Signal::TERM);
        assert!(self.agent.wait(), "it exits with success");
        until("no process is left", || self.root.processes().is_empty());
    }
}

fn temporary() -> TempDir {
    TempDir::new().expect("a temporary folder can be made")
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("it is the number of a process");
    kill_process(pid, signal).expect("a process can be sent a signal");
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a part of a test did not run, on the standard error of the program: what a macro prints of a test that passes is dropped.
fn did_not_run(why: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: a part did not run: {why}");
}

/// The anonymous memory of a process.
fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The agent kills the process of a library, and says why.
fn is_killed(behavior: &str, problem: &str) {
    let setup = HostileSetup::new(behavior);
    let figures = setup.watch(behavior, |setup| setup.has_problem(problem));
    assert!(figures.processes <= 1, "{figures:?}");
    setup.end();
}

#[test]
fn a_library_that_prints_without_end_and_without_a_newline_is_killed() {
    is_killed("print-without-newline", "was killed: it wrote a line of more than 4 MiB");
}

#[test]
fn a_library_that_prints_without_end_takes_little_memory() {
    const KILLED: &str = "was killed: it wrote a line of more than 4 MiB";
    let setup = HostileSetup::new("print-without-newline");
    setup.watch("the first process is killed", |setup| setup.has_problem(KILLED));
    setup.until_released();
    until("what was is not shown any more", || !setup.has_problem(KILLED));
    thread::sleep(RETURNED);
    let memory = RefCell::new(AttackMemory::before(&setup.agent));
    assert!(setup.release(&["--end"]).status.success());
    setup.watch("another one is killed", |setup| {
        memory.borrow_mut().observe(&setup.agent);
        setup.has_problem(KILLED)
    });
    setup.until_released();
    let memory = memory.into_inner();
    memory.assert_within_limits("a library that prints without end", &setup.agent, MAX_ANONYMOUS_KIB);
    setup.end();
}

#[test]
fn a_library_that_prints_lines_without_end_is_killed() {
    is_killed("print-lines", "was killed: it wrote more than 16 MiB that was not asked for");
}

#[test]
fn a_library_that_fills_the_log_is_killed() {
    is_killed("print-to-the-log", "was killed: it wrote more than 16 MiB that was not asked for");
}

#[test]
fn a_library_that_answers_what_it_was_not_asked_is_killed() {
    is_killed("answer-unasked", "was killed: it wrote more than 16 MiB that was not asked for");
}

#[test]
fn a_library_that_takes_memory_is_refused_it_or_killed() {
    is_killed("allocate 2048", "the process that queries the library ended (signal: 6 (SIGABRT)");
    is_killed("allocate 288", "was killed: it grew to ");
    is_killed("share 300", "was killed: it grew to 3");
}

#[test]
fn memory_of_what_a_library_forks_counts_as_its_own() {
    let setup = HostileSetup::new("fork-and-allocate 160");
    let figures = setup.watch("fork", |setup| setup.has_problem("was killed: it grew to "));
    assert!(figures.processes <= 2, "{figures:?}");
    setup.end();
}

#[test]
fn a_short_line_that_stands_for_much_memory_is_dropped() {
    let setup = HostileSetup::new("print-values");
    let figures = setup.watch("print-values", |setup| setup.dropped("output") >= 1.0);
    assert!(figures.processes <= 1, "{figures:?}");
    setup.end();
}

#[test]
fn events_without_end_are_dropped_and_counted() {
    let setup = HostileSetup::new("flood-events");
    let figures = setup.watch("flood-events", |setup| setup.dropped("event") >= 1000.0);
    assert!(figures.processes <= 1, "{figures:?}");
    setup.end();
}

#[test]
fn a_process_that_is_given_up_is_killed_whatever_its_pipes_say() {
    for behavior in ["print-invalid-utf-8-and-hang", "close-and-hang"] {
        let setup = HostileSetup::new(behavior);
        let figures = setup.watch(behavior, |setup| {
            setup.has_problem("the process that queries the library") || setup.has_problem("no response yet")
        });
        assert!(figures.processes <= 1, "{figures:?}");
        setup.end();
    }
}

#[test]
fn what_a_library_forks_does_not_outlive_its_process() {
    for behavior in ["fork", "fork-and-hang"] {
        let setup = HostileSetup::new(behavior);
        setup.watch(behavior, |setup| setup.root.processes().len() > 1);
        setup.end();
        let setup = HostileSetup::new(behavior);
        setup.watch(behavior, |setup| setup.root.processes().len() > 1);
        setup.terminate();
    }
}

#[test]
fn a_process_that_cannot_be_killed_is_reported_and_no_other_one_is_started() {
    // A frozen process of cgroup v1 survives SIGKILL; one of cgroup v2 does not.
    let Some(freezer) = Freezer::new() else {
        did_not_run("there is no freezer of cgroup v1 here that this user may use");
        return;
    };
    let setup = HostileSetup::new("hang");
    until("the library hangs", || setup.root.processes().len() == 1);
    let stuck = setup.root.processes();
    freezer.freeze(stuck[0]);

    let output = setup.release(&[]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("has not ended") && error.contains(&stuck[0].to_string()), "{error}");
    assert!(setup.release(&["--end"]).status.success());
    let figures = setup.watch("frozen", |setup| setup.has_problem("was killed and has not ended (process "));
    assert_eq!(figures.processes, 1, "no other process is started: {figures:?}");
    assert_eq!(setup.root.processes(), stuck);
    assert_eq!(setup.release(&[]).status.code(), Some(1), "it is reported as often as it is asked");

    freezer.thaw();
    until("it has ended", || setup.root.processes().is_empty());
    until("the release succeeds", || setup.release(&[]).status.success());
    assert!(setup.release(&["--end"]).status.success());
    until("another process is started", || setup.root.processes().iter().any(|pid| !stuck.contains(pid)));
    setup.terminate();
}

/// A freezer of cgroup v1, removed when dropped.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> Option<Freezer> {
        let folder = Path::new("/sys/fs/cgroup/freezer").join(format!("afd-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        // Without the controller it is a folder like any other.
        let freezer = Freezer(folder);
        freezer.0.join("freezer.state").exists().then_some(freezer)
    }

    fn freeze(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process can be moved");
        fs::write(self.0.join("freezer.state"), "FROZEN").expect("it can be frozen");
        until("it is frozen", || {
            fs::read_to_string(self.0.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
        });
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").expect("it can be thawed");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let start = Instant::now();
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What each attempt of a library in `afd probe` came to, by its name; and the report of the confinement.
fn attempts() -> (BTreeMap<String, String>, String) {
    let folder = temporary();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").expect("a file can be written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let _socket = UnixListener::bind(folder.path().join("socket")).expect("a socket can be bound");
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    fs::write(folder.path().join("port"), port.to_string()).expect("a file can be written");
    let root = HostileDriverRoot::new(&format!("attempt {}", folder.path().display()));
    let mut process = afd(["probe", "nvidia", "--library"])
        .arg(root.library())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut input = process.stdin.take().expect("stdin is piped");
    input.write_all(b"{\"request\":\"discover\"}\n").expect("it reads");
    drop(input);
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(&secret).expect("it is still there"), "secret");
    assert!(!folder.path().join("written").exists());
    let text = String::from_utf8(output.stderr).expect("it prints UTF-8");
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let attempts = lines.map(|(name, result)| (name.to_owned(), result.to_owned())).collect();
    (attempts, String::from_utf8(output.stdout).expect("messages are UTF-8"))
}

/// What a library can do wherever the agent runs.
const ALLOWED: &[&str] =
    &["read sysfs", "read procfs", "open a harmless device", "start a thread", "make a pair of sockets"];
/// What seccomp forbids.
const FORBIDDEN_CALLS: &[&str] = &[
    "connect to a socket",
    "connect to a port",
    "trace the agent",
    "kill the agent",
    "mount",
    "make a namespace",
    "load a module",
    "load a program into the kernel",
    "count what a processor executes",
    "make keys",
    "leave the group",
    "outlive the agent",
    "raise a limit",
    "make a ring",
    "make a file in memory",
    "make a queue",
    "make semaphores",
    "truncate a file",
    "change the times of a file",
    "set an attribute",
    "change the mode of what is open",
    "have the agent signalled",
    "choose a signal",
    "slow the agent down",
    "make a pair of datagram sockets",
];
/// What Landlock forbids.
const FORBIDDEN_FILES: &[&str] = &[
    "read a secret",
    "list a folder",
    "write a file",
    "change a file",
    "remove a file",
    "write to sysfs",
    "write to procfs",
    "open a foreign device",
    "execute a shell",
    "execute the loader",
    "read the agent's environment",
];

#[test]
fn a_library_can_neither_use_the_node_nor_leave_its_process() {
    let (attempts, messages) = attempts();
    for name in ALLOWED {
        assert_eq!(attempts[*name], "succeeded", "{name}");
    }
    for (feature, names) in [("seccomp", FORBIDDEN_CALLS), ("Landlock ABI", FORBIDDEN_FILES)] {
        if messages.contains(&format!("no {feature}")) || !messages.contains(feature) {
            did_not_run(&format!("this kernel has no {feature}: {messages}"));
            continue;
        }
        for name in names {
            assert_eq!(attempts[*name], "PermissionDenied", "{name}");
        }
    }
    let has_seccomp = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    assert_eq!(messages.contains("no seccomp"), !has_seccomp, "{messages}");
    assert_eq!(attempts["oom_score_adj"], "1000");
}

#[test]
fn the_process_of_a_library_has_no_environment_and_leaves_no_core() {
    let setup = HostileSetup::new("hang");
    until("the library is loaded", || setup.root.processes().len() == 1);
    let pid = setup.root.processes()[0];
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).expect("it can be read"), b"");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("they can be read");
    until("it is confined", || {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        limits.lines().any(|line| {
            line.split_whitespace().collect::<Vec<_>>().starts_with(&["Max", "core", "file", "size", "0"])
        })
    });
    assert!(limits.contains("Max open files"), "{limits}");
    setup.end();
}
