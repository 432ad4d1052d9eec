//! Writes what the API server accepts, where it refuses a write for some of its keys.
//!
//! A policy of the cluster may refuse one key, and with it the write. The keys to blame are found by trying parts of the write; the
//! others are written. What was refused stays as the Node has it.

use std::collections::BTreeSet;

use afd_apiserver::CallError;

use super::{
    DesiredNode, api,
    events::ConditionTransition,
    observed::ObservedNode,
    plan::{ApplyPlan, MetadataKeys},
    status::StatusPlan,
    writer::NodeWriter,
};

/// How many parts of one write are tried. With sixty keys, of which one is refused, it is twelve. What was not tried by then is not
/// refused: the next write goes on with it.
const MAX_TRIALS: usize = 24;
/// How many of the keys that were refused before, and are again, are tried by themselves with one write. A policy that refuses many
/// keys usually stays.
const MAX_AGAIN: usize = 4;

/// A Node with all that the API server accepted.
pub(super) struct AcceptedWrite<K> {
    pub(super) node: ObservedNode,
    /// What it refused.
    pub(super) refused: K,
    /// What of that it was not asked for this time.
    pub(super) untried: K,
    /// Why.
    pub(super) error: Option<CallError>,
}

/// Whether a write was refused for what it contains, and not for the credentials, or the state of the server or of the Node.
pub(super) fn is_refusal(error: &CallError) -> bool {
    error.status().is_some_and(|status| {
        (400..500).contains(&status.code) && ![401, 404, 408, 409, 429].contains(&status.code)
    })
}

impl NodeWriter<'_> {
    /// Writes labels and annotations without those that the API server refuses. Those that are `held` are not tried. Of those that
    /// were refused `before`, some are tried by themselves, with each turn others.
    pub(super) async fn write_accepted_metadata(
        self,
        observed: ObservedNode,
        desired: &DesiredNode,
        held: &MetadataKeys,
        (before, turn): (&MetadataKeys, usize),
    ) -> Result<AcceptedWrite<MetadataKeys>, CallError> {
        let error = match self.write_metadata(observed, desired, held).await {
            Ok(node) => {
                return Ok(AcceptedWrite { node, refused: held.clone(), untried: held.clone(), error: None });
            }
            Err(error) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        // A part of it may have been written.
        let mut node = self.api.get(self.name).await?;
        let changed = ApplyPlan::new(&node.metadata, desired, self.prefix, held).changed(&node.metadata);
        let mut refused = held.clone();
        if changed.len() < 2 {
            refused.extend(changed);
            return Ok(AcceptedWrite { node, refused, untried: held.clone(), error: Some(error) });
        }
        let mut all = changed.clone();
        all.extend(held.clone());
        if self.apply_unchanged(&node, desired, &all).await.is_err() {
            // Not for its keys: a role that is missing, or another policy for all writes.
            return Err(error);
        }
        // The first half is on top: labels under the own prefix come before most of those in the vendors' spelling, which policies
        // refuse more often.
        let mut rest = MetadataKeys::default();
        let mut untried: Vec<MetadataKeys> = if changed.is_subset(before) && changed.len() > MAX_AGAIN {
            let mut keys = changed.singles();
            let first = turn * MAX_AGAIN % keys.len();
            keys.rotate_left(first);
            keys.split_off(MAX_AGAIN).into_iter().for_each(|keys| rest.extend(keys));
            keys
        } else {
            changed.halves().into_iter().rev().collect()
        };
        for _ in 0..MAX_TRIALS {
            let Some(part) = untried.pop() else { break };
            let mut without = refused.clone();
            without.extend(rest.clone());
            untried.iter().for_each(|keys| without.extend(keys.clone()));
            match self.write_metadata(node.clone(), desired, &without).await {
                Ok(written) => {
                    node = written;
                    // The policy is another one now.
                    untried.extend(Some(std::mem::take(&mut rest)).filter(|rest| rest.len() > 0));
                }
                Err(error) if !is_refusal(&error) => return Err(error),
                Err(_) if part.len() > 1 => untried.extend(part.halves().into_iter().rev()),
                Err(_) => refused.extend(part),
            }
        }
        refused.extend(rest.clone());
        rest.extend(held.clone());
        Ok(AcceptedWrite { node, refused, untried: rest, error: Some(error) })
    }

    /// Applies what the Node has already.
    async fn apply_unchanged(
        self,
        observed: &ObservedNode,
        desired: &DesiredNode,
        held: &MetadataKeys,
    ) -> Result<(), CallError> {
        let plan = ApplyPlan::new(&observed.metadata, desired, self.prefix, held);
        let body = plan.body(self.name, &observed.metadata.uid, None);
        self.api.apply(self.name, &body, false).await.map(drop)
    }

    /// Writes the conditions without those that the API server refuses. Those that are `held` are not tried.
    pub(super) async fn write_accepted_status(
        self,
        observed: ObservedNode,
        desired: &DesiredNode,
        held: &BTreeSet<String>,
    ) -> Result<(AcceptedWrite<BTreeSet<String>>, Vec<ConditionTransition>), CallError> {
        let error = match self.write_status(observed, desired, held).await {
            Ok((node, transitions)) => {
                let (refused, untried) = (held.clone(), held.clone());
                return Ok((AcceptedWrite { node, refused, untried, error: None }, transitions));
            }
            Err(error) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        let mut node = self.api.get(self.name).await?;
        let time = api::wall_time(node.metadata.created);
        let plan = StatusPlan::new(&node, desired, self.prefix, time.as_deref(), held);
        let all = plan.changed(&node);
        // Only the heartbeat of the others would be written: they stay as they are, and are tried if there is nothing else.
        let changed = if plan.is_needed() { plan.differing } else { all.clone() };
        let (mut refused, mut transitions) = (held.clone(), Vec::new());
        refused.extend(all.iter().cloned());
        if all.len() > 1 {
            for kind in &changed {
                let mut without = refused.clone();
                without.remove(kind);
                match self.write_status(node.clone(), desired, &without).await {
                    Ok((written, more)) => {
                        node = written;
                        transitions.extend(more);
                        refused.remove(kind);
                    }
                    Err(error) if !is_refusal(&error) => return Err(error),
                    Err(_) => {}
                }
            }
        }
        if refused.is_superset(&changed) && changed.len() > 1 {
            return Err(error);
        }
        refused.retain(|kind| changed.contains(kind) || held.contains(kind));
        Ok((AcceptedWrite { node, refused, untried: held.clone(), error: Some(error) }, transitions))
    }
}
