//! Monitors, rules and dashboards: they cover the agents of all DaemonSets, and none of them the port of the endpoint picker, whose values
//! are made for routing.

use std::{fs, process::Command};

use afd_test_cluster::{Bed, succeed};
use afd_tests::chart::{chart, values_option};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{objects, of_kind, render};

/// Every page of the port `metrics`, with the switches that serve it.
const PAGES: [&str; 7] = [
    "/metrics",
    "/compat/dcgm",
    "/compat/amd",
    "/compat/xpum",
    "/compat/xpumd",
    "/compat/gaudi",
    "/compat/tpu",
];

pub(crate) async fn monitors() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    for (value, kind, endpoints) in [
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
    ] {
        let relabeling = json!({ "targetLabel": "zone", "replacement": "a" });
        let values = json!({
            "nvidia": { "mode": "auto" },
            "metrics": { "compat": ["amd", "intel", "gaudi", "tpu"], "webConfigSecret": "web" },
            "networkPolicy": { "enabled": true },
            // What the chart or a value sets of one object takes precedence.
            "commonLabels": { "app.kubernetes.io/component": "other", "release": "other", "team": "other" },
            "service": { "labels": { "team": "ml" } }, "podLabels": { "team": "ml" },
            "prometheusRule": { "enabled": true },
            value: { "enabled": true, "dcgm": true, "labels": { "release": "prometheus" }, "interval": "30s", "scrapeTimeout": "9s",
                "relabelings": [relabeling], "metricRelabelings": [relabeling], "jobLabel": "team", "attachMetadata": { "node": true },
                "endpoint": { "basicAuth": { "username": { "name": "web", "key": "user" } } } },
        });
        let objects = objects(&bed, &[&values_option(bed.folder(), &values)])?;
        let monitors = of_kind(&objects, kind);
        let (mut paths, mut jobs) = (Vec::new(), Vec::new());
        for monitor in &monitors {
            let spec = &monitor["spec"];
            ensure!(spec["jobLabel"] == "team" && spec["attachMetadata"]["node"] == true, "{spec}");
            ensure!(monitor["metadata"]["labels"]["release"] == "prometheus", "{monitor}");
            selects_all(&objects, kind, &spec["selector"]["matchLabels"])?;
            let [endpoint] = spec[endpoints].as_array().map_or(&[][..], Vec::as_slice) else {
                anyhow::bail!("{spec} has not one endpoint")
            };
            ensure!(endpoint["port"] == "metrics" && endpoint["honorLabels"] == true, "{endpoint}");
            ensure!(endpoint["interval"] == "30s" && endpoint["scrapeTimeout"] == "9s", "{endpoint}");
            ensure!(endpoint["scheme"] == "https" && endpoint["basicAuth"].is_object(), "{endpoint}");
            ensure!(endpoint["metricRelabelings"] == json!([relabeling]), "{endpoint}");
            let own = endpoint["relabelings"].as_array().context("it has relabelings")?;
            ensure!(own[0]["targetLabel"] == "node" && own.last() == Some(&relabeling), "{endpoint}");
            paths.push(endpoint["path"].as_str().context("it has a path")?.to_owned());
            let job = own.iter().find(|one| one["targetLabel"] == "job");
            jobs.push(job.map_or(Value::Null, |job| job["replacement"].clone()));
        }
        ensure!(paths == PAGES, "{paths:?}");
        // Two targets of one address have the same series `up`, unless they have another job.
        ensure!((0..jobs.len()).all(|index| !jobs[..index].contains(&jobs[index])), "{jobs:?}");
        let rules = of_kind(&objects, "PrometheusRule")[0].to_string();
        ensure!(rules.contains("up{job=~\\\"ml\\\"}"), "{rules}");
        no_port_of_the_endpoint_picker(&monitors, &objects)?;
        let policy = of_kind(&objects, "NetworkPolicy")[0];
        selects_all(&objects, "PodMonitor", &policy["spec"]["podSelector"]["matchLabels"])?;
    }
    for wrong in ["endpoint.port=dcgm", "endpoint.path=/", "interval=often", "other=1"] {
        let rendered = render(&bed, &["--set", &format!("podMonitor.enabled=true,podMonitor.{wrong}")]);
        ensure!(rendered.is_err(), "the schema accepts {wrong}");
    }
    let both = render(&bed, &["--set", "podMonitor.enabled=true,serviceMonitor.enabled=true"]);
    ensure!(
        both.is_err_and(|error| format!("{error:#}").contains("counted twice")),
        "both monitors are accepted"
    );
    rules(&bed)?;
    dashboards(&bed)?;
    namespace(&bed)
}

