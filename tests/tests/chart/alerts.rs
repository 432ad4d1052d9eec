//! The recording rules and alerts of the chart, as Prometheus' own promtool evaluates them.

#[path = "alerts/devices.rs"]
mod devices;
#[path = "alerts/records.rs"]
mod records;
#[path = "alerts/rollout.rs"]
mod rollout;

use std::{fs, process::Command};

use afd_test_cluster::{Bed, succeed};
use afd_tests::{chart::chart, workspace};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::setup::NAMESPACE;

const CONDITION: &str = "kube_node_status_condition{condition=\"accelerator.llm-d.ai/Ready\"";
const UNAVAILABLE: &str = "kube_daemonset_status_number_unavailable{namespace=\"afd\"";

/// The rules of a release, by the monitor that it has, with the job that this gives, and one of its DaemonSets.
const RELEASES: [(&str, &str, &str); 2] = [
    ("podMonitor.enabled=true", "afd/afd", "afd"),
    ("serviceMonitor.enabled=true,nvidia.mode=auto", "afd", "afd-nvidia-host"),
];

pub(crate) async fn alerts() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    for (values, job, set) in RELEASES {
        with_monitor(&bed, values, job, set).with_context(|| values.to_owned())?;
    }
    Ok(())
}

fn with_monitor(bed: &Bed, values: &str, job: &str, set: &str) -> anyhow::Result<()> {
    let mut helm = bed.helm()?;
    helm.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--show-only", "templates/monitoring.yaml"]);
    let values = format!("prometheusRule.enabled=true,{values}");
    let rendered = succeed(helm.args(["--set", &values]).arg(chart()))?;
    let (_, rule) = rendered.split_once("kind: PrometheusRule").context("there is no rule")?;
    let (_, groups) = rule.split_once("\nspec:\n").context("the rule has no content")?;
    let rules = bed.folder().join("rules.yaml");
    fs::write(&rules, groups)?;
    let checked = succeed(Command::new("promtool").args(["check", "rules"]).arg(&rules))?;
    ensure!(checked.contains("rules found"), "{checked}");
    every_alert_is_tested_and_explained(&fs::read_to_string(&rules)?)?;

    let tests = json!({
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [
            { "interval": "1m", "input_series": agents(job, set), "alert_rule_test": agent_alerts(job, set) },
            { "interval": "1m", "input_series": devices::series(true), "promql_expr_test": devices::alerts(), "alert_rule_test": devices::texts() },
            { "interval": "1m", "input_series": devices::series(false), "promql_expr_test": devices::alerts() },
            { "interval": "1m", "input_series": records::series(), "promql_expr_test": records::recorded() },
            { "interval": "1m", "input_series": rollout::series(), "promql_expr_test": rollout::idle() },
            { "interval": "1m", "input_series": [], "alert_rule_test": [
                { "eval_time": "14m", "alertname": "AcceleratorAgentAbsent", "exp_alerts": [] },
                { "eval_time": "20m", "alertname": "AcceleratorAgentAbsent", "exp_alerts": [{
                    "exp_labels": { "severity": "warning" },
                    "exp_annotations": {
                        "summary": "No agent is scraped",
                        "description": "No agent runs, or Prometheus does not find them.",
                        "runbook_url": "docs/alerts.md#acceleratoragentabsent",
                    },
                }] },
            ] },
        ],
    });
    let file = bed.folder().join("alerts.yaml");
    fs::write(&file, tests.to_string())?;
    succeed(Command::new("promtool").args(["test", "rules"]).arg(&file)).map(drop)
}

