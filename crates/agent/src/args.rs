//! The command line.

mod bridge_options;
mod fleet_options;
mod graces;
mod http_options;
mod options;
mod plugin_options;
mod top_options;
mod values;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use afd_derive::labels::DEFAULT_PREFIX;
use afd_model::PciAddress;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use bridge_options::BridgeArgs;
pub use fleet_options::{FleetArgs, FleetOutput, GenerateArgs, Manifest, NodesArgs};
pub use http_options::{FaultyOnDoor, HttpArgs};
pub use options::{LabelArgs, LibraryArgs, MetricArgs, NodeLock, PathArgs, RunArgs};
pub use plugin_options::{PluginArgs, PluginConfigError};
pub use top_options::TopArgs;
pub use values::DocsUrl;

/// Discovers the accelerators of a node, of any vendor, and reports them on the terminal, to Kubernetes and to Prometheus.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "afd",
    version,
    after_help = "Logs are written to standard error. AFD_LOG sets the log level (error, warn, info, debug)."
)]
pub struct Args {
    /// Root of the host: / on a node, /host in a container, a recorded or hand-written host in tests.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
    /// Vendor libraries.
    #[command(flatten)]
    pub libraries: LibraryArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show the accelerators of this node; needs no cluster.
    Show {
        /// Output format.
        #[arg(long, short, value_enum, default_value_t = ShowOutput::Table)]
        output: ShowOutput,
        /// Label options.
        #[command(flatten)]
        labels: LabelArgs,
        /// Name of the node, for metrics with such a label.
        #[arg(long, value_name = "NAME")]
        node_name: Option<String>,
        /// Metric options.
        #[command(flatten)]
        metrics: MetricArgs,
        /// Path rules.
        #[command(flatten)]
        paths: PathArgs,
    },
    /// Show which llm-d paths this node can serve, and if not, why not and how to fix it.
    Explain {
        /// Only this path, with all its requirements.
        path: Option<String>,
        /// Output format.
        #[arg(long, short, value_enum, default_value_t = ExplainOutput::Table)]
        output: ExplainOutput,
        /// Print what to do about it on this distribution: commands to read, none of which is run.
        #[arg(long, conflicts_with = "output")]
        fix: bool,
        /// Include integrated GPUs.
        #[arg(long)]
        include_integrated: bool,
        /// Path rules.
        #[command(flatten)]
        paths: PathArgs,
    },
    /// Draw devices, NUMA nodes, NICs and the links between them.
    Topology {
        /// Output format.
        #[arg(long, short, value_enum, default_value_t = TopologyOutput::Text)]
        output: TopologyOutput,
    },
    /// Show the devices on the terminal, live: utilization, memory, power, temperature, health and the pods that hold them.
    Top(TopArgs),
    /// Copy everything that AFD reads on this node, to report a problem or to test against.
    Record {
        /// A directory that is empty or does not exist.
        directory: PathBuf,
        /// Keep serial numbers, UUIDs, MAC addresses, GUIDs and names of hosts and pods instead of replacing them.
        #[arg(long)]
        no_redact: bool,
    },
    /// Run as the node's agent: sample devices, follow changes, serve metrics, keep the Node up to date.
    Run(Box<RunArgs>),
    /// Show the Nodes of a cluster by what their agents wrote on them.
    Nodes(Box<NodesArgs>),
    /// Print manifests for a scheduler or an autoscaler, by the products of a cluster's Nodes.
    Generate(Box<GenerateArgs>),
    /// Run as the cluster's bridge: copy labels of Nodes to the pods that opt in, and taint failed devices of DRA drivers.
    ///
    /// Of several bridges the one that holds the Lease works.
    Bridge(Box<BridgeArgs>),
    /// Remove everything that AFD wrote to a Node: labels, annotations and conditions.
    Cleanup {
        /// Prefix of the labels, annotations and conditions. Those under it are removed even if the API server has no record of
        /// who wrote them.
        #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_PREFIX, value_parser = values::domain)]
        label_prefix: String,
        /// Kubeconfig of the cluster, when not run in a pod.
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// Name of the Node.
        #[arg(long, value_name = "NAME", required_unless_present = "all_nodes")]
        node_name: Option<String>,
        /// Every Node of the cluster that AFD wrote.
        #[arg(long, conflicts_with = "node_name")]
        all_nodes: bool,
        /// Leave the Nodes alone that the agents of another release keep, by the annotation managed-by.
        #[arg(long, value_name = "NAMESPACE/NAME", requires = "all_nodes", value_parser = values::release)]
        managed_by: Option<String>,
        /// Also remove what bridges wrote: labels of pods, and DeviceTaintRules.
        #[arg(long, requires = "all_nodes")]
        bridge: bool,
    },
    /// Ask this node's agent to release a vendor's driver so that it can be replaced.
    ///
    /// The agent then keeps no handle to it open. Labels stay and samples are absent, until --end or until another version of
    /// the driver is loaded.
    Release {
        /// Vendor.
        #[arg(value_parser = values::library())]
        vendor: &'static str,
        /// Reacquire the driver.
        #[arg(long)]
        end: bool,
        /// Control socket of the agent.
        #[arg(long, value_name = "FILE", default_value = CONTROL_SOCKET)]
        control_socket: PathBuf,
    },
    /// Inform this node's agent that a missing device was removed on purpose and is no longer expected.
    Forget {
        /// The id of the missing device: `missing-1`. Without it all of them.
        id: Option<String>,
        /// Control socket of the agent.
        #[arg(long, value_name = "FILE", default_value = CONTROL_SOCKET)]
        control_socket: PathBuf,
    },
    /// Inform this node's agent that the errors of a device were investigated: they no longer count against its health.
    Clear {
        /// PCI address of the device: `0000:1a:00.0`.
        device: String,
        /// Control socket of the agent.
        #[arg(long, value_name = "FILE", default_value = CONTROL_SOCKET)]
        control_socket: PathBuf,
    },
    /// Query a vendor's library or servers: requests on standard input, responses on standard output. The agent starts this itself.
    #[command(hide = true)]
    Probe {
        /// Vendor.
        #[arg(value_parser = values::queried())]
        vendor: &'static str,
        /// Path of the library.
        #[arg(long, value_name = "FILE", required_unless_present_any = ["connect", "node", "counters"])]
        library: Option<PathBuf>,
        /// The PCI address of a device and its device node, for what there is no library or it does not report.
        #[arg(long, value_name = "ADDRESS=FILE", conflicts_with = "connect", value_parser = values::node)]
        node: Vec<(PciAddress, PathBuf)>,
        /// The PCI address of a device and the counters that the kernel has of it, as the vendor describes them.
        #[arg(long, value_name = "ADDRESS=COUNTERS", conflicts_with = "connect", value_parser = values::counters)]
        counters: Vec<(PciAddress, String)>,
        /// A server and its address, where the vendor has no library.
        #[arg(long, value_name = "SOURCE=ADDRESS:PORT", conflicts_with = "library", value_parser = values::server)]
        connect: Vec<(String, SocketAddr)>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// The name of the program as a plugin of kubectl.
const PLUGIN: &str = "kubectl-afd";

impl Args {
    /// Parses a command line, the name of the program first. As a plugin of kubectl it is called `kubectl-afd`, and shows the Nodes
    /// unless another command is given.
    ///
    /// # Errors
    /// When it has a mistake, or asks for help or the version.
    pub fn parse_line(line: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
        let mut line: Vec<OsString> = line.into_iter().collect();
        let mut command = Args::command();
        let program = line.first().map(PathBuf::from);
        if program.as_ref().and_then(|program| program.file_name()).is_some_and(|name| name == PLUGIN) {
            command = command.bin_name("kubectl afd");
            let first = line.get(1).map_or("-".into(), |argument| argument.to_string_lossy());
            if first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&&*first) {
                line.insert(1, "nodes".into());
            }
        }
        Args::from_arg_matches(&command.try_get_matches_from(line)?)
    }
}

/// The control socket of a node's agent.
const CONTROL_SOCKET: &str = "/run/afd/control.sock";

/// Output formats of `afd show`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ShowOutput {
    /// A table.
    Table,
    /// The whole inventory; its schema is docs/inventory.schema.json.
    Json,
    /// The node's labels, one key=value per line.
    Labels,
    /// Metrics in Prometheus' text format.
    Metrics,
    /// The metrics of dcgm-exporter, as served at /compat/dcgm.
    Dcgm,
}

