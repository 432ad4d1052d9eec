//! The command line: usage errors, and the output on a host without accelerators.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::net::TcpListener;

use afd_tests::{afd, fixture::Fixture, output, stdout};

fn exit_and_error(arguments: &[&str]) -> (Option<i32>, String) {
    let output = output(&mut afd(arguments.iter().copied()));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_host_root_that_is_not_a_directory_is_a_usage_error() {
    let (code, error) = exit_and_error(&["show", "--host-root", "/no/such/root"]);
    assert_eq!(code, Some(64));
    assert_eq!(
        error,
        "afd: host root /no/such/root cannot be opened as a directory: No such file or directory (os error 2)\n"
    );
    let (code, error) = exit_and_error(&["show", "--host-root", "/proc/self/status"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("Not a directory"), "{error}");
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let (code, error) = exit_and_error(&["show", "--outptu", "json"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("unexpected argument '--outptu'") && error.contains("--output"), "{error}");
    let (code, _) = exit_and_error(&["run"]);
    assert_eq!(code, Some(64), "the node name is missing");
}

#[test]
fn an_unknown_label_set_or_switch_is_a_usage_error() {
    let (code, error) = exit_and_error(&["show", "--compat", "amd=yes"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("a set is switched auto, on or off, not \"yes\""), "{error}");
    let (code, error) = exit_and_error(&["show", "--compat", "asus=on"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("there is no set \"asus\"; the sets are: nvidia, amd"), "{error}");
    let (code, error) = exit_and_error(&["show", "--compat", "amd"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("not a set and its switch, such as nvidia=on"), "{error}");
}

#[test]
fn an_unknown_metric_set_is_a_usage_error() {
    let (code, error) = exit_and_error(&["show", "--output", "metrics", "--compat-metrics", "asus"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("invalid value 'asus'") && error.contains("possible values: amd"), "{error}");
}

#[test]
fn a_label_set_is_printed_only_when_it_is_on() {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let labels = |switch: &str| stdout(&mut host.afd(["show", "--output", "labels", "--compat", switch]));
    assert!(labels("amd=on").contains("\namd.com/gpu.cu-count=304\n"));
    let own = stdout(&mut host.afd(["show", "--output", "labels"]));
    assert_eq!((&labels("amd=auto"), &labels("amd=off")), (&own, &own));
}

#[test]
fn an_address_in_use_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("a listener has an address").to_string();
    let (code, error) = exit_and_error(&["run", "--no-kubernetes", "--listen", &address]);
    assert_eq!(code, Some(1));
    assert_eq!(
        error,
        format!("afd: cannot listen on {address} (--listen): Address already in use (os error 98)\n")
    );
}

#[test]
fn the_table_of_this_machine_ends_with_what_was_read() {
    let text = stdout(&mut afd(["show"]));
    assert!(text.contains("Scanned ") && text.contains(" under / (Linux "), "{text}");
}

#[test]
fn a_host_without_accelerators_says_so() {
    let host = Fixture::named("no-accelerator").lay_out();
    let text = stdout(&mut host.afd(["show"]));
    assert!(text.starts_with("No accelerators found.\n"), "{text}");
    assert_eq!(stdout(&mut host.afd(["show", "--output", "labels"])), "");
}

#[test]
fn only_a_terminal_gets_colour() {
    let host = Fixture::named("nvidia-a100x2-no-driver").lay_out();
    assert!(!stdout(&mut host.afd(["show"])).contains('\u{1b}'));
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    assert!(stdout(&mut afd(["completions", "bash"])).contains("_afd()"));
    assert!(stdout(&mut afd(["man"])).contains(".TH afd 1"));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    for arguments in [&["completions", "bash"][..], &["man"], &["show"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let mut command = afd(arguments.iter().copied());
        let output = output(command.stdout(writer));
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_vendors_metrics_have_the_name_of_the_node() {
    let host = Fixture::named("tpu-v6e-x8-servers").lay_out();
    let arguments = ["show", "--output", "metrics", "--compat-metrics", "tpu", "--node-name", "node-7"];
    let page = stdout(&mut host.afd(arguments));
    assert!(page.contains("accelerator_id=\"node-7-0\""), "{page}");
}
