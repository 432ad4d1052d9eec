//! A Node with eight GPUs, the agent on it with short graces, and the witness of what the agent writes.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use afd_test_cluster::{BedProcess, KubernetesVersion, until};
use afd_tests::{agent::Agent, driver_root::FakeDriverRoot};
use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    setup::{ADDRESS, COUNT, NODE, NodeSetup, metric},
    witness::{NodeVersion, Witness},
};

pub(crate) const HEALTHY: &str = "accelerator.llm-d.ai/healthy";
pub(crate) const MEMORY: &str = "accelerator.llm-d.ai/memory-mib";
pub(crate) const EXPECTED: &str = "accelerator.llm-d.ai/expected";
pub(crate) const ALL_HEALTHY: &str = "True AllHealthy";
pub(crate) const NO_FAULT: &str = "False NoDeviceFault";
/// Calls of which each request of the agent makes at least one.
pub(crate) const ESSENTIAL_CALLS: [&str; 4] =
    ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates"];
/// The machine of the Node.
const SYSTEM_UUID: &str = "4c4c4544-0044-4210-8031-c2c04f4e4832";
const BOOT_ID: &str = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9";
/// How long nothing may be written until the agent counts as idle.
const IDLE: Duration = Duration::from_secs(3);

/// Graces in seconds, so that a sequence takes seconds. A test that waits for the end of one sets it.
const GRACES: [(&str, &str); 8] = [
    ("removal-grace", "5"),
    ("boot-removal-grace", "5"),
    ("library-start-grace", "60"),
    ("library-grace", "4"),
    ("driver-grace", "600"),
    ("fault-grace", "6"),
    ("fault-end-grace", "4"),
    ("learning-time", "1"),
];

/// A Node, its agent and the witness.
pub(crate) struct Scene {
    pub(crate) setup: NodeSetup,
    pub(crate) agent: BedProcess,
    pub(crate) witness: Witness,
}

/// A Node with eight GPUs whose machine is known.
pub(crate) async fn node() -> anyhow::Result<NodeSetup> {
    node_of("nvidia-h100x8-nvml").await
}

/// A Node whose host is a fixture, and whose machine is known.
pub(crate) async fn node_of(fixture: &str) -> anyhow::Result<NodeSetup> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, fixture).await?;
    let folder = setup.host.root().join("proc/sys/kernel/random");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("boot_id"), format!("{BOOT_ID}\n"))?;
    set_machine(&setup, SYSTEM_UUID, BOOT_ID).await?;
    Ok(setup)
}

/// Sets what the kubelet reports of the machine.
pub(crate) async fn set_machine(setup: &NodeSetup, uuid: &str, boot_id: &str) -> anyhow::Result<()> {
    let info = json!({ "systemUUID": uuid, "machineID": uuid, "bootID": boot_id });
    patch_status(setup, json!({ "nodeInfo": info })).await
}

/// Sets how many GPUs the device plugin offers.
pub(crate) async fn offer(setup: &NodeSetup, gpus: u32) -> anyhow::Result<()> {
    let offered = json!({ "nvidia.com/gpu": gpus.to_string() });
    patch_status(setup, json!({ "capacity": offered, "allocatable": offered })).await
}

async fn patch_status(setup: &NodeSetup, status: Value) -> anyhow::Result<()> {
    let kubelet = PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() };
    setup.nodes.patch_status(NODE, &kubelet, &Patch::Merge(json!({ "status": status }))).await?;
    Ok(())
}

/// The agent, with [`GRACES`] and others in their place.
pub(crate) fn command(setup: &NodeSetup, graces: &[(&'static str, &'static str)]) -> Command {
    let state = setup.bed.folder().join("state");
    fs::create_dir_all(&state).expect("a folder can be made");
    let mut command = setup.agent(&setup.bed.kubeconfig());
    let graces: BTreeMap<_, _> = GRACES.into_iter().chain(graces.iter().copied()).collect();
    for (name, seconds) in graces {
        command.arg(format!("--{name}={seconds}"));
    }
    command.arg("--state-dir").arg(state).arg("--control-socket").arg(control_socket(setup));
    command
}

/// The socket for an operator's requests.
pub(crate) fn control_socket(setup: &NodeSetup) -> PathBuf {
    setup.bed.folder().join("control.sock")
}

