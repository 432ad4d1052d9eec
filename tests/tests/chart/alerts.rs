//! The alerts of the chart, as Prometheus' own promtool evaluates them.

use std::{fs, process::Command};

use afd_test_cluster::{Bed, succeed};
use afd_tests::chart::chart;
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::setup::NAMESPACE;

const CONDITION: &str = "kube_node_status_condition{condition=\"accelerator.llm-d.ai/Ready\"";
const UNAVAILABLE: &str = "kube_daemonset_status_number_unavailable{namespace=\"afd\", daemonset=\"afd\"}";

pub(crate) async fn alerts() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let mut helm = bed.helm()?;
    helm.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--show-only", "templates/monitoring.yaml"]);
    let rendered =
        succeed(helm.args(["--set", "podMonitor.enabled=true,prometheusRule.enabled=true"]).arg(chart()))?;
    let (_, rule) = rendered.split_once("kind: PrometheusRule").context("there is no rule")?;
    let (_, groups) = rule.split_once("\nspec:\n").context("the rule has no content")?;
    let rules = bed.folder().join("rules.yaml");
    fs::write(&rules, groups)?;
    let checked = succeed(Command::new("promtool").args(["check", "rules"]).arg(&rules))?;
    ensure!(checked.contains("rules found"), "{checked}");

    let tests = json!({
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [{ "interval": "1m", "input_series": series(), "alert_rule_test": expected() }],
    });
    let file = bed.folder().join("alerts.yaml");
    fs::write(&file, tests.to_string())?;
    succeed(Command::new("promtool").args(["test", "rules"]).arg(&file)).map(drop)
}

/// Nodes: one whose agent is well, one whose agent is gone, one whose agent does not answer, one whose agent is stuck, and one
/// without accelerators.
fn series() -> Value {
    let up = |node: &str, values: &str| json!({ "series": format!("up{{job=\"afd/afd\", node=\"{node}\"}}"), "values": values });
    let condition = |node: &str, status: &str, value: u8| {
        let series = format!("{CONDITION}, node=\"{node}\", status=\"{status}\"}}");
        json!({ "series": series, "values": format!("{value}x120") })
    };
    let sampled = |node: &str, values: &str| {
        let series =
            format!("afd_last_sample_timestamp_seconds{{node=\"{node}\", probe=\"p\", source=\"kernel\"}}");
        json!({ "series": series, "values": values })
    };
    json!([
        up("well", "1x120"), condition("well", "true", 1), condition("well", "false", 0), sampled("well", "0+60x120"),
        // Its series end, as those of a target that was removed.
        up("gone", "1x30 stale"), condition("gone", "true", 0), condition("gone", "false", 1), sampled("gone", "0+60x30 stale"),
        up("silent", "1x30 0x90"), condition("silent", "true", 1), sampled("silent", "0+60x30 stale"),
        up("stuck", "1x120"), condition("stuck", "true", 1), sampled("stuck", "0+60x30 1800x90"),
        up("none", "1x120"),
        { "series": UNAVAILABLE, "values": "0x30 2x90" },
    ])
}

fn expected() -> Value {
    let alert = |time: &str, name: &str, labels: Value, summary: &str, description: &str| {
        json!({ "eval_time": time, "alertname": name, "exp_alerts": [
            { "exp_labels": labels, "exp_annotations": { "summary": summary, "description": description } },
        ] })
    };
    let quiet = |time: &str, name: &str| json!({ "eval_time": time, "alertname": name, "exp_alerts": [] });
    let warning = |node: &str| json!({ "severity": "warning", "node": node });
    let mut tests: Vec<Value> = [
        "AcceleratorAgentDown",
        "AcceleratorAgentStuck",
        "AcceleratorAgentUnavailable",
        "AcceleratorAgentMissing",
    ]
    .map(|name| quiet("29m", name))
    .into();
    tests.extend([
        alert(
            "90m",
            "AcceleratorAgentDown",
            json!({ "severity": "warning", "node": "silent", "job": "afd/afd" }),
            "The agent of node silent does not answer",
            "The conditions and labels of the node are not updated.",
        ),
        alert(
            "90m",
            "AcceleratorAgentStuck",
            warning("stuck"),
            "The agent of node stuck reads no sensors",
            "The conditions and labels of the node may not be updated.",
        ),
        alert(
            "90m",
            "AcceleratorAgentUnavailable",
            json!({ "severity": "warning", "namespace": "afd", "daemonset": "afd" }),
            "2 agents are not available",
            "The conditions and labels of their nodes may not be updated.",
        ),
        alert(
            "90m",
            "AcceleratorAgentMissing",
            warning("gone"),
            "Node gone has a condition of an agent that is gone",
            "Its conditions and labels are not updated. See lastHeartbeatTime for how old they are; `afd cleanup --node-name` \
             removes them.",
        ),
    ]);
    json!(tests)
}
