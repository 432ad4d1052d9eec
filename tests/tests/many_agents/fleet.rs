//! `afd nodes` and `afd generate` against the real API server.

use std::{fs, io::Write, process::Stdio};

use afd_test_cluster::{
    Bed,
    proxy::{Credentials, Proxy},
    succeed, until,
};
use afd_tests::{afd, output, stdout, workspace};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// The Nodes of the file as often, so that there are several pages.
const COPIES: usize = 8;

/// The Nodes of `fixtures/fleet`.
pub(crate) fn fixture_nodes() -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(workspace().join("fixtures/fleet/nodes.json"))?;
    let list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array().context("it is a list")?.clone())
}

/// Creates a Node like another one, with conditions that are confirmed now.
pub(crate) async fn create(nodes: &Api<Node>, like: &Value, name: &str) -> anyhow::Result<()> {
    let mut node = like.clone();
    node["metadata"]["name"] = json!(name);
    node["metadata"]["labels"]["kubernetes.io/hostname"] = json!(name);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastHeartbeatTime"] = json!(now);
    }
    let status = json!({ "status": node["status"] });
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

pub(crate) async fn shown() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    let fixture = fixture_nodes()?;
    let copies = fixture.iter().flat_map(|node| (0..COPIES).map(move |copy| (node, copy)));
    let created = stream::iter(copies).map(async |(node, copy)| {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        create(&nodes, node, &format!("{name}-{copy}")).await
    });
    created.buffer_unordered(8).try_collect::<()>().await?;

    let proxy = Proxy::start(&bed, Credentials::Administrator)?;
    let kubeconfig = proxy.kubeconfig(&json!({ "token": "none" }))?;
    let begin = std::time::Instant::now();
    let of_api = stdout(afd(["nodes", "-o", "json", "--all", "--kubeconfig"]).arg(&kubeconfig));
    let requests = proxy.requests_since(begin);
    let pages = (fixture.len() * COPIES).div_ceil(100);
    ensure!(pages > 1 && requests.len() == pages, "{requests:?}");
    let file = bed.folder().join("nodes.json");
    fs::write(&file, succeed(bed.kubectl()?.args(["get", "nodes", "-o", "json"]))?)?;
    let of_file = stdout(afd(["nodes", "-o", "json", "--all", "--from"]).arg(&file));
    ensure!(of_api == of_file, "{of_api} differs from {of_file}");
    let rows: Vec<Value> = serde_json::from_str(&of_api)?;
    ensure!(rows.len() == fixture.len() * COPIES, "{} Nodes", rows.len());
    let table = stdout(afd(["nodes", "--product", "MI300X"]).env("KUBECONFIG", bed.kubeconfig()));
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("mi300x-")).collect();
    let has_age = |row: &&str| row.ends_with('s') || row.ends_with('m');
    ensure!(rows.len() == 2 * COPIES && rows.iter().all(has_age), "{table}");

    refused(&bed)?;
    accepted(&bed).await
}

/// An account without the right to list Nodes is informed of it.
fn refused(bed: &Bed) -> anyhow::Result<()> {
    succeed(bed.kubectl()?.args(["create", "serviceaccount", "powerless"]))?;
    let token = succeed(bed.kubectl()?.args(["create", "token", "powerless"]))?;
    let token = format!("--token={}", token.trim());
    let kubeconfig = bed.folder().join("powerless.kubeconfig");
    let server = ["--server=https://127.0.0.1", "--insecure-skip-tls-verify=true"];
    let set = |arguments: &[&str]| {
        succeed(bed.kubectl()?.arg("--kubeconfig").arg(&kubeconfig).arg("config").args(arguments))
    };
    set(&["set-cluster", "bed", server[0], server[1]])?;
    set(&["set-credentials", "powerless", &token])?;
    set(&["set-context", "bed", "--cluster=bed", "--user=powerless"])?;
    let refused = output(afd(["nodes", "--context", "bed", "--kubeconfig"]).arg(&kubeconfig));
    let error = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1)
            && error.contains("needs a ClusterRole with the verb list of the resource nodes"),
        "{error}"
    );
    ensure!(refused.stdout.is_empty(), "{refused:?}");
    Ok(())
}

/// The API server accepts all manifests: Kueue's and Karpenter's by their custom resource definitions, affinities in a pod.
async fn accepted(bed: &Bed) -> anyhow::Result<()> {
    succeed(bed.kubectl()?.args(["apply", "--server-side", "-f"]).arg(bed.custom_resources()?))?;
    succeed(bed.kubectl()?.args(["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]))?;
    let generate = |manifest: &str| stdout(afd(["generate", manifest]).env("KUBECONFIG", bed.kubeconfig()));
    for (manifest, kinds) in
        [("kueue", ["resourceflavor.kueue", "topology.kueue"]), ("karpenter", ["nodepool.karpenter"; 2])]
    {
        let text = generate(manifest);
        let applied = until("the definitions are served", async || apply(bed, &text)).await?;
        let created = applied.lines().filter(|line| line.ends_with(" created")).count();
        ensure!(created == text.matches("\nkind: ").count(), "{applied}");
        ensure!(kinds.iter().all(|kind| applied.contains(kind)), "{applied}");
        // The defaults of the server change nothing.
        let again = apply(bed, &generate(manifest))?;
        ensure!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    }
    succeed(bed.kubectl()?.args(["create", "serviceaccount", "default"]))?;
    let affinities: Vec<Value> = serde_saphyr::from_multiple(&generate("nodeaffinity"))?;
    ensure!(affinities.len() > 10, "{affinities:?}");
    let pods = affinities.into_iter().enumerate().map(|(number, mut spec)| {
        spec["containers"] = json!([{ "name": "c", "image": "none" }]);
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("pod-{number}") }, "spec": spec })
    });
    let pods: Vec<Value> = pods.collect();
    apply(bed, &json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string()).map(drop)
}

/// Applies manifests; a field that the server does not know is an error.
fn apply(bed: &Bed, text: &str) -> anyhow::Result<String> {
    let mut command = bed.kubectl()?;
    command
        .args(["apply", "--validate=strict", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("starting kubectl")?;
    child.stdin.take().context("it has an input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
