//! A library that misbehaves, as the file `behavior` beside it says: `word`, or `word argument`. It has the name of NVML and the one
//! symbol by which NVML is initialised.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a C library that does what no library should"
)]

mod attempts;

use std::{
    fs::{self, File},
    io::Write,
    os::fd::FromRawFd,
    path::PathBuf,
    thread,
    time::Duration,
};

/// `NVML_ERROR_DRIVER_NOT_LOADED`.
const DRIVER_NOT_LOADED: u32 = 9;

/// Misbehaves.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> u32 {
    let folder = own_folder();
    let text = fs::read_to_string(folder.join("behavior")).unwrap_or_default();
    let (behavior, argument) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match behavior {
        "print-without-newline" => print_forever(&[b'x'; 4096]),
        "print-lines" => print_forever(&b"garbage\n".repeat(512)),
        "print-values" => {
            let mut channel = channel();
            let _ = channel.write_all(b"{\"response\":\"discover\",\"value\":[0");
            let _ = channel.write_all(&b",0".repeat(2_000_000));
            let _ = channel.write_all(b"]}\n");
            hang()
        }
        "print-invalid-utf-8-and-hang" => {
            let _ = channel().write_all(b"caf\xe9\n");
            hang()
        }
        "print-to-the-log" => {
            let mut log = std::io::stderr();
            loop {
                let _ = log.write_all(&b"\x1b[31mgarbage\n".repeat(512));
            }
        }
        "answer-unasked" => {
            send_forever(|number| format!("{{\"response\":\"r{number}\",\"value\":[1,2,3]}}\n"))
        }
        "flood-events" => {
            send_forever(|number| format!("{{\"event\":{{\"eventType\":8,\"eventData\":{number}}}}}\n"))
        }
        "close-and-hang" => {
            drop(channel());
            // SAFETY: nothing here writes to them any more.
            unsafe {
                libc::close(1);
                libc::close(2);
            }
            hang()
        }
        "hang" => hang(),
        "fork" => attempts::fork_and_hold(),
        "allocate" => attempts::allocate(argument.parse().expect("a number of MiB")),
        "share" => attempts::share(argument.parse().expect("a number of MiB")),
        "fork-and-allocate" => {
            attempts::fork_and_allocate(argument.parse().expect("a number of MiB"));
        }
        "attempt" => attempts::all(argument),
        "fork-and-hang" => {
            attempts::fork_and_hold();
            hang()
        }
        _ => {}
    }
    DRIVER_NOT_LOADED
}

fn hang() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn print_forever(bytes: &[u8]) -> ! {
    let mut channel = channel();
    loop {
        // The agent may have closed it; the process is not ended by that.
        if channel.write_all(bytes).is_err() {
            hang();
        }
    }
}

fn send_forever(message: impl Fn(u64) -> String) -> ! {
    let mut channel = channel();
    for number in 0.. {
        if channel.write_all(message(number).as_bytes()).is_err() {
            break;
        }
    }
    hang()
}

/// The pipe to the agent: the only one that is open for writing besides standard output and standard error.
fn channel() -> File {
    let is_pipe = |number: &i32| {
        let flags = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let is_for_writing = flags
            .lines()
            .find(|line| line.starts_with("flags:"))
            .is_some_and(|line| line.trim_end().ends_with('1'));
        let link = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
        is_for_writing && link.to_string_lossy().starts_with("pipe:")
    };
    let number = (3..64).find(is_pipe).expect("the agent listens");
    // SAFETY: the descriptor is open; that its owner still uses it is the misbehaviour.
    unsafe { File::from_raw_fd(number) }
}

/// The folder of this library.
fn own_folder() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("a process can read its own mappings");
    let line = maps.lines().find(|line| line.contains("libnvidia-ml.so.1")).expect("the library is loaded");
    let path = PathBuf::from(&line[line.find('/').expect("it has a path")..]);
    path.parent().expect("it is in a folder").to_owned()
}