/// Output formats of `afd explain`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ExplainOutput {
    /// A table.
    Table,
    /// All requirements of each path, and whether they are met.
    Json,
}

/// Output formats of `afd topology`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TopologyOutput {
    /// A tree and a table of paths.
    Text,
    /// A drawing.
    Svg,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_of_kubectl_shows_the_nodes_unless_another_command_is_given() {
        let parse = |line: &str| Args::parse_line(line.split(' ').map(OsString::from));
        let command = |line: &str| parse(line).expect("it is a command line").command;
        for line in ["/opt/kubectl-afd", "kubectl-afd --drift", "kubectl-afd nodes --drift"] {
            assert!(matches!(command(line), Command::Nodes(_)), "{line}");
        }
        assert!(matches!(command("kubectl-afd show"), Command::Show { .. }));
        assert!(parse("afd").is_err() && parse("kubectl-afd --help").is_err());
        let usage = parse("kubectl-afd nodes --help").expect_err("it is help").to_string();
        assert!(usage.contains("Usage: kubectl afd nodes"), "{usage}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn library_roots_have_the_options_of_the_vendor_records() {
        for arguments in [["afd", "--rocm-root", "/a", "show"], ["afd", "show", "--rocm-root", "/a"]] {
            let args = Args::try_parse_from(arguments).expect("the option is global");
            assert_eq!(args.libraries.roots.into_values().collect::<Vec<_>>(), [PathBuf::from("/a")]);
        }
    }
}