/// A monitor selects pods, or the Service, which selects pods: those of every DaemonSet.
fn selects_all(objects: &[Value], kind: &str, selector: &Value) -> anyhow::Result<()> {
    let selects = |selector: &Value, labels: &Value| {
        selector
            .as_object()
            .is_some_and(|own| !own.is_empty() && own.iter().all(|(key, value)| labels[key] == *value))
    };
    let mut selector = selector;
    if kind == "ServiceMonitor" {
        let service = of_kind(objects, "Service").first().copied().context("there is a Service")?;
        ensure!(selects(selector, &service["metadata"]["labels"]), "{selector} and {service}");
        selector = &service["spec"]["selector"];
    }
    let sets = of_kind(objects, "DaemonSet");
    ensure!(sets.len() == 4, "{} DaemonSets", sets.len());
    for set in sets {
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        ensure!(selects(selector, labels), "{selector} does not select {labels}");
    }
    Ok(())
}

fn no_port_of_the_endpoint_picker(monitors: &[&Value], objects: &[Value]) -> anyhow::Result<()> {
    let set = of_kind(objects, "DaemonSet")[0];
    let ports = super::agent(set)["ports"].as_array().context("the agent has ports")?;
    let picker = ports.iter().find(|port| port["containerPort"] == 9400).context("it has the port")?;
    for monitor in monitors.iter().copied().chain(of_kind(objects, "Service")) {
        let text = monitor["spec"].to_string();
        let name = picker["name"].as_str().context("the port has a name")?;
        ensure!(!text.contains("9400") && !text.contains(&format!("\"port\":\"{name}\"")), "{text}");
        ensure!(!text.contains(&format!("\"targetPort\":\"{name}\"")), "{text}");
    }
    Ok(())
}

/// The jobs of the rules are those of the monitor that is on; a file has the same rules.
fn rules(bed: &Bed) -> anyhow::Result<()> {
    for (values, job) in [
        ("podMonitor.enabled=true", "afd/afd"),
        ("serviceMonitor.enabled=true", "afd"),
        ("podMonitor.enabled=false", "afd/afd|afd"),
        (
            "podMonitor.enabled=true,podMonitor.jobLabel=app.kubernetes.io/name",
            "accelerator-feature-discovery",
        ),
        ("serviceMonitor.enabled=true,serviceMonitor.jobLabel=team,service.labels.team=ml.x", "ml[.]x"),
        ("prometheusRule.job=node-.*", "node-.*"),
    ] {
        let more =
            "prometheusRule.enabled=true,rulesConfigMap.enabled=true,rulesConfigMap.namespace=monitoring";
        let objects = objects(bed, &["--set", more, "--set", values])?;
        let rule = of_kind(&objects, "PrometheusRule").first().copied().context("there is a rule")?;
        let text = rule.to_string();
        ensure!(text.contains(&format!("up{{job=~\\\"{job}\\\"}}")), "{values}: {text}");
        let map = of_kind(&objects, "ConfigMap").first().copied().context("there is a ConfigMap")?;
        ensure!(
            map["metadata"]["namespace"] == "monitoring" && map["metadata"]["name"] == "afd-rules.afd",
            "{map}"
        );
        let file = map["data"]["accelerators.rules.yaml"].as_str().context("it has the file")?;
        ensure!(serde_saphyr::from_str::<Value>(file)? == rule["spec"], "{file}");
    }
    special_jobs(bed)
}

