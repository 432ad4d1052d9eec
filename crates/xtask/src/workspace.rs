//! Where the checkout, its build and its tools are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

/// The checkout and its build folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The root of the checkout.
    pub(crate) root: PathBuf,
    /// The folder that cargo builds in.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace that the current directory is in.
    pub(crate) fn find() -> anyhow::Result<Workspace> {
        let metadata = MetadataCommand::new().no_deps().exec().context("asking cargo for the workspace")?;
        Ok(Workspace {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
        })
    }

    /// A cargo command in the root of the checkout. Its arguments are separated by spaces.
    pub(crate) fn cargo(&self, arguments: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments.split_whitespace());
        without_package_variables(&mut command);
        command
    }

    /// The folder for tools that outlive a build: `AFD_CACHE`, the user's cache, or the build folder.
    pub(crate) fn tools(&self) -> PathBuf {
        let cache = env::var_os("AFD_CACHE").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache/afd"));
        cache.or_else(home).unwrap_or_else(|| self.target.clone()).join("tools")
    }
}

/// Removes the variables by which cargo describes this package. A build script that reads one of them (ring's does)
/// would run again at each change.
pub(crate) fn without_package_variables(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_LINKS");
}

/// The path of a program that is on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}
