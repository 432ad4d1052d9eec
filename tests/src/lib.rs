//! Shared by the end-to-end tests: the binary, the fixture hosts and a running agent.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

pub mod agent;
pub mod attack;
pub mod browser;
pub mod chart;
pub mod dashboards;
pub mod data_set;
pub mod driver_root;
pub mod fake_runtime;
pub mod fake_server;
pub mod fixture;
pub mod hostile;
pub mod library_faults;
pub mod measured;
pub mod memory;
pub mod prometheus;
pub mod recorded_servers;
pub mod terminal;
pub mod workload;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    thread,
};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// The binary, built now if it is not up to date.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built(&["--package", "afd-agent", "--bin", "afd"], "afd"))
}

/// Whether the binary is a release build, whose memory is that of the budgets.
pub fn is_release() -> bool {
    binary().parent().is_some_and(|folder| folder.ends_with("release"))
}

/// The fake NVML, built now if it is not up to date.
pub fn fake_nvml() -> &'static Path {
    driver_root::FAKE_LIBRARIES[0].file()
}

/// The fake Level Zero, built now if it is not up to date.
pub fn fake_level_zero() -> &'static Path {
    driver_root::FAKE_LIBRARIES[3].file()
}

/// The wall clock that a test can set, built now if it is not up to date.
pub fn fake_clock() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| built(&["--package", "afd-fake-clock"], "libafd_fake_clock.so"))
}

/// The binary of the image, which `cargo xtask ci` has built; otherwise [`binary`].
pub fn image_binary() -> PathBuf {
    std::env::var_os("AFD_IMAGE_BINARY").map_or_else(|| binary().to_owned(), PathBuf::from)
}

/// Builds a target of the workspace, unless `cargo xtask` has built all of them; the path of the resulting file.
pub(crate) fn built(target: &[&str], file: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("AFD_BUILD_FOLDER") {
        return Path::new(&folder).join(file);
    }
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests are built into target/<profile>/deps");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet"]).args(target).current_dir(workspace());
    // That of the test, as with `cargo test --release`.
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // Cargo sets variables about the test's package. A build script that reads them (ring's does) would run again each time.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
    {
        build.env_remove(name);
    }
    build.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_LINKS");
    let built = build.status();
    assert!(built.is_ok_and(|status| status.success()), "{file} cannot be built");
    folder.join(file)
}

/// A command of the binary.
pub fn afd<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("AFD_LOG");
    command
}

/// The standard output of a command that must succeed.
///
/// # Panics
/// When it fails.
pub fn stdout(command: &mut Command) -> String {
    let output = output(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}: {error}", output.status);
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// The output and exit status of a command.
///
/// # Panics
/// When it cannot be started.
pub fn output(command: &mut Command) -> Output {
    loop {
        match command.output() {
            // A fork of another test still has the copy of the binary open for writing; its exec closes it.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            Err(error) => panic!("{command:?} cannot be started: {error}"),
            Ok(output) => return output,
        }
    }
}
