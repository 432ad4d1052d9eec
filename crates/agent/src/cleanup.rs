//! `afd cleanup`: removes everything that AFD wrote to Nodes.

use std::path::Path;

use afd_publish::node;

use crate::{agent_metrics::AgentMetrics, cluster, run};

/// Cleans the Node of this name, or every Node; returns a message for the user.
///
/// # Errors
/// When the API server cannot be reached or rejects a request.
pub fn cleanup(kubeconfig: Option<&Path>, node_name: Option<&str>) -> anyhow::Result<String> {
    let counters = AgentMetrics::new().node_counters();
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
