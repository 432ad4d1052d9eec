//! The commands, one after the other.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use afd_derive::{
    compat::CompatOptions,
    vendors::{NvidiaOptions, VendorOptions},
};
use afd_host::{Host, RootError, child::Launcher};
use afd_publish::node;
use anyhow::Context;
use clap::CommandFactory;

use crate::{
    agent_metrics::AgentMetrics,
    args::{Args, Command, ExplainOutput, LabelArgs, LibraryArgs, MetricArgs, ShowOutput, TopologyOutput},
    cluster::{self, NodeOptions},
    control::{self, Request},
    device_plugin::{self, ConfigError},
    explain::{self, NoSuchPath},
    library,
    path_rules::{self, RulesError},
    record, run,
    show::{self, Style},
    survey::{Libraries, Survey},
    topology,
};

/// A command that answers once waits for a library as long as the library may take.
const PATIENCE: Duration = Duration::from_secs(600);

const LET_GO: &str =
    "The agent has let the driver go. Take it back with --end, or load another version of the driver.\n";
const TAKEN_BACK: &str = "The agent asks the driver again.\n";

/// Does what the command line says, and writes the answer for people to `output`. `program` is this program, for the
/// processes that ask vendors' libraries.
///
/// # Errors
/// When the host root cannot be opened, when something cannot be written, or when the address to serve on is taken.
pub fn execute(args: Args, program: PathBuf, style: Style, output: &mut impl Write) -> anyhow::Result<()> {
    let host = || Host::open(&args.host_root);
    let survey = |host, metrics: &MetricArgs| {
        let launcher = Launcher { program: program.clone(), timeout: PATIENCE, wake: Arc::new(|| ()) };
        Survey::new(host, libraries(&args.libraries, launcher), metrics)
    };
    match args.command.clone() {
        Command::Show { output: form, labels, node_name, metrics, paths } => {
            let rules = path_rules::read(&paths.path_rules)?;
            let mut survey = survey(host()?, &metrics);
            let text = match form {
                ShowOutput::Table => show::table(&survey.discover(), &args.host_root, style),
                ShowOutput::Json => show::json(&survey.discover())?,
                ShowOutput::Labels => {
                    show::labels(&survey.discover(), &labels.own(), &compat(&labels)?, &rules)
                }
                ShowOutput::Metrics => {
                    show::metrics(&mut survey, &metrics.compat_metrics, &rules, labels.include_integrated)?
                }
                ShowOutput::Dcgm => show::dcgm(&mut survey, node_name.as_deref())?,
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Explain { path, output: form, include_integrated, paths } => {
            let rules = path_rules::read(&paths.path_rules)?;
            let inventory = survey(host()?, &MetricArgs::default()).discover();
            let verdicts = rules.ask(&inventory, include_integrated);
            let chosen = explain::chosen(&verdicts, path.as_deref())?;
            let text = match form {
                ExplainOutput::Json => explain::json(chosen)?,
                ExplainOutput::Table => match (path, chosen) {
                    (Some(_), [verdict]) => explain::page(verdict),
                    _ => explain::table(chosen, style),
                },
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Topology { output: form } => {
            let inventory = survey(host()?, &MetricArgs::default()).discover();
            let text = match form {
                TopologyOutput::Text => topology::text::draw(&inventory),
                TopologyOutput::Svg => topology::svg::draw(&inventory),
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Record { directory, no_redact } => {
            let told = record::record(
                survey(host()?.with_recording(), &MetricArgs::default()),
                &directory,
                !no_redact,
            )
            .with_context(|| format!("recording to {}", directory.display()))?;
            output.write_all(told.as_bytes())?;
        }
        Command::Run(arguments) => {
            let rules = path_rules::read(&arguments.paths.path_rules)?;
            let options = NodeOptions::new(arguments.labels.own(), compat(&arguments.labels)?, rules);
            run::run(host()?, &arguments, options, |launcher| libraries(&args.libraries, launcher), program)?;
        }
        Command::Cleanup { kubeconfig, node_name, all_nodes: _ } => {
            let told = cleanup(kubeconfig.as_deref(), node_name.as_deref())?;
            output.write_all(told.as_bytes())?;
        }
        Command::Release { vendor, end, control_socket } => {
            let request = if end { Request::TakeBack(vendor) } else { Request::Release(vendor) };
            control::ask(&control_socket, request)?;
            output.write_all(if end { TAKEN_BACK } else { LET_GO }.as_bytes())?;
        }
        Command::Probe { vendor, library } => library::serve(vendor, &library)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "afd", output);
        }
        Command::Man => clap_mangen::Man::new(Args::command()).render(output)?,
    }
    output.flush()?;
    Ok(())
}

/// Removes all that AFD wrote on a Node, or on every one; what to tell the user.
fn cleanup(kubeconfig: Option<&Path>, node_name: Option<&str>) -> anyhow::Result<String> {
    let counters = AgentMetrics::new().kubernetes();
    run::block_on(async {
        let client = cluster::client(kubeconfig).await?;
        Ok(match node_name {
            Some(name) => {
                node::clean(client, name, counters).await?;
                format!("Removed what AFD wrote on Node {name}.\n")
            }
            None => {
                let count = node::clean_all(client, counters).await?;
                format!("Removed what AFD wrote on {count} Nodes.\n")
            }
        })
    })
}

/// How vendors' libraries are asked, unless nobody wants them.
fn libraries(args: &LibraryArgs, launcher: Launcher) -> Option<Libraries> {
    let (nvidia_driver_root, rocm_root) = (args.nvidia_driver_root.clone(), args.rocm_root.clone());
    (!args.no_libraries).then_some(Libraries { launcher, nvidia_driver_root, rocm_root })
}

/// The options of labels in vendors' spellings.
fn compat(args: &LabelArgs) -> Result<CompatOptions, ConfigError> {
    let strategy = args.nvidia_mig_strategy.into();
    let nvidia = match &args.nvidia_device_plugin_config {
        None => NvidiaOptions { mig_strategy: strategy, ..NvidiaOptions::default() },
        Some(path) => device_plugin::read(path, strategy)?,
    };
    Ok(CompatOptions { switches: args.compat.iter().copied().collect(), vendors: VendorOptions { nvidia } })
}

/// Whether the mistake is in the command line or a configuration.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<RootError>()
        || error.is::<ConfigError>()
        || error.is::<RulesError>()
        || error.is::<NoSuchPath>()
}

/// Whether the reader of our output went away, as `head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
