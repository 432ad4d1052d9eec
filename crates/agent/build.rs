//! Makes the release binary smaller (docs/decisions/small-binary.md): packs its relative relocations, and discards the tables for
//! unwinding the stack. Makes it take less memory (docs/decisions/function-order.md): puts the functions that the agent calls at rest
//! next to each other.
//!
//! glibc understands packed relocations since version 2.36. A binary that is built with an older one, for an older one
//! (`AFD_GLIBC`, as `cargo xtask dist` sets it), or for another system, keeps the usual form.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a build script reads variables, writes files and asks the system for its version"
)]

use std::{env, fs, process::Command};

/// The first version of glibc whose loader reads packed relocations.
const GLIBC: (u32, u32) = (2, 36);
/// The variable that names the oldest glibc that the binary has to run with, where that is not the system's: `2.17`.
const OLDEST: &str = "AFD_GLIBC";
/// The linker script that discards the tables, as GNU's linkers and LLVM's understand it.
const SCRIPT: &str = "discard-unwind-tables.ld";
/// The script with the order of the functions as well, in the folder of build outputs.
const WHOLE_SCRIPT: &str = "link.ld";
/// The functions that the agent calls at rest, made by `cargo xtask function-order`.
const FUNCTIONS: &str = "functions-at-rest.txt";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-changed={FUNCTIONS}");
    println!("cargo::rerun-if-env-changed={OLDEST}");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    let oldest = env::var(OLDEST).ok();
    let glibc = match &oldest {
        Some(version) => parsed(version),
        None => system().filter(|_| is_native),
    };
    let Some(glibc) = glibc.filter(|_| is_release) else { return };
    if glibc >= GLIBC {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // The folder of build outputs keeps its path where the checkout has another one, as in the build of an image.
    let Ok(folder) = env::var("OUT_DIR") else { return };
    let script = format!("{folder}/{WHOLE_SCRIPT}");
    let content = format!("{}{}", include_str!("discard-unwind-tables.ld"), order());
    if fs::write(&script, content).is_ok() {
        // The linker refuses a header without the table that it lists.
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
    }
}

/// The command that puts the functions at rest next to each other. Each has a section of its own, of its name. A name that no longer
/// exists in the program selects nothing.
fn order() -> String {
    let names = include_str!("functions-at-rest.txt").lines().filter(|line| !line.starts_with('#'));
    let sections: String = names.map(|name| format!("    *(.text.{name})\n")).collect();
    format!("SECTIONS\n{{\n  .text.at_rest : {{\n{sections}  }}\n}}\nINSERT BEFORE .text;\n")
}

/// The version of the system's glibc: `glibc 2.36`.
fn system() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    parsed(text.trim().strip_prefix("glibc ")?)
}

fn parsed(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
