//! `cargo xtask function-order`: which functions the agent calls at rest.
//!
//! The kernel maps 64 KiB around each function that is called. Functions that are called with every sample and lie all over the
//! program keep most of it mapped; next to each other they take a tenth. `crates/agent/build.rs` has the linker put those of the list
//! next to each other; docs/decisions/function-order.md says why.
//!
//! An agent on each kind of host is stopped once it is at rest, a breakpoint is set at the entry of each function, and those that are
//! reached within two samples and a scrape are the list.

mod breakpoints;

use std::{collections::BTreeSet, fs, path::Path, process::Command, thread, time::Duration};

use anyhow::Context;

use crate::{
    bench::{http::KeptConnection, levelzero::LevelZeroHost, nvml::NvmlRoot, process::ServingProcess},
    steps::Steps,
    workspace::Workspace,
};

/// The list, which is part of the program's source.
const LIST: &str = "crates/agent/functions-at-rest.txt";
const HEAD: &str = "\
# The functions that the agent calls at rest, as the linker names them, without hashes. Made by `cargo xtask function-order`.
";
/// Hosts of each vendor, without libraries.
const HOSTS: [&str; 6] = [
    "amd-mi210x8-two-hives",
    "amd-mi300x8-spx",
    "gaudi3-x8",
    "intel-arc-pro-b60-x4",
    "nvidia-h100x8",
    "tpu-v6e-x8",
];
/// Seconds between two samples.
const INTERVAL: u64 = 2;
/// How long an agent runs before it is at rest.
const SETTLE: Duration = Duration::from_secs(3 * INTERVAL);
/// How long it is observed: longer than two intervals.
const OBSERVED: Duration = Duration::from_secs(3 * INTERVAL);

/// Builds the agent with symbols, observes it, and writes the list.
pub(crate) fn function_order(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<()> {
    let mut build = workspace.cargo("build --release --package afd-agent --bin afd");
    steps.run("binary with symbols", build.env("CARGO_PROFILE_RELEASE_STRIP", "none"))?;
    let fakes = "build --release --package afd-fake-nvml --package afd-fake-levelzero";
    steps.run("fake libraries", &mut workspace.cargo(fakes))?;
    let release = workspace.target.join("release");
    let (afd, hosts) = (release.join("afd"), workspace.root.join("fixtures/hosts"));
    let mut commands: Vec<Command> = HOSTS.iter().map(|host| agent(&afd, &hosts.join(host))).collect();
    let with_nvml = hosts.join("nvidia-h100x8-nvml");
    let recording = with_nvml.join("libraries/nvml.json");
    let nvml = NvmlRoot::new(&release.join("libafd_fake_nvml.so"), &recording)?;
    let mut command = agent(&afd, &with_nvml);
    command.arg("--nvidia-driver-root").arg(nvml.path());
    commands.push(command);
    let library = release.join("libafd_fake_levelzero.so");
    let levelzero = LevelZeroHost::new(&library, &hosts.join("intel-max1550-x2"))?;
    commands.push(levelzero.command(&afd));
    let mut functions = BTreeSet::new();
    for mut command in commands {
        command.args(["--sample-interval", &INTERVAL.to_string()]);
        eprintln!("==> {command:?}");
        functions.extend(observe(command, &afd)?);
        eprintln!("    {} functions so far", functions.len());
    }
    let patterns: BTreeSet<String> = functions.iter().map(|name| pattern(name)).collect();
    let list: String = patterns.iter().flat_map(|pattern| [pattern.as_str(), "\n"]).collect();
    let path = workspace.root.join(LIST);
    fs::write(&path, HEAD.to_owned() + &list).with_context(|| format!("writing {}", path.display()))
}

/// What selects a function in any build: its name without the hashes, which depend on the compiler and on the settings of the build,
/// and without the number that the optimiser gives to a copy. It also selects the same function for other types.
fn pattern(name: &str) -> String {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    match name.rsplit_once("17h") {
        Some((path, hash)) if hash.len() == 17 && hash.ends_with('E') => format!("{path}17h*"),
        _ if name.starts_with("_R") => without_crate_hashes(name) + "*",
        _ => name.to_owned(),
    }
}

/// A name of the newer kind, in which each crate has a hash: `Cs` with letters and digits up to `_`.
fn without_crate_hashes(name: &str) -> String {
    let mut parts = name.split("Cs");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |pattern, part| match part.split_once('_') {
        Some((hash, rest)) if !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            pattern + "Cs*_" + rest
        }
        _ => pattern + "Cs" + part,
    })
}

fn agent(afd: &Path, host: &Path) -> Command {
    let mut command = Command::new(afd);
    command.args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--host-root"]).arg(host.join("root"));
    command
}

/// The functions that an agent calls within some samples and a scrape.
fn observe(command: Command, afd: &Path) -> anyhow::Result<BTreeSet<String>> {
    let agent = ServingProcess::agent(command)?;
    thread::sleep(SETTLE);
    let address = agent.address().to_owned();
    let scrape = thread::spawn(move || {
        thread::sleep(OBSERVED / 2);
        KeptConnection::open(&address).and_then(|mut server| server.get("/metrics")).map(drop)
    });
    let called = breakpoints::called_functions(agent.id(), afd, OBSERVED)?;
    drop(agent);
    // One that has not ended has failed with the agent.
    let _ = scrape.join();
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_build_to_build_is_left_out() {
        assert_eq!(pattern("_ZN3afd4main17h0123456789abcdefE"), "_ZN3afd4main17h*");
        assert_eq!(pattern("_ZN3afd4main17h0123456789abcdefE.961"), "_ZN3afd4main17h*");
        assert_eq!(
            pattern("_RNvNtCslNYArtu3iFV_5alloc5allocCsduwmD7cSIQq_5gimli.17"),
            "_RNvNtCs*_5alloc5allocCs*_5gimli*"
        );
        assert_eq!(pattern("_RNvCs3afd4main"), "_RNvCs3afd4main*");
        assert_eq!(pattern("main"), "main");
    }

    #[test]
    fn the_list_is_one_that_the_command_has_written() {
        let root = Workspace::find().expect("the test runs in the workspace").root;
        let list = fs::read_to_string(root.join(LIST)).expect("it is part of the program's source");
        let names = list.strip_prefix(HEAD).expect("it begins as the command writes it");
        let names: Vec<&str> = names.lines().collect();
        assert!(names.is_sorted() && names.len() > 500, "{} functions", names.len());
        let has_hash = |name: &&str| name.rsplit_once("17h").is_some_and(|(_, hash)| hash.ends_with('E'));
        assert_eq!(names.iter().copied().find(has_hash), None, "it differs from build to build");
        for own in ["agent_loop", "prometheus", "afd_derive"] {
            assert!(names.iter().any(|name| name.contains(own)), "nothing of {own} is called at rest");
        }
    }
}
