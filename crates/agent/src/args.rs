//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use afd_derive::{
    compat::{CompatSet, Switch},
    labels::{DEFAULT_PREFIX, LabelOptions},
    vendors::MigStrategy,
};
use clap::{
    Args as Group, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};

/// Finds the accelerators of a node, whoever made them, and tells it to people, Kubernetes and Prometheus.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "afd",
    version,
    after_help = "Logs go to standard error; AFD_LOG sets their level (error, warn, info, debug)."
)]
pub struct Args {
    /// The root of the host: / on a node, /host in a container, a recorded or hand-made host in tests.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
    /// How vendors' libraries are found.
    #[command(flatten)]
    pub libraries: LibraryArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How vendors' libraries are found.
#[derive(Clone, Debug, Group)]
pub struct LibraryArgs {
    /// Ask the kernel's files alone and no vendor's library.
    #[arg(long, global = true)]
    pub no_libraries: bool,
    /// A root with NVIDIA's driver, if it is not beneath the host: / where a runtime put its library into the container.
    #[arg(long, global = true, value_name = "DIR")]
    pub nvidia_driver_root: Option<PathBuf>,
    /// A root with AMD SMI or ROCm SMI, if it is not beneath the host: / where the image has it.
    #[arg(long, global = true, value_name = "DIR")]
    pub rocm_root: Option<PathBuf>,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show the accelerators of this node now; needs no cluster.
    Show {
        /// In which form.
        #[arg(long, short, value_enum, default_value_t = ShowOutput::Table)]
        output: ShowOutput,
        /// How labels are made.
        #[command(flatten)]
        labels: LabelArgs,
        /// The name of the node, for metrics that carry it.
        #[arg(long, value_name = "NAME")]
        node_name: Option<String>,
        /// Which metrics there are.
        #[command(flatten)]
        metrics: MetricArgs,
        /// Which paths there are.
        #[command(flatten)]
        paths: PathArgs,
    },
    /// Show which llm-d paths this node can serve, and if not, why not and what to do.
    Explain {
        /// One path, with all that it requires.
        path: Option<String>,
        /// In which form.
        #[arg(long, short, value_enum, default_value_t = ExplainOutput::Table)]
        output: ExplainOutput,
        /// Count integrated GPUs as well.
        #[arg(long)]
        include_integrated: bool,
        /// Which paths there are.
        #[command(flatten)]
        paths: PathArgs,
    },
    /// Show devices, NUMA nodes, NICs and the links between them as a picture.
    Topology {
        /// In which form.
        #[arg(long, short, value_enum, default_value_t = TopologyOutput::Text)]
        output: TopologyOutput,
    },
    /// Write a copy of all that AFD reads on this node, to show a problem elsewhere or to test against.
    Record {
        /// A directory that is empty or not there yet.
        directory: PathBuf,
        /// Keep serial numbers, UUIDs, MAC addresses and host names instead of replacing them.
        #[arg(long)]
        no_redact: bool,
    },
    /// Run as the node's agent: sample devices, notice changes, serve metrics.
    Run(RunArgs),
    /// Remove all that AFD wrote on a Node: labels, annotation and condition.
    Cleanup {
        /// How to reach the cluster, where this does not run in it.
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// The Node.
        #[arg(long, value_name = "NAME", required_unless_present = "all_nodes")]
        node_name: Option<String>,
        /// Every Node of the cluster.
        #[arg(long, conflicts_with = "node_name")]
        all_nodes: bool,
    },
    /// Have the agent of this node let a vendor's driver go, so that it can be replaced: it holds nothing of it open then. Labels
    /// stay and moving values are absent, until --end or until another version of the driver is loaded.
    Release {
        /// Whose driver.
        #[arg(value_enum)]
        vendor: LibraryVendor,
        /// Have it take the driver back.
        #[arg(long)]
        end: bool,
        /// The agent's control socket.
        #[arg(long, value_name = "FILE", default_value = CONTROL_SOCKET)]
        control_socket: PathBuf,
    },
    /// Ask a vendor's library for the agent, which starts this by itself: requests on standard input, answers on standard
    /// output.
    #[command(hide = true)]
    Probe {
        /// Whose library.
        #[arg(value_enum)]
        vendor: LibraryVendor,
        /// The library.
        #[arg(long, value_name = "FILE")]
        library: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// How labels are made.
#[derive(Clone, Debug, Group)]
pub struct LabelArgs {
    /// Prefix of our own labels.
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_PREFIX, value_parser = domain)]
    pub label_prefix: String,
    /// Count integrated GPUs as well.
    #[arg(long)]
    pub include_integrated: bool,
    /// Labels in the spelling of a vendor's own tool. auto, the default, fills keys that nobody else owns, which is known in a
    /// cluster only: without one it writes none.
    #[arg(long, value_name = "SET=auto|on|off", value_parser = compat)]
    pub compat: Vec<(CompatSet, Switch)>,
    /// How NVIDIA's device plugin offers MIG devices; its configuration goes before.
    #[arg(long, value_enum, default_value_t = MigStrategyArg::None)]
    pub nvidia_mig_strategy: MigStrategyArg,
    /// The configuration of NVIDIA's device plugin, for how devices are shared.
    #[arg(long, value_name = "FILE")]
    pub nvidia_device_plugin_config: Option<PathBuf>,
}

/// How MIG devices are offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum MigStrategyArg {
    /// GPUs are offered whole.
    None,
    /// As nvidia.com/gpu.
    Single,
    /// As nvidia.com/mig-1g.10gb and so on.
    Mixed,
}