impl Scene {
    /// Starts the agent of a Node.
    pub(crate) async fn start(
        setup: NodeSetup,
        graces: &[(&'static str, &'static str)],
    ) -> anyhow::Result<Scene> {
        let witness = Witness::start(setup.nodes.clone(), NODE).await?;
        let agent = setup.bed.process("afd", command(&setup, graces))?;
        Ok(Scene { setup, agent, witness })
    }

    /// A Node on which all is well, and of which everything is written.
    pub(crate) async fn settled(graces: &[(&'static str, &'static str)]) -> anyhow::Result<Scene> {
        let scene = Scene::start(node().await?, graces).await?;
        scene.until_settled().await?;
        Ok(scene)
    }

    /// Waits until all is well, and everything is written.
    pub(crate) async fn until_settled(&self) -> anyhow::Result<()> {
        self.setup.until_label(COUNT, "8").await?;
        self.setup.until_label(HEALTHY, "8").await?;
        self.until_condition("Ready", ALL_HEALTHY).await?;
        self.until_condition("Problem", NO_FAULT).await?;
        until("the devices are learnt", async || {
            let node = self.now().await?;
            let expected = node.annotation(EXPECTED).context("there is no annotation")?;
            ensure!(expected.contains("\"n\":8"), "it is {expected}");
            Ok(())
        })
        .await?;
        self.until_idle().await
    }

    /// Waits until nothing has been written for some seconds.
    pub(crate) async fn until_idle(&self) -> anyhow::Result<()> {
        until("the Node is not written any more", async || {
            let before = self.witness.mark().await?;
            tokio::time::sleep(IDLE).await;
            let after = self.witness.mark().await?;
            ensure!(before == after, "it was written {} times", after - before);
            Ok(())
        })
        .await
    }

    /// The present version of the Node.
    pub(crate) async fn now(&self) -> anyhow::Result<NodeVersion> {
        Ok(NodeVersion::from(&self.setup.node().await?))
    }

    /// Waits until a condition has a status and reason; returns its message.
    pub(crate) async fn until_condition(&self, name: &str, expected: &str) -> anyhow::Result<String> {
        until(&format!("{name} is {expected}"), async || {
            let node = self.setup.node().await?;
            let now = NodeVersion::from(&node);
            ensure!(now.condition(name) == expected, "it is {}", now.condition(name));
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let own = conditions.into_iter().find(|own| own.type_ == format!("accelerator.llm-d.ai/{name}"));
            Ok(own.and_then(|condition| condition.message).unwrap_or_default())
        })
        .await
    }

    /// The driver root with the fake NVML.
    pub(crate) fn nvml(&self) -> &FakeDriverRoot {
        self.setup.host.driver_root()
    }

    /// Kills the agent and starts it again, as the kubelet does.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.agent.kill()?;
        self.agent.restart()
    }

    /// A command of an operator to the agent; what it prints.
    pub(crate) fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = afd_tests::afd(arguments.iter().copied());
        afd_test_cluster::succeed(command.arg("--control-socket").arg(control_socket(&self.setup)))
    }
}

/// Waits until this many GPUs have samples of NVML.
pub(crate) async fn until_sampled(gpus: usize) -> anyhow::Result<()> {
    until(&format!("{gpus} GPUs are sampled"), async || {
        let sampled = lines("accelerator_device_power_watts{").len();
        ensure!(sampled == gpus, "there are {sampled}");
        Ok(())
    })
    .await
}

/// Waits until a series has a value.
pub(crate) async fn until_metric(series: &str, value: f64) -> anyhow::Result<()> {
    until(&format!("{series} is {value}"), async || {
        ensure!(metric(series) == Some(value), "it is {:?}", metric(series));
        Ok(())
    })
    .await
}

/// The lines of `/metrics` that start with a prefix.
pub(crate) fn lines(prefix: &str) -> Vec<String> {
    // A starting agent does not accept connections yet.
    let Some(response) = Agent::try_get_from(ADDRESS, "/metrics") else { return Vec::new() };
    response.text().lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

/// The number of requests that change the Node, since the agent was started.
pub(crate) fn writes() -> f64 {
    let is_write = |line: &String| line.contains("verb=\"apply") || line.contains("verb=\"patch");
    let requests = lines("afd_kubernetes_requests_total{").into_iter().filter(is_write);
    requests.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Repeats an action at an interval, for a time.
pub(crate) async fn repeat(
    time: Duration,
    interval: Duration,
    mut action: impl AsyncFnMut(u32) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < time {
        action(number).await?;
        number += 1;
        tokio::time::sleep(interval).await;
    }
    Ok(())
}
