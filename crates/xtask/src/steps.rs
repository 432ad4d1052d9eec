//! Programs run one after another, each announced, until one fails.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

/// Where the checkout and its build are.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The root of the checkout.
    pub(crate) root: PathBuf,
    /// The folder that cargo builds in.
    pub(crate) target: PathBuf,
}

/// A program that ran and failed.
#[derive(Debug)]
pub(crate) struct StepError {
    step: String,
    code: Option<i32>,
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "`{}` failed with exit code {code}", self.step),
            None => write!(f, "`{}` was ended by a signal", self.step),
        }
    }
}

impl std::error::Error for StepError {}

impl StepError {
    /// The code that the program left with, 1 where it was ended by a signal.
    pub(crate) fn exit_code(&self) -> ExitCode {
        self.code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
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

    /// A cargo command in the root of the checkout, its arguments parted by spaces.
    pub(crate) fn cargo(&self, arguments: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments.split_whitespace());
        // Cargo tells us about our package. A build script that asks for that (ring's does) would be run anew each time.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
            command.env_remove(name);
        }
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_LINKS");
        command
    }

    /// The folder for tools that outlive a build: `AFD_CACHE`, the user's cache, or the build folder.
    pub(crate) fn tools(&self) -> PathBuf {
        let cache = env::var_os("AFD_CACHE").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache/afd"));
        cache.or_else(home).unwrap_or_else(|| self.target.clone()).join("tools")
    }
}

/// Says what is run, runs it, and fails as it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let step = spelled(command);
    eprintln!("\n==> {step}");
    let status = command.status().with_context(|| format!("starting `{step}`"))?;
    if status.success() { Ok(()) } else { Err(StepError { step, code: status.code() }.into()) }
}

/// The command as a person would type it.
fn spelled(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={:?}", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words =
        std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Where a program is, by `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_tells_its_name_and_code() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).expect_err("the program fails");
        assert_eq!(error.to_string(), "`sh -c exit 7` failed with exit code 7");
        let step = error.downcast_ref::<StepError>().expect("the step failed, not its start");
        assert_eq!(step.code, Some(7));
    }

    #[test]
    fn a_step_is_spelled_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(spelled(&command), "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps");
    }
}
