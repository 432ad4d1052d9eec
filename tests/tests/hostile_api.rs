//! The agent against an API server that is hostile or broken, and against policies that refuse a part of what it writes: the real
//! binary, a real API server and a proxy before it. What can be written is written, memory is bounded, scrapes are answered, and
//! SIGTERM ends the agent.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "kubernetes/setup.rs"]
mod setup;
#[path = "hostile_api/slices.rs"]
mod slices;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{
    BedProcess, KubernetesVersion, Suite,
    proxy::{Credentials, Fault, FaultScope, Proxy},
    succeed, until,
};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use setup::{ADDRESS, COUNT, NODE, NodeSetup, metric};

const MODEL: &str = "accelerator.llm-d.ai/model";
const REPORT: &str = "accelerator.llm-d.ai/report";
const READY: &str = "accelerator.llm-d.ai/Ready";
/// What a response of the server may add to the agent's own memory, in MiB. Without a bound it is a thousand in the time of a test.
const MAX_GROWTH_MIB: f64 = 64.0;
/// How soon SIGTERM must end the agent.
const MAX_STOP: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    Suite::new()
        .parallel(2)
        .test("one_key_that_a_policy_refuses_keeps_no_other_from_being_written", refused_keys)
        .test("a_conflict_on_the_annotation_alone_keeps_nothing_from_being_written", contested_annotation)
        .test("a_busy_server_that_asks_for_a_day_is_not_obeyed", || endless_retry_after(429))
        .test("an_unavailable_server_that_asks_for_a_day_is_not_obeyed", || endless_retry_after(503))
        .test("responses_without_end_and_garbage_take_no_memory", hostile_responses)
        .test("watches_that_send_nothing_of_use_keep_nothing_from_being_written", hostile_watches)
        .test("an_api_group_that_is_not_served_keeps_nothing_from_being_written", missing_group)
        .test("thousands_of_devices_in_resource_slices_are_bounded_and_counted", slices::too_many_devices)
        .main()
}

/// An agent that reaches the API server through a proxy.
struct HostileSetup {
    node_setup: NodeSetup,
    proxy: Proxy,
    agent: BedProcess,
}

impl HostileSetup {
    /// The agent is started once its requests fail.
    async fn under(fault: Option<(FaultScope, Fault)>) -> anyhow::Result<HostileSetup> {
        let node_setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
        let proxy = Proxy::start(&node_setup.bed, Credentials::Administrator)?;
        if let Some((scope, fault)) = fault {
            proxy.fail(scope, fault);
        }
        let mut command = node_setup.agent(&proxy.kubeconfig(&json!({}))?);
        command.args(["--removal-grace", "1", "--boot-removal-grace", "1"]);
        let agent = node_setup.bed.process("afd", command)?;
        Ok(HostileSetup { node_setup, proxy, agent })
    }

    async fn until_complete(&self) -> anyhow::Result<()> {
        until("labels and condition are written", async || {
            let node = self.node_setup.node().await?;
            ensure!(node.labels().get(COUNT).map(String::as_str) == Some("8"), "{:?}", node.labels());
            ensure!(has_condition(&node), "{:?}", node.status);
            Ok(())
        })
        .await
    }

    /// Waits for requests since a time.
    async fn until_requests(&self, start: Instant, count: usize) -> anyhow::Result<()> {
        until("the agent has sent requests", async || {
            let requests = self.proxy.requests_since(start).len();
            ensure!(requests >= count, "{requests} requests");
            Ok(())
        })
        .await
    }

    /// The agent's own memory in MiB.
    fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes =
            line.and_then(|line| line.split_whitespace().next()).context("there is no RssAnon")?;
        Ok(kibibytes.parse::<f64>()? / 1024.0)
    }

    /// Ends the agent with SIGTERM.
    async fn terminate(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.agent.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        let start = Instant::now();
        kill_process(pid, Signal::TERM)?;
        until("the agent has ended", async || {
            let status = self.agent.ended()?.context("it runs")?;
            ensure!(status.success(), "{status}");
            Ok(())
        })
        .await?;
        ensure!(start.elapsed() < MAX_STOP, "it took {:?}", start.elapsed());
        Ok(())
    }
}

fn has_condition(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == READY && condition.status == "True")
}

fn scrape() -> anyhow::Result<()> {
    let response = Agent::get_from(ADDRESS, "/metrics");
    ensure!(response.status == 200, "the status of a scrape is {}", response.status);
    Ok(())
}

