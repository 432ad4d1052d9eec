//! Removes everything that AFD wrote to Nodes.

use afd_apiserver::{Backoff, CallError};
use kube::{Client, api::ListParams};
use tokio::time::sleep;

use super::{
    DesiredNode, NodeCounters,
    api::NodeApi,
    observed::{ObservedMetadata, ObservedNode},
    plan::ApplyPlan,
    status::StatusPlan,
    writer::NodeWriter,
};

const PAGE_SIZE: u32 = 500;
/// How often a Node is tried that could not be cleaned.
const MAX_ROUNDS: usize = 3;

/// The result of cleaning all Nodes.
#[derive(Debug, Default)]
pub struct CleanedNodes {
    /// How many Nodes were cleaned. Those that had nothing of AFD are not counted.
    pub cleaned: usize,
    /// The Nodes that could not be cleaned, and why.
    pub failed: Vec<(String, CallError)>,
}

/// Removes everything that AFD wrote to a Node: what it owns, and what is under this prefix without an owner. Returns whether
/// there was anything.
///
/// # Errors
/// When a call fails.
pub async fn clean(
    client: Client,
    name: &str,
    prefix: &str,
    counters: NodeCounters,
) -> Result<bool, CallError> {
    let api = NodeApi::new(client, counters);
    clean_one(NodeWriter { api: &api, name, prefix }).await
}

/// Removes everything that AFD wrote to all Nodes. A Node that fails does not keep the others from being cleaned.
///
/// # Errors
/// When the Nodes cannot be listed.
pub async fn clean_all(
    client: Client,
    prefix: &str,
    counters: NodeCounters,
) -> Result<CleanedNodes, CallError> {
    let api = NodeApi::new(client, counters);
    let mut names = traced_nodes(&api, prefix).await?;
    let mut result = CleanedNodes::default();
    let mut backoff = Backoff::default();
    for round in 1..=MAX_ROUNDS {
        let mut retry_after = None;
        result.failed = Vec::new();
        for name in &names {
            match clean_one(NodeWriter { api: &api, name, prefix }).await {
                Ok(found) => result.cleaned += usize::from(found),
                // It was deleted since it was listed.
                Err(error) if error.status().is_some_and(|status| status.code == 404) => {}
                Err(error) => {
                    retry_after = retry_after.max(error.retry_after);
                    result.failed.push((name.clone(), error));
                }
            }
        }
        if result.failed.is_empty() || round == MAX_ROUNDS {
            break;
        }
        names = result.failed.iter().map(|(name, _)| name.clone()).collect();
        sleep(backoff.next_delay(retry_after)).await;
    }
    Ok(result)
}

/// The names of the Nodes whose metadata show that AFD wrote to them. They are all listed before the first is cleaned, which
/// may take longer than a list can be continued.
async fn traced_nodes(api: &NodeApi, prefix: &str) -> Result<Vec<String>, CallError> {
    let mut parameters = ListParams::default().limit(PAGE_SIZE);
    let mut names = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        for node in page.items {
            let name = node.metadata.name.clone().unwrap_or_default();
            let metadata = ObservedMetadata::from(node.metadata);
            let is_traced = ApplyPlan::new(&metadata, &DesiredNode::default(), prefix).is_needed()
                || metadata.condition_owners.ours().next().is_some();
            names.extend(is_traced.then_some(name));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(names),
        }
    }
}

/// The conditions first: while metadata are left, the Node is found again.
async fn clean_one(writer: NodeWriter<'_>) -> Result<bool, CallError> {
    let nothing = DesiredNode::default();
    let observed = writer.api.get(writer.name).await?;
    let has_conditions =
        |node: &ObservedNode| StatusPlan::new(node, &nothing, writer.prefix, None).is_needed();
    let has_metadata = ApplyPlan::new(&observed.metadata, &nothing, writer.prefix).is_needed();
    let found = has_metadata || has_conditions(&observed);
    let observed = match has_conditions(&observed) {
        true => writer.write_status(observed, &nothing).await?.0,
        false => observed,
    };
    writer.write_metadata(observed, &nothing).await.map(|_| found)
}

#[cfg(test)]
mod tests;
