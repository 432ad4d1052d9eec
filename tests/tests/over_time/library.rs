//! The library is slow, silent, or fails.

use std::{
    fs,
    time::{Duration, Instant},
};

use afd_test_cluster::until;
use afd_tests::agent::{Agent, library_process};
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    scene::{
        ALL_HEALTHY, ESSENTIAL_CALLS, HEALTHY, MEMORY, NO_FAULT, Scene, lines, until_metric, until_sampled,
        writes,
    },
    setup::{ADDRESS, COUNT, metric},
};

const SILENT: &str = "Unknown LibraryNotResponding";
const PENDING: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"pending\"}";
const UNREADABLE: &str = "afd_probe_problems{probe=\"nvidia\",reason=\"unreadable\"}";
const LAST_SAMPLE: &str = "afd_last_sample_timestamp_seconds";
const RUNTIME: &str = "nvmlSystemGetCudaDriverVersion_v2";

pub(crate) async fn slow_start() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[("library-grace", "60")]).await?;
    let mark = scene.witness.mark().await?;
    scene.nvml().update(|recording| {
        recording["faults"] = json!({ "delay_milliseconds": { "nvmlInit_v2": 8000 } });
    });
    let start = Instant::now();
    scene.restart()?;
    until_sampled(8).await?;
    ensure!(start.elapsed() > Duration::from_secs(8), "the library was fast");
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()?;
    ensure!(writes() == 0.0, "the agent sent {} writes", writes());
    Ok(())
}

pub(crate) async fn mismatch() -> anyhow::Result<()> {
    const MISMATCH: &str = "False DriverLibraryMismatch";
    let mut scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let init = |answer: Value| {
        scene.nvml().update(|recording| recording["system"]["nvmlInit_v2"] = answer);
    };
    init(json!({ "error": "LIB_RM_VERSION_MISMATCH" }));
    scene.restart()?;
    // It takes the library for stale in its container only, and ends so that the kubelet creates another container.
    until("the agent has ended", async || scene.agent.ended()?.context("it is running")).await?;
    scene.agent.restart()?;
    scene.until_condition("Ready", MISMATCH).await?;
    scene.until_idle().await?;
    // A new pod has the library that fits.
    scene.nvml().update(|recording| recording["system"]["nvmlInit_v2"] = json!({ "value": null }));
    scene.restart()?;
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    // A GPU that has failed serves no path.
    let paths = history.keys_with("accelerator.llm-d.ai/path.");
    let except: Vec<&str> = paths.iter().map(String::as_str).chain([HEALTHY]).collect();
    history.ensure_labels_stay(&except)?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, MISMATCH, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}

/// Memory, MIG mode and CUDA version of all GPUs cannot be read.
fn fail_calls(recording: &mut Value) {
    let unknown = json!({ "error": "UNKNOWN" });
    recording["system"][RUNTIME] = unknown.clone();
    for device in recording["devices"].as_array_mut().into_iter().flatten() {
        for call in ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode"] {
            device["answers"][call] = unknown.clone();
        }
    }
}

/// Not even the report of problems is written: they are over before they count, which a busy machine must not delay.
pub(crate) async fn failed_calls() -> anyhow::Result<()> {
    let scene = Scene::settled(&[("removal-grace", "600")]).await?;
    let mark = scene.witness.mark().await?;
    let mut right = Value::Null;
    scene.nvml().update(|recording| {
        right = recording.clone();
        fail_calls(recording);
    });
    until("the failures are counted", async || metric(UNREADABLE).map(drop).context("there is no problem"))
        .await?;
    scene.nvml().update(|recording| *recording = right);
    until("they are over", async || {
        ensure!(metric(UNREADABLE).is_none(), "there is a problem");
        Ok(())
    })
    .await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_unwritten()
}

/// The first answers that an agent gets are failures: nothing is known of an earlier one but what the Node says.
pub(crate) async fn failed_calls_after_restart() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    let mut right = Value::Null;
    scene.nvml().update(|recording| {
        right = recording.clone();
        fail_calls(recording);
    });
    scene.restart()?;
    until_sampled(8).await?;
    scene.until_idle().await?;
    scene.nvml().update(|recording| *recording = right);
    until("the memory is known again", async || {
        let known = lines("accelerator_device_memory_total_bytes{").len();
        ensure!(known == 8, "it is known of {known}");
        Ok(())
    })
    .await?;
    scene.until_idle().await?;
    scene.witness.since(mark).await?.ensure_only_reported()
}

