//! A host root that someone else made, such as the recording of a bug report: showing it runs no code from it, and its text does not
//! control the terminal.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    process::{Command, Output},
};

use afd_tests::{
    fixture::{Fixture, FixtureHost},
    hostile::HostileDriverRoot,
    output,
};
use tempfile::TempDir;

/// What is logged of a process that has loaded a library.
const LOADED: &str = "the process of a library is confined";
const NOT_LOADED: &str = "libraries under this host root are not loaded; --libraries allows it";

/// A host with GPUs and the library under its root.
fn host_with_library() -> (FixtureHost, HostileDriverRoot) {
    let host = Fixture::named("nvidia-h100x8").copy();
    let library = HostileDriverRoot::new("");
    let folder = host.root().join("usr/lib64");
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::copy(library.library(), folder.join("libnvidia-ml.so.1")).expect("a library can be copied");
    (host, library)
}

fn log(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command of the binary that logs everything.
fn verbose(mut command: Command) -> Command {
    command.env("AFD_LOG", "debug").env("NO_COLOR", "1");
    command
}

#[test]
fn a_command_loads_no_library_of_another_host_unless_it_is_allowed() {
    let (host, library) = host_with_library();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let copy = folder.path().join("copy");
    let copy = copy.to_str().expect("temporary paths are UTF-8");
    for arguments in [
        vec!["show"],
        vec!["explain"],
        vec!["topology"],
        vec!["top"],
        vec!["record", copy],
        vec!["show", "-o", "metrics"],
    ] {
        let log = log(&output(&mut verbose(host.afd(arguments.clone()))));
        assert!(log.contains(NOT_LOADED) && !log.contains(LOADED), "{arguments:?}: {log}");
        assert_eq!(log.matches(NOT_LOADED).count(), 1, "{log}");
    }
    let log_of = |arguments: &[&str]| {
        log(&output(&mut verbose(host.afd(["show"].into_iter().chain(arguments.iter().copied())))))
    };
    let allowed = log_of(&["--libraries"]);
    assert!(allowed.contains(LOADED) && !allowed.contains(NOT_LOADED), "{allowed}");
    let root = library.path().to_str().expect("temporary paths are UTF-8");
    let named = log_of(&["--nvidia-driver-root", root]);
    assert!(named.contains(LOADED) && !named.contains(NOT_LOADED), "{named}");
    let switched_off = log_of(&["--no-libraries"]);
    assert!(!switched_off.contains(LOADED) && !switched_off.contains(NOT_LOADED), "{switched_off}");
    assert_eq!(output(&mut host.afd(["show", "--libraries", "--no-libraries"])).status.code(), Some(64));
}

#[test]
fn text_of_the_host_does_not_control_the_terminal() {
    let host = Fixture::named("amd-mi300x8-spx").copy();
    // A NIC, the kernel and a product by names that a terminal would obey.
    let hidden = "\u{1b}[31m\u{9b}1m\u{202e}\u{7}";
    fs::write(host.root().join("proc/sys/kernel/osrelease"), format!("6.1{hidden}\n"))
        .expect("it can be written");
    let product = products(&host);
    assert!(!product.is_empty(), "the host names its products");
    for path in product {
        fs::write(path, format!("AMD{hidden}\n")).expect("a file can be written");
    }
    let commands: [&[&str]; 10] = [
        &["show"],
        &["top", "--once"],
        &["show", "-o", "json"],
        &["show", "-o", "labels", "--compat", "amd=on"],
        &["show", "-o", "metrics"],
        &["show", "-o", "dcgm"],
        &["explain"],
        &["explain", "-o", "json"],
        &["topology"],
        &["topology", "-o", "svg"],
    ];
    for arguments in commands {
        let output = output(&mut host.afd(arguments.iter().copied().chain(["--no-libraries"])));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("the output is UTF-8");
        let is_obeyed = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        let obeyed: Vec<&str> = text.lines().filter(|line| line.contains(is_obeyed)).collect();
        assert!(obeyed.is_empty(), "{arguments:?}: {obeyed:?}");
    }
    let shown = afd_tests::stdout(&mut host.afd(["show", "--no-libraries"]));
    assert!(shown.contains("6.1\\u{1b}[31m\\u{9b}1m\\u{202e}\\u{7}"), "{shown}");
}

/// The files in which a device names its product.
fn products(host: &FixtureHost) -> Vec<std::path::PathBuf> {
    let mut folders = vec![host.root().join("sys")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
            let kind = entry.file_type().expect("it has a type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() == "product_name" {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn an_error_does_not_control_the_terminal() {
    let output = output(&mut afd_tests::afd(["show", "--host-root", "/nonexistent\u{1b}[31m"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("/nonexistent\\u{1b}[31m") && !error.contains('\u{1b}'), "{error}");
}
