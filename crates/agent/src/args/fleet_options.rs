//! Options of the commands about all Nodes of a cluster.

use std::path::PathBuf;

use afd_derive::labels::DEFAULT_PREFIX;
use clap::{Args, ValueEnum};

use super::values;

/// Where the Nodes come from, and which are read.
#[derive(Args, Clone, Debug)]
pub struct FleetArgs {
    /// Prefix of AFD's labels, annotations and conditions.
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_PREFIX, value_parser = values::domain)]
    pub label_prefix: String,
    /// Kubeconfig of the cluster. Without it that of KUBECONFIG, of the home directory, or the service account of the pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Read the output of `kubectl get nodes -o json` instead of a cluster; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "context"])]
    pub from: Option<PathBuf>,
    /// Only Nodes with these labels, in the syntax of kubectl.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
}

/// Options of `afd nodes`.
#[derive(Args, Clone, Debug)]
pub struct NodesArgs {
    /// Where the Nodes come from.
    #[command(flatten)]
    pub source: FleetArgs,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = FleetOutput::Table)]
    pub output: FleetOutput,
    /// Only Nodes whose devices are of this vendor, as the label vendor has it.
    #[arg(long, value_name = "VENDOR")]
    pub vendor: Option<String>,
    /// Only Nodes with devices of this product, as the label product or model has it.
    #[arg(long, value_name = "PRODUCT")]
    pub product: Option<String>,
    /// Only Nodes with a confirmed fault, or an expected device that cannot take work.
    #[arg(long)]
    pub problem: bool,
    /// Only Nodes that can serve this llm-d path.
    #[arg(long, value_name = "PATH", conflicts_with = "explain")]
    pub path: Option<String>,
    /// Also Nodes without anything of AFD.
    #[arg(long)]
    pub all: bool,
    /// Which Nodes can serve this llm-d path, grouped by what the others lack.
    #[arg(long, value_name = "PATH", conflicts_with = "drift")]
    pub explain: Option<String>,
    /// The Nodes that differ from most Nodes with the same product: in driver, firmware, memory, devices or links.
    #[arg(long)]
    pub drift: bool,
}

/// Options of `afd generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// What for.
    #[arg(value_enum)]
    pub manifest: Manifest,
    /// Where the Nodes come from.
    #[command(flatten)]
    pub source: FleetArgs,
}

/// Output formats of `afd nodes`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum FleetOutput {
    /// A table.
    Table,
    /// A table with more columns, and all names.
    Wide,
    /// JSON, unknown facts as null.
    Json,
}

/// What `afd generate` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Manifest {
    /// A ResourceFlavor for each product, and their Topology.
    Kueue,
    /// The template of a NodePool for each product, to scale it from zero.
    Karpenter,
    /// Node affinities of pods, by product, memory and path.
    Nodeaffinity,
    /// The topology of the cluster for Grove.
    Grove,
}
