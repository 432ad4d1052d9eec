//! `afd cleanup`: removes everything that AFD wrote to Nodes.

use std::{fmt::Write, path::Path};

use afd_apiserver::CallError;
use afd_bridge::BridgeRemains;
use afd_publish::node::{self, CleanOptions, CleanedNodes, RemovedFields};

use crate::{agent_metrics::AgentMetrics, cluster, run};

/// How many failures are listed.
const MAX_LISTED: usize = 20;

/// Cleans the Node of this name, or every Node, and with `bridge` what bridges wrote; returns a message for the user.
///
/// # Errors
/// When the API server cannot be reached, or a Node could not be cleaned. The other Nodes are clean then.
pub fn cleanup(
    kubeconfig: Option<&Path>,
    node_name: Option<&str>,
    options: CleanOptions<'_>,
    bridge: bool,
) -> anyhow::Result<String> {
    let counters = AgentMetrics::new().node_counters();
    run::block_on(async {
        let client = cluster::client(kubeconfig).await?;
        match node_name {
            Some(name) => Ok(match node::clean(client, name, options.prefix, counters).await? {
                Some(removed) => format!("Removed {} from Node {name}.\n", counts(removed)),
                None => format!("Node {name} has nothing that AFD wrote.\n"),
            }),
            None if bridge => {
                // First: a bridge that is left reads the labels of Nodes.
                let calls = counters.calls.clone();
                let remains = afd_bridge::clean(&client, &calls, options.prefix).await;
                let nodes = message(&node::clean_all(client, options, counters).await);
                Ok(bridge_message(&remains)? + &nodes?)
            }
            None => message(&node::clean_all(client, options, counters).await),
        }
    })
}

fn bridge_message(BridgeRemains { pods, rules, failed }: &BridgeRemains) -> anyhow::Result<String> {
    let mut text = format!("Removed the labels of {pods} pods and {rules} DeviceTaintRules.\n");
    if failed.is_empty() {
        return Ok(text);
    }
    list(&mut text, failed);
    anyhow::bail!("Not everything that bridges wrote is removed. {}", text.trim_end())
}

/// Adds what failed, up to a limit.
fn list(text: &mut String, failed: &[(String, CallError)]) {
    for (name, error) in failed.iter().take(MAX_LISTED) {
        let _ = writeln!(text, "  {name}: {error}");
    }
    if failed.len() > MAX_LISTED {
        let _ = writeln!(text, "  and {} more", failed.len() - MAX_LISTED);
    }
}

fn message(nodes: &CleanedNodes) -> anyhow::Result<String> {
    let CleanedNodes { cleaned, removed, left, failed, unlisted, untried } = nodes;
    let mut text = format!("Removed {} from {cleaned} Nodes.\n", counts(*removed));
    if *left > 0 {
        text += &format!("Left {left} Nodes to another release.\n");
    }
    if failed.is_empty() && unlisted.is_none() && *untried == 0 {
        return Ok(text);
    }
    list(&mut text, failed);
    if *untried > 0 {
        let _ = writeln!(text, "  {untried} Nodes were not tried, because the API server did not answer");
    }
    if let Some(error) = unlisted {
        anyhow::bail!("The Nodes cannot all be listed: {error}. {}", text.trim_end());
    }
    anyhow::bail!("{} Nodes could not be cleaned. {}", failed.len() + untried, text.trim_end())
}

fn counts(RemovedFields { labels, annotations, conditions }: RemovedFields) -> String {
    format!("{labels} labels, {annotations} annotations and {conditions} conditions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_was_removed_and_left() {
        let removed = RemovedFields { labels: 50, annotations: 4, conditions: 3 };
        let mut nodes = CleanedNodes { cleaned: 2, removed, left: 1, ..CleanedNodes::default() };
        assert_eq!(
            message(&nodes).expect("nothing failed"),
            "Removed 50 labels, 4 annotations and 3 conditions from 2 Nodes.\nLeft 1 Nodes to another release.\n"
        );
        nodes.untried = 7;
        let error = message(&nodes).expect_err("some were not tried").to_string();
        assert!(
            error.starts_with("7 Nodes could not be cleaned.") && error.contains("from 2 Nodes"),
            "{error}"
        );
    }
}
