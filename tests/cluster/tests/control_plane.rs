//! A control plane starts, stores Nodes and survives that its API server is killed.

use std::process::ExitCode;

use afd_test_cluster::{Bed, Component, KubernetesVersion, Suite, succeed, until};
use anyhow::ensure;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

fn main() -> ExitCode {
    Suite::new()
        .test("a_node_is_created_and_read_on_kubernetes_1_37", || {
            a_node_is_created_and_read(KubernetesVersion::V1_37)
        })
        .test("a_node_is_created_and_read_on_kubernetes_1_34", || {
            a_node_is_created_and_read(KubernetesVersion::V1_34)
        })
        .test("a_killed_api_server_comes_back_with_its_objects", a_killed_api_server_comes_back)
        .test("kubectl_reaches_the_api_server", kubectl_reaches_the_api_server)
        .test("helm_reaches_the_api_server", helm_reaches_the_api_server)
        .main()
}

async fn create_node(bed: &Bed) -> anyhow::Result<Api<Node>> {
    let nodes: Api<Node> = Api::all(bed.client().await?);
    let node = serde_json::from_value(json!({"metadata": {"name": "by-hand", "labels": {"made": "here"}}}))?;
    nodes.create(&PostParams::default(), &node).await?;
    Ok(nodes)
}

async fn a_node_is_created_and_read(version: KubernetesVersion) -> anyhow::Result<()> {
    let bed = Bed::builder().version(version).start().await?;
    let client = bed.client().await?;
    let ready = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    ensure!(ready == "ok", "/readyz responds {ready}");
    let reported = client.apiserver_version().await?;
    ensure!(reported.git_version.starts_with(&format!("v{version}.")), "the version is {reported:?}");
    ensure!((&*reported.major, &*reported.minor) == ("1", &*version.minor.to_string()), "{reported:?}");
    let node = create_node(&bed).await?.get("by-hand").await?;
    ensure!(node.labels()["made"] == "here", "the labels are {:?}", node.labels());
    Ok(())
}

async fn a_killed_api_server_comes_back() -> anyhow::Result<()> {
    let mut bed = Bed::builder().start().await?;
    let before = create_node(&bed).await?.get("by-hand").await?;
    bed.kill(Component::ApiServer)?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    ensure!(nodes.get("by-hand").await.is_err(), "a killed API server responds");
    bed.restart(Component::ApiServer).await?;
    let after = until("the Node can be read again", async || Ok(nodes.get("by-hand").await?)).await?;
    ensure!(after.uid() == before.uid(), "it is another Node");
    Ok(())
}

async fn kubectl_reaches_the_api_server() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let namespaces = succeed(bed.kubectl()?.args(["get", "namespaces", "--output=name"]))?;
    ensure!(namespaces.contains("namespace/kube-system"), "the namespaces are {namespaces}");
    Ok(())
}

async fn helm_reaches_the_api_server() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let releases = succeed(bed.helm()?.args(["list", "--all-namespaces", "--output=json"]))?;
    ensure!(releases.trim() == "[]", "the releases are {releases}");
    Ok(())
}
