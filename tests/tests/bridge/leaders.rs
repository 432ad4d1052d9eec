//! Two bridges: one works, and the other takes over.

use std::time::{Duration, Instant};

use afd_test_cluster::until;
use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::setup::{ACCOUNT, BridgeSetup, LEASE, NAMESPACE, PODS, PRODUCT, RunningBridge};

/// The pods that a bridge has read or written.
fn pods(bridge: &RunningBridge, since: Instant) -> usize {
    let requests = bridge.proxy.requests_since(since);
    requests.iter().filter(|request| request.path.starts_with(PODS)).count()
}

async fn until_product(setup: &BridgeSetup, product: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    setup.patch_node(json!({ "accelerator.llm-d.ai/product": product })).await?;
    setup.until_label("plain", PRODUCT, Some(product)).await?;
    Ok(begun.elapsed())
}

/// `first` holds the Lease.
pub(crate) async fn take_over(
    setup: &BridgeSetup,
    first: &mut RunningBridge,
    second: &mut RunningBridge,
) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(setup.nodes.clone().into_client(), NAMESPACE);
    let holder = async || -> anyhow::Result<Option<String>> {
        Ok(leases.get(ACCOUNT).await?.spec.and_then(|spec| spec.holder_identity))
    };
    until("the second bridge waits for the lease", async || {
        let requests = second.proxy.requests_since(Instant::now() - Duration::from_secs(60));
        ensure!(
            requests.iter().filter(|request| request.path.contains("/leases/")).count() >= 3,
            "{requests:?}"
        );
        Ok(())
    })
    .await?;
    ensure!(holder().await?.as_deref() == Some("first"), "{:?}", holder().await?);
    let begun = Instant::now();
    until_product(setup, "One").await?;
    ensure!(pods(second, begun) == 0 && pods(first, begun) > 0, "the one without the lease works");

    // Without a release, the other one waits for the whole duration.
    first.process.kill()?;
    let time = until_product(setup, "Two").await?;
    println!(
        "a bridge was killed; after {time:.1?} the other one, with a lease of {LEASE:?}, has written a pod"
    );
    ensure!(pods(second, begun) > 0 && holder().await?.as_deref() == Some("second"));

    first.process.restart()?;
    let begun = Instant::now();
    until_product(setup, "Three").await?;
    ensure!(pods(first, begun) == 0, "the one that was killed works again without the lease");

    // One that ends in order releases it.
    let transitions = async || -> anyhow::Result<Option<i32>> {
        Ok(leases.get(ACCOUNT).await?.spec.and_then(|spec| spec.lease_transitions))
    };
    let before = transitions().await?;
    let pid = Pid::from_raw(second.process.pid().cast_signed()).context("it has a process id")?;
    kill_process(pid, Signal::TERM)?;
    until("the second bridge has ended", async || {
        let status = second.process.ended()?.context("it is running")?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
    .await?;
    let holder_now = holder().await?;
    ensure!(holder_now.as_deref() != Some("second"), "the lease is not released");
    let time = until_product(setup, "Four").await?;
    println!("a bridge was ended; after {time:.1?} the other one has written a pod");
    ensure!(holder().await?.as_deref() == Some("first") && transitions().await? > before);
    let labels = leases.get(ACCOUNT).await?.metadata.labels.unwrap_or_default();
    ensure!(
        labels.contains_key("app.kubernetes.io/instance"),
        "the labels of the Lease are gone: {labels:?}"
    );
    Ok(())
}