/// A job may have what is special in PromQL, in YAML or in the file of rules. Prometheus loads the rules, with the job as it is.
fn special_jobs(bed: &Bed) -> anyhow::Result<()> {
    for (job, literal) in [
        (r"node-\d+", r"node-\\d+"),
        (r#"a"b"#, r#"a\"b"#),
        ("a: b #c\nd", r"a: b #c\nd"),
        ("NAME|JOB <é>", "NAME|JOB <é>"),
    ] {
        let values = json!({ "prometheusRule": { "job": job }, "rulesConfigMap": { "enabled": true, "key": "rules" } });
        let objects = objects(bed, &[&values_option(bed.folder(), &values)])?;
        let map = of_kind(&objects, "ConfigMap").first().copied().context("there is a ConfigMap")?;
        let text = map["data"]["rules"].as_str().context("it has the file")?;
        let selectors = text.matches(&format!("up{{job=~\"{literal}\"}}")).count();
        ensure!(selectors == 2, "{job}: {text}");
        let file = bed.folder().join("rules.yaml");
        fs::write(&file, text)?;
        succeed(Command::new("promtool").args(["check", "rules"]).arg(&file))
            .with_context(|| job.to_owned())?;
    }
    let refused = render(bed, &["--set", "prometheusRule.enabled=true,prometheusRule.job=(a"]);
    ensure!(refused.is_err(), "the chart accepts a job that is no regular expression");
    Ok(())
}

/// Each file of the folder is a ConfigMap, as it is but for the address of runbooks: Grafana's templates are not Helm's.
fn dashboards(bed: &Bed) -> anyhow::Result<()> {
    let copy = bed.folder().join("chart");
    for entry in walk(&chart())? {
        let target = copy.join(entry.strip_prefix(chart())?);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::copy(&entry, target)?;
    }
    let folder = copy.join("dashboards");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let dashboard = "{\"title\": \"Fleet\", \"legendFormat\": \"{{node}} $__rate_interval 'x'\", \"query\": \"docs/alerts.md\"}\n";
    fs::write(folder.join("Fleet.json"), dashboard)?;
    fs::write(folder.join("node.json"), "{}")?;
    let rendered = |values: &str| -> anyhow::Result<Vec<Value>> {
        let mut helm = bed.helm()?;
        helm.args(["template", "afd", "--namespace", "afd"]).arg(&copy).args(["--set", values]);
        let text = succeed(&mut helm)?;
        let all: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        Ok(all.into_iter().filter(|object| object["kind"] == "ConfigMap").collect())
    };
    ensure!(rendered("dashboards.enabled=false")?.is_empty(), "they are off by default");
    let maps = rendered("dashboards.enabled=true,dashboards.annotations.grafana_folder=AI")?;
    let [fleet, node] = maps.as_slice() else { anyhow::bail!("{maps:?}") };
    ensure!(
        fleet["metadata"]["name"] == "afd-dashboard-fleet"
            && node["metadata"]["name"] == "afd-dashboard-node",
        "{maps:?}"
    );
    ensure!(fleet["data"]["Fleet.json"] == dashboard, "{fleet}");
    ensure!(
        fleet["metadata"]["labels"]["grafana_dashboard"] == "1"
            && fleet["metadata"]["annotations"]["grafana_folder"] == "AI",
        "{fleet}"
    );
    let address = "https://docs.example/alerts";
    let moved = rendered(&format!("dashboards.enabled=true,prometheusRule.runbooks={address}"))?;
    ensure!(moved[0]["data"]["Fleet.json"] == dashboard.replace("docs/alerts.md", address), "{}", moved[0]);
    let apart = rendered("dashboards.enabled=true,dashboards.namespace=grafana")?;
    let metadata = &apart[0]["metadata"];
    ensure!(
        metadata["name"] == "afd-dashboard-fleet.afd" && metadata["namespace"] == "grafana",
        "{metadata}"
    );
    Ok(())
}

fn walk(folder: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// A namespace is not created unless it is asked for, and then it has the labels and stays.
fn namespace(bed: &Bed) -> anyhow::Result<()> {
    ensure!(of_kind(&objects(bed, &[])?, "Namespace").is_empty(), "a namespace is created");
    let objects = objects(bed, &["--set", "namespace.create=true,namespace.labels.team=ml"])?;
    let namespace = of_kind(&objects, "Namespace").first().copied().context("there is a namespace")?;
    let labels = &namespace["metadata"]["labels"];
    for mode in ["enforce", "audit", "warn"] {
        ensure!(labels[format!("pod-security.kubernetes.io/{mode}")] == "privileged", "{labels}");
    }
    ensure!(
        labels["team"] == "ml" && namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep",
        "{namespace}"
    );
    Ok(())
}
