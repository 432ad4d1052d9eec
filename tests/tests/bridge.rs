//! `afd bridge` with its account's rights, on a real API server: the labels of pods, and the taints of devices that the real
//! scheduler obeys.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "bridge/leaders.rs"]
mod leaders;
#[path = "bridge/policy.rs"]
mod policy;
#[path = "bridge/setup.rs"]
mod setup;
#[path = "bridge/taints.rs"]
mod taints;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{Suite, proxy::Fault, proxy::FaultScope, succeed};
use anyhow::ensure;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use setup::{BridgeSetup, HOST, MARKER, MODEL, NODE, PODS, PREFIX, PRODUCT, RACK, ZONE, node_labels};

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("pods_that_opt_in_get_the_labels_of_their_node_and_nothing_of_others_is_changed", labels)
        .test("a_failed_device_is_not_scheduled_until_it_is_well", taints::taints)
        .test("a_server_with_an_older_version_of_the_rules_has_them_in_that_version", taints::older_version)
        .main()
}

/// One control plane for everything about pods, since its start takes longest.
async fn labels() -> anyhow::Result<()> {
    let setup = BridgeSetup::new().await?;
    setup::refuse_second(&setup.bed)?;
    let mut first = setup.bridge("first")?;
    copied(&setup).await?;
    owners(&setup).await?;
    node_changes(&setup).await?;
    opt_out(&setup).await?;
    overload(&setup, &first).await?;
    policy::refused(&setup).await?;
    let mut second = setup.bridge("second")?;
    leaders::take_over(&setup, &mut first, &mut second).await?;
    cleanup(&setup, first).await
}

