//! Many agents against one real API server: `afd-publish` maintains a Node for each of most of them in this process, with a client
//! for each, and the others are processes of the binary. A small number is a test; `cargo xtask bench --agents 5000` prints the
//! figures of a large one. The view of all Nodes (`afd nodes`) is tested here as well.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "many_agents/fleet.rs"]
mod fleet;
#[path = "many_agents/many_nodes.rs"]
mod many_nodes;
#[path = "many_agents/processes.rs"]
mod processes;
#[path = "many_agents/server_load.rs"]
mod server_load;
#[path = "many_agents/simulated.rs"]
mod simulated;

use std::{
    collections::BTreeMap,
    env, fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_model::{Condition, ConditionStatus, Decision};
use afd_publish::node::{DesiredCondition, DesiredNode};
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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use processes::AgentProcesses;
use server_load::ServerLoad;
use simulated::{SimulatedAgent, SimulatedAgents, TIMEOUT, since};

const FEW: usize = 50;
/// The variable with the number of agents of the large run.
const AGENTS: &str = "AFD_AGENTS";
/// The variable with the number of them that are processes; as many as memory allows, up to a tenth, if it is not set.
const PROCESSES: &str = "AFD_AGENT_PROCESSES";
const ACCOUNT: &str = "agent";
const COUNT: &str = "accelerator.llm-d.ai/count";
const DRIVER: &str = "accelerator.llm-d.ai/driver-version";
/// How long the idle agents are observed in the test.
const IDLE: Duration = Duration::from_secs(10);
/// The variable with the seconds for which the idle agents are observed in the large run.
const IDLE_SECONDS: &str = "AFD_IDLE_SECONDS";
/// After how long the server ends a watch.
const WATCH_SECONDS: u64 = 290;
/// Requests of a start: the Node, labels, condition, and the watch.
const START_REQUESTS: u64 = 4;
/// The shortest time between two writes, after the first two: that of the test, and the agent's default.
const WRITE_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .parallel(2)
        .test("fifty_agents_start_together_become_idle_and_follow_a_rollout", || {
            run(FEW, 1, IDLE, WRITE_INTERVALS[0])
        })
        .test("the_fleet_is_shown_and_its_manifests_are_accepted", fleet::shown)
        .on_request("many_agents", || async {
            let count = number(AGENTS)?;
            let processes = number(PROCESSES).or_else(|_| processes::affordable(count))?;
            run(count, processes, Duration::from_secs(number(IDLE_SECONDS)? as u64), WRITE_INTERVALS[1]).await
        })
        .on_request("many_nodes", many_nodes::measured_views)
        .main()
}

fn number(variable: &str) -> anyhow::Result<usize> {
    let value = env::var(variable).with_context(|| format!("{variable} is not set"))?;
    value.parse().with_context(|| format!("{variable} is not a number"))
}

