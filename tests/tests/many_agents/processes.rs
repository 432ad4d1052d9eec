//! Agents that are processes of the binary, each on its own Node and all on the files of one host.

use std::{fs, path::Path, time::Duration};

use afd_test_cluster::{Bed, BedProcess, until};
use afd_tests::fixture::{Fixture, FixtureHost};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

/// A host with eight devices, of which the kernel alone reports.
const HOST: &str = "nvidia-h100x8";
const VERSION: &str = "sys/module/nvidia/version";
const DRIVER: &str = "580.105.08";
const OTHER_DRIVER: &str = "590.10.01";
const FIRST_PORT: usize = 20_000;
/// What is left to the API server, etcd and the simulated agents.
const RESERVED_KIB: u64 = 8 << 20;
/// Of one process, with its part of the page cache.
const PROCESS_KIB: u64 = 16 << 10;

/// Running agents; they are killed when the value is dropped.
pub(crate) struct AgentProcesses {
    host: FixtureHost,
    processes: Vec<BedProcess>,
    names: Vec<String>,
}

/// How many processes the memory of this machine allows, up to a tenth of all agents.
pub(crate) fn affordable(agents: usize) -> anyhow::Result<usize> {
    let available = kibibytes(Path::new("/proc/meminfo"), "MemAvailable:")?;
    Ok(usize::try_from(available.saturating_sub(RESERVED_KIB) / PROCESS_KIB)?.min(agents / 10))
}

impl AgentProcesses {
    pub(crate) fn start(
        bed: &Bed,
        names: impl Iterator<Item = String>,
        interval: Duration,
    ) -> anyhow::Result<AgentProcesses> {
        let host = Fixture::named(HOST).without_library().copy();
        let mut agents = AgentProcesses { host, processes: Vec::new(), names: names.collect() };
        for (number, name) in agents.names.iter().enumerate() {
            let listen = format!("127.0.0.1:{}", FIRST_PORT + number);
            let mut command =
                agents.host.afd(["run", "--no-libraries", "--node-name", name, "--listen", &listen]);
            command.args(["--discovery-interval", "10", "--start-spread", "10", "--write-interval"]);
            command.arg(interval.as_secs_f64().to_string()).arg("--kubeconfig").arg(bed.kubeconfig());
            command.env("AFD_LOG", "warn");
            agents.processes.push(bed.process(&format!("afd-{number}"), command)?);
        }
        Ok(agents)
    }

    /// The driver of their host at first.
    pub(crate) fn driver(&self) -> &'static str {
        DRIVER
    }

    /// Loads another driver on their host, and returns its version.
    pub(crate) fn change_driver(&self) -> anyhow::Result<String> {
        fs::write(self.host.root().join(VERSION), format!("{OTHER_DRIVER}\n"))
            .context("writing the version")?;
        Ok(OTHER_DRIVER.to_owned())
    }

    /// Waits until all have written their Nodes, conditions included.
    pub(crate) async fn until_written(&self, nodes: &Api<Node>) -> anyhow::Result<()> {
        for name in &self.names {
            until(&format!("{name} has its condition"), async || {
                let node = nodes.get(name).await?;
                let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                ensure!(
                    conditions.iter().any(|own| own.type_ == "accelerator.llm-d.ai/Problem"),
                    "{conditions:?}"
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Their memory, as text.
    pub(crate) fn memory(&self) -> String {
        let of = |field: &str| -> u64 {
            let read = |process: &BedProcess| {
                kibibytes(Path::new(&format!("/proc/{}/status", process.pid())), field).unwrap_or_default()
            };
            self.processes.iter().map(read).sum::<u64>() / (self.processes.len().max(1) as u64)
        };
        format!("{} KiB resident each, {} KiB of it private", of("VmRSS:"), of("RssAnon:"))
    }
}

/// A number of KiB in a file of /proc.
fn kibibytes(file: &Path, field: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    Ok(line.with_context(|| format!("the kernel reports no {field}"))?.parse()?)
}