async fn copied(setup: &BridgeSetup) -> anyhow::Result<()> {
    setup.pod("plain", NODE, json!({ "llm-d.ai/role": "decode" }), None).await?;
    setup.pod("serving", NODE, json!({ "llm-d.ai/inference-serving": "true" }), None).await?;
    setup.pod("silent", NODE, json!({ "app": "web" }), None).await?;
    setup.pod("out", NODE, json!({ "llm-d.ai/role": "decode", MARKER: "false" }), None).await?;
    for name in ["plain", "serving"] {
        let pod = setup.until_label(name, MARKER, Some("true")).await?;
        let mut copied = pod.labels().clone();
        copied.retain(|key, _| !["llm-d.ai/role", "llm-d.ai/inference-serving"].contains(&&key[..]));
        let expected: [(&str, &str); 10] = [
            (HOST, NODE),
            (ZONE, "zone-1"),
            ("topology.kubernetes.io/region", "region-1"),
            (RACK, "fabric-1"),
            ("llm-d.ai/accelerator-vendor", "nvidia"),
            ("llm-d.ai/accelerator-variant", "gpu"),
            (PRODUCT, "NVIDIA-H100-80GB-HBM3"),
            (MODEL, "H100"),
            ("llm-d.ai/accelerator-memory", "81559"),
            (MARKER, "true"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        ensure!(copied == expected, "{name} has {copied:?}");
    }
    ensure!(setup.get("silent").await?.labels().len() == 1, "a pod that does not opt in was written");
    ensure!(setup.get("out").await?.labels().len() == 2, "a pod that opts out was written");
    // Another pod of the same name, on another node.
    setup.pods.delete("serving", &DeleteParams::default().grace_period(0)).await?;
    setup.pod("serving", "other", json!({ "llm-d.ai/inference-serving": "true" }), None).await?;
    let moved = setup.until_label("serving", HOST, Some("other")).await?;
    ensure!(!moved.labels().contains_key(MODEL), "{:?}", moved.labels());
    Ok(())
}

/// Keys of the selector of the owner, of the template, and of a user.
async fn owners(setup: &BridgeSetup) -> anyhow::Result<()> {
    let uid = setup.replica_set("owner", MODEL).await?;
    let role = json!({ "app": "owner", "llm-d.ai/role": "decode", ZONE: "own" });
    setup.pod("owned", NODE, role, Some(("owner", &uid))).await?;
    let pod = setup.until_label("owned", MARKER, Some("true")).await?;
    let labels = pod.labels();
    ensure!(!labels.contains_key(MODEL), "the selector of its owner excludes this: {labels:?}");
    ensure!(labels[ZONE] == "own" && labels[PRODUCT] == "NVIDIA-H100-80GB-HBM3", "{labels:?}");
    // A user takes a key that the bridge has written; it stays theirs when the Node changes.
    setup.patch_pod("plain", "user", json!({ MODEL: "mine" })).await?;
    setup
        .patch_node(json!({ "accelerator.llm-d.ai/product": "Other", "accelerator.llm-d.ai/model": "Other" }))
        .await?;
    let pod = setup.until_label("plain", PRODUCT, Some("Other")).await?;
    ensure!(pod.labels()[MODEL] == "mine", "{:?}", pod.labels());
    ensure!(setup.get("owned").await?.labels()[ZONE] == "own");
    Ok(())
}

async fn node_changes(setup: &BridgeSetup) -> anyhow::Result<()> {
    let before = setup.get("plain").await?;
    // A Node without labels for a while, and without itself.
    let none: Value =
        node_labels().as_object().into_iter().flatten().map(|(key, _)| (key.clone(), Value::Null)).collect();
    setup.patch_node(none).await?;
    setup.nodes.delete(NODE, &DeleteParams::default()).await?;
    setup.node(NODE, json!({})).await?;
    setup.until_idle().await?;
    let after = setup.get("plain").await?;
    ensure!(before.labels() == after.labels(), "labels moved to {:?}", after.labels());
    let mut labels = node_labels();
    labels[ZONE] = "zone-2".into();
    setup.patch_node(labels).await?;
    let pod = setup.until_label("plain", ZONE, Some("zone-2")).await?;
    ensure!(pod.labels()[RACK] == "fabric-1", "{:?}", pod.labels());
    // The agent says that there is no such fabric any more.
    setup.patch_node(json!({ "accelerator.llm-d.ai/fabric-domain": null })).await?;
    for pod in ["plain", "owned"] {
        setup.until_label(pod, RACK, None).await?;
    }
    let begun = Instant::now();
    setup.until_idle().await?;
    ensure!(setup.written(begun).is_empty(), "something is written although nothing changes");
    Ok(())
}

async fn opt_out(setup: &BridgeSetup) -> anyhow::Result<()> {
    setup.patch_pod("owned", "user", json!({ "llm-d.ai/role": null })).await?;
    let pod = setup.until_label("owned", MARKER, None).await?;
    ensure!(pod.labels().len() == 2 && pod.labels()[ZONE] == "own", "{:?}", pod.labels());
    setup.patch_pod("plain", "user", json!({ MARKER: "false" })).await?;
    let pod = setup.until_label("plain", HOST, None).await?;
    let left: Vec<&str> = pod.labels().keys().map(String::as_str).collect();
    ensure!(left == [MARKER, MODEL, "llm-d.ai/role"], "{left:?}");
    setup.patch_pod("plain", "user", json!({ MARKER: null })).await?;
    let pod = setup.until_label("plain", HOST, Some(NODE)).await?;
    ensure!(pod.labels()[MODEL] == "mine", "{:?}", pod.labels());
    Ok(())
}

/// Retry-After is honoured, and what was missed is made up for.
async fn overload(setup: &BridgeSetup, bridge: &setup::RunningBridge) -> anyhow::Result<()> {
    const PAUSE: u32 = 3;
    bridge.proxy.fail(FaultScope::Path(PODS), Fault::too_many_requests(PAUSE));
    let begun = Instant::now();
    setup.patch_node(json!({ "accelerator.llm-d.ai/product": "Later" })).await?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let pause = Duration::from_secs(PAUSE.into());
    let requests = bridge.proxy.ensure_spacing(PODS, begun, pause - Duration::from_millis(100))?;
    ensure!((1..=4).contains(&requests), "{requests} requests");
    bridge.proxy.recover();
    setup.until_label("plain", PRODUCT, Some("Later")).await.map(drop)
}

/// With the last bridge gone, as after their Deployment was deleted.
async fn cleanup(setup: &BridgeSetup, mut last: setup::RunningBridge) -> anyhow::Result<()> {
    last.process.kill()?;
    setup.patch_pod("plain", "user", json!({ "llm-d.ai/role": null })).await?;
    let output = succeed(
        afd_tests::afd(["cleanup", "--all-nodes", "--bridge", "--kubeconfig"]).arg(setup.bed.kubeconfig()),
    )?;
    ensure!(output.starts_with("Removed the labels of 2 pods and 0 DeviceTaintRules.\n"), "{output}");
    for pod in setup.pods.list(&Default::default()).await? {
        let copied =
            pod.labels().keys().filter(|key| key.contains("kubernetes.io/") || key.starts_with(PREFIX));
        let copied: Vec<&String> =
            copied.filter(|key| pod.labels()[*key] != "own" && pod.labels()[*key] != "false").collect();
        ensure!(copied.is_empty(), "{} has {copied:?}", pod.name_any());
    }
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "x": "1" } } }));
    setup.pods.patch("plain", &PatchParams::default(), &patch).await?;
    ensure!(setup.get("plain").await?.labels()[MODEL] == "mine", "a label of a user was removed");
    Ok(())
}
