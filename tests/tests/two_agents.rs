//! Two agents on one machine: the second of the same Node waits until the first ends, by the real binary and a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "over_time/scene.rs"]
mod scene;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "kubernetes/setup.rs"]
mod setup;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "over_time/witness.rs"]
mod witness;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{BedProcess, Suite, until};
use afd_tests::agent::{Agent, library_process};
use anyhow::{Context, ensure};
use kube::ResourceExt;
use rustix::process::{Pid, Signal, kill_process};

use scene::{ALL_HEALTHY, NO_FAULT, Scene};
use setup::{ADDRESS, COUNT, NODE, NodeSetup};
use witness::NodeVersion;

const OTHER_ADDRESS: &str = "127.0.0.1:9110";
const OTHER_PREFIX: &str = "gpu.example.com";
const MANAGED_BY: &str = "accelerator.llm-d.ai/managed-by";
/// How long a waiting agent is observed.
const OBSERVED: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .parallel(2)
        .test("a_second_agent_waits_and_takes_over_without_a_wrong_version_of_the_node", other_port)
        .test("a_second_agent_with_the_same_port_and_another_prefix_waits_for_both", same_port)
        .test("agents_off_the_hosts_network_lock_a_folder_of_the_host", folder)
        .test("agents_of_other_nodes_or_without_a_cluster_do_not_wait", independent)
        .main()
}

/// A further agent of the same Node and host, which takes no part in the scene's files.
fn further(setup: &NodeSetup, name: &str, address: &str, more: &[&str]) -> anyhow::Result<BedProcess> {
    let mut command = setup.host.afd(["run", "--node-name", NODE, "--start-spread", "0"]);
    command.args(["--sample-interval", "0.2", "--discovery-interval", "0.5", "--write-interval", "0.1"]);
    command.args(["--library-start-grace", "60", "--learning-time", "1", "--listen", address]);
    command.args(["--managed-by", "afd/second", "--kubeconfig"]).arg(setup.bed.kubeconfig()).args(more);
    setup.bed.process(name, command)
}

fn status(address: &str, path: &str) -> Option<u16> {
    Some(Agent::try_get_from(address, path)?.status)
}

async fn until_status(address: &str, path: &str, expected: u16) -> anyhow::Result<()> {
    until(&format!("{path} at {address} answers {expected}"), async || {
        let status = status(address, path);
        ensure!(status == Some(expected), "it is {status:?}");
        Ok(())
    })
    .await
}

async fn until_logged(agent: &BedProcess, text: &str) -> anyhow::Result<()> {
    until(&format!("the agent logs {text:?}"), async || {
        ensure!(agent.tail().contains(text), "{}", agent.tail());
        Ok(())
    })
    .await
}

fn terminate(agent: &BedProcess) -> anyhow::Result<()> {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw).context("a process has an id")?;
    kill_process(pid, Signal::TERM).context("ending an agent")
}

async fn until_ended(agent: &mut BedProcess) -> anyhow::Result<()> {
    until("the agent ends", async || {
        let status = agent.ended()?.context("it runs")?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    })
    .await
}

/// The first agent is killed. The second has taken part in nothing until then, and changes nothing then.
async fn other_port() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let second = further(&scene.setup, "second", OTHER_ADDRESS, &[])?;
    until_logged(&second, "another agent keeps this Node").await?;
    until_logged(&second, &format!("listening on {ADDRESS}")).await?;
    until_status(OTHER_ADDRESS, "/healthz", 200).await?;
    let start = Instant::now();
    while start.elapsed() < OBSERVED {
        ensure!(status(OTHER_ADDRESS, "/healthz") == Some(200), "it would be killed");
        ensure!(status(OTHER_ADDRESS, "/readyz") == Some(503), "it is ready");
        ensure!(library_process(second.pid()).is_none(), "it has a library's process");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.witness.since(mark).await?.ensure_unwritten().context("while it waits")?;
    ensure!(library_process(scene.agent.pid()).is_some(), "the first one has no library's process");

    scene.agent.kill()?;
    let killed = Instant::now();
    until_status(OTHER_ADDRESS, "/readyz", 200).await?;
    ensure!(killed.elapsed() < Duration::from_secs(30), "it took over after {:?}", killed.elapsed());
    scene.setup.overwrite_count().await?;
    scene.setup.until_label(COUNT, "8").await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[COUNT])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])?;
    ensure!(history.last().annotation(MANAGED_BY) == Some("afd/second"), "{history:?}");

    // Without a cluster, a restart of the first one waits in turn.
    scene.agent.restart()?;
    until_logged(&scene.agent, "release afd/second").await
}