/// Each alert is in the tables below, and has a section of the runbook that its URL leads to.
fn every_alert_is_tested_and_explained(rules: &str) -> anyhow::Result<()> {
    let runbook = fs::read_to_string(workspace().join("docs/alerts.md"))?;
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    for alert in &alerts {
        ensure!(runbook.contains(&format!("\n## {alert}\n")), "{alert} is not in docs/alerts.md");
        ensure!(rules.contains(&format!("docs/alerts.md#{}\n", alert.to_lowercase())), "{alert} has no URL");
        let is_tested =
            devices::ALERTS.iter().any(|(name, ..)| name == alert) || AGENT_ALERTS.contains(alert);
        ensure!(is_tested, "{alert} is not tested");
    }
    // What it forgets is named by its id.
    for command in runbook.split("`afd forget ").skip(1) {
        ensure!(
            command.starts_with("missing-"),
            "no device has the id {}",
            command.lines().next().unwrap_or_default()
        );
    }
    let explained = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for section in explained {
        ensure!(alerts.contains(&section), "there is no alert {section}");
    }
    Ok(())
}

/// The alerts on agents.
const AGENT_ALERTS: [&str; 4] = [
    "AcceleratorAgentDown",
    "AcceleratorAgentUnavailable",
    "AcceleratorAgentMissing",
    "AcceleratorAgentAbsent",
];

/// Nodes: one whose agent is well, one whose agent is gone, one whose agent does not answer, and one without accelerators.
fn agents(job: &str, set: &str) -> Value {
    let up = |node: &str, values: &str| {
        let series = format!("up{{job=\"{job}\", instance=\"{node}:9109\", node=\"{node}\"}}");
        json!({ "series": series, "values": values })
    };
    let info = |node: &str, values: &str| {
        let labels = format!("job=\"{job}\", instance=\"{node}:9109\", node=\"{node}\", version=\"1\"");
        json!({ "series": format!("afd_build_info{{{labels}}}"), "values": values })
    };
    let condition = |node: &str, status: &str, value: u8| {
        let series = format!("{CONDITION}, node=\"{node}\", status=\"{status}\"}}");
        json!({ "series": series, "values": format!("{value}x120") })
    };
    json!([
        up("well", "1x120"), info("well", "1x120"), condition("well", "true", 1), condition("well", "false", 0),
        // Its series end, as those of a target that was removed.
        up("gone", "1x30 stale"), info("gone", "1x30 stale"), condition("gone", "true", 0), condition("gone", "false", 1),
        up("silent", "1x30 0x90"), info("silent", "1x30 stale"), condition("silent", "true", 1),
        up("none", "1x120"), info("none", "1x120"),
        // Another program.
        { "series": "up{job=\"other\", instance=\"well:9100\"}", "values": "0x120" },
        { "series": format!("{UNAVAILABLE}, daemonset=\"{set}\"}}"), "values": "0x30 2x90" },
    ])
}

fn agent_alerts(job: &str, set: &str) -> Value {
    let alert = |name: &str, labels: Value, summary: &str, description: &str| {
        let url = format!("docs/alerts.md#{}", name.to_lowercase());
        let texts = json!({ "summary": summary, "description": description, "runbook_url": url });
        let fired = json!([{ "exp_labels": labels, "exp_annotations": texts }]);
        json!({ "eval_time": "90m", "alertname": name, "exp_alerts": fired })
    };
    let quiet = |name: &str| json!({ "eval_time": "29m", "alertname": name, "exp_alerts": [] });
    let mut tests: Vec<Value> = AGENT_ALERTS.map(quiet).into();
    tests.extend([
        alert(
            "AcceleratorAgentDown",
            json!({ "severity": "warning", "node": "silent", "job": job, "instance": "silent:9109" }),
            "The agent silent:9109 of node silent does not answer",
            "The conditions and labels of the node are not updated.",
        ),
        alert(
            "AcceleratorAgentUnavailable",
            json!({ "severity": "warning", "namespace": "afd", "daemonset": set }),
            "2 agents are not available",
            "The conditions and labels of their nodes may not be updated.",
        ),
        alert(
            "AcceleratorAgentMissing",
            json!({ "severity": "warning", "node": "gone" }),
            "Node gone has a condition of an agent that is gone",
            "Its conditions and labels are not updated. See lastHeartbeatTime for how old they are; `afd cleanup --node-name` \
             removes them.",
        ),
    ]);
    json!(tests)
}
