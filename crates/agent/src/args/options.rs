//! Options that several commands share, and those of `afd run`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use afd_derive::{
    compat::{CompatOptions, CompatSet, CompatSwitch},
    labels::{DEFAULT_PREFIX, LabelOptions},
    series::SeriesDetail,
    vendors::{NetworkSource, VENDORS, VendorRecord},
};
use afd_track::{AdminExpectation, TrackOptions};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, value_parser};

use super::{
    graces::GraceArgs,
    http_options::HttpArgs,
    plugin_options::{PluginArgs, PluginConfigError},
    values::{self, SecondsRange, ServerAddress},
};

const NO_LIBRARIES: &str = "no-libraries";
const LIBRARIES: &str = "libraries";

/// All servers that are queried.
fn network_sources() -> impl Iterator<Item = &'static NetworkSource> {
    VENDORS.iter().filter_map(|record| record.network.as_ref()).flat_map(|network| network.sources)
}

/// How vendor libraries are found, and which servers are queried. The vendor records define an option for each library.
#[derive(Clone, Debug, Default)]
pub struct LibraryArgs {
    /// Read only the kernel's files.
    pub no_libraries: bool,
    /// Load vendor libraries under a host root other than `/` also where the command is not `run`.
    pub libraries: bool,
    /// The root under which a vendor's library is looked up, by the name of the probe; the host root by default.
    pub roots: BTreeMap<&'static str, PathBuf>,
    /// The addresses of servers that are given, by their options; none for one that is not queried.
    pub servers: BTreeMap<&'static str, Option<SocketAddr>>,
}

impl Args for LibraryArgs {
    fn augment_args(command: Command) -> Command {
        let no_libraries = Arg::new(NO_LIBRARIES)
            .long(NO_LIBRARIES)
            .global(true)
            .action(ArgAction::SetTrue)
            .help("Read only the kernel's files; load no vendor library and query no server");
        let libraries = Arg::new(LIBRARIES)
            .long(LIBRARIES)
            .global(true)
            .action(ArgAction::SetTrue)
            .conflicts_with(NO_LIBRARIES)
            .help(
                "Load vendor libraries under a host root other than /, which runs code from there; `run` always does, and a \
                 library root that is given is used",
            );
        let roots = VENDORS.iter().filter_map(|record| record.library.as_ref()).map(|library| {
            Arg::new(library.root_option)
                .long(library.root_option)
                .global(true)
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help(library.root_help)
        });
        let servers = network_sources().map(|source| {
            Arg::new(source.option)
                .long(source.option)
                .global(true)
                .value_name("ADDRESS:PORT")
                .value_parser(values::server_address)
                .help(source.help)
        });
        command.args([no_libraries, libraries]).args(roots).args(servers)
    }

    fn augment_args_for_update(command: Command) -> Command {
        LibraryArgs::augment_args(command)
    }
}

impl FromArgMatches for LibraryArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<LibraryArgs, clap::Error> {
        let root = |record: &&'static VendorRecord| {
            let option = record.library.as_ref()?.root_option;
            Some((record.probe, matches.get_one::<PathBuf>(option)?.clone()))
        };
        let server = |source: &'static NetworkSource| {
            Some((source.option, matches.get_one::<ServerAddress>(source.option)?.0))
        };
        Ok(LibraryArgs {
            servers: network_sources().filter_map(server).collect(),
            no_libraries: matches.get_flag(NO_LIBRARIES),
            libraries: matches.get_flag(LIBRARIES),
            roots: VENDORS.iter().filter_map(root).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = LibraryArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Label options.
#[derive(Args, Clone, Debug)]
pub struct LabelArgs {
    /// Prefix of AFD's own labels.
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_PREFIX, value_parser = values::domain)]
    pub label_prefix: String,
    /// Include integrated GPUs.
    #[arg(long)]
    pub include_integrated: bool,
    /// Labels in the spelling of a vendor's own tools. In a cluster auto, the default, and on are the same: keys that no other field
    /// manager owns. Without a cluster, where the owners are not known, auto prints none, and on all of them.
    #[arg(long, value_name = "SET=auto|on|off", value_parser = values::compat)]
    pub compat: Vec<(CompatSet, CompatSwitch)>,
    /// How the vendors' device plugins are configured.
    #[command(flatten)]
    pub plugins: PluginArgs,
}

impl LabelArgs {
    /// The options of AFD's own labels.
    pub fn label_options(&self) -> LabelOptions {
        LabelOptions { prefix: self.label_prefix.clone(), include_integrated: self.include_integrated }
    }

    /// The options of labels in the vendors' spellings.
    ///
    /// # Errors
    /// When the configuration of a device plugin is not usable.
    pub fn compat_options(&self) -> Result<CompatOptions, PluginConfigError> {
        let switches = self.compat.iter().copied().collect();
        Ok(CompatOptions { switches, vendors: self.plugins.resolve()? })
    }
}

/// Path rules in addition to the built-in ones.
#[derive(Args, Clone, Debug, Default)]
pub struct PathArgs {
    /// A file with additional paths and requirements, in the format of docs/paths.md. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub path_rules: Vec<PathBuf>,
}