/// The first agent is ended. The second has another prefix, so that everything is moved.
async fn same_port() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let other_prefix = ["--label-prefix", OTHER_PREFIX];
    let mut waiting = further(&scene.setup, "second", ADDRESS, &other_prefix)?;
    until_logged(&waiting, "not serving while waiting").await?;
    tokio::time::sleep(OBSERVED).await;
    scene.witness.since(mark).await?.ensure_unwritten().context("while it waits")?;
    // A waiting agent ends at once.
    terminate(&waiting)?;
    until_ended(&mut waiting).await?;
    waiting.restart()?;
    until("it waits again", async || {
        ensure!(waiting.tail().matches("not serving while waiting").count() == 2, "{}", waiting.tail());
        Ok(())
    })
    .await?;

    terminate(&scene.agent)?;
    until_ended(&mut scene.agent).await?;
    until_status(ADDRESS, "/readyz", 200).await?;
    scene.setup.until_label(&format!("{OTHER_PREFIX}/healthy"), "8").await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_no_flapping(&[])?;
    let node = scene.setup.node().await?;
    let old = node.labels().keys().chain(node.annotations().keys());
    let old: Vec<_> = old.filter(|key| key.starts_with("accelerator.llm-d.ai/")).collect();
    ensure!(old.is_empty(), "{old:?} are left");
    ensure!(node.labels()["nvidia.com/gpu.count"] == "8", "{:?}", node.labels());
    ensure!(NodeVersion::from(&node).condition("Ready") == "none", "the old condition is left");
    Ok(())
}

async fn folder() -> anyhow::Result<()> {
    let mut scene = Scene::start(scene::node().await?, &[]).await?;
    scene.until_settled().await?;
    // The first agent of the scene has a socket. These two do not see it.
    scene.agent.kill()?;
    let lock = ["--node-lock", "file"];
    let mut first = further(&scene.setup, "first", OTHER_ADDRESS, &lock)?;
    until_status(OTHER_ADDRESS, "/readyz", 200).await?;
    scene.until_idle().await?;
    let mark = scene.witness.mark().await?;
    let third = "127.0.0.1:9111";
    let second = further(&scene.setup, "second", third, &lock)?;
    until_status(third, "/readyz", 503).await?;
    tokio::time::sleep(OBSERVED).await;
    let logged = second.tail().matches("another agent on this machine holds the lock").count();
    ensure!(logged == 1, "it is logged {logged} times: {}", second.tail());
    ensure!(status(third, "/readyz") == Some(503) && status(third, "/healthz") == Some(200));
    first.kill()?;
    until_status(third, "/readyz", 200).await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()
}

async fn independent() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let host = &scene.setup.host;
    let mut agents = Vec::new();
    for (number, more) in [
        &["--node-name", "other-node", "--kubeconfig"][..],
        &["--node-name", NODE, "--no-kubernetes"],
        &["--node-name", NODE, "--no-kubernetes"],
    ]
    .into_iter()
    .enumerate()
    {
        let address = format!("127.0.0.1:{}", 9120 + number);
        let mut command = host.afd(["run", "--start-spread", "0", "--listen", &address]);
        command.args(more);
        if more.contains(&"--kubeconfig") {
            command.arg(scene.setup.bed.kubeconfig());
        }
        agents.push(scene.setup.bed.process(&format!("afd-{number}"), command)?);
        until_status(&address, "/readyz", 200).await?;
    }
    Ok(())
}
