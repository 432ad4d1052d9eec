//! Agents as the API server sees them: `afd-publish` maintains the Node of each, with a client of its own, all in this process.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use afd_apiserver::ApiCalls;
use afd_publish::node::{self, DesiredNode, NodeCounters, NodeObserver, NodeSettings, WriteLimits};
use anyhow::ensure;
use kube::Config;
use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::watch;

/// How long to wait for all agents together.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);

/// How long to wait for conditions.
const CONDITIONS_TIMEOUT: Duration = Duration::from_secs(180);

/// An agent as the API server sees it.
pub(crate) struct SimulatedAgent {
    /// The agent stops when it is closed.
    want: watch::Sender<Option<DesiredNode>>,
    requests: IntCounterVec,
    writes: IntCounter,
}

impl SimulatedAgent {
    pub(crate) fn start(
        config: Config,
        name: String,
        wanted: DesiredNode,
        interval: Duration,
    ) -> anyhow::Result<SimulatedAgent> {
        let requests = IntCounterVec::new(Opts::new("requests", "Requests."), &["verb", "code"])?;
        let writes = IntCounter::new("writes", "Writes.")?;
        let counters = NodeCounters {
            calls: ApiCalls::new(requests.clone()),
            label_writes: writes.clone(),
            contested: IntCounterVec::new(Opts::new("contested", "Contested."), &["key", "owner"])?,
            refused: IntCounterVec::new(Opts::new("refused", "Refused."), &["key", "code"])?,
        };
        let (want, wanted) = watch::channel(Some(wanted));
        let client = afd_apiserver::client(config, afd_apiserver::MAX_RESPONSE_BYTES)?;
        let observer = NodeObserver { resources: watch::Sender::new(None), node: watch::Sender::new(None) };
        let prefix = "accelerator.llm-d.ai".to_owned();
        let settings =
            NodeSettings { name, prefix, limits: WriteLimits { interval, ..WriteLimits::default() } };
        tokio::spawn(node::reconcile(client, settings, counters, wanted, observer));
        Ok(SimulatedAgent { want, requests, writes })
    }

    /// Requests so far, by verb and code.
    pub(crate) fn requests(&self) -> Requests {
        use prometheus::core::Collector;
        let families = self.requests.collect();
        let series = families.iter().flat_map(|family| family.get_metric());
        let named = series.map(|series| {
            let label = |name| series.get_label().iter().find(|label| label.name() == name);
            let value = |name| label(name).map(|label| label.value().to_owned()).unwrap_or_default();
            ((value("verb"), value("code")), series.get_counter().get_value() as u64)
        });
        named.collect()
    }
}

/// All agents together.
pub(crate) struct SimulatedAgents(pub(crate) Vec<SimulatedAgent>);

/// Requests by verb and code.
pub(crate) type Requests = BTreeMap<(String, String), u64>;

impl SimulatedAgents {
    pub(crate) fn requests(&self) -> Requests {
        self.0.iter().flat_map(SimulatedAgent::requests).fold(BTreeMap::new(), |mut all, (key, count)| {
            *all.entry(key).or_default() += count;
            all
        })
    }

    pub(crate) fn watches(&self) -> u64 {
        self.requests().get(&("watch".to_owned(), "200".to_owned())).copied().unwrap_or_default()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.0.iter().map(|agent| agent.writes.get()).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.requests().iter().filter(|((_, code), _)| code != "200").map(|(_, count)| count).sum()
    }

    /// Waits until all together have made a number of requests; returns how many agents have. A response that came too late is
    /// not counted.
    pub(crate) async fn until_requests(&self, kind: &(String, String), count: u64) -> u64 {
        let begin = Instant::now();
        loop {
            let made = self.requests().get(kind).copied().unwrap_or_default();
            if made >= count || begin.elapsed() > CONDITIONS_TIMEOUT {
                return self.0.len() as u64 - count.saturating_sub(made);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until each of them has started a number of watches; how long that took.
    /// Has all of them want another state of their Nodes, at once.
    pub(crate) fn want(&self, wanted: &DesiredNode) {
        for agent in &self.0 {
            agent.want.send_replace(Some(wanted.clone()));
        }
    }

    /// Refusals because the server is overloaded.
    pub(crate) fn refusals(&self) -> u64 {
        self.requests().iter().filter(|((_, code), _)| code == "429").map(|(_, count)| count).sum()
    }

    pub(crate) async fn until_watches(&self, start: Instant, each: u64) -> anyhow::Result<Duration> {
        let all = self.0.len() as u64 * each;
        while self.watches() < all {
            ensure!(start.elapsed() < TIMEOUT, "{} of {all} watches: {:?}", self.watches(), self.requests());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(start.elapsed())
    }
}

/// The requests between two times.
pub(crate) fn since(now: &Requests, before: &Requests) -> Requests {
    now.iter().map(|(key, count)| (key.clone(), count - before.get(key).unwrap_or(&0))).collect()
}
