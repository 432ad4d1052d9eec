//! `afd cleanup`: removes everything that AFD wrote to Nodes.

use std::path::Path;

use afd_apiserver::CallError;
use afd_publish::node::{self, CleanedNodes};

use crate::{agent_metrics::AgentMetrics, cluster, run};

/// How many failures are listed.
const MAX_LISTED: usize = 20;

/// Cleans the Node of this name, or every Node; returns a message for the user.
///
/// # Errors
/// When the API server cannot be reached, or a Node could not be cleaned. The other Nodes are clean then.
pub fn cleanup(kubeconfig: Option<&Path>, node_name: Option<&str>, prefix: &str) -> anyhow::Result<String> {
    let counters = AgentMetrics::new().node_counters();
    run::block_on(async {
        let client = cluster::client(kubeconfig).await?;
        match node_name {
            Some(name) => Ok(if node::clean(client, name, prefix, counters).await? {
                format!("Removed what AFD wrote on Node {name}.\n")
            } else {
                format!("Node {name} has nothing that AFD wrote.\n")
            }),
            None => message(node::clean_all(client, prefix, counters).await?),
        }
    })
}

fn message(CleanedNodes { cleaned, failed }: CleanedNodes) -> anyhow::Result<String> {
    let text = format!("Removed what AFD wrote on {cleaned} Nodes");
    if failed.is_empty() {
        return Ok(format!("{text}.\n"));
    }
    let line = |(name, error): &(String, CallError)| format!("\n  {name}: {error}");
    let mut lines: String = failed.iter().take(MAX_LISTED).map(line).collect();
    if failed.len() > MAX_LISTED {
        lines += &format!("\n  and {} more", failed.len() - MAX_LISTED);
    }
    anyhow::bail!("{text}; {} Nodes failed:{lines}", failed.len())
}
