//! `afd cleanup` of many Nodes, with failures, and the rights of the cleanup job, on a real API server.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests start programs and print what they measured"
)]

#[path = "cleanup/rights.rs"]
mod rights;

use std::{
    collections::BTreeMap,
    env, fs,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use afd_publish::node::FIELD_MANAGER;
use afd_test_cluster::{
    Bed, KubernetesVersion, Suite,
    proxy::{Credentials, Fault, FaultScope, Proxy},
    until,
};
use afd_tests::{fixture::Fixture, measured::measured, stdout};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

pub(crate) const PREFIX: &str = "accelerator.llm-d.ai";
const NODES: usize = 200;
/// Calls that a run has under way at the same time.
const IN_FLIGHT: usize = 8;
/// The variable with another number of Nodes, for a measurement.
const NODES_VARIABLE: &str = "AFD_NODES";
/// Every tenth Node is of another release.
const OTHERS: usize = 10;
const REFUSED: &str = "node-3";
/// A tenth of the rate at which 15,000 Nodes are cleaned within four of Helm's five minutes.
const LEAST_RATE: f64 = 15_000.0 / 240.0 / 10.0;
/// The limit of the job's container.
const MEMORY_LIMIT_KIB: u64 = 128 << 10;

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    Suite::new()
        .parallel(2)
        .test("many_nodes_are_cleaned_in_spite_of_failures_and_those_of_another_release_are_left", many)
        .test("the_cleanup_account_may_only_remove_what_afd_writes_on_kubernetes_1_37", || {
            rights::policy(KubernetesVersion::V1_37)
        })
        .test("the_cleanup_account_may_only_remove_what_afd_writes_on_kubernetes_1_34", || {
            rights::policy(KubernetesVersion::V1_34)
        })
        .test("a_cleanup_job_that_fails_leaves_no_right_behind", rights::failed_job)
        .main()
}

/// A Node as an agent leaves it: with the labels of eight H100, three annotations and two conditions.
pub(crate) async fn written_node(
    nodes: &Api<Node>,
    name: &str,
    release: &str,
    labels: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let kubelet = PostParams { field_manager: Some("kubelet".to_owned()), ..PostParams::default() };
    let node = json!({ "metadata": { "name": name, "labels": { "kubernetes.io/os": "linux" } } });
    nodes.create(&kubelet, &serde_json::from_value(node)?).await?;
    write(nodes, name, release, labels).await
}

/// What an agent writes to a Node.
pub(crate) async fn write(
    nodes: &Api<Node>,
    name: &str,
    release: &str,
    labels: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let report = "x".repeat(4096);
    let key = |name: &str| format!("{PREFIX}/{name}");
    let annotations = json!({ key("report"): report, key("expected"): "{}", key("managed-by"): release });
    let node = |more: Value| {
        let mut node = json!({ "apiVersion": "v1", "kind": "Node" });
        node.as_object_mut().expect("it is an object").extend(more.as_object().cloned().unwrap_or_default());
        Patch::Apply(node)
    };
    let ours = PatchParams::apply(FIELD_MANAGER);
    let metadata = json!({ "metadata": { "labels": labels, "annotations": annotations } });
    nodes.patch(name, &ours, &node(metadata)).await?;
    let condition = |name: &str| json!({ "type": key(name), "status": "False", "reason": "Test" });
    let status = json!({ "status": { "conditions": [condition("Ready"), condition("Problem")] } });
    nodes.patch_status(name, &ours, &node(status)).await?;
    Ok(())
}

/// The labels of eight H100.
pub(crate) fn labels() -> BTreeMap<String, String> {
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let shown = stdout(&mut host.afd(["show", "--output", "labels", "--compat", "nvidia=on"]));
    let pairs = shown.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The names of the Nodes with anything under our prefix.
pub(crate) async fn traced(nodes: &Api<Node>) -> anyhow::Result<Vec<String>> {
    let list = nodes.list(&ListParams::default()).await?;
    let is_own = |key: &String| key.starts_with(PREFIX) || key.starts_with("nvidia.com/");
    let is_traced = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        node.labels().keys().chain(node.annotations().keys()).any(is_own)
            || conditions.into_iter().any(|condition| condition.type_.starts_with(PREFIX))
    };
    Ok(list.items.iter().filter(|node| is_traced(node)).map(ResourceExt::name_any).collect())
}

