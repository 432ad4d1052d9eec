//! `nvidia.mode: auto`: each node is served by exactly one DaemonSet, and by the right one, whatever labels the GPU operator, NFD and the
//! platform have set.

use std::{collections::BTreeMap, fs};

use afd_test_cluster::Bed;
use afd_tests::chart::{chart, values_option};
use anyhow::{Context, ensure};
use regex::Regex;
use serde_json::{Value, json};

use super::{objects, of_kind};

const TOOLKIT: &str = "nvidia.com/gpu.deploy.container-toolkit";
const DRIVER: &str = "nvidia.com/gpu.deploy.driver";
const SANDBOX: &str = "nvidia.com/gpu.deploy.sandbox-validator";
const NFD: [&str; 3] = [
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0300_10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
];
const PLATFORM: &str = "cloud.google.com/gke-accelerator";
const POOL: &str = "pool";

pub(crate) type Labels = BTreeMap<&'static str, &'static str>;

/// Every value that each label may have, and its absence.
fn dimensions() -> Vec<(&'static str, Vec<Option<&'static str>>)> {
    let present = || vec![None, Some("true")];
    let paused = Some("paused-for-driver-upgrade");
    vec![
        (TOOLKIT, vec![None, Some("true"), Some("false"), paused]),
        (DRIVER, vec![None, Some("true"), Some("false"), Some("pre-installed"), paused]),
        (SANDBOX, present()),
        (NFD[0], present()),
        (NFD[1], present()),
        (NFD[2], present()),
        (PLATFORM, vec![None, Some("nvidia-h100-80gb")]),
        (POOL, vec![None, Some("a"), Some("b")]),
    ]
}

/// All combinations.
fn nodes() -> Vec<Labels> {
    dimensions().into_iter().fold(vec![Labels::new()], |nodes, (key, values)| {
        let with = |node: Labels| {
            values.clone().into_iter().map(move |value| {
                let mut node = node.clone();
                node.extend(value.map(|value| (key, value)));
                node
            })
        };
        nodes.into_iter().flat_map(with).collect()
    })
}

/// How Kubernetes reads an expression of a node affinity.
fn satisfies(expression: &Value, node: &Labels) -> bool {
    let value = expression["key"].as_str().and_then(|key| node.get(key));
    let is_listed =
        expression["values"].as_array().into_iter().flatten().any(|own| own.as_str() == value.copied());
    match expression["operator"].as_str() {
        Some("In") => value.is_some() && is_listed,
        Some("NotIn") => value.is_none() || !is_listed,
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        other => panic!("{other:?} is not evaluated here"),
    }
}

fn terms(set: &Value) -> &[Value] {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = &set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][required];
    affinity["nodeSelectorTerms"].as_array().map_or(&[], Vec::as_slice)
}

fn expressions(term: &Value) -> impl Iterator<Item = &Value> {
    term["matchExpressions"].as_array().into_iter().flatten()
}

/// An empty term matches no node.
pub(crate) fn serves(set: &Value, node: &Labels) -> bool {
    terms(set).iter().any(|term| {
        expressions(term).count() > 0 && expressions(term).all(|expression| satisfies(expression, node))
    })
}

/// What the labels of a node say, read as a person would.
fn expected(auto: &Value, node: &Labels) -> &'static str {
    let is_on = |name: &str| auto[name] != "";
    let has_one_of = |name: &str| {
        auto[name]
            .as_array()
            .into_iter()
            .flatten()
            .any(|label| label.as_str().is_some_and(|label| node.contains_key(label)))
    };
    let has_toolkit = node.get(TOOLKIT).is_some_and(|value| *value != "false");
    if is_on("runtimeClassName") && (has_toolkit || has_one_of("runtimeLabels")) {
        return "runtime";
    }
    let (way, root) = match node.get(DRIVER) {
        Some(&("false" | "pre-installed")) => ("host", "hostRoot"),
        Some(_) => ("container", "containerRoot"),
        None if has_one_of("nodeLabels") && !node.contains_key(SANDBOX) => ("host", "hostRoot"),
        None => return "none",
    };
    if is_on(root) { way } else { "none" }
}

pub(crate) async fn exclusive() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let nodes = nodes();
    let default = json!({ "runtimeClassName": "nvidia", "runtimeLabels": [], "hostRoot": "/",
        "containerRoot": "/run/nvidia/driver", "nodeLabels": NFD });
    let with = |more: Value| {
        let mut auto = default.clone();
        auto.as_object_mut().expect("it is an object").extend(more.as_object().cloned().unwrap_or_default());
        auto
    };
    for more in [
        json!({}),
        json!({ "runtimeClassName": "" }),
        json!({ "hostRoot": "" }),
        json!({ "containerRoot": "" }),
        json!({ "runtimeClassName": "", "hostRoot": "", "containerRoot": "" }),
        json!({ "nodeLabels": [] }),
        json!({ "nodeLabels": [PLATFORM], "hostRoot": "/home/kubernetes/bin/nvidia" }),
        json!({ "runtimeLabels": [PLATFORM, NFD[0]] }),
    ] {
        let auto = with(more);
        let sets = sets(&bed, &json!({ "nvidia": { "mode": "auto", "auto": auto } }))?;
        for node in &nodes {
            let serving: Vec<&str> =
                sets.iter().filter(|(_, set)| serves(set, node)).map(|(way, _)| way.as_str()).collect();
            ensure!(serving == [expected(&auto, node)], "{node:?} is served by {serving:?} with {auto}");
        }
    }
    let without_libraries = sets(&bed, &json!({ "nvidia": { "mode": "auto" }, "libraries": false }))?;
    let [(way, set)] = without_libraries.as_slice() else {
        anyhow::bail!("{} DaemonSets", without_libraries.len())
    };
    ensure!(way == "none" && nodes.iter().all(|node| serves(set, node)), "{set}");
    ensure!(super::agent(set)["securityContext"]["privileged"].is_null(), "{set}");
    // The admin's own affinity is a further condition, whatever form it has.
    let pools = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": POOL, "operator": "In", "values": ["a"] }] },
        { "matchExpressions": [{ "key": PLATFORM, "operator": "Exists" }, { "key": POOL, "operator": "Exists" }] },
    ] } }, "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [] } });
    let sets = sets(&bed, &json!({ "nvidia": { "mode": "auto" }, "affinity": pools }))?;
    for node in &nodes {
        let is_wanted =
            node.get(POOL) == Some(&"a") || (node.contains_key(POOL) && node.contains_key(PLATFORM));
        let count = sets.iter().filter(|(_, set)| serves(set, node)).count();
        ensure!(count == usize::from(is_wanted), "{count} DaemonSets serve {node:?}");
    }
    for (_, set) in &sets {
        ensure!(set["spec"]["template"]["spec"]["affinity"]["podAffinity"].is_object(), "{set}");
    }
    no_label_is_written_by_an_agent(&sets)?;
    ways_differ_in_what_they_mount(&sets)?;
    refused(&bed)
}