/// Metric options.
#[derive(Args, Clone, Debug, Default)]
pub struct MetricArgs {
    /// Add the memory used by each process: one series per process and device.
    #[arg(long)]
    pub per_process: bool,
    /// Add the values of each link between devices: its state, its bytes in place of their sum, and its errors, as far as a source
    /// reports them. Up to a hundred and more series per device.
    #[arg(long)]
    pub per_link: bool,
    /// Metrics in the spelling of a vendor's own exporter, or of a platform: `afd run` serves them at /compat/SET, `afd show --output
    /// metrics` prints them instead of AFD's own. May be given once per set.
    #[arg(long, value_name = "SET", value_parser = values::metric_set())]
    pub compat_metrics: Vec<CompatSet>,
}

impl MetricArgs {
    /// What is published on request.
    pub fn series_detail(&self) -> SeriesDetail {
        SeriesDetail { per_link: self.per_link }
    }
}

/// How agents on one machine exclude each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum NodeLock {
    /// By an abstract socket for each Node, which agents in the same network namespace see: those on the host's network.
    Socket,
    /// By a lock on the folder /sys/devices of the host, one for the machine: for agents that are not on the host's network.
    File,
    /// Not at all.
    Off,
}

/// Options of `afd run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Serve metrics without a cluster; otherwise labels, annotation and condition of the own Node are kept up to date, too.
    #[arg(long)]
    pub no_kubernetes: bool,
    /// Kubeconfig of the cluster, when not run in a pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The first request to the API server waits a random time up to this, so that agents that start at the same time do not
    /// overload it.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = SecondsRange::START_SPREAD.parser())]
    pub start_spread: Duration,
    /// Label options.
    #[command(flatten)]
    pub labels: LabelArgs,
    /// What is served over HTTP, and to whom.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Name of the own Node.
    #[arg(long, value_name = "NAME", required_unless_present = "no_kubernetes")]
    pub node_name: Option<String>,
    /// Directory of the kubelet's PodResources socket, to report which pod holds which device; usually
    /// /var/lib/kubelet/pod-resources. Only user 0 may use it.
    #[arg(long, value_name = "DIR")]
    pub pod_resources: Option<PathBuf>,
    /// Read the pods that hold devices from the API server, to query the servers of vendors at the addresses of these pods, and to
    /// credit the pods that serve with a device which another one holds (llm-d's fast model actuation) on --dcgm-listen. Needs the
    /// right to get pods, and `--pod-resources`, by which the pods are known.
    #[arg(long, conflicts_with = "no_kubernetes")]
    pub read_pods: bool,
    /// Socket to create for `afd release`, which connects to /run/afd/control.sock by default.
    #[arg(long, value_name = "FILE")]
    pub control_socket: Option<PathBuf>,
    /// Seconds between two samples.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = SecondsRange::INTERVAL.parser())]
    pub sample_interval: Duration,
    /// Seconds between two discoveries, in addition to those that kernel events trigger.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = SecondsRange::INTERVAL.parser())]
    pub discovery_interval: Duration,
    /// The shortest time between two writes to the Node, after the first two.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = SecondsRange::INTERVAL.parser())]
    pub write_interval: Duration,
    /// Seconds between two heartbeats of the conditions, the time `lastHeartbeatTime`, by which an agent that is gone can be
    /// recognised; 0 turns them off.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = SecondsRange::HEARTBEAT.parser())]
    pub heartbeat_interval: Duration,
    /// A folder that lives as long as the pod, in which graces survive a restart of the container.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Also write the inverse of the condition Problem under this type, which the node repair of a provider acts on:
    /// AcceleratedHardwareReady on EKS.
    #[arg(long, value_name = "TYPE")]
    pub condition_alias: Option<String>,
    /// The release of this agent, which is recorded in the annotation managed-by, so that `afd cleanup` knows its Nodes.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = values::release)]
    pub managed_by: Option<String>,
    /// How an agent knows that another one on this machine keeps the Node. It waits until that one ends.
    #[arg(long, value_enum, default_value_t = NodeLock::Socket)]
    pub node_lock: NodeLock,
    /// Which devices are expected on a Node without the annotation expect: off, any=8, or VENDOR/10de:2330=8 for a PCI id; several
    /// are separated by commas.
    #[arg(long, value_name = "DEVICES")]
    pub expect: Option<AdminExpectation>,
    /// Reasons that turn the condition Problem although they are no fault of a device.
    #[arg(
        long,
        value_name = "REASON,...",
        value_delimiter = ',',
        value_parser = ["NotAllocatable", "DriverLibraryMismatch", "FabricNotReady"]
    )]
    pub problem_reasons: Vec<String>,
    /// For how long something is believed.
    #[command(flatten)]
    pub graces: GraceArgs,
    /// Metric options.
    #[command(flatten)]
    pub metrics: MetricArgs,
    /// Path rules.
    #[command(flatten)]
    pub paths: PathArgs,
}

/// How many sample intervals the loop may miss before it counts as stuck.
const MAX_MISSED_SAMPLES: u32 = 6;

impl RunArgs {
    /// The age from which on the pages of the loop are stale.
    pub fn stale_after(&self) -> Duration {
        self.sample_interval * MAX_MISSED_SAMPLES + Duration::from_secs(10)
    }

    /// How the node is tracked.
    pub fn track_options(&self) -> TrackOptions {
        TrackOptions {
            graces: self.graces.graces(self.discovery_interval, self.sample_interval),
            prefix: self.labels.label_prefix.clone(),
            include_integrated: self.labels.include_integrated,
            problem_reasons: self.problem_reasons.clone(),
            expect: self.expect.clone(),
            has_node: !self.no_kubernetes,
        }
    }
}