async fn many() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    let count = env::var(NODES_VARIABLE).map_or(Ok(NODES), |count| count.parse())?;
    let labels = labels();
    let created = stream::iter(0..count).map(|number| {
        let release = if number % OTHERS == 0 { "afd/other" } else { "afd/mine" };
        let (nodes, labels) = (&nodes, &labels);
        async move { written_node(nodes, &format!("node-{number}"), release, labels).await }
    });
    created.buffer_unordered(16).try_collect::<()>().await?;
    let untouched = serde_json::from_value(json!({ "metadata": { "name": "untouched" } }))?;
    let untouched = nodes.create(&PostParams::default(), &untouched).await?;
    let others = count.div_ceil(OTHERS);
    let other = nodes.get("node-0").await?;
    let condition = format!("object.metadata.name != '{REFUSED}'");
    refuse(&bed, &condition, true)?;

    // The server has no time at first. The job is killed in the middle, and its successor goes on.
    let proxy = Proxy::start(&bed, Credentials::Administrator)?;
    let busy =
        Fault::ErrorResponse { status: 429, retry_after: Some(1), body: "Too many requests".to_owned() };
    proxy.fail(FaultScope::Writes, busy);
    let kubeconfig = proxy.kubeconfig(&json!({ "token": "none" }))?;
    let command = || {
        let mut command = afd_tests::afd(["cleanup", "--all-nodes", "--managed-by", "afd/mine"]);
        command.env("AFD_LOG", "warn").arg("--kubeconfig").arg(&kubeconfig);
        command
    };
    let mut first = command().spawn().context("starting afd")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.recover();
    until("some Nodes are clean", async || {
        let traced = traced(&nodes).await?.len();
        ensure!(traced < count - 10, "{traced} are not");
        Ok(())
    })
    .await?;
    first.kill()?;
    first.wait()?;
    let refused_writes = proxy.requests_since(Instant::now() - Duration::from_secs(600));
    let refused_writes = refused_writes.iter().filter(|request| request.is_write()).count();

    let left = traced(&nodes).await?.len() - others;
    let (output, time, memory_kib) = measured(command().stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{} {error}", output.status);
    ensure!(error.contains("1 Nodes could not be cleaned") && error.contains(REFUSED), "{error}");
    // Calls of the killed run may still have been carried out after the count.
    let cleaned = (0..=IN_FLIGHT).any(|late| error.contains(&format!("from {} Nodes", left - 1 - late)));
    ensure!(cleaned, "{left} were left: {error}");
    ensure!(error.contains(&format!("Left {others} Nodes to another release")), "{error}");
    let traced_now = traced(&nodes).await?;
    ensure!(
        traced_now.len() == others + 1 && traced_now.iter().any(|name| name == REFUSED),
        "{traced_now:?}"
    );
    for before in [&other, &untouched] {
        let after = nodes.get(&before.name_any()).await?;
        ensure!(after.resource_version() == before.resource_version(), "{after:?} was written");
    }
    println!(
        "{refused_writes} writes in the first run; the second, with a Node that is refused, took {time:.1?}"
    );

    refuse(&bed, &condition, false)?;
    // A policy that was deleted is in effect for a while.
    until("the Node that was refused is cleaned", async || {
        let output = command().output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected =
            format!("Removed {} labels, 3 annotations and 2 conditions from 1 Nodes", labels.len());
        ensure!(text.contains(&expected), "{text}");
        Ok(())
    })
    .await?;

    // All of the other release, without a fault, straight to the server: the rate.
    let again = stream::iter(0..count).map(|number| {
        let (nodes, labels) = (&nodes, &labels);
        async move { write(nodes, &format!("node-{number}"), "afd/other", labels).await }
    });
    again.buffer_unordered(16).try_collect::<()>().await?;
    let mut command = afd_tests::afd(["cleanup", "--all-nodes", "--kubeconfig"]);
    command.arg(bed.kubeconfig());
    let before = server_time()?;
    let (output, time, memory) = measured(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let busy = server_time()? - before;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(traced(&nodes).await?.is_empty());
    let rate = count as f64 / time.as_secs_f64();
    println!(
        "{count} Nodes in {time:.2?}: {rate:.0} a second, so 15,000 take {:.0} s; {} KiB of memory at most; the API server and \
         etcd worked {:.1} ms for each",
        15_000.0 / rate,
        memory.max(memory_kib),
        busy.as_secs_f64() * 1000.0 / count as f64,
    );
    ensure!(rate > LEAST_RATE, "{rate} Nodes a second");
    ensure!(memory.max(memory_kib) < MEMORY_LIMIT_KIB, "{memory} and {memory_kib} KiB");
    Ok(())
}

/// The processor time of the API server and etcd so far.
fn server_time() -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
        // The name is in parentheses; user and system time are the 12th and 13th field
        // after it, in hundredths of a second.
        let Some((name, fields)) = stat.split_once(") ") else { continue };
        if name.ends_with("(kube-apiserver") || name.ends_with("(etcd") {
            ticks +=
                fields.split(' ').skip(11).take(2).filter_map(|time| time.parse::<u64>().ok()).sum::<u64>();
        }
    }
    ensure!(ticks > 0, "there is no API server");
    Ok(Duration::from_millis(ticks * 10))
}

/// Has the API server accept a change of a Node only under a condition.
pub(crate) fn refuse(bed: &Bed, condition: &str, on: bool) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "refuse" },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"],
                "resources": ["nodes", "nodes/status"],
            }] },
            "validations": [{ "expression": condition }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": "refuse" },
        "spec": { "policyName": "refuse", "validationActions": ["Deny"] },
    });
    let file = bed.folder().join("refuse.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] });
    fs::write(&file, list.to_string())?;
    let verb = if on { "apply" } else { "delete" };
    afd_test_cluster::succeed(bed.kubectl()?.args([verb, "-f"]).arg(file)).map(drop)
}
