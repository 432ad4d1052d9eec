//! Keeps what AFD says on its own Node true: labels, annotation and condition.
//!
//! By server-side apply with one field manager. Nothing is written while nothing changes; a change is one write. Keys that
//! somebody else owns are never taken, but for those under our own prefix, which are put right and counted. The Node's uid is
//! in every apply, so that a Node of the same name that was made anew is not mistaken for the old one, and a Node that is
//! gone is not created. Nothing is removed because of an error or an end: only [`clean`] does that.

mod api;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub use api::{Counters, clean, clean_all};
use api::{Failure, Nodes};
use plan::{Metadata, Plan};

/// Who owns what we write.
pub const FIELD_MANAGER: &str = "accelerator-feature-discovery";

/// The first rest after a failure; it doubles each time.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A watch that ends at once is not begun again sooner than this.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// What the Node should say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Labels that are ours: under our prefix, or `llm-d.ai/accelerator-*`.
    pub labels: BTreeMap<String, String>,
    /// Labels in vendors' spellings, for which nobody is overruled.
    pub compat: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The condition, if there is something to say.
    pub condition: Option<WantedCondition>,
}

/// A condition of the Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedCondition {
    /// Its type, `accelerator.llm-d.ai/Ready`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word in CamelCase.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Keeps the Node of a name for ever.
pub async fn keep(
    client: Client,
    name: &str,
    counters: Counters,
    mut wanted: watch::Receiver<Option<Wanted>>,
) {
    let mut keeper = Keeper {
        nodes: Nodes::new(client, counters),
        name: name.to_owned(),
        seen: None,
        written_condition: None,
        given_up: BTreeSet::new(),
    };
    let mut rest = Rest::default();
    loop {
        let Some(now) = wanted.borrow_and_update().clone() else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        match keeper.reconcile(&now).await {
            Ok(()) => rest.over(),
            Err(failure) => {
                let pause = rest.longer(failure.retry_after);
                tracing::warn!(error = %failure, rest_seconds = pause.as_secs(), "the Node could not be kept; trying again");
                keeper.seen = None;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    changed = wanted.changed() => if changed.is_err() { return },
                }
                continue;
            }
        }
        match keeper.wait(&mut wanted, &mut rest).await {
            Some(()) => {}
            None => return,
        }
    }
}

struct Written {
    uid: String,
    condition: WantedCondition,
    /// Since when it has its status.
    since: String,
}

struct Keeper {
    nodes: Nodes,
    name: String,
    /// The Node as it was last seen.
    seen: Option<Metadata>,
    /// The condition that is on the Node of a uid.
    written_condition: Option<Written>,
    /// Keys of vendors' sets that somebody else took.
    given_up: BTreeSet<String>,
}

impl Keeper {
    /// Makes the Node say what is wanted; writes only what differs.
    async fn reconcile(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => self.nodes.metadata(&self.name).await?,
        };
        let plan = Plan::of(&seen, wanted, &self.given_up);
        let seen = match plan.write {
            false => seen,
            true => self.write(seen, wanted, plan).await?,
        };
        self.write_condition(&seen, wanted).await?;
        self.seen = Some(seen);
        Ok(())
    }

    /// Applies the plan; keys that somebody else holds are left to them, unless they are under our prefix.
    async fn write(&mut self, seen: Metadata, wanted: &Wanted, plan: Plan) -> Result<Metadata, Failure> {
        for (key, owner) in &plan.contested {
            self.nodes.contested(key, owner);
        }
        match self.nodes.apply(&self.name, &seen.uid, &plan, false).await {
            Err(failure) if failure.is_conflict() => {
                for key in failure.conflicting_keys() {
                    if wanted.compat.contains_key(&key) {
                        self.nodes.contested(&key, "another manager");
                        self.given_up.insert(key);
                    }
                }
                let seen = self.nodes.metadata(&self.name).await?;
                let plan = Plan::of(&seen, wanted, &self.given_up);
                // What is left in conflict is ours by its prefix.
                self.nodes.apply(&self.name, &seen.uid, &plan, true).await
            }
            answer => answer,
        }
    }

    async fn write_condition(&mut self, seen: &Metadata, wanted: &Wanted) -> Result<(), Failure> {
        let Some(condition) = &wanted.condition else { return Ok(()) };
        let mut written = self.written_condition.take().filter(|written| written.uid == seen.uid);
        if written.is_none() {
            // Another agent, or this one before it was started anew, may have written it.
            let there = self.nodes.condition(&self.name, &condition.kind).await?;
            written = there.map(|(condition, since)| Written { uid: seen.uid.clone(), condition, since });
        }
        if written.as_ref().is_none_or(|written| written.condition != *condition) {
            let same_status = written.filter(|written| written.condition.status == condition.status);
            let since = same_status.map_or_else(api::now, |written| written.since);
            self.nodes.write_condition(&self.name, &seen.uid, condition, &since).await?;
            written = Some(Written { uid: seen.uid.clone(), condition: condition.clone(), since });
        }
        self.written_condition = written;
        Ok(())
    }

    /// Waits until something else is wanted or the Node has changed. None when nothing will ever be wanted again.
    async fn wait(&mut self, wanted: &mut watch::Receiver<Option<Wanted>>, rest: &mut Rest) -> Option<()> {
        let Some(seen) = self.seen.clone() else { return Some(()) };
        let begun = Instant::now();
        let stream = match self.nodes.watch(&self.name, &seen.version).await {
            Ok(stream) => stream,
            Err(failure) => {
                tracing::debug!(error = %failure, "the Node cannot be watched");
                self.seen = None;
                return self.pause(wanted, rest.longer(failure.retry_after)).await;
            }
        };
        tokio::pin!(stream);
        loop {
            tokio::select! {
                changed = wanted.changed() => return changed.ok(),
                event = stream.next() => match event {
                    Some(Ok(Some(node))) => {
                        let other = self.seen.as_ref().is_none_or(|seen| seen.says_other(&node));
                        let before = self.seen.replace(node);
                        if other {
                            if let (Some(before), Some(now)) = (before, &self.seen) {
                                self.nodes.changed_by_others(&before, now);
                            }
                            return Some(());
                        }
                    }
                    // Bookmarks say nothing of the Node.
                    Some(Ok(None)) => {}
                    Some(Err(_)) | None => {
                        self.seen = None;
                        // A watch that lived was well; one that ends at once would be a hot loop.
                        if begun.elapsed() > LONGEST_REST {
                            rest.over();
                        }
                        let pause = rest.longer(None).max(SHORTEST_WATCH);
                        return self.pause(wanted, pause).await;
                    }
                }
            }
        }
    }

    async fn pause(&self, wanted: &mut watch::Receiver<Option<Wanted>>, pause: Duration) -> Option<()> {
        tokio::select! {
            () = sleep_until(Instant::now() + pause) => Some(()),
            changed = wanted.changed() => changed.ok(),
        }
    }
}

/// How long to wait after failures in a row.
#[derive(Debug, Default)]
struct Rest(u32);

impl Rest {
    fn over(&mut self) {
        self.0 = 0;
    }

    /// Doubled each time, or as the server asks, and never less than it asks.
    fn longer(&mut self, asked: Option<Duration>) -> Duration {
        let rest = FIRST_REST.saturating_mul(1 << self.0.min(6)).min(LONGEST_REST);
        self.0 += 1;
        asked.map_or(rest, |asked| asked.max(rest))
    }
}
