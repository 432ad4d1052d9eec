//! Tokens of Kubernetes as credentials of the metrics port (`--kubernetes-auth`): the real binary with the rights of the chart, and a
//! real API server that reviews the tokens.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "web_config/authority.rs"]
mod authority;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::Arc,
};

use afd_test_cluster::{Bed, KubernetesVersion, Suite, succeed, until};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
    workspace,
};
use anyhow::{Context, ensure};
use kube::config::Kubeconfig;
use serde_json::json;
use tokio_rustls::rustls::ClientConfig;

use authority::{TLS, TestAuthority, tls_get};

const NAMESPACE: &str = "afd";
const NODE: &str = "gpu-node";
const PORT: u16 = 9109;
const OPEN_PORT: u16 = 9110;
const LOOPBACK: &str = "127.0.0.1";
/// A serial number of the fixture's devices.
const SERIAL: &str = "PLACEHOLDER0001";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    Suite::new()
        .test("a_token_that_may_get_a_path_is_served_and_no_other_on_kubernetes_1_37", || {
            tokens(KubernetesVersion::V1_37)
        })
        .test("serial_numbers_are_not_served_to_unknown_clients_of_the_network", serials)
        .main()
}

fn host() -> FixtureHost {
    Fixture::named("amd-mi300x8-spx").lay_out()
}

fn kubectl(bed: &Bed, arguments: &[&str]) -> anyhow::Result<String> {
    succeed(bed.kubectl()?.args(arguments))
}

/// A cluster with a Node, the chart's role for an agent that reviews tokens, and accounts of clients.
async fn cluster(version: KubernetesVersion) -> anyhow::Result<Bed> {
    let bed = Bed::builder().version(version).start().await?;
    kubectl(&bed, &["create", "namespace", NAMESPACE])?;
    let node = bed.folder().join("node.json");
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } });
    fs::write(&node, object.to_string())?;
    succeed(bed.kubectl()?.args(["create", "-f"]).arg(&node))?;
    let mut helm = bed.helm()?;
    helm.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--show-only", "templates/rbac.yaml"]);
    helm.args(["--set", "metrics.kubernetesAuth=true", "--set", "metrics.webConfigSecret=web-config"]);
    let role = bed.folder().join("rbac.yaml");
    fs::write(&role, succeed(helm.arg(workspace().join("daemonset/chart")))?)?;
    succeed(bed.kubectl()?.args(["apply", "--validate=strict", "-f"]).arg(&role))?;
    for (account, path) in [("scraper", "/metrics"), ("inspector", "/inventory")] {
        kubectl(&bed, &["--namespace", NAMESPACE, "create", "serviceaccount", account])?;
        let url = format!("--non-resource-url={path}");
        kubectl(&bed, &["create", "clusterrole", account, "--verb=get", &url])?;
        let subject = format!("--serviceaccount={NAMESPACE}:{account}");
        kubectl(&bed, &["create", "clusterrolebinding", account, "--clusterrole", account, &subject])?;
    }
    kubectl(&bed, &["--namespace", NAMESPACE, "create", "serviceaccount", "stranger"])?;
    Ok(bed)
}

fn token(bed: &Bed, account: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let create = ["--namespace", NAMESPACE, "create", "token", account];
    Ok(kubectl(bed, &[create.as_slice(), arguments].concat())?.trim().to_owned())
}

