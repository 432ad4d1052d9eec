//! Removes what AFD wrote to Nodes.
//!
//! The metadata of the Nodes are listed, and the Nodes of a page with a trace of AFD are cleaned, several at a time, before the
//! next page. One that fails is tried again after all others; while the server is overloaded, all calls pause. Nothing is
//! remembered: a run that follows an interrupted one finds no trace on the Nodes that are clean.

mod outcome;
mod overload;
mod removal;

use std::{collections::BTreeSet, pin::pin};

use afd_apiserver::{Backoff, CallError};
use futures_util::{StreamExt, stream};
use kube::{Client, api::ListParams};
use tokio::time::sleep;

use super::{
    DesiredNode, NodeCounters,
    api::{NodeApi, is_conflict},
    observed::{ObservedMetadata, ObservedNode, is_under},
    plan::{ApplyPlan, MetadataKeys},
    status::StatusPlan,
    writer::NodeWriter,
};
use outcome::CleanOutcome;
pub use outcome::{CleanedNodes, RemovedFields};
use overload::OverloadGate;

/// Name of the annotation that names the release whose agent keeps the Node, after the prefix and its slash.
pub const MANAGED_BY: &str = "managed-by";

/// The metadata of a Node are some 10 KiB, and several times that when parsed. A page is clean before many of its Nodes have
/// another version.
const PAGE_SIZE: u32 = 100;
const MAX_CONCURRENT: usize = 8;
/// How often a Node is tried that could not be cleaned.
const MAX_ROUNDS: usize = 3;
/// How often a Node is tried in a round while the server is overloaded, or others change it.
const MAX_ATTEMPTS: usize = 3;

/// Which Nodes are cleaned, and of what.
#[derive(Clone, Copy, Debug)]
pub struct CleanOptions<'a> {
    /// The prefix whose keys are removed even if they have no owner.
    pub prefix: &'a str,
    /// Nodes that the agents of another release keep are left alone. Without it, all are cleaned.
    pub managed_by: Option<&'a str>,
}

/// Removes everything that AFD wrote to a Node: what it owns, and what is under this prefix without an owner. Returns what that
/// was; none if there was nothing.
///
/// # Errors
/// When a call fails.
pub async fn clean(
    client: Client,
    name: &str,
    prefix: &str,
    counters: NodeCounters,
) -> Result<Option<RemovedFields>, CallError> {
    let api = NodeApi::new(client, counters);
    match NodeCleaner::new(&api, CleanOptions { prefix, managed_by: None }).clean(name, None).await? {
        CleanOutcome::Cleaned(removed) => Ok(Some(removed)),
        _ => Ok(None),
    }
}

/// Removes everything that AFD wrote to all Nodes, or to those of a release. A Node that fails does not keep the others from
/// being cleaned.
pub async fn clean_all(client: Client, options: CleanOptions<'_>, counters: NodeCounters) -> CleanedNodes {
    let api = NodeApi::new(client, counters);
    let cleaner = NodeCleaner::new(&api, options);
    let mut result = CleanedNodes::default();
    result.unlisted = cleaner.clean_listed(&mut result).await.err();
    let mut backoff = Backoff::default();
    for _ in 1..MAX_ROUNDS {
        if result.failed.is_empty() || cleaner.gate.is_closed() {
            break;
        }
        let (nodes, error) = (result.failed.len(), &result.failed[0].1);
        tracing::warn!(nodes, %error, "Nodes failed; trying them again");
        sleep(backoff.next_delay(None)).await;
        let failed = std::mem::take(&mut result.failed);
        cleaner.clean_some(failed.into_iter().map(|(name, _)| (name, None)), &mut result).await;
    }
    result
}

/// Cleans Nodes, and pauses while the server is overloaded.
struct NodeCleaner<'a> {
    api: &'a NodeApi,
    options: CleanOptions<'a>,
    gate: OverloadGate,
}

