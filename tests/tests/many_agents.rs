//! Many agents against one real API server, in one process: `afd-publish` maintains a Node for each of them, with a client for
//! each. A small number is a test; `cargo xtask bench --agents 1000` prints the figures of a large one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_apiserver::ApiCalls;
use afd_model::{Condition, ConditionStatus, Decision};
use afd_publish::node::{
    self, DesiredCondition, DesiredNode, NodeCounters, NodeObserver, NodeSettings, WriteLimits,
};
use afd_test_cluster::{Bed, Component, Suite, succeed};
use afd_tests::{fixture::Fixture, stdout};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Config,
    api::{ListParams, PostParams},
    config::Kubeconfig,
};
use prometheus::{IntCounter, IntCounterVec, Opts};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::watch;

const FEW: usize = 50;
/// The variable with the number of agents of the large run.
const AGENTS: &str = "AFD_AGENTS";
const ACCOUNT: &str = "agent";
const COUNT: &str = "accelerator.llm-d.ai/count";
/// How long to wait for all agents together.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long the idle agents are observed in the test.
const IDLE: Duration = Duration::from_secs(10);
/// The variable with the seconds for which the idle agents are observed in the large run.
const IDLE_SECONDS: &str = "AFD_IDLE_SECONDS";
/// After how long the server ends a watch.
const WATCH_SECONDS: u64 = 290;
/// Requests of a start: the Node, labels, condition, and the watch.
const START_REQUESTS: u64 = 4;

fn main() -> ExitCode {
    afd_tests::binary();
    Suite::new()
        .test("fifty_agents_start_together_and_become_idle", || run(FEW, IDLE))
        .on_request("many_agents", || async {
            run(number(AGENTS)?, Duration::from_secs(number(IDLE_SECONDS)? as u64)).await
        })
        .main()
}

fn number(variable: &str) -> anyhow::Result<usize> {
    let value = env::var(variable).with_context(|| format!("{variable} is not set"))?;
    value.parse().with_context(|| format!("{variable} is not a number"))
}

/// An agent as the API server sees it.
struct SimulatedAgent {
    /// Kept open: the agent stops when it is closed.
    _want: watch::Sender<Option<DesiredNode>>,
    requests: IntCounterVec,
    writes: IntCounter,
}

impl SimulatedAgent {
    fn start(config: Config, name: String, wanted: DesiredNode) -> anyhow::Result<SimulatedAgent> {
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
        let settings = NodeSettings { name, prefix, limits: WriteLimits::default() };
        tokio::spawn(node::reconcile(client, settings, counters, wanted, observer));
        Ok(SimulatedAgent { _want: want, requests, writes })
    }