/// The DaemonSets by their way.
fn sets(bed: &Bed, values: &Value) -> anyhow::Result<Vec<(String, Value)>> {
    let objects =
        objects(bed, &["--show-only", "templates/daemonset.yaml", &values_option(bed.folder(), values)])?;
    let name = |set: &Value| {
        let way = set["spec"]["selector"]["matchLabels"]["accelerator.llm-d.ai/nvidia"]
            .as_str()
            .unwrap_or_default();
        way.to_owned()
    };
    let sets: Vec<(String, Value)> =
        of_kind(&objects, "DaemonSet").into_iter().map(|set| (name(set), set.clone())).collect();
    // No set selects the pods of another one.
    for (way, set) in &sets {
        for (other, template) in &sets {
            let own = set["spec"]["selector"]["matchLabels"].as_object().context("it selects by labels")?;
            let labels = &template["spec"]["template"]["metadata"]["labels"];
            let selects = own.iter().all(|(key, value)| labels[key] == *value);
            ensure!(selects == (way == other), "{way} and the pods of {other}: {labels}");
        }
    }
    Ok(sets)
}

/// A label that an agent writes would move the agent that has written it.
fn no_label_is_written_by_an_agent(sets: &[(String, Value)]) -> anyhow::Result<()> {
    let vendors: Value = serde_json::from_str(&fs::read_to_string(chart().join("vendors.json"))?)?;
    let list = |name: &str| -> Vec<String> {
        let all =
            vendors.as_array().into_iter().flatten().filter_map(|vendor| vendor[name].as_array()).flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let patterns: Vec<Regex> =
        list("labelKeyPatterns").iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>()?;
    let keys = list("labelKeys");
    ensure!(keys.iter().any(|key| key == "nvidia.com/gpu.present") && !patterns.is_empty(), "{keys:?}");
    for (way, set) in sets {
        for expression in terms(set).iter().flat_map(expressions) {
            let key = expression["key"].as_str().context("an expression has a key")?;
            let is_own = key.contains("llm-d.ai/") || keys.iter().any(|own| own == key);
            ensure!(!is_own && !patterns.iter().any(|own| own.is_match(key)), "{way} is chosen by {key}");
        }
    }
    Ok(())
}

fn ways_differ_in_what_they_mount(sets: &[(String, Value)]) -> anyhow::Result<()> {
    for (way, class, privileged, mounted) in [
        ("runtime", json!("nvidia"), Value::Null, &[][..]),
        ("container", Value::Null, json!(true), &["/run/nvidia/driver"]),
        ("host", Value::Null, json!(true), &["/usr"]),
        ("none", Value::Null, Value::Null, &[]),
    ] {
        let (_, set) = sets.iter().find(|(own, _)| own == way).context(way)?;
        let pod = &set["spec"]["template"]["spec"];
        let paths: Vec<_> =
            pod["volumes"].as_array().into_iter().flatten().map(|one| &one["hostPath"]["path"]).collect();
        for path in ["/usr", "/run/nvidia/driver"] {
            let is_mounted = paths.iter().any(|own| **own == path);
            ensure!(is_mounted == mounted.contains(&path), "{way} and {path}: {paths:?}");
        }
        let context = &super::agent(set)["securityContext"];
        ensure!(pod["runtimeClassName"] == class && context["privileged"] == privileged, "{way}: {pod}");
    }
    Ok(())
}

fn refused(bed: &Bed) -> anyhow::Result<()> {
    for (values, message) in [
        ("nvidia.mode=auto,nvidia.driverRoot=/", "nvidia.mode: auto takes nvidia.auto.runtimeClassName"),
        (
            "nvidia.mode=auto,nvidia.auto.nodeLabels={nvidia.com/gpu.present}",
            "the agents themselves write nvidia.com/gpu.present",
        ),
        ("nvidia.mode=auto,nvidia.auto.nodeLabels={nvidia.com/gpu.product}", "the agents themselves write"),
        (
            "nvidia.mode=auto,nvidia.auto.runtimeLabels={accelerator.llm-d.ai/vendor}",
            "the agents themselves write",
        ),
    ] {
        let error = super::render(bed, &["--set", values]).err().with_context(|| values.to_owned())?;
        ensure!(format!("{error:#}").contains(message), "{values}: {error:#}");
    }
    Ok(())
}
