//! The agent before an API server that fails, one fault after another, by the real binary and a real API server with a proxy
//! before it. Its metrics go on, no label is lost, what it asks is bounded and counted, and it recovers by itself.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "kubernetes/scene.rs"]
mod scene;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{
    Process, Suite, Version,
    proxy::{Credentials, Fault, Of, Proxy},
    until,
};
use afd_tests::agent::Agent;
use anyhow::{Context, ensure};
use kube::ResourceExt;
use serde_json::json;

use scene::{ADDRESS, COUNT, NODE, Scene, metric};

/// What an agent asks for: its Node, and the ResourceSlices of it.
const NODES: &str = "/api/v1/nodes";
const SLICES: &str = "/apis/resource.k8s.io";
/// How long a refusal lasts: the agent asks after 1 s, 2 s and 4 s, and at the latest 8 s after that.
const SHORT: Duration = Duration::from_secs(5);
/// Longer than the agent waits for an answer or a connection, and once more.
const LONG: Duration = Duration::from_secs(20);
/// How long a scrape may take at worst, on a machine that has other things to do.
const SCRAPE: Duration = Duration::from_millis(500);
/// And how long half of them.
const MEDIAN_SCRAPE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    // Built before the bed, which has no way to the registry.
    afd_tests::binary();
    Suite::new()
        .test("refusals_are_counted_and_asked_seldom_and_move_no_label", refusals)
        .test("refused_writes_are_written_when_they_are_taken_again", refused_writes)
        .test("a_busy_server_is_left_alone_for_as_long_as_it_says", busy)
        .test("connections_that_hang_are_given_up", hanging)
        .test("connections_that_are_reset_or_slow_are_outlived", unsteady)
        .test("watches_that_end_at_once_or_expire_are_no_hot_loop", watches)
        .main()
}

/// A labelled Node whose agent asks through the proxy.
struct Faulty {
    scene: Scene,
    proxy: Proxy,
    agent: Process,
    labels: BTreeMap<String, String>,
}

/// A fault, and what the agent may make of it.
struct Trial {
    of: Of,
    fault: Fault,
    lasts: Duration,
    /// Requests for the Node while it lasts, at most. Those for its ResourceSlices are up to three a turn.
    requests: usize,
    /// Verb and code under which it is counted.
    counted: Option<(&'static str, &'static str)>,
}

impl Trial {
    fn refusal(of: Of, status: u16, reason: &str, counted: (&'static str, &'static str)) -> Trial {
        // A turn is a read alone, with a write that is refused, or with two writes and a watch that is refused.
        let requests = if of == Of::All { 4 } else { 10 };
        Trial { of, fault: Fault::refuse(status, reason), lasts: SHORT, requests, counted: Some(counted) }
    }
}

impl Faulty {
    async fn new() -> anyhow::Result<Faulty> {
        let scene = Scene::new(Version::V1_37, "gaudi2-x8").await?;
        let proxy = Proxy::start(&scene.bed, Credentials::Administrator)?;
        let agent = scene.bed.process("afd", scene.agent(&proxy.kubeconfig(&json!({}))?))?;
        let labels = scene.until_label(COUNT, "8").await?.labels().clone();
        Ok(Faulty { scene, proxy, agent, labels })
    }

    /// An agent that has not yet met a fault, at rest.
    async fn fresh(&mut self) -> anyhow::Result<()> {
        self.agent.kill()?;
        self.agent.restart()?;
        until("the agent watches its Node", async || {
            ensure!(counted(("watch", "200")) >= 2.0, "{} watches", counted(("watch", "200")));
            Ok(())
        })
        .await?;
        self.proxy.until_quiet().await
    }

    /// Lets a fault last. Somebody changes a label of ours meanwhile, which is put right when the fault is over.
    async fn suffers(&mut self, trial: Trial) -> anyhow::Result<()> {
        let what = format!("{:?} of {:?}", trial.fault, trial.of);
        self.fresh().await.with_context(|| format!("before {what}"))?;
        self.suffer(trial).await.context(what)
    }

    async fn suffer(&self, trial: Trial) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.proxy.fail(trial.of, trial.fault);
        self.scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99" } } })).await?;
        scrape_for(trial.lasts).await?;
        self.same_labels().await?;
        let asked = self.proxy.asked_since(begun);
        let of = |object: &str| asked.iter().filter(|asked| asked.path.starts_with(object)).count();
        ensure!((1..=trial.requests).contains(&of(NODES)), "{} requests: {asked:?}", of(NODES));
        ensure!((1..=12).contains(&of(SLICES)), "{} requests: {asked:?}", of(SLICES));
        if let Some(counted) = trial.counted {
            until("it is counted", async || {
                ensure!(self::counted(counted) >= 1.0, "{counted:?} is not counted");
                Ok(())
            })
            .await?;
        }
        self.proxy.heal();
        self.scene.until_label(COUNT, "8").await?;
        self.same_labels().await
    }

    /// Nothing but the label that somebody changes has another value.
    async fn same_labels(&self) -> anyhow::Result<()> {
        let mut labels = self.scene.node().await?.labels().clone();
        let count = labels.insert(COUNT.to_owned(), "8".to_owned());
        ensure!(count.is_some_and(|count| ["8", "99"].contains(&count.as_str())), "{COUNT} is lost");
        ensure!(labels == self.labels, "labels moved from {:?} to {labels:?}", self.labels);
        Ok(())
    }
}

