//! Keeps what AFD says on its own Node true: labels, annotation and condition.
//!
//! By server-side apply with one field manager. Nothing is written while nothing changes; a change is one write. Keys that
//! somebody else owns are never taken, but for those under our own prefix, which are put right and counted. The Node's uid is
//! in every apply, so that a Node of the same name that was made anew is not mistaken for the old one, and a Node that is
//! gone is not created. Nothing is removed because of an error or an end: only [`clean`] does that.

mod api;
mod events;
mod plan;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use afd_apiserver::{Failure, LONGEST_REST, LONGEST_WATCH, Rest};
use futures_util::StreamExt;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

pub use api::{Counters, clean, clean_all};
use api::{Nodes, Told};
use events::Events;
use plan::{Metadata, Plan};
pub use seen::Resources;
use seen::Seen;

/// Who owns what we write.
pub const FIELD_MANAGER: &str = "accelerator-feature-discovery";

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

/// To whom is told what the Node says of itself, whenever it is read.
pub struct Heard {
    /// Which extended resources it has.
    pub resources: watch::Sender<Option<Resources>>,
    /// Is called with its labels and annotations, before the resources are told.
    pub metadata: Box<dyn Fn(&NodeMetadata<'_>) + Send + Sync>,
}

/// What the Node says of itself, whoever has written it.
#[derive(Clone, Copy, Debug)]
pub struct NodeMetadata<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Keeps the Node of a name for ever, and tells what it says of itself.
pub async fn keep(
    client: Client,
    name: &str,
    counters: Counters,
    mut wanted: watch::Receiver<Option<Wanted>>,
    heard: Heard,
) {
    let mut keeper = Keeper {
        events: Events::new(client.clone(), counters.calls.clone()),
        nodes: Nodes::new(client, counters),
        name: name.to_owned(),
        seen: None,
        given_up: BTreeSet::new(),
        put_right: None,
        watches: Rest::default(),
        fights: Rest::default(),
        heard,
    };
    let mut rest = Rest::default();
    loop {
        let now = wanted.borrow_and_update().clone();
        let kept = match &now {
            Some(now) => keeper.reconcile(now).await,
            // What is wanted may depend on the resources.
            None => keeper.look().await,
        };
        match kept {
            Ok(()) if now.is_none() => {
                rest.over();
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Ok(()) => rest.over(),
            Err(failure) => {
                let pause = rest.longer(failure.retry_after);
                tracing::warn!(error = %failure, rest_seconds = pause.as_secs(), "the Node could not be kept; trying again");
                // Also when something else is wanted meanwhile: a server in trouble is left alone.
                sleep(pause).await;
                continue;
            }
        }
        if keeper.wait(&mut wanted).await.is_none() {
            return;
        }
    }
}

struct Keeper {
    nodes: Nodes,
    events: Events,
    name: String,
    /// The Node as it was last seen.
    seen: Option<Seen>,
    /// Keys of vendors' sets that somebody else took.
    given_up: BTreeSet<String>,
    /// When what somebody had changed was last put right.
    put_right: Option<Instant>,
    /// Watches in a row that ended before their time.
    watches: Rest,
    /// Changes in a row that came soon after the last one was put right.
    fights: Rest,
    heard: Heard,
}

impl Keeper {
    /// Reads the Node, and tells what it says of itself.
    async fn look(&mut self) -> Result<(), Failure> {
        let seen = self.nodes.get(&self.name).await?;
        self.tell(&seen);
        Ok(())
    }

    /// Makes the Node say what is wanted; writes only what differs.
    async fn reconcile(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => self.nodes.get(&self.name).await?,
        };
        self.tell(&seen);
        let plan = Plan::of(&seen.metadata, wanted, &self.given_up);
        let seen = match plan.write {
            false => seen,
            true => self.write(seen, wanted, plan).await?,
        };
        self.seen = Some(self.write_condition(seen, wanted).await?);
        Ok(())
    }

    fn tell(&self, seen: &Seen) {
        let Metadata { labels, annotations, .. } = &seen.metadata;
        (self.heard.metadata)(&NodeMetadata { labels, annotations });
        self.heard.resources.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&seen.resources);
            if changed {
                *last = Some(seen.resources.clone());
            }
            changed
        });
    }

    /// Applies the plan; keys that somebody else holds are left to them, unless they are under our prefix.
    async fn write(&mut self, seen: Seen, wanted: &Wanted, plan: Plan) -> Result<Seen, Failure> {
        for (key, owner) in &plan.contested {
            self.nodes.contested(key, owner);
            self.put_right = Some(Instant::now());
        }
        match self.nodes.apply(&self.name, &seen.metadata.uid, &plan, false).await {
            Err(failure) if api::is_conflict(&failure) => {
                for key in api::conflicting_keys(&failure) {
                    if wanted.compat.contains_key(&key) {
                        self.nodes.contested(&key, "another manager");
                        self.given_up.insert(key);
                    }
                }
                let seen = self.nodes.get(&self.name).await?;
                let plan = Plan::of(&seen.metadata, wanted, &self.given_up);
                // What is left in conflict is ours by its prefix.
                self.nodes.apply(&self.name, &seen.metadata.uid, &plan, true).await
            }
            answer => answer,
        }
    }

    /// Writes the condition if the Node says something else; the Node as it is then.
    async fn write_condition(&self, seen: Seen, wanted: &Wanted) -> Result<Seen, Failure> {
        let Some(condition) = &wanted.condition else { return Ok(seen) };
        let there = seen.condition(&condition.kind);
        if there.as_ref().is_some_and(|(there, _)| there == condition) {
            return Ok(seen);
        }
        let turn = events::is_turn(there.as_ref().map(|(there, _)| there), condition);
        let since = there
            .filter(|(there, _)| there.status == condition.status)
            .and_then(|(_, since)| since.map(str::to_owned))
            .unwrap_or_else(api::now);
        let seen = self.nodes.write_condition(&self.name, &seen.metadata.uid, condition, &since).await?;
        if turn {
            self.events.turned(&self.name, &seen.metadata.uid, condition).await;
        }
        Ok(seen)
    }

    /// Waits until something else is wanted or the Node has changed. None when nothing will ever be wanted again.
    async fn wait(&mut self, wanted: &mut watch::Receiver<Option<Wanted>>) -> Option<()> {
        let Some(seen) = &self.seen else { return Some(()) };
        let begun = Instant::now();
        let stream = match self.nodes.watch(&self.name, &seen.metadata.version).await {
            Ok(stream) => stream,
            Err(failure) => {
                tracing::debug!(error = %failure, "the Node cannot be watched");
                self.seen = None;
                let asked = failure.retry_after.unwrap_or_default();
                let pause = self.watches.longer(None).saturating_sub(asked);
                sleep(asked).await;
                return pause_for(wanted, pause).await;
            }
        };
        tokio::pin!(stream);
        loop {
            tokio::select! {
                changed = wanted.changed() => return changed.ok(),
                () = sleep_until(begun + LONGEST_WATCH) => {
                    self.nodes.calls().watch_given_up();
                    self.seen = None;
                    return Some(());
                }
                event = stream.next() => match event {
                    Some(Ok(Told::Node(node))) => {
                        self.tell(&node);
                        let before = self.seen.replace(node.clone());
                        if before.as_ref().is_none_or(|before| before.says_other(&node)) {
                            return self.truce(before.as_ref(), &node, wanted).await;
                        }
                    }
                    Some(Ok(Told::Version(version))) => {
                        if let Some(seen) = &mut self.seen {
                            seen.metadata.version = version;
                        }
                    }
                    ended => {
                        let lived = begun.elapsed();
                        if let Some(Err(error)) = &ended {
                            self.nodes.calls().watch_failed(error);
                        }
                        // Only one that the server ended in its time goes on where it was.
                        if lived <= LONGEST_REST || ended.is_some() {
                            self.seen = None;
                        }
                        let pause = self.watches.after_watch(lived);
                        return pause_for(wanted, pause).await;
                    }
                }
            }
        }
    }

    /// What somebody has changed is put right at once, and later where that has been in vain: two that overrule each other
    /// would write for ever, as fast as the server can.
    async fn truce(
        &mut self,
        before: Option<&Seen>,
        now: &Seen,
        wanted: &mut watch::Receiver<Option<Wanted>>,
    ) -> Option<()> {
        let again = self.put_right.is_some_and(|at| at.elapsed() < LONGEST_REST);
        if before.is_some_and(|before| self.nodes.removed_by_others(&before.metadata, &now.metadata)) {
            self.put_right = Some(Instant::now());
        }
        if !again {
            self.fights.over();
            return Some(());
        }
        self.seen = None;
        let pause = self.fights.longer(None);
        pause_for(wanted, pause).await
    }
}

/// A pause, or less of it where something else is wanted.
async fn pause_for(wanted: &mut watch::Receiver<Option<Wanted>>, pause: Duration) -> Option<()> {
    tokio::select! {
        () = sleep(pause) => Some(()),
        changed = wanted.changed() => changed.ok(),
    }
}

#[cfg(test)]
mod tests;
