//! A library that is newer than the image, through the real loader.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests compile a library")]

use std::{fs, path::Path, process::Command};

use afd_probe::ffi::LoadedLibrary;
use tempfile::TempDir;

/// Compiles a library in a folder.
fn compile(folder: &Path, source: &str, arguments: &[&str]) {
    fs::write(folder.join("source.c"), source).expect("a file can be written");
    let mut compiler = Command::new("cc");
    compiler.current_dir(folder).args(["-shared", "-fPIC", "-nostdlib", "source.c"]).args(arguments);
    let output = compiler.output().expect("there is a C compiler, which links Rust programs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_library_for_a_newer_c_library_says_what_it_needs_and_what_there_is() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let folder = folder.path();
    // A stand-in for the C library of a later distribution, which is there only when the other one is linked.
    fs::write(folder.join("versions"), "GLIBC_9.99 { global: of_the_future; };")
        .expect("a file can be written");
    let stand_in = ["-Wl,--version-script=versions", "-Wl,-soname,libc.so.6", "-o", "libfuture.so"];
    compile(folder, "void of_the_future(void) {}", &stand_in);
    let source = "void of_the_future(void); void run(void) { of_the_future(); }";
    compile(folder, source, &["-L.", "-lfuture", "-o", "libnew.so"]);
    let error = LoadedLibrary::open(folder.join("libnew.so").as_os_str()).expect_err("it is too new");
    let (_, needs) = error
        .split_once("; the library needs GLIBC 9.99 and the image of the agent has GLIBC 2.")
        .expect(&error);
    assert!(needs.starts_with(|digit: char| digit.is_ascii_digit()), "{error}");
}