fn counted((verb, code): (&str, &str)) -> f64 {
    metric(&format!("afd_kubernetes_requests_total{{code=\"{code}\",verb=\"{verb}\"}}")).unwrap_or_default()
}

/// Scrapes for a time: every answer is whole and comes in time.
async fn scrape_for(time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < time {
        let asked = Instant::now();
        let answer = Agent::get_from(ADDRESS, "/metrics");
        times.push(asked.elapsed());
        let devices = answer.text().matches("\naccelerator_device_info{").count();
        ensure!(answer.status == 200 && devices == 8, "{} with {devices} devices", answer.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    ensure!(median < MEDIAN_SCRAPE && slowest < SCRAPE, "scrapes took {median:?}, at worst {slowest:?}");
    Ok(())
}

async fn refusals() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    for (status, reason, code) in [
        (401, "Unauthorized", "401"),
        (403, "Forbidden", "403"),
        (404, "NotFound", "404"),
        (500, "InternalError", "500"),
    ] {
        faulty.suffers(Trial::refusal(Of::All, status, reason, ("get", code))).await?;
    }
    ensure!(faulty.scene.nodes.get_opt(NODE).await?.is_some(), "the Node is gone");
    Ok(())
}

async fn refused_writes() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    for (status, reason, code) in [
        (409, "Conflict", "409"),
        (422, "Invalid", "422"),
        (403, "Forbidden", "403"),
        (500, "InternalError", "500"),
    ] {
        faulty.suffers(Trial::refusal(Of::Writes, status, reason, ("apply", code))).await?;
    }
    // Labels that are written and a watch that is refused: the Node is still kept, by looking at it now and then.
    faulty.suffers(Trial::refusal(Of::Watches, 403, "Forbidden", ("watch", "403"))).await
}

async fn busy() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    faulty.fresh().await?;
    let rest = Duration::from_secs(4);
    let begun = Instant::now();
    faulty.proxy.fail(Of::All, Fault::too_many_requests(4));
    scrape_for(rest * 3).await?;
    for object in [NODES, SLICES] {
        let requests = faulty.proxy.ensure_rests(object, begun, rest)?;
        ensure!((2..=3).contains(&requests), "{requests} requests for {object}");
    }
    ensure!(counted(("get", "429")) >= 2.0, "429 is counted {} times", counted(("get", "429")));
    faulty.scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99" } } })).await?;
    faulty.proxy.heal();
    faulty.scene.until_label(COUNT, "8").await?;
    faulty.same_labels().await
}

async fn hanging() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    let trial =
        |fault, counted| Trial { of: Of::All, fault, lasts: LONG, requests: 3, counted: Some(counted) };
    faulty.suffers(trial(Fault::NoAnswer, ("get", "timeout"))).await?;
    // Not a request gets through.
    faulty.fresh().await?;
    faulty.proxy.fail(Of::All, Fault::NoHandshake);
    scrape_for(LONG).await?;
    ensure!(counted(("get", "error")) + counted(("get", "timeout")) >= 1.0, "it is not counted");
    faulty.scene.somebody_patches(json!({ "metadata": { "labels": { COUNT: "99" } } })).await?;
    faulty.proxy.heal();
    faulty.scene.until_label(COUNT, "8").await?;
    faulty.same_labels().await
}

async fn unsteady() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    let trial = |fault, counted| Trial { of: Of::All, fault, lasts: SHORT, requests: 4, counted };
    faulty.suffers(trial(Fault::Reset, Some(("get", "error")))).await?;
    // Slow, but it goes well: read, write, watch.
    faulty.suffers(trial(Fault::Late(Duration::from_secs(2)), None)).await
}

async fn watches() -> anyhow::Result<()> {
    let mut faulty = Faulty::new().await?;
    // Each turn is a watch that ends and a read; the label that somebody changes costs a write or two.
    let trial = |fault, counted| Trial { of: Of::Watches, fault, lasts: SHORT * 2, requests: 10, counted };
    faulty.suffers(trial(Fault::WatchSays(String::new()), Some(("watch", "200")))).await?;
    faulty.suffers(trial(Fault::expired(), Some(("watch", "410")))).await?;
    faulty.suffers(trial(Fault::WatchSays("{\"type\":\"MODI".to_owned()), Some(("watch", "200")))).await
}