/// Policies of the cluster: one refuses a label with 403, another one an annotation with 422.
async fn refused_keys() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    let policy = |name: &str, reason: &str, expression: &str| {
        json!([
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
              "metadata": { "name": name }, "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes", "nodes/status"],
                }] },
                "validations": [{ "expression": expression, "reason": reason }],
            } },
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
              "metadata": { "name": name }, "spec": { "policyName": name, "validationActions": ["Deny"] } },
        ])
    };
    let label =
        policy("label", "Forbidden", &format!("!('{MODEL}' in object.metadata.?labels.orValue({{}}))"));
    let annotation = policy(
        "annotation",
        "Invalid",
        &format!("!('{REPORT}' in object.metadata.?annotations.orValue({{}}))"),
    );
    let objects = [label, annotation].map(|list| list.as_array().cloned().unwrap_or_default()).concat();
    let file = setup.bed.folder().join("policies.json");
    fs::write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string())?;
    succeed(setup.bed.kubectl()?.args(["apply", "-f"]).arg(&file))?;
    until("the policies are in effect", async || {
        for (map, key) in [("labels", MODEL), ("annotations", REPORT)] {
            let patch = json!({ "metadata": { map: { key: "x" } } });
            let answer = setup.patch_as_other(patch).await;
            setup.patch_as_other(json!({ "metadata": { map: { key: null } } })).await?;
            ensure!(answer.is_err(), "{key} is allowed");
        }
        Ok(())
    })
    .await?;
    let _agent = setup.bed.process("afd", setup.agent(&setup.bed.kubeconfig()))?;
    let node = setup.until_label(COUNT, "8").await?;
    ensure!(
        !node.labels().contains_key(MODEL) && !node.annotations().contains_key(REPORT),
        "{:?}",
        node.metadata
    );
    until("all others are written", async || {
        let node = setup.node().await?;
        let labels = ["present", "vendor", "product", "healthy", "driver-version"];
        let missing: Vec<_> = labels
            .iter()
            .filter(|name| !node.labels().contains_key(&format!("accelerator.llm-d.ai/{name}")))
            .collect();
        ensure!(missing.is_empty() && has_condition(&node), "{missing:?} {:?}", node.status);
        Ok(())
    })
    .await?;
    until("what was refused is counted", async || {
        for key in [MODEL, REPORT] {
            let text = Agent::get_from(ADDRESS, "/metrics").text().to_owned();
            let lines: Vec<_> =
                text.lines().filter(|line| line.starts_with("afd_label_refused_total")).collect();
            let any = lines.iter().any(|line| line.contains(&format!("key=\"{key}\"")));
            ensure!(any, "{key} is not counted: {lines:?}");
        }
        Ok(())
    })
    .await?;
    // Others are corrected meanwhile, and what was refused comes once it is allowed.
    setup.overwrite_count().await?;
    setup.until_label(COUNT, "8").await?;
    let delete = ["delete", "validatingadmissionpolicybinding", "label", "annotation"];
    succeed(setup.bed.kubectl()?.args(delete))?;
    until("what was refused is written", async || {
        let node = setup.node().await?;
        ensure!(
            node.labels().contains_key(MODEL) && node.annotations().contains_key(REPORT),
            "{:?}",
            node.metadata
        );
        Ok(())
    })
    .await
}

async fn contested_annotation() -> anyhow::Result<()> {
    let setup = NodeSetup::new(KubernetesVersion::V1_37, "gaudi2-x8").await?;
    setup.patch_as_other(json!({ "metadata": { "annotations": { REPORT: "mine" } } })).await?;
    let _agent = setup.bed.process("afd", setup.agent(&setup.bed.kubeconfig()))?;
    until("labels, annotation and condition are ours", async || {
        let node = setup.node().await?;
        ensure!(node.labels().get(COUNT).map(String::as_str) == Some("8") && has_condition(&node));
        ensure!(
            node.annotations().get(REPORT).is_some_and(|report| report != "mine"),
            "{:?}",
            node.annotations()
        );
        Ok(())
    })
    .await
}

async fn endless_retry_after(status: u16) -> anyhow::Result<()> {
    let body = "Please come back tomorrow.".to_owned();
    let fault = Fault::ErrorResponse { status, retry_after: Some(86_400), body };
    let mut setup = HostileSetup::under(Some((FaultScope::All, fault))).await?;
    let delay = until("the delay is logged", async || {
        let log = setup.agent.tail();
        let delay =
            log.lines().find_map(|line| line.split_once("retry_seconds=")?.1.trim().parse::<u64>().ok());
        delay.with_context(|| log.clone())
    })
    .await?;
    ensure!((120..=150).contains(&delay), "it is {delay} s");
    until("the first inventory is served", async || scrape()).await?;
    setup.terminate().await
}

