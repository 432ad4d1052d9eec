//! The systems that a release is for.

use std::{
    env::consts::ARCH,
    path::{Path, PathBuf},
    process::Command,
};

/// A kind of processor, under Linux with glibc.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Platform {
    /// As Rust names it.
    pub(super) machine: &'static str,
    /// As Debian and OCI name it.
    pub(super) architecture: &'static str,
    /// The path of the loader, which every program has.
    pub(super) loader: &'static str,
}

/// All of them.
pub(super) const PLATFORMS: [Platform; 2] = [
    Platform { machine: "x86_64", architecture: "amd64", loader: "lib64/ld-linux-x86-64.so.2" },
    Platform { machine: "aarch64", architecture: "arm64", loader: "lib/ld-linux-aarch64.so.1" },
];

impl Platform {
    /// The one of this machine.
    pub(super) fn native() -> Option<Platform> {
        PLATFORMS.into_iter().find(Platform::is_native)
    }

    /// Whether this machine runs its programs.
    pub(super) fn is_native(&self) -> bool {
        self.machine == ARCH
    }

    /// The target of the compiler.
    pub(super) fn target(&self) -> String {
        format!("{}-unknown-linux-gnu", self.machine)
    }

    /// The folder of libraries.
    pub(super) fn library_folder(&self) -> PathBuf {
        Path::new("lib").join(format!("{}-linux-gnu", self.machine))
    }

    /// A program under a root with its loader and its libraries, none of which is taken from this machine.
    pub(super) fn command(&self, root: &Path, program: &str, emulator: Option<&Path>) -> Command {
        match emulator.filter(|_| !self.is_native()) {
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.arg("-L").arg(root).arg(root.join(program));
                command
            }
            None => {
                let mut command = Command::new(root.join(self.loader));
                command.arg("--library-path").arg(root.join(self.library_folder())).arg(root.join(program));
                command
            }
        }
    }
}
