//! Tokens that are rotated and revoked, also after the clock has jumped: the real binary and a real API server, which receives
//! the agent's own token.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "kubernetes/setup.rs"]
mod setup;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant, SystemTime},
};

use afd_test_cluster::{
    Bed, BedProcess, KubernetesVersion, Suite,
    proxy::{Credentials, Proxy},
    succeed, until,
};
use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, Config, ResourceExt, config::Kubeconfig};
use serde_json::json;

use setup::{COUNT, NODE, NodeSetup, metric};

const ACCOUNT: &str = "agent";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_clock();
    Suite::new()
        .test("a_rotated_token_is_used_at_once", token_rotation)
        .test("a_clock_that_jumps_changes_no_label_and_keeps_no_old_token", clock_jumps)
        .main()
}

/// A Node whose agent has the token of a service account.
struct TokenSetup {
    setup: NodeSetup,
    proxy: Proxy,
    token: PathBuf,
    _agent: BedProcess,
}

impl TokenSetup {
    async fn new() -> anyhow::Result<TokenSetup> {
        TokenSetup::with(|_, command| command).await
    }

    /// With a changed command of the agent.
    async fn with(change: impl FnOnce(&Bed, Command) -> Command) -> anyhow::Result<TokenSetup> {
        let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
        let account = format!("--serviceaccount=default:{ACCOUNT}");
        kubectl(&setup.bed, &["create", "serviceaccount", ACCOUNT])?;
        kubectl(
            &setup.bed,
            &[
                "create",
                "clusterrole",
                ACCOUNT,
                "--resource=nodes,nodes/status,resourceslices.resource.k8s.io",
                "--verb=get,list,watch,patch",
            ],
        )?;
        kubectl(&setup.bed, &["create", "clusterrolebinding", ACCOUNT, "--clusterrole", ACCOUNT, &account])?;
        let token = setup.bed.folder().join("token");
        replace(&token, &bound_token(&setup.bed, "first")?)?;
        let proxy = Proxy::start(&setup.bed, Credentials::AsSent)?;
        let agent = setup.agent(&proxy.kubeconfig(&json!({ "tokenFile": token }))?);
        let agent = setup.bed.process("afd", change(&setup.bed, agent))?;
        setup.until_label(COUNT, "8").await?;
        Ok(TokenSetup { setup, proxy, token, _agent: agent })
    }

    /// Waits until the agent has reverted a change by another field manager.
    async fn until_reverted(&self) -> anyhow::Result<()> {
        self.setup.overwrite_count().await?;
        self.setup.until_label(COUNT, "8").await.map(drop)
    }
}

fn kubectl(bed: &Bed, arguments: &[&str]) -> anyhow::Result<String> {
    succeed(bed.kubectl()?.args(arguments))
}

/// A token that is valid while a Secret exists.
fn bound_token(bed: &Bed, secret: &str) -> anyhow::Result<String> {
    kubectl(bed, &["create", "secret", "generic", secret])?;
    let bound = ["--bound-object-kind", "Secret", "--bound-object-name", secret];
    let token = kubectl(bed, &[["create", "token", ACCOUNT].as_slice(), &bound].concat())?;
    Ok(token.trim().to_owned())
}

/// Replaces a file atomically, as the kubelet does with tokens.
fn replace(file: &Path, content: &str) -> anyhow::Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, content)?;
    Ok(fs::rename(next, file)?)
}

/// A client of the real API server with a token.
async fn with_token(bed: &Bed, token: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(bed.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    config.auth_info = serde_json::from_value(json!({ "token": token }))?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

impl TokenSetup {
    /// Rotates the token and waits until the old one is refused. The agent must send no request with it from then on.
    async fn rotate(&self) -> anyhow::Result<()> {
        let bed = &self.setup.bed;
        let first = fs::read_to_string(&self.token)?;
        let second = bound_token(bed, "second")?;
        replace(&self.token, &second)?;
        let replaced = Instant::now();
        kubectl(bed, &["delete", "secret", "first"])?;
        until_refused(bed, &first).await?;
        self.until_reverted().await?;
        // Also on a new connection.
        self.proxy.close_connections();
        self.until_reverted().await?;
        let asked = self.proxy.requests_since(replaced);
        let expected = format!("Bearer {second}");
        ensure!(!asked.is_empty(), "there was no request");
        for request in asked {
            ensure!(request.authorization.as_deref() == Some(&expected), "{request:?} has another token");
        }
        Ok(())
    }
}

/// Waits until the API server refuses a token.
async fn until_refused(bed: &Bed, token: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(with_token(bed, token).await?);
    until("the token is refused", async || match nodes.get(NODE).await {
        Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
        other => bail!("{other:?}"),
    })
    .await
}

async fn token_rotation() -> anyhow::Result<()> {
    TokenSetup::new().await?.rotate().await
}

/// Deadlines, back-offs and intervals use a monotonic clock; the time of a sample and of a condition is wall-clock time.
async fn clock_jumps() -> anyhow::Result<()> {
    const DAY: i64 = 24 * 3600;
    let file = |bed: &Bed| bed.folder().join("clock");
    let rotation = TokenSetup::with(|bed, mut command| {
        command.env("LD_PRELOAD", afd_tests::fake_clock()).env("AFD_FAKE_CLOCK", file(bed));
        command
    })
    .await?;
    until("the agent watches its Node", async || {
        let watches = metric("afd_kubernetes_requests_total{code=\"200\",verb=\"watch\"}");
        ensure!(watches >= Some(2.0), "{watches:?} watches");
        Ok(())
    })
    .await?;
    rotation.proxy.until_quiet().await?;
    let (start, before) = (Instant::now(), rotation.setup.node().await?);
    for ahead in [DAY, 3650 * DAY, -DAY] {
        replace(&file(&rotation.setup.bed), &ahead.to_string())?;
        until("the time of a sample follows the clock", async || {
            let sampled = metric("afd_last_sample_timestamp_seconds{probe=\"gaudi\",source=\"kernel\"}")
                .context("no sample")?;
            let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64() + ahead as f64;
            ensure!((now - sampled).abs() < 60.0, "sampled at {sampled}, and it is {now}");
            Ok(())
        })
        .await?;
        // Time in which a deadline or back-off on the wall clock would expire.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let after = rotation.setup.node().await?;
    ensure!(after.resource_version() == before.resource_version(), "the Node was written");
    let asked = rotation.proxy.requests_since(start);
    ensure!(asked.is_empty(), "{asked:?}");
    // The clock has just gone back by ten years.
    rotation.rotate().await?;
    ensure!(rotation.setup.node().await?.labels() == before.labels(), "labels changed");
    Ok(())
}