/// Each fault affects every call that is no watch.
async fn hostile_responses() -> anyhow::Result<()> {
    let endless = |text: String, pause| Fault::Endless { text, pause };
    let mut setup = HostileSetup::under(None).await?;
    setup.until_complete().await?;
    let before = setup.memory()?;
    for (what, fault) in [
        ("no JSON", Fault::WatchBody("<html>It works!</html>".to_owned())),
        ("an empty response", Fault::WatchBody(String::new())),
        ("another object", Fault::WatchBody("[{\"kind\":\"Pod\"}]".to_owned())),
        ("half an object", Fault::WatchBody("{\"kind\":\"Node\",\"metadata\":{\"name\":".to_owned())),
        ("a deep object", Fault::WatchBody("[".repeat(1 << 20))),
        ("a huge object", Fault::WatchBody(format!("{{\"x\":\"{}\"}}", "x".repeat(16 << 20)))),
        ("a string without end", endless("x".repeat(64 << 10), Duration::ZERO)),
        ("lines without end", endless("{}\n".repeat(20_000), Duration::ZERO)),
        (
            "an error without end",
            Fault::ErrorResponse { status: 500, retry_after: Some(1), body: "x".repeat(16 << 20) },
        ),
        ("a slow response without end", endless("x".to_owned(), Duration::from_millis(10))),
    ] {
        let start = Instant::now();
        setup.proxy.fail(FaultScope::Calls, fault);
        setup.node_setup.overwrite_count().await?;
        setup.until_requests(start, 2).await.context(what)?;
        let mut most = 0.0_f64;
        for _ in 0..20 {
            scrape().context(what)?;
            most = most.max(setup.memory()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{what}: {:.1} MiB more", most - before);
        ensure!(most - before < MAX_GROWTH_MIB, "{what}: the memory grew from {before} MiB to {most} MiB");
        let node = setup.node_setup.node().await?;
        ensure!(node.labels().contains_key(MODEL) && has_condition(&node), "{what}: {:?}", node.labels());
        setup.proxy.recover();
        setup.proxy.close_connections();
        setup.until_complete().await.context(what)?;
    }
    setup.proxy.fail(FaultScope::All, endless("x".repeat(64 << 10), Duration::ZERO));
    setup.until_requests(Instant::now(), 2).await?;
    setup.terminate().await
}

async fn hostile_watches() -> anyhow::Result<()> {
    let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": "Node", "apiVersion": "v1",
        "metadata": { "resourceVersion": "1", "creationTimestamp": null } } });
    let lines = |text: &str| Fault::Endless { text: format!("{text}\n"), pause: Duration::from_millis(2) };
    let mut setup = HostileSetup::under(None).await?;
    setup.until_complete().await?;
    for (what, fault) in [
        ("bookmarks alone", lines(&bookmark.to_string())),
        ("lines of garbage", lines("garbage")),
        ("empty lines", lines("")),
        ("a line without end", Fault::Endless { text: "x".repeat(64 << 10), pause: Duration::ZERO }),
        ("an object without end", Fault::Endless { text: "{\"type\":".to_owned(), pause: Duration::ZERO }),
    ] {
        setup.terminate().await?;
        setup.proxy.fail(FaultScope::Watches, fault);
        setup.agent.restart()?;
        setup.until_complete().await.context(what)?;
        let before = setup.memory()?;
        // A change of the host is still written.
        let (link, target) = setup.node_setup.host.pci_link("0x1020");
        fs::remove_file(&link)?;
        setup.node_setup.until_label(COUNT, "7").await.context(what)?;
        let most = setup.memory()?;
        println!("watches with {what}: {:.1} MiB more", most - before);
        ensure!(most - before < MAX_GROWTH_MIB, "{what}: the memory grew from {before} MiB to {most} MiB");
        scrape().context(what)?;
        std::os::unix::fs::symlink(target, link)?;
        setup.node_setup.until_label(COUNT, "8").await.context(what)?;
    }
    setup.terminate().await
}

async fn missing_group() -> anyhow::Result<()> {
    let scope = FaultScope::Path("/apis/resource.k8s.io");
    let mut setup = HostileSetup::under(Some((scope, Fault::error_response(404, "NotFound")))).await?;
    setup.until_complete().await?;
    let node = setup.node_setup.node().await?;
    let allocation = node.labels().get("accelerator.llm-d.ai/allocation").map(String::as_str);
    ensure!(allocation == Some("device-plugin") && node.name_any() == NODE, "{allocation:?}");
    ensure!(metric("afd_label_writes_total ").is_some_and(|writes| writes < 5.0));
    setup.terminate().await
}
