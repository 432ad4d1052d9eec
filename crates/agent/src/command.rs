//! Dispatches the commands.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use afd_host::{
    RootError,
    child::{ChildNote, ChildRegistry, Launcher},
};
use afd_publish::node::CleanOptions;
use clap::CommandFactory;

use crate::{
    args::{
        Args, Command, ExplainOutput, LibraryArgs, MetricArgs, PluginConfigError, RunArgs, ShowOutput,
        TopologyOutput,
    },
    bridge::bridge,
    cleanup::cleanup,
    control::{self, ControlRequest},
    explain::{self, UnknownPathError},
    fleet::{self, NodeSelectorError},
    generate,
    library_process::{self, QueriedDriver},
    node_options::NodeOptions,
    path_rules::{self, RulesError},
    probes::{ProbeOptions, Probes},
    record::{self, replay},
    run::{self, AgentConfig},
    show,
    text_table::TextStyle,
    top::{self, AgentError},
    topology,
    visible::{visible, visible_inventory, visible_json, visible_metrics},
};

/// A one-shot command waits for a library as long as the library's deadline allows.
const LIBRARY_TIMEOUT: Duration = Duration::from_secs(600);

const RELEASED: &str =
    "The agent has released the driver. Reacquire it with --end, or load another version of the driver.\n";
const REACQUIRED: &str = "The agent has reacquired the driver.\n";