pub(crate) async fn hanging() -> anyhow::Result<()> {
    let scene = Scene::settled(&[]).await?;
    let mark = scene.witness.mark().await?;
    scene.nvml().fault("hang", &ESSENTIAL_CALLS);
    until_metric(PENDING, 1.0).await?;
    ensure!(scene.now().await?.condition("Ready") == ALL_HEALTHY, "the grace is not over");
    scene.until_condition("Ready", SILENT).await?;
    until("no GPU counts as healthy", async || {
        let unknown = lines("accelerator_device_health{");
        let unknown =
            unknown.iter().filter(|line| line.contains("state=\"unknown\"") && line.ends_with(" 1"));
        ensure!(unknown.count() == 8, "not all of them are unknown");
        Ok(())
    })
    .await?;
    // The library's samples stop, and those of the kernel go on.
    let sampled = |source| metric(&format!("{LAST_SAMPLE}{{probe=\"nvidia\",source=\"{source}\"}}"));
    let (library, kernel) = (sampled("library"), sampled("kernel"));
    until("the kernel is sampled", async || {
        ensure!(sampled("kernel") > kernel.map(|time| time + 2.0), "it is not");
        Ok(())
    })
    .await?;
    ensure!(library.is_some() && sampled("library") == library, "{library:?}, then {:?}", sampled("library"));
    scene.until_idle().await?;

    end_library(&scene)?;
    scene.until_condition("Ready", ALL_HEALTHY).await?;
    scene.setup.until_label(HEALTHY, "8").await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[HEALTHY])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, SILENT, ALL_HEALTHY])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}

/// The driver lets its callers go: calls no longer hang, and those that hang end with their process.
fn end_library(scene: &Scene) -> anyhow::Result<()> {
    scene.nvml().fault("hang", &[]);
    let pid = library_process(scene.agent.pid()).context("there is no library process")?;
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id is above 0")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// While the library hangs, another manager changes a key that is decided and one that is not.
pub(crate) async fn contested() -> anyhow::Result<()> {
    let mut scene = Scene::settled(&[]).await?;
    scene.nvml().fault("hang", &ESSENTIAL_CALLS);
    scene.restart()?;
    until_metric(PENDING, 1.0).await?;
    let mark = scene.witness.mark().await?;
    scene.setup.overwrite_count().await?;
    scene.setup.until_label(COUNT, "8").await?;
    let wrong = json!({ "metadata": { "labels": { MEMORY: "1" } } });
    scene.setup.patch_as_other(wrong).await?;
    scene.until_idle().await?;
    scene.setup.until_label(MEMORY, "1").await.context("an undecided key is not forced")?;
    end_library(&scene)?;
    scene.setup.until_label(MEMORY, "81559").await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[COUNT, MEMORY])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY])
}

/// Each agent lives for a shorter time than the grace.
pub(crate) async fn crash_loop() -> anyhow::Result<()> {
    const GRACE: Duration = Duration::from_secs(20);
    let mut scene = Scene::settled(&[("library-start-grace", "20")]).await?;
    let mark = scene.witness.mark().await?;
    scene.nvml().fault("hang", &ESSENTIAL_CALLS);
    let start = Instant::now();
    let mut restarts = 0;
    while scene.now().await?.condition("Ready") == ALL_HEALTHY {
        ensure!(start.elapsed() < GRACE * 6, "{restarts} restarts have lengthened the grace");
        scene.restart()?;
        restarts += 1;
        until("the agent has observed", async || {
            let response = Agent::try_get_from(ADDRESS, "/readyz").context("it does not serve")?;
            ensure!(response.status == 200, "it is not ready");
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    ensure!(restarts >= 3, "after {restarts} restarts and {:?} the grace was over", start.elapsed());
    ensure!(start.elapsed() >= GRACE, "the grace was cut short to {:?}", start.elapsed());
    let state = fs::read_to_string(scene.setup.bed.folder().join("state/state.json"))?;
    ensure!(state.contains("nvidia"), "the state is {state}");
    // A later agent does not begin another grace.
    scene.restart()?;
    until_metric(PENDING, 1.0).await?;
    scene.until_idle().await?;
    let history = scene.witness.since(mark).await?;
    history.ensure_labels_stay(&[HEALTHY])?;
    history.ensure_no_flapping(&[])?;
    history.ensure_condition("Ready", &[ALL_HEALTHY, SILENT])?;
    history.ensure_condition("Problem", &[NO_FAULT])
}