impl<'a> NodeCleaner<'a> {
    fn new(api: &'a NodeApi, options: CleanOptions<'a>) -> NodeCleaner<'a> {
        NodeCleaner { api, options, gate: OverloadGate::default() }
    }

    /// Cleans the Nodes whose metadata show that AFD wrote to them, page by page. A list that cannot be continued, because it has
    /// taken longer than the server keeps an old version, begins again: those that are clean have no trace.
    async fn clean_listed(&self, result: &mut CleanedNodes) -> Result<(), CallError> {
        let mut parameters = ListParams::default().limit(PAGE_SIZE);
        loop {
            let page = match self.api.list(&parameters).await {
                Ok(page) => page,
                Err(error) => {
                    let is_expired = overload::has_code(&error, 410) && parameters.continue_token.is_some();
                    if !is_expired && !overload::is_overload(&error) {
                        return Err(error);
                    }
                    if is_expired {
                        parameters.continue_token = None;
                        result.left = 0;
                    }
                    self.gate.pause(error.retry_after);
                    self.gate.pass().await.then_some(()).ok_or(error)?;
                    continue;
                }
            };
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            // A first page that is read again and again is no success.
            if parameters.continue_token.is_some() || next.is_none() {
                self.gate.succeeded();
            }
            let traced = page.items.into_iter().filter_map(|node| {
                let name = node.metadata.name.clone()?;
                let metadata = ObservedMetadata::from(node.metadata);
                let is_known = result.failed.iter().any(|(failed, _)| *failed == name);
                (!is_known && self.is_traced(&metadata)).then_some((name, Some(metadata)))
            });
            let traced: Vec<_> = traced.collect();
            self.clean_some(traced, result).await;
            match next {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    /// Cleans several Nodes at a time.
    async fn clean_some(
        &self,
        nodes: impl IntoIterator<Item = (String, Option<ObservedMetadata>)>,
        result: &mut CleanedNodes,
    ) {
        let outcomes = stream::iter(nodes).map(async |(name, listed)| {
            let outcome = self.clean_patiently(&name, listed).await;
            (name, outcome)
        });
        let mut outcomes = pin!(outcomes.buffer_unordered(MAX_CONCURRENT));
        while let Some((name, outcome)) = outcomes.next().await {
            result.add(name, outcome);
        }
    }

    fn is_traced(&self, metadata: &ObservedMetadata) -> bool {
        ApplyPlan::new(metadata, &DesiredNode::default(), self.options.prefix, &MetadataKeys::default())
            .is_needed()
            || metadata.condition_owners.ours().next().is_some()
    }

    /// Whether an annotation names another release. Its prefix may be another one as well, so any that AFD owns counts. A Node
    /// that names none was written before there was such an annotation.
    fn is_of_another_release(&self, metadata: &ObservedMetadata) -> bool {
        let Some(release) = self.options.managed_by else { return false };
        let annotations = &metadata.annotations;
        let is_ours = |key: &str| annotations.owners.is_ours(key) || is_under(key, self.options.prefix);
        let mut named = annotations.values.iter().filter(|(key, _)| {
            key.rsplit_once('/').is_some_and(|(_, name)| name == MANAGED_BY) && is_ours(key)
        });
        named.any(|(_, value)| value != release)
    }

    /// Cleans a Node as soon as the server is not overloaded.
    async fn clean_patiently(&self, name: &str, listed: Option<ObservedMetadata>) -> CleanOutcome {
        let mut attempt = 1;
        loop {
            if !self.gate.pass().await {
                return CleanOutcome::Untried;
            }
            match self.clean(name, listed.as_ref()).await {
                Ok(outcome) => {
                    self.gate.succeeded();
                    return outcome;
                }
                Err(error) if overload::is_overload(&error) => {
                    self.gate.pause(error.retry_after);
                    if attempt == MAX_ATTEMPTS {
                        return CleanOutcome::Failed(error);
                    }
                    attempt += 1;
                }
                Err(error) => return CleanOutcome::Failed(error),
            }
        }
    }

    /// Cleans a Node whose metadata were listed, or which is read first, and again whenever it was changed meanwhile.
    async fn clean(
        &self,
        name: &str,
        mut listed: Option<&ObservedMetadata>,
    ) -> Result<CleanOutcome, CallError> {
        let mut attempt = 1;
        loop {
            let before = match listed.take() {
                Some(metadata) => metadata.clone(),
                None => match self.api.get(name).await {
                    Ok(node) if self.is_traced(&node.metadata) || self.has_conditions(&node) => node.metadata,
                    Ok(_) => return Ok(CleanOutcome::Untouched),
                    Err(error) if error.is_not_found() => return Ok(CleanOutcome::Untouched),
                    Err(error) => return Err(error),
                },
            };
            if self.is_of_another_release(&before) {
                return Ok(CleanOutcome::OfAnotherRelease);
            }
            match self.remove(name, &before).await {
                Ok(after) => return self.finish(name, &before, after).await,
                Err(error) if is_conflict(&error) && attempt < MAX_ATTEMPTS => attempt += 1,
                // It was deleted since it was listed.
                Err(error) if error.is_not_found() => return Ok(CleanOutcome::Untouched),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes in one call what can be removed in one. The status of a Node is the resource through which labels and conditions
    /// can be changed together.
    async fn remove(&self, name: &str, metadata: &ObservedMetadata) -> Result<ObservedNode, CallError> {
        self.api.remove_conditions(name, &removal::body(metadata, self.options.prefix)).await
    }

    /// Removes what is left, if anything: what AFD owns together with another manager it gives up. The conditions first: while
    /// metadata are left, the Node is found again.
    async fn finish(
        &self,
        name: &str,
        before: &ObservedMetadata,
        mut observed: ObservedNode,
    ) -> Result<CleanOutcome, CallError> {
        let nothing = DesiredNode::default();
        let writer = NodeWriter { api: self.api, name, prefix: self.options.prefix };
        if self.has_conditions(&observed) {
            observed = writer.write_status(observed, &nothing, &BTreeSet::new()).await?.0;
        }
        let after = writer.write_metadata(observed, &nothing, &MetadataKeys::default()).await?;
        Ok(CleanOutcome::Cleaned(RemovedFields::between(before, &after)))
    }

    fn has_conditions(&self, observed: &ObservedNode) -> bool {
        StatusPlan::new(observed, &DesiredNode::default(), self.options.prefix, None, &BTreeSet::new())
            .is_needed()
    }
}

#[cfg(test)]
mod tests;
