//! The developers' commands: `cargo xtask <command>`. What CI runs is `cargo xtask ci`.
//!
//! Nothing of the product is in here; the commands call cargo and other programs, and stop at the first that fails.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a developer's tool runs programs, writes temporary files and talks to its terminal"
)]

mod bench;
mod ci;
mod cluster;
mod image;
mod setup;
mod steps;

use std::process::ExitCode;

use clap::Parser;

use crate::steps::{StepError, Workspace};

/// The developers' commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Everything that must hold before a change is merged; the tests come last.
    Ci,
    /// Run all tests.
    Test,
    /// Run all tests and accept what they print: rewrites the expected files.
    Bless,
    /// Install and build the programs that the tests need, where they are missing.
    Setup,
    /// Build the container image without a registry, say how large it is, and start the binary in it.
    Image,
    /// Measure the agent beside its budgets.
    Bench {
        /// Leave the micro-benchmarks out and measure whole processes only.
        #[arg(long)]
        whole_process_only: bool,
        /// Instead, start this many agents at once before one real API server, and time how fast a device becomes a label.
        #[arg(long, value_name = "COUNT", conflicts_with = "whole_process_only")]
        agents: Option<usize>,
    },
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            error.downcast_ref::<StepError>().map_or(ExitCode::FAILURE, StepError::exit_code)
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Ci => ci::ci(&workspace),
        Task::Test => ci::test(&workspace),
        Task::Bless => ci::bless(&workspace),
        Task::Setup => ci::setup(&workspace),
        Task::Image => image::image(&workspace),
        Task::Bench { agents: Some(count), .. } => bench::agents(&workspace, count),
        Task::Bench { whole_process_only, .. } => bench::bench(&workspace, whole_process_only),
    }
}