/// A kubeconfig of the agent's account.
fn kubeconfig(bed: &Bed) -> anyhow::Result<PathBuf> {
    let mut config = serde_json::to_value(Kubeconfig::read_from(bed.kubeconfig())?)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({ "token": token(bed, NAMESPACE, &[])? });
    }
    let path = bed.folder().join("agent.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

/// The status of a path at an address, with a token.
fn status(client: &Arc<ClientConfig>, address: &str, path: &str, token: Option<&str>) -> anyhow::Result<u16> {
    let header = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let response = tls_get(&format!("{address}:{PORT}"), client, path, &header);
    response.map(|(status, _)| status).map_err(anyhow::Error::msg)
}

async fn tokens(version: KubernetesVersion) -> anyhow::Result<()> {
    let bed = cluster(version).await?;
    let (authority, host) = (TestAuthority::new(), host());
    authority.write(bed.folder(), TLS);
    let client = authority.client(None);
    let listen = format!("0.0.0.0:{PORT}");
    let mut command = host.afd(["run", "--node-name", NODE, "--start-spread", "0", "--kubernetes-auth"]);
    command.args(["--listen", &listen, "--web-config-file"]).arg(bed.folder().join("web-config.yml"));
    command.arg("--kubeconfig").arg(kubeconfig(&bed)?);
    let agent = bed.process("afd", command)?;
    let [scraper, inspector, stranger] =
        ["scraper", "inspector", "stranger"].map(|account| token(&bed, account, &[]));
    let (scraper, inspector, stranger) = (scraper?, inspector?, stranger?);
    until("the token of a permitted account is accepted", async || {
        let status = status(&client, LOOPBACK, "/metrics", Some(&scraper))?;
        ensure!(status == 200, "the status is {status}\n{}", agent.tail());
        Ok(())
    })
    .await?;
    until("the other one as well", async || {
        let status = status(&client, LOOPBACK, "/inventory", Some(&inspector))?;
        ensure!(status == 200, "the status is {status}");
        Ok(())
    })
    .await?;
    let foreign = token(&bed, "scraper", &["--audience", "https://other.example.com"])?;
    let forged = format!("{}x{}", &scraper[..scraper.len() - 8], &scraper[scraper.len() - 7..]);
    // The node's own clients are no exception.
    for address in [LOOPBACK, Bed::ADDRESS] {
        for (what, path, token, expected) in [
            ("a permitted account", "/metrics", Some(&scraper), 200),
            ("another path of it", "/inventory", Some(&scraper), 403),
            ("the page of endpoint pickers", "/compat/dcgm", Some(&scraper), 403),
            ("an account without the right", "/metrics", Some(&stranger), 403),
            ("an account with the right of another path", "/metrics", Some(&inspector), 403),
            ("no token", "/metrics", None, 401),
            ("no token for the inventory", "/inventory", None, 401),
            ("a token for another audience", "/metrics", Some(&foreign), 401),
            ("a forged token", "/metrics", Some(&forged), 401),
            ("the kubelet's probe", "/healthz", None, 200),
        ] {
            let status = status(&client, address, path, token.map(String::as_str))?;
            ensure!(status == expected, "{what} at {address}: {status} instead of {expected}");
        }
        let header = format!("Authorization: Bearer {inspector}\r\n");
        let inventory = tls_get(&format!("{address}:{PORT}"), &client, "/inventory", &header);
        let (_, inventory) = inventory.map_err(anyhow::Error::msg)?;
        ensure!(inventory.contains(SERIAL), "authenticated clients see serial numbers");
    }
    Ok(())
}

/// Without any access control.
async fn serials() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let host = host();
    let listen = format!("0.0.0.0:{OPEN_PORT}");
    let mut command: Command = host.afd(["run", "--no-kubernetes", "--listen", &listen]);
    command.env("NO_COLOR", "1");
    let _agent = bed.process("afd", command)?;
    let page = |address: &str, path: &str| -> anyhow::Result<String> {
        let response = Agent::try_get_from(&format!("{address}:{OPEN_PORT}"), path).context("it listens")?;
        ensure!(response.status == 200, "the status of {path} is {}", response.status);
        Ok(response.text().to_owned())
    };
    let own = until("the first inventory is served", async || page(LOOPBACK, "/inventory")).await?;
    ensure!(own.contains(SERIAL), "clients on the node see serial numbers");
    for path in ["/inventory", "/", "/metrics"] {
        let public = page(Bed::ADDRESS, path)?;
        ensure!(!public.contains("PLACEHOLDER"), "{path} has serial numbers");
    }
    Ok(())
}
