//! The agent against an API server that fails in different ways: the real binary, and a real API server behind a proxy. Metrics
//! stay available, no label is lost, requests are bounded and counted, and the agent recovers by itself.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "kubernetes/setup.rs"]
mod setup;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{
    BedProcess, KubernetesVersion, Suite,
    proxy::{Credentials, Fault, FaultScope, Proxy},
    until,
};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use kube::ResourceExt;
use serde_json::json;

use setup::{ADDRESS, COUNT, NODE, NodeSetup, metric};

/// What an agent requests: its Node and the ResourceSlices of that Node.
const NODES: &str = "/api/v1/nodes";
const SLICES: &str = "/apis/resource.k8s.io";
/// How long a refusal lasts: the agent retries after 1 s, 2 s and 4 s, and then after 8 s.
const SHORT: Duration = Duration::from_secs(5);
/// Longer than the agent's timeouts of a response and of a connection.
const LONG: Duration = Duration::from_secs(20);
/// The limit for the median scrape: well below the timeouts of requests to the API server.
const MEDIAN_SCRAPE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    Suite::new()
        .parallel(3)
        .test("refused_requests_are_counted_and_retried_with_back_off_and_change_no_label", refusals)
        .test("refused_writes_are_repeated_until_they_succeed", refused_writes)
        .test("a_busy_server_gets_no_request_before_its_retry_after", busy)
        .test("requests_that_hang_time_out", hanging)
        .test("the_agent_survives_reset_and_slow_connections", unsteady)
        .test("watches_that_end_at_once_or_expire_cause_no_hot_loop", watches)
        .main()
}

/// A labelled Node whose agent reaches the API server through the proxy.
struct ProxySetup {
    node_setup: NodeSetup,
    proxy: Proxy,
    agent: BedProcess,
    labels: BTreeMap<String, String>,
}

/// A fault, and the limits of the agent's reaction.
struct FaultTrial {
    scope: FaultScope,
    fault: Fault,
    lasts: Duration,
    /// The maximum number of requests for the Node during the fault. ResourceSlices have up to three per attempt.
    requests: usize,
    /// Verb and code under which it is counted.
    counted: Option<(&'static str, &'static str)>,
}

impl FaultTrial {
    fn refusal(
        scope: FaultScope,
        status: u16,
        reason: &str,
        counted: (&'static str, &'static str),
    ) -> FaultTrial {
        // At most a write and a watch and then three reads; or three times a read, a refused write and a watch, with a second read
        // and write where the Node seems to have changed.
        let requests = if scope == FaultScope::All { 6 } else { 18 };
        FaultTrial {
            scope,
            fault: Fault::error_response(status, reason),
            lasts: SHORT,
            requests,
            counted: Some(counted),
        }
    }
}

impl ProxySetup {
    async fn new() -> anyhow::Result<ProxySetup> {
        let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
        let proxy = Proxy::start(&setup.bed, Credentials::Administrator)?;
        let agent = setup.bed.process("afd", setup.agent(&proxy.kubeconfig(&json!({}))?))?;
        let labels = setup.until_label(COUNT, "8").await?.labels().clone();
        Ok(ProxySetup { node_setup: setup, proxy, agent, labels })
    }

    /// Restarts the agent and waits until it is idle.
    async fn restart(&mut self) -> anyhow::Result<()> {
        self.agent.kill()?;
        self.agent.restart()?;
        until("the agent watches its Node", async || {
            ensure!(counted(("watch", "200")) >= 2.0, "{} watches", counted(("watch", "200")));
            Ok(())
        })
        .await?;
        self.proxy.until_quiet().await
    }

    /// Restarts the agent and runs a trial. Another field manager changes a label of ours meanwhile, which the agent
    /// reverts after the fault.
    async fn run(&mut self, trial: FaultTrial) -> anyhow::Result<()> {
        let what = format!("{:?} of {:?}", trial.fault, trial.scope);
        self.restart().await.with_context(|| format!("before {what}"))?;
        self.run_without_restart(trial).await.context(what)
    }

    async fn run_without_restart(&self, trial: FaultTrial) -> anyhow::Result<()> {
        let start = Instant::now();
        self.proxy.fail(trial.scope, trial.fault);
        self.node_setup.overwrite_count().await?;
        until("the agent has sent requests", async || {
            let (nodes, slices) = (self.requests(NODES, start), self.requests(SLICES, start));
            ensure!(nodes >= 1 && slices >= 1, "{nodes} for the Node, {slices} for ResourceSlices");
            Ok(())
        })
        .await?;
        scrape_for(trial.lasts).await?;
        self.ensure_same_labels().await?;
        let (nodes, slices) = (self.requests(NODES, start), self.requests(SLICES, start));
        let asked = self.proxy.requests_since(start);
        ensure!(nodes <= trial.requests && slices <= 12, "{nodes} and {slices} requests: {asked:?}");
        if let Some(counted) = trial.counted {
            until_counted(counted, 1.0).await?;
        }
        self.until_recovered().await
    }

    /// Ends the fault, and waits until the agent has reverted the label.
    async fn until_recovered(&self) -> anyhow::Result<()> {
        self.proxy.recover();
        self.node_setup.until_label(COUNT, "8").await?;
        self.ensure_same_labels().await
    }

