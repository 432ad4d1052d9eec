//! The developers' commands: `cargo xtask <command>`. What CI runs is `cargo xtask ci`.
//!
//! Nothing of the product is in here; the commands call cargo and other programs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a developer's tool runs programs, writes temporary files and talks to its terminal"
)]

mod bench;
mod captured;
mod cargo_tool;
mod ci;
mod cluster;
mod containerfile;
mod cpu_time;
mod dist;
#[cfg(target_arch = "x86_64")]
mod function_order;
mod image;
mod python;
mod setup;
mod steps;
mod store;
mod test_run;
mod workflows;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    steps::{StepError, StepLog},
    workspace::Workspace,
};

/// The developers' commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Everything that must hold before a change is merged; the tests come last.
    Ci,
    /// Run all tests.
    Test,
    /// Run all tests and accept their output: rewrites the expected files.
    Bless,
    /// Install and build the programs that the tests need, where they are missing.
    Setup,
    /// Build the container image without a registry, print its size, and start the binary in it.
    Image,
    /// Make a release of the commit that is checked out: programs, image, chart, packages, bills of materials, checksums.
    Dist {
        /// Build twice, in different folders, and compare every file byte by byte.
        #[arg(long)]
        verify: bool,
        /// The name of the image that the packaged chart installs, without a tag.
        #[arg(long, value_name = "NAME")]
        image: Option<String>,
        /// Build nothing: pack the program that `cargo xtask image` has built, twice, and compare. CI does this.
        #[arg(long, conflicts_with_all = ["verify", "image"])]
        rehearse: bool,
    },
    /// Find out which functions the agent calls at rest, so that the linker puts them next to each other.
    #[cfg(target_arch = "x86_64")]
    FunctionOrder,
    /// Measure the agent and compare it with its budgets.
    Bench {
        /// Omit the micro-benchmarks and measure whole processes only.
        #[arg(long)]
        whole_process_only: bool,
        /// Instead, start this many agents at once on one real API server, and measure how fast a device becomes a label.
        #[arg(long, value_name = "COUNT", conflicts_with = "whole_process_only")]
        agents: Option<usize>,
        /// Instead, create this many Nodes on one real API server, and measure `afd nodes` and `afd generate` beside kubectl.
        #[arg(long, value_name = "COUNT", conflicts_with_all = ["whole_process_only", "agents"])]
        nodes: Option<usize>,
    },
}

fn main() -> ExitCode {
    run(Task::parse()).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        error.downcast_ref::<StepError>().map_or(ExitCode::FAILURE, StepError::exit_code)
    })
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let log = StepLog::default();
    let steps = log.steps();
    match task {
        Task::Ci => return ci::ci(&workspace),
        Task::Test => return ci::test(&workspace),
        Task::Bless => return ci::bless(&workspace),
        Task::Setup => ci::setup(&workspace),
        Task::Image => image::image(&steps, &workspace),
        Task::Dist { rehearse: true, .. } => dist::rehearse(&steps, &workspace),
        Task::Dist { verify, image, .. } => dist::dist(&steps, &workspace, image.as_deref(), verify),
        #[cfg(target_arch = "x86_64")]
        Task::FunctionOrder => function_order::function_order(&steps, &workspace),
        Task::Bench { agents: Some(count), .. } => bench::agents(&steps, &workspace, count),
        Task::Bench { nodes: Some(count), .. } => bench::nodes(&steps, &workspace, count),
        Task::Bench { whole_process_only, .. } => bench::bench(&steps, &workspace, whole_process_only),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The documents that name commands.
    const DOCUMENTS: [&str; 5] =
        ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "daemonset/README.md", "docs/releasing.md"];

    #[test]
    fn the_commands_of_the_documentation_exist() {
        let root = Workspace::find().expect("the tests run in the workspace").root;
        let read = |name: &str| fs::read_to_string(root.join(name)).expect("the file can be read");
        let mut commands = 0;
        for document in DOCUMENTS {
            for text in read(document).split("cargo xtask ").skip(1) {
                let command = text.split(['`', '\n']).next().unwrap_or_default();
                let words = ["xtask"].into_iter().chain(command.split_whitespace());
                let parsed = Task::try_parse_from(words);
                assert!(parsed.is_ok(), "{document}: cargo xtask {command}: {parsed:?}");
                commands += 1;
            }
        }
        assert!(commands > 10, "only {commands} commands were found");
        let readme = read("README.md");
        let (_, first) = readme.split_once("cargo run --profile ").expect("it shows this machine");
        let profile = first.split(' ').next().unwrap_or_default();
        assert!(read("Cargo.toml").contains(&format!("\n[profile.{profile}]\n")), "no profile {profile}");
    }
}