/// Starts agents, of which some are processes, and measures their start, their rest, a restart of the API server and a change of
/// all drivers at once.
async fn run(count: usize, processes: usize, idle: Duration, interval: Duration) -> anyhow::Result<()> {
    // Each agent needs two connections, also at the API server.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).context("allowing more files")?;
    let mut bed = Bed::builder().start().await?;
    let config = agents_config(&bed).await?;
    let client = bed.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let created = stream::iter(0..count).map(async |number| create(&nodes, &name(number)).await);
    created.buffer_unordered(20).try_collect::<Vec<()>>().await?;
    let (all, simulated) = (count as u64, count - processes);

    let wanted = wanted();
    let (memory, load, begin) = (resident()?, ServerLoad::read(&client).await?, Instant::now());
    let start = |number| SimulatedAgent::start(config.clone(), name(number), wanted.clone(), interval);
    let agents = SimulatedAgents((0..simulated).map(start).collect::<anyhow::Result<_>>()?);
    let real = AgentProcesses::start(&bed, (simulated..count).map(name), interval)?;
    let started = agents.until_watches(begin, 1).await?;
    let grown = resident()?.saturating_sub(memory);
    real.until_written(&nodes).await?;
    until_labelled(&nodes, count, &wanted.labels.values[DRIVER], real.driver()).await?;
    let (requests, errors) = (agents.requests(), agents.errors());
    println!(
        "{count} agents, each with its own client, all started at once; {processes} of them are processes:"
    );
    println!(
        "  labels, condition and watch of all simulated ones after {started:.2?}, of all after {:.2?}",
        begin.elapsed()
    );
    println!("  requests: {requests:?}; refusals: {}; errors: {errors}", agents.refusals());
    println!("  API server: {}", ServerLoad::read(&client).await?.since(&load).per_agent(count));
    println!(
        "  memory: {:.0} KiB per simulated agent ({grown} KiB); processes: {}",
        grown as f64 / simulated as f64,
        real.memory()
    );
    // After a refusal an agent backs off and starts with a read.
    let max_requests = START_REQUESTS * simulated as u64 + 2 * errors;
    let written = agents.writes();
    // A write whose response came too late is found on the Node, and not repeated.
    ensure!(written == simulated as u64 || errors > 0 && written < simulated as u64, "{written} writes");
    ensure!(requests.values().sum::<u64>() <= max_requests, "{requests:?}");

    let (before, load) = (agents.requests(), ServerLoad::read(&client).await?);
    let (begin, errors_before) = (Instant::now(), agents.errors());
    tokio::time::sleep(idle).await;
    let while_idle = since(&agents.requests(), &before);
    let asked: u64 = while_idle.values().sum();
    let watches = (begin.elapsed().as_secs() / WATCH_SECONDS + 1) * simulated as u64;
    let failed = agents.errors() - errors_before;
    ensure!(agents.writes() == written, "{} writes while idle", agents.writes() - written);
    // Agents whose last request failed still make one.
    let late = 3 * errors;
    ensure!(asked <= watches + late + 2 * failed, "while idle: {while_idle:?}");
    println!("  idle for {idle:?}: {while_idle:?}; no write");
    println!("  API server: {}", ServerLoad::read(&client).await?.since(&load).per_agent(count));

    let before = agents.requests();
    bed.kill(Component::ApiServer)?;
    bed.restart(Component::ApiServer).await?;
    let back = agents.until_watches(Instant::now(), agents.watches() / simulated as u64 + 1).await?;
    ensure!(agents.writes() == written, "{} writes for {simulated} Nodes", agents.writes());
    until_labelled(&nodes, count, &wanted.labels.values[DRIVER], real.driver()).await?;
    println!("  API server killed and restarted: all watch again {back:.2?} after it was ready, no write;");
    println!("  requests since: {:?}", since(&agents.requests(), &before));
    // The counters of a new server begin at 0.
    println!("  API server: {}", ServerLoad::read(&client).await?.per_agent(count));

    let (before, load, begin) = (agents.requests(), ServerLoad::read(&client).await?, Instant::now());
    let applied = ("apply status".to_owned(), "200".to_owned());
    agents.want(&upgrading(&wanted));
    let done = agents.until_requests(&applied, before[&applied] + simulated as u64).await;
    println!(
        "  all drivers are being replaced, at once: {done} of {simulated} conditions after {:.2?}",
        begin.elapsed()
    );
    let changed = real.change_driver()?;
    let upgraded = upgraded(&wanted, &changed);
    agents.want(&upgraded);
    until_labelled(&nodes, count, &changed, &changed).await?;
    let took = begin.elapsed();
    let done = agents.until_requests(&applied, before[&applied] + 2 * simulated as u64).await;
    println!(
        "  another driver on all of them, at once: all labels {took:.2?} after the begin, {done} conditions {:.2?}",
        begin.elapsed()
    );
    let requests = since(&agents.requests(), &before);
    println!("  requests: {requests:?}");
    println!("  API server: {}", ServerLoad::read(&client).await?.since(&load).per_agent(count));
    let writes = agents.writes() - written;
    let has_late = agents.errors() > errors;
    ensure!(
        writes == simulated as u64 || has_late && writes <= all * 2,
        "{writes} writes for {simulated} Nodes"
    );
    Ok(())
}

/// The same Node while its driver is being replaced.
fn upgrading(wanted: &DesiredNode) -> DesiredNode {
    let state = Condition {
        status: ConditionStatus::Unknown,
        reason: "DriverUpgrade".to_owned(),
        message: "the driver is being replaced".to_owned(),
    };
    let mut upgrading = wanted.clone();
    upgrading.conditions[0].state = Decision::Decided(state);
    upgrading
}

/// The same Node with another driver.
fn upgraded(wanted: &DesiredNode, driver: &str) -> DesiredNode {
    let mut upgraded = wanted.clone();
    upgraded.labels.values.insert(DRIVER.to_owned(), driver.to_owned());
    upgraded
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

async fn create(nodes: &Api<Node>, name: &str) -> anyhow::Result<()> {
    let node = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
    nodes.create(&PostParams::default(), &node).await?;
    Ok(())
}

/// Waits until every Node is labelled so. An agent whose watch ended early has others, so that their number shows nothing of each Node.
async fn until_labelled(nodes: &Api<Node>, count: usize, simulated: &str, real: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        match labelled(nodes, count, simulated, real).await {
            Err(error) if begin.elapsed() > TIMEOUT => return Err(error.context("it takes too long")),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            Ok(()) => return Ok(()),
        }
    }
}

/// Fails unless every Node has eight devices and the driver of the simulated agents, or of the processes.
async fn labelled(nodes: &Api<Node>, count: usize, simulated: &str, real: &str) -> anyhow::Result<()> {
    let list = nodes.list_metadata(&ListParams::default()).await?;
    ensure!(list.items.len() == count, "{} Nodes", list.items.len());
    for node in list.items {
        let labels = node.metadata.labels.unwrap_or_default();
        let value = |key: &str| labels.get(key).map(String::as_str);
        let is_labelled = value(COUNT) == Some("8") && [Some(simulated), Some(real)].contains(&value(DRIVER));
        ensure!(is_labelled, "{:?} has {labels:?}", node.metadata.name);
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