    /// The number of requests for an object since a time.
    fn requests(&self, object: &str, start: Instant) -> usize {
        self.proxy.requests_since(start).iter().filter(|asked| asked.path.starts_with(object)).count()
    }

    /// No label has another value, except the one that another field manager changes.
    async fn ensure_same_labels(&self) -> anyhow::Result<()> {
        let mut labels = self.node_setup.node().await?.labels().clone();
        let count = labels.insert(COUNT.to_owned(), "8".to_owned());
        ensure!(count.is_some_and(|count| ["8", "99"].contains(&count.as_str())), "{COUNT} is lost");
        ensure!(labels == self.labels, "labels changed from {:?} to {labels:?}", self.labels);
        Ok(())
    }
}

fn counted((verb, code): (&str, &str)) -> f64 {
    metric(&format!("afd_kubernetes_requests_total{{code=\"{code}\",verb=\"{verb}\"}}")).unwrap_or_default()
}

/// Waits until requests are counted, which takes a sample.
async fn until_counted(request: (&str, &str), times: f64) -> anyhow::Result<()> {
    until(&format!("{request:?} is counted {times} times"), async || {
        ensure!(counted(request) >= times, "it is counted {} times", counted(request));
        Ok(())
    })
    .await
}

/// Scrapes for a time: every response is complete, and the median is in time.
async fn scrape_for(time: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < time {
        let sent = Instant::now();
        let response = Agent::get_from(ADDRESS, "/metrics");
        times.push(sent.elapsed());
        let devices = response.text().matches("\naccelerator_device_info{").count();
        ensure!(response.status == 200 && devices == 8, "{} with {devices} devices", response.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    times.sort();
    let median = times[times.len() / 2];
    ensure!(median < MEDIAN_SCRAPE, "the median scrape took {median:?}");
    Ok(())
}

async fn refusals() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    for (status, reason, code) in [
        (401, "Unauthorized", "401"),
        (403, "Forbidden", "403"),
        (404, "NotFound", "404"),
        (500, "InternalError", "500"),
    ] {
        setup.run(FaultTrial::refusal(FaultScope::All, status, reason, ("get", code))).await?;
    }
    ensure!(setup.node_setup.nodes.get_opt(NODE).await?.is_some(), "the Node is gone");
    Ok(())
}

async fn refused_writes() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    for (status, reason, code) in [
        (409, "Conflict", "409"),
        (422, "Invalid", "422"),
        (403, "Forbidden", "403"),
        (500, "InternalError", "500"),
    ] {
        setup.run(FaultTrial::refusal(FaultScope::Writes, status, reason, ("apply", code))).await?;
    }
    // Labels can be written and the watch is refused: the agent still maintains the Node, by reading it now and then.
    setup.run(FaultTrial::refusal(FaultScope::Watches, 403, "Forbidden", ("watch", "403"))).await
}

async fn busy() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    setup.restart().await?;
    let retry_after = Duration::from_secs(4);
    let start = Instant::now();
    setup.proxy.fail(FaultScope::All, Fault::too_many_requests(4));
    scrape_for(retry_after * 3).await?;
    for object in [NODES, SLICES] {
        until(&format!("{object} is requested again"), async || {
            let requests = setup.proxy.ensure_spacing(object, start, retry_after)?;
            ensure!(requests >= 2, "{requests} requests");
            Ok(())
        })
        .await?;
    }
    until_counted(("get", "429"), 2.0).await?;
    setup.node_setup.overwrite_count().await?;
    setup.until_recovered().await
}

async fn hanging() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    let trial = |fault, counted| FaultTrial {
        scope: FaultScope::All,
        fault,
        lasts: LONG,
        requests: 3,
        counted: Some(counted),
    };
    setup.run(trial(Fault::NoResponse, ("get", "timeout"))).await?;
    // No request reaches the proxy.
    setup.restart().await?;
    setup.proxy.fail(FaultScope::All, Fault::NoHandshake);
    scrape_for(LONG).await?;
    until("the failure is counted", async || {
        let failures = counted(("get", "error")) + counted(("get", "timeout"));
        ensure!(failures >= 1.0, "{failures} failures");
        Ok(())
    })
    .await?;
    setup.node_setup.overwrite_count().await?;
    setup.until_recovered().await
}

async fn unsteady() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    let trial =
        |fault, counted| FaultTrial { scope: FaultScope::All, fault, lasts: SHORT, requests: 6, counted };
    setup.run(trial(Fault::Reset, Some(("get", "error")))).await?;
    // Slow, but successful: read, write, watch.
    setup.run(trial(Fault::Late(Duration::from_secs(2)), None)).await
}

async fn watches() -> anyhow::Result<()> {
    let mut setup = ProxySetup::new().await?;
    // Each attempt is a watch that ends and a read; the label that another manager changes costs a write or two.
    let trial = |fault, counted| FaultTrial {
        scope: FaultScope::Watches,
        fault,
        lasts: SHORT * 2,
        requests: 10,
        counted,
    };
    setup.run(trial(Fault::WatchBody(String::new()), Some(("watch", "200")))).await?;
    setup.run(trial(Fault::expired(), Some(("watch", "410")))).await?;
    setup.run(trial(Fault::WatchBody("{\"type\":\"MODI".to_owned()), Some(("watch", "200")))).await
}