impl From<MigStrategyArg> for MigStrategy {
    fn from(strategy: MigStrategyArg) -> MigStrategy {
        match strategy {
            MigStrategyArg::None => MigStrategy::None,
            MigStrategyArg::Single => MigStrategy::Single,
            MigStrategyArg::Mixed => MigStrategy::Mixed,
        }
    }
}

impl LabelArgs {
    /// The options of our own labels.
    pub fn own(&self) -> LabelOptions {
        LabelOptions { prefix: self.label_prefix.clone(), include_integrated: self.include_integrated }
    }
}

/// Which llm-d paths there are beside the built-in ones.
#[derive(Clone, Debug, Default, Group)]
pub struct PathArgs {
    /// A file with more paths and requirements, in the form that docs/paths.md tells. May be given more than once.
    #[arg(long, value_name = "FILE")]
    pub path_rules: Vec<PathBuf>,
}

/// Which metrics there are beside the usual ones.
#[derive(Clone, Debug, Default, Group)]
pub struct MetricArgs {
    /// The memory that each process holds as well; a series for each process and device.
    #[arg(long)]
    pub per_process: bool,
    /// Metrics as a vendor's own exporter spells them: `afd run` serves them at /compat/SET, `afd show --output metrics`
    /// prints them instead of our own. May be given once for each set.
    #[arg(long, value_name = "SET", value_parser = metric_set())]
    pub compat_metrics: Vec<CompatSet>,
}

/// How the agent runs.
#[derive(Clone, Debug, Group)]
pub struct RunArgs {
    /// Serve metrics without a cluster; else labels, annotation and condition of the own Node are kept as well.
    #[arg(long)]
    pub no_kubernetes: bool,
    /// How to reach the cluster, where the agent does not run in it.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The first request to the API server waits a random time up to this, so that the agents of many nodes that start at once
    /// are not felt.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = spread)]
    pub start_spread: Duration,
    /// How labels are made.
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Where to serve / (a page for people), /metrics, /inventory, /healthz and /readyz.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9109")]
    pub listen: SocketAddr,
    /// Where to serve /compat/dcgm as /metrics as well, for llm-d's endpoint picker; dcgm-exporter's port is 9400.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub dcgm_listen: Option<SocketAddr>,
    /// The name of the own Node.
    #[arg(long, value_name = "NAME", required_unless_present = "no_kubernetes")]
    pub node_name: Option<String>,
    /// The folder of the kubelet's PodResources socket, to tell which pod holds which device; the kubelet makes it
    /// /var/lib/kubelet/pod-resources. Only user 0 may use it.
    #[arg(long, value_name = "DIR")]
    pub pod_resources: Option<PathBuf>,
    /// Where to make the socket on which `afd release` reaches this agent; it is /run/afd/control.sock there.
    #[arg(long, value_name = "FILE")]
    pub control_socket: Option<PathBuf>,
    /// Seconds between two samples.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub sample_interval: Duration,
    /// Seconds between two looks for devices, beside those that the kernel's events cause.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub discovery_interval: Duration,
    /// Which metrics there are.
    #[command(flatten)]
    pub metrics: MetricArgs,
    /// Which paths there are.
    #[command(flatten)]
    pub paths: PathArgs,
}

/// Where the agent of a node is reached.
const CONTROL_SOCKET: &str = "/run/afd/control.sock";

/// Vendors whose libraries are asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LibraryVendor {
    /// NVML.
    Nvidia,
    /// AMD SMI or ROCm SMI.
    Amd,
}

/// Forms of `afd show`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ShowOutput {
    /// A table for people.
    Table,
    /// The whole inventory; its schema is docs/inventory.schema.json.
    Json,
    /// The node's labels, one key=value a line.
    Labels,
    /// Metrics as Prometheus reads them.
    Metrics,
    /// The metrics of dcgm-exporter, as /compat/dcgm has them.
    Dcgm,
}

/// Forms of `afd explain`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ExplainOutput {
    /// For people.
    Table,
    /// All that each path requires, and what it says.
    Json,
}

/// Forms of `afd topology`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TopologyOutput {
    /// A tree and a table of paths.
    Text,
    /// A drawing.
    Svg,
}

/// From a tenth of a second to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=86400.0).contains(&seconds) {
        return Err("not between 0.1 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// From nothing to an hour.
fn spread(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.0..=3600.0).contains(&seconds) {
        return Err("not between 0 and 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The name of a set that has metrics at `/compat/<set>` when asked for; the help lists them. NVIDIA's are always served.
fn metric_set() -> impl TypedValueParser<Value = CompatSet> {
    let on_request = CompatSet::with_metrics().filter(|(_, metrics)| !metrics.always_served);
    PossibleValuesParser::new(on_request.map(|(set, _)| set.as_str())).try_map(|name| name.parse())
}

/// A set of labels and its switch: `nvidia=on`.
fn compat(text: &str) -> Result<(CompatSet, Switch), String> {
    let (set, switch) =
        text.split_once('=').ok_or_else(|| "a set and its switch are meant, as nvidia=on".to_owned())?;
    Ok((set.parse()?, switch.parse()?))
}

/// A DNS subdomain as Kubernetes takes it for the prefix of a key.
fn domain(text: &str) -> Result<String, String> {
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("not a DNS name such as accelerator.llm-d.ai (lower case, digits, - and .)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        assert!(seconds("0").is_err() && seconds("x").is_err() && seconds("inf").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(domain("Accelerator.llm-d.ai").is_err() && domain("a..b").is_err() && domain("a/b").is_err());
        assert!(domain("accelerator.llm-d.ai").is_ok());
        assert!(compat("amd").is_err() && compat("amd=yes").is_err() && compat("asus=on").is_err());
        assert_eq!(compat("nvidia=on"), Ok(("nvidia".parse().expect("it is a set"), Switch::On)));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