    /// Requests so far, by verb and code.
    fn requests(&self) -> BTreeMap<(String, String), u64> {
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
struct SimulatedAgents(Vec<SimulatedAgent>);

impl SimulatedAgents {
    fn requests(&self) -> BTreeMap<(String, String), u64> {
        self.0.iter().flat_map(SimulatedAgent::requests).fold(BTreeMap::new(), |mut all, (key, count)| {
            *all.entry(key).or_default() += count;
            all
        })
    }

    fn watches(&self) -> u64 {
        self.requests().get(&("watch".to_owned(), "200".to_owned())).copied().unwrap_or_default()
    }

    fn writes(&self) -> u64 {
        self.0.iter().map(|agent| agent.writes.get()).sum()
    }

    fn errors(&self) -> u64 {
        self.requests().iter().filter(|((_, code), _)| code != "200").map(|(_, count)| count).sum()
    }

    /// Waits until each of them has started a number of watches; how long that took.
    async fn until_watches(&self, start: Instant, each: u64) -> anyhow::Result<Duration> {
        let all = self.0.len() as u64 * each;
        while self.watches() < all {
            ensure!(start.elapsed() < TIMEOUT, "{} of {all} watches: {:?}", self.watches(), self.requests());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(start.elapsed())
    }
}

async fn run(count: usize, idle: Duration) -> anyhow::Result<()> {
    // Each agent needs two connections, also at the API server.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).context("allowing more files")?;
    let mut bed = Bed::builder().start().await?;
    let config = agents_config(&bed).await?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    let created = stream::iter(0..count).map(async |number| create(&nodes, &name(number)).await);
    created.buffer_unordered(20).try_collect::<Vec<()>>().await?;

    let wanted = wanted();
    let (memory, begin) = (resident()?, Instant::now());
    let start = |number| SimulatedAgent::start(config.clone(), name(number), wanted.clone());
    let agents = SimulatedAgents((0..count).map(start).collect::<anyhow::Result<_>>()?);
    let started = agents.until_watches(begin, 1).await?;
    let grown = resident()?.saturating_sub(memory);
    let (requests, errors) = (agents.requests(), agents.errors());
    labelled(&nodes, count, &wanted).await?;
    println!("{count} agents, each with its own client, all started at once:");
    println!("  labels, condition and watch of all after {started:.2?}");
    println!("  requests: {requests:?}; errors: {errors}");
    println!("  memory: {:.0} KiB per agent ({grown} KiB)", grown as f64 / count as f64);
    let all = count as u64;
    // After a refusal an agent backs off and starts with a read.
    let max_requests = START_REQUESTS * all + 2 * errors;
    ensure!(agents.writes() == all && requests.values().sum::<u64>() <= max_requests, "{requests:?}");

    let before = agents.requests();
    tokio::time::sleep(idle).await;
    let while_idle = since(&agents.requests(), &before);
    let asked: u64 = while_idle.values().sum();
    let watches = idle.as_secs() / WATCH_SECONDS;
    ensure!(agents.writes() == all, "{} writes while idle", agents.writes() - all);
    ensure!(asked <= watches * all && asked == agents.watches() - all, "while idle: {while_idle:?}");
    println!("  idle for {idle:?}: {asked} requests, all of them watches; no write");

    bed.kill(Component::ApiServer)?;
    bed.restart(Component::ApiServer).await?;
    let back = agents.until_watches(Instant::now(), agents.watches() / all + 1).await?;
    ensure!(agents.writes() == all, "{} writes for {all} Nodes", agents.writes());
    labelled(&nodes, count, &wanted).await?;
    println!("  API server killed and restarted: all watch again {back:.2?} after it was ready, no write;");
    println!("  requests since: {:?}", since(&agents.requests(), &before));
    Ok(())
}

fn since(
    now: &BTreeMap<(String, String), u64>,
    before: &BTreeMap<(String, String), u64>,
) -> BTreeMap<(String, String), u64> {
    now.iter().map(|(key, count)| (key.clone(), count - before.get(key).unwrap_or(&0))).collect()
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

async fn create(nodes: &Api<Node>, name: &str) -> anyhow::Result<()> {
    let node = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    nodes.create(&PostParams::default(), &node).await?;
    Ok(())
}

/// Fails unless every Node has all labels.
async fn labelled(nodes: &Api<Node>, count: usize, wanted: &DesiredNode) -> anyhow::Result<()> {
    let list = nodes.list_metadata(&ListParams::default()).await?;
    ensure!(list.items.len() == count, "{} Nodes", list.items.len());
    for node in list.items {
        ensure!(node.metadata.labels.as_ref() == Some(&wanted.labels.values), "{:?}", node.metadata);
    }
    Ok(())
}

/// A configuration with the token of a service account: priority and fairness apply to it, but not to administrators.
async fn agents_config(bed: &Bed) -> anyhow::Result<Config> {
    let kubectl = |arguments: &[&str]| -> anyhow::Result<String> { succeed(bed.kubectl()?.args(arguments)) };
    let account = format!("--serviceaccount=default:{ACCOUNT}");
    kubectl(&["create", "serviceaccount", ACCOUNT])?;
    kubectl(&[
        "create",
        "clusterrole",
        ACCOUNT,
        "--resource=nodes,nodes/status",
        "--verb=get,list,watch,patch",
    ])?;
    kubectl(&["create", "clusterrolebinding", ACCOUNT, "--clusterrole", ACCOUNT, &account])?;
    let token = bed.folder().join("token");
    fs::write(&token, kubectl(&["create", "token", ACCOUNT])?)?;
    let kubeconfig = Kubeconfig::read_from(bed.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    config.auth_info = serde_json::from_value(json!({ "tokenFile": token }))?;
    Ok(config)
}

/// The metadata of a Node with eight devices: labels as `afd show` prints them, and an annotation of a realistic size.
fn wanted() -> DesiredNode {
    let host = Fixture::named("gaudi2-x8").lay_out();
    let labels = stdout(&mut host.afd(["show", "--output", "labels"]));
    let labels: BTreeMap<String, String> = labels
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(labels[COUNT], "8", "the fixture has eight devices");
    let ready = Condition {
        status: ConditionStatus::True,
        reason: "AllHealthy".to_owned(),
        message: "8 of 8 accelerators can take work".to_owned(),
    };
    let ready =
        DesiredCondition { kind: "accelerator.llm-d.ai/Ready".to_owned(), state: Decision::Decided(ready) };
    let annotations = BTreeMap::from([("accelerator.llm-d.ai/report".to_owned(), "device ".repeat(300))]);
    DesiredNode {
        labels: labels.into(),
        annotations: annotations.into(),
        conditions: vec![ready],
        inherits: true,
        ..DesiredNode::default()
    }
}

/// Memory of this process in KiB (`VmRSS`, `Documentation/filesystems/proc.rst`).
fn resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(line.context("the kernel reports no VmRSS")?.parse()?)
}
