//! Tokens that are replaced and revoked, also when the clock has jumped: by the real binary and a real API server, which sees
//! the agent's own token.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "kubernetes/scene.rs"]
mod scene;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant, SystemTime},
};

use afd_test_cluster::{
    Bed, Process, Suite, Version,
    proxy::{Credentials, Proxy},
    succeed, until,
};
use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, Config, ResourceExt, config::Kubeconfig};
use serde_json::json;

use scene::{COUNT, NODE, Scene, metric};

const ACCOUNT: &str = "agent";

fn main() -> ExitCode {
    // Built before the bed, which has no way to the registry.
    afd_tests::binary();
    afd_tests::fake_clock();
    Suite::new()
        .test("a_token_that_is_replaced_is_used_at_once", token_rotation)
        .test("a_clock_that_jumps_moves_no_label_and_keeps_no_old_token", clock_jumps)
        .main()
}

/// A Node that is labelled by an agent with a service account's token.
struct Tokened {
    scene: Scene,
    proxy: Proxy,
    token: PathBuf,
    _agent: Process,
}

impl Tokened {
    async fn new() -> anyhow::Result<Tokened> {
        Tokened::with(|_, command| command).await
    }

    /// With an agent that is started otherwise.
    async fn with(otherwise: impl FnOnce(&Bed, Command) -> Command) -> anyhow::Result<Tokened> {
        let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
        let account = format!("--serviceaccount=default:{ACCOUNT}");
        kubectl(&scene.bed, &["create", "serviceaccount", ACCOUNT])?;
        kubectl(
            &scene.bed,
            &[
                "create",
                "clusterrole",
                ACCOUNT,
                "--resource=nodes,nodes/status,resourceslices.resource.k8s.io",
                "--verb=get,list,watch,patch",
            ],
        )?;
        kubectl(&scene.bed, &["create", "clusterrolebinding", ACCOUNT, "--clusterrole", ACCOUNT, &account])?;
        let token = scene.bed.folder().join("token");
        replace(&token, &bound_token(&scene.bed, "first")?)?;
        let proxy = Proxy::start(&scene.bed, Credentials::AsSent)?;
        let agent = scene.agent(&proxy.kubeconfig(&json!({ "tokenFile": token }))?);
        let agent = scene.bed.process("afd", otherwise(&scene.bed, agent))?;
        scene.until_label(COUNT, "8").await?;
        Ok(Tokened { scene, proxy, token, _agent: agent })
    }

    async fn put_right(&self) -> anyhow::Result<()> {
        self.scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99" } } })).await?;
        self.scene.until_label(COUNT, "8").await.map(drop)
    }
}

fn kubectl(bed: &Bed, arguments: &[&str]) -> anyhow::Result<String> {
    succeed(bed.kubectl()?.args(arguments))
}

/// A token that is good for as long as a Secret is there.
fn bound_token(bed: &Bed, secret: &str) -> anyhow::Result<String> {
    kubectl(bed, &["create", "secret", "generic", secret])?;
    let bound = ["--bound-object-kind", "Secret", "--bound-object-name", secret];
    let token = kubectl(bed, &[["create", "token", ACCOUNT].as_slice(), &bound].concat())?;
    Ok(token.trim().to_owned())
}

/// Replaces a file at once, as the kubelet does with tokens.
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

impl Tokened {
    /// Replaces the token, and waits until the old one is refused. No request with it may come from then on.
    async fn rotate(&self) -> anyhow::Result<()> {
        let bed = &self.scene.bed;
        let first = fs::read_to_string(&self.token)?;
        let second = bound_token(bed, "second")?;
        replace(&self.token, &second)?;
        let replaced = Instant::now();
        kubectl(bed, &["delete", "secret", "first"])?;
        until_refused(bed, &first).await?;
        self.put_right().await?;
        // Also on a new connection.
        self.proxy.cut();
        self.put_right().await?;
        let asked = self.proxy.asked_since(replaced);
        let expected = format!("Bearer {second}");
        ensure!(!asked.is_empty(), "nothing was asked");
        for request in asked {
            ensure!(request.authorization.as_deref() == Some(&expected), "{request:?} has another token");
        }
        Ok(())
    }
}

/// Waits until who comes with a token is refused.
async fn until_refused(bed: &Bed, token: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(with_token(bed, token).await?);
    until("the token is refused", async || match nodes.get(NODE).await {
        Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
        other => bail!("{other:?}"),
    })
    .await
}

async fn token_rotation() -> anyhow::Result<()> {
    Tokened::new().await?.rotate().await
}

/// Deadlines, rests and looks go by clocks that do not jump; the time of a sample and of a condition is what the clock says.
async fn clock_jumps() -> anyhow::Result<()> {
    const DAY: i64 = 24 * 3600;
    let file = |bed: &Bed| bed.folder().join("clock");
    let tokened = Tokened::with(|bed, mut command| {
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
    tokened.proxy.until_quiet().await?;
    let (begun, before) = (Instant::now(), tokened.scene.node().await?);
    for ahead in [DAY, 3650 * DAY, -DAY] {
        replace(&file(&tokened.scene.bed), &ahead.to_string())?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let sampled = metric("afd_last_sample_timestamp_seconds{probe=\"gaudi\"}").context("no sample")?;
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64() + ahead as f64;
        ensure!((now - sampled).abs() < 10.0, "sampled at {sampled}, and it is {now}");
    }
    let after = tokened.scene.node().await?;
    ensure!(after.resource_version() == before.resource_version(), "the Node was written");
    let asked = tokened.proxy.asked_since(begun);
    ensure!(asked.is_empty(), "{asked:?}");
    // The clock has just gone back by ten years.
    tokened.rotate().await?;
    ensure!(tokened.scene.node().await?.labels() == before.labels(), "labels moved");
    Ok(())
}