/// Executes the command and writes its result to `output`. `program` is the path of this program, for the processes that
/// query vendor libraries.
///
/// # Errors
/// When the command fails.
pub fn execute(
    args: Args,
    program: PathBuf,
    style: TextStyle,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let Args { host_root, libraries, command } = args;
    let host = || replay::open(&host_root);
    let probes = |host, metrics: &MetricArgs| {
        let log = |note: ChildNote<'_>| match note {
            ChildNote::Confined(confinement) => {
                tracing::debug!(confinement, "the process of a library is confined");
            }
            ChildNote::Printed(line) => tracing::warn!(line, "printed by the process of a library"),
        };
        let launcher = Launcher {
            log: Arc::new(log),
            ..Launcher::new(program.clone(), LIBRARY_TIMEOUT, ChildRegistry::adopting_orphans())
        };
        let options = ProbeOptions {
            withhold_host_libraries: host_root != Path::new("/") && !libraries.libraries,
            ..probe_options(&libraries, metrics)
        };
        Probes::new(host, &options, &launcher)
    };
    match command {
        Command::Show { output: format, labels, node_name, metrics, paths } => {
            let rules = path_rules::read(&paths.path_rules)?;
            let mut probes = probes(host()?, &metrics);
            let text = match format {
                ShowOutput::Table => show::table(&visible_inventory(&probes.discover()), &host_root, style),
                ShowOutput::Json => visible_json(&show::json(&probes.discover())?),
                ShowOutput::Labels => {
                    let compat = labels.compat_options()?;
                    show::labels(&probes.discover(), &labels.label_options(), &compat, &rules)
                }
                ShowOutput::Metrics => {
                    let sets = &metrics.compat_metrics;
                    let detail = metrics.series_detail();
                    let integrated = labels.include_integrated;
                    visible_metrics(&show::metrics(
                        &mut probes,
                        sets,
                        detail,
                        &rules,
                        integrated,
                        node_name.as_deref(),
                    )?)
                }
                ShowOutput::Dcgm => visible_metrics(&show::dcgm(&mut probes, node_name.as_deref())?),
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Explain { path, output: format, fix, include_integrated, paths } => {
            let rules = path_rules::read(&paths.path_rules)?;
            let inventory = visible_inventory(&probes(host()?, &MetricArgs::default()).discover());
            let verdicts = rules.verdicts(&inventory, include_integrated);
            let selected = explain::select(&verdicts, path.as_deref())?;
            let text = match format {
                _ if fix => explain::fixes(selected, &inventory, include_integrated),
                ExplainOutput::Json => explain::json(selected)?,
                ExplainOutput::Table => match (path, selected) {
                    (Some(_), [verdict]) => explain::page(verdict),
                    _ => explain::table(selected, style),
                },
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Topology { output: format } => {
            let inventory = visible_inventory(&probes(host()?, &MetricArgs::default()).discover());
            let text = match format {
                TopologyOutput::Text => topology::text::draw(&inventory),
                TopologyOutput::Svg => topology::svg::draw(&inventory),
            };
            output.write_all(text.as_bytes())?;
        }
        Command::Top(args) => {
            let probes = || Ok(probes(host()?, &MetricArgs::default()));
            top::top(&args, &host_root, style, probes, output)?;
        }
        Command::Record { directory, no_redact } => {
            // A recording answers for an agent that samples each link as well.
            let metrics = MetricArgs { per_link: true, ..MetricArgs::default() };
            let probes = probes(host()?.with_recording(), &metrics);
            output.write_all(record::record(probes, &directory, !no_redact)?.as_bytes())?;
        }
        Command::Run(args) => {
            let rules = path_rules::read(&args.paths.path_rules)?;
            let labels = &args.labels;
            let node_options = NodeOptions::new(
                labels.label_options(),
                labels.compat_options()?,
                rules,
                args.condition_alias.clone(),
                args.managed_by.clone(),
            );
            let probe_options = ProbeOptions {
                reads_pods: args.read_pods,
                container_limit: container_limit(&args),
                ..probe_options(&libraries, &args.metrics)
            };
            run::run(AgentConfig { host: host()?, args: *args, probe_options, node_options, program })?;
        }
        Command::Nodes(args) => fleet::nodes(&args, output)?,
        Command::Generate(args) => generate::generate(&args, output)?,
        Command::Bridge(args) => bridge(*args)?,
        Command::Cleanup { label_prefix, kubeconfig, node_name, all_nodes: _, managed_by, bridge } => {
            let options = CleanOptions { prefix: &label_prefix, managed_by: managed_by.as_deref() };
            let message = cleanup(kubeconfig.as_deref(), node_name.as_deref(), options, bridge)?;
            output.write_all(message.as_bytes())?;
        }
        Command::Release { vendor, end, control_socket } => {
            let probe = vendor.to_owned();
            let request = if end { ControlRequest::Reacquire(probe) } else { ControlRequest::Release(probe) };
            control::send(&control_socket, &request)?;
            output.write_all(if end { REACQUIRED } else { RELEASED }.as_bytes())?;
        }
        Command::Forget { id, control_socket } => {
            let message = control::send(&control_socket, &ControlRequest::Forget(id))?;
            output.write_all(visible(&message).as_bytes())?;
        }
        Command::Clear { device, control_socket } => {
            let message = control::send(&control_socket, &ControlRequest::Clear(device))?;
            output.write_all(visible(&message).as_bytes())?;
        }
        Command::Probe { vendor, library, node, counters, connect } => {
            if connect.is_empty() {
                library_process::serve(vendor, library.as_deref(), QueriedDriver { nodes: node, counters })?;
            } else {
                library_process::serve_network(vendor, &connect)?;
            }
        }
        Command::Completions { shell } => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "afd", &mut script);
            output.write_all(&script)?;
        }
        Command::Man => clap_mangen::Man::new(Args::command()).render(output)?,
    }
    output.flush()?;
    Ok(())
}

fn probe_options(libraries: &LibraryArgs, metrics: &MetricArgs) -> ProbeOptions {
    ProbeOptions {
        no_libraries: libraries.no_libraries,
        withhold_host_libraries: false,
        library_roots: libraries.roots.clone(),
        servers: libraries.servers.clone(),
        reads_pods: false,
        per_process: metrics.per_process,
        per_link: metrics.per_link,
        compat_metrics: metrics.compat_metrics.clone(),
        container_limit: None,
    }
}

/// Whether an error is in the command line or a configuration.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<RootError>()
        || error.is::<PluginConfigError>()
        || error.is::<RulesError>()
        || error.is::<UnknownPathError>()
        || error.is::<NodeSelectorError>()
        || matches!(error.downcast_ref::<AgentError>(), Some(AgentError::Url(_)))
}

/// Whether the reader of our output has closed it, as `head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// How much memory this process may lock, if it is in a pod, where it needs no kubeconfig: its container has the limit of every container
/// of the runtime, unless a pod raises it.
fn container_limit(args: &RunArgs) -> Option<u64> {
    let is_in_pod = args.kubeconfig.is_none() && !args.no_kubernetes;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    is_in_pod.then(|| limit.maximum.unwrap_or(u64::MAX))
}
