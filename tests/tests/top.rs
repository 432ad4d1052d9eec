//! `afd top` on a pseudo terminal, on pipes, and with agents that do not answer it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, io::Write, net::TcpListener, process::Command, thread};

use afd_tests::{
    afd,
    agent::Agent,
    fixture::Fixture,
    output, stdout,
    terminal::{TerminalProgram, is_success},
};
use rustix::process::Signal;

const RUN: [&str; 5] = ["run", "--no-kubernetes", "--no-libraries", "--sample-interval", "1"];

fn top(agent: &Agent) -> Command {
    afd(["top", "--url", &format!("http://{}", agent.address())])
}

#[test]
fn the_devices_of_an_agent_are_shown_live() {
    let host = Fixture::named("amd-mi210x8-two-hives").copy();
    let (_, function) = host.pci_link("0x740f");
    let busy = host.root().join("sys/bus/pci/devices").join(function).join("gpu_busy_percent");
    let set = |percent: u32| fs::write(&busy, format!("{percent}\n")).expect("a file can be written");
    set(13);
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--node-name", "gpu-7"])));
    let mut terminal = TerminalProgram::start(&top(&agent), 80, 24);
    terminal.until("the devices are shown", |screen| {
        screen.contains(" 13%") && screen.contains("gpu-7  8 devices")
    });
    assert_eq!(terminal.modes(), (true, true), "the alternate screen, without a cursor");
    assert!(!terminal.is_as_before(), "keys are read one by one");
    set(87);
    terminal.until("the value has changed", |screen| screen.contains(" 87%"));
    terminal.until("its history has grown", |screen| screen.contains("▂▇"));
    terminal.press("s");
    terminal.until("it is sorted", |screen| screen.contains("s sort: utilization"));
    terminal.until("the busiest is first", |screen| {
        screen.lines().nth(3).is_some_and(|line| line.contains(" 87%"))
    });
    terminal.press("/nothing\r");
    terminal.until("it is filtered", |screen| screen.contains("Nothing contains this text."));
    // Escape is a key of its own when nothing follows it.
    terminal.press("\u{1b}");
    terminal.until("all are shown", |screen| screen.contains(" 87%"));
    terminal.resize(120, 40);
    terminal.until("the wider screen is used", |screen| screen.contains("PRODUCT"));
    terminal.resize(40, 12);
    terminal.until("the narrow screen is used", |screen| {
        !screen.contains("HELD BY") && screen.contains("MEMORY") && screen.contains(" 87%")
    });
    drop(agent);
    terminal.until("the agent is gone", |screen| screen.contains("no agent answers"));
    terminal.press("q");
    assert!(is_success(terminal.wait()));
    assert_eq!(terminal.modes(), (false, false));
    assert!(terminal.is_as_before());
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_as_before() {
    let host = Fixture::named("no-accelerator").lay_out();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = TerminalProgram::start(&host.afd(["top"]), 80, 24);
        terminal.until("it is shown", |screen| screen.contains("No accelerators found."));
        terminal.signal(signal);
        assert!(is_success(terminal.wait()), "{signal:?}");
        assert_eq!((terminal.modes(), terminal.is_as_before()), ((false, false), true), "{signal:?}");
    }
}

/// Run by the next test on a terminal, in a process of its own.
#[test]
#[ignore = "it panics"]
fn a_session_that_panics() {
    let _session = afd_agent::top::TerminalSession::start(std::io::stdout()).expect("it is a terminal");
    panic!("on purpose");
}

#[test]
fn a_panic_leaves_the_terminal_as_before_and_is_readable() {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args(["--ignored", "--exact", "a_session_that_panics", "--nocapture"]);
    let mut terminal = TerminalProgram::start(&command, 80, 24);
    assert!(!is_success(terminal.wait()));
    assert_eq!((terminal.modes(), terminal.is_as_before()), ((false, false), true));
    assert!(terminal.screen().contains("on purpose"), "{}", terminal.screen());
}

#[test]
fn without_an_agent_this_host_is_observed() {
    let host = Fixture::named("nvidia-h100x8-one-lost").lay_out();
    let mut terminal = TerminalProgram::start(&host.afd(["top"]), 100, 30);
    terminal.until("the devices are shown", |screen| {
        screen.contains("host root ")
            && screen.contains("0000:19:00.0")
            && screen.contains("Which pods hold it is not reported")
    });
    terminal.press("p");
    terminal.until("the paths are shown", |screen| screen.contains("optimized-baseline: "));
    // Ctrl and C.
    terminal.press("\u{3}");
    assert!(is_success(terminal.wait()));
    assert!(terminal.is_as_before());
}

#[test]
fn on_a_pipe_it_is_one_table() {
    let host = Fixture::named("amd-mi300x8-cpx-nps4").lay_out();
    let own = stdout(&mut host.afd(["top", "--no-libraries"]));
    let agent = Agent::start(host.afd(RUN));
    let of_agent = stdout(&mut top(&agent));
    for text in [own, of_agent] {
        assert!(text.starts_with(" DEVICE") && text.contains("UTIL") && text.contains("  xcp7"), "{text}");
        let rows = text.lines().take_while(|line| !line.is_empty()).count();
        assert_eq!(rows, 1 + 8 + 64, "a header, devices and partitions: {text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    let none = stdout(&mut Fixture::named("no-accelerator").lay_out().afd(["top", "--once"]));
    assert!(none.starts_with("No accelerators found.\n"), "{none}");
}

#[test]
fn an_agent_that_cannot_be_read_is_a_clear_error() {
    let failure = |url: &str| {
        let output = output(&mut afd(["top", "--once", "--url", url]));
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, error) = failure("https://127.0.0.1:9109");
    assert!(status == Some(64) && error.contains("only http://HOST:PORT can be read"), "{error}");
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    drop(listener);
    let (status, error) = failure(&url);
    assert!(status == Some(1) && error.contains("no agent answers at http://127.0.0.1:"), "{error}");
    let answers: [(&[u8], &str); 3] = [
        (b"\x15\x03\x03\x00\x02\x02\x32", "serves https"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\ncredentials are required\n", "demands credentials (status 401)"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "no report of an agent"),
    ];
    for (answer, expected) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        });
        let (status, error) = failure(&url);
        assert!(status == Some(1) && error.contains(expected), "{error}");
    }
}
