//! `afd nodes` and `afd generate` over a file of Nodes: the Nodes that agents would maintain on fixture hosts.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "fleet/nodes.rs"]
mod nodes;

use std::{fs, path::PathBuf, process::Command};

use afd_tests::{afd, binary, output, stdout, workspace};
use expect_test::expect_file;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATH: &str = "pd-disaggregation";

fn fleet() -> PathBuf {
    workspace().join("fixtures/fleet/nodes.json")
}

/// The output of a command over the file of Nodes.
fn over_fleet(arguments: &str) -> String {
    stdout(afd(arguments.split(' ')).arg("--from").arg(fleet()))
}

/// The names in the output of `afd nodes -o json`.
fn names(arguments: &str) -> Vec<String> {
    let rows: Value =
        serde_json::from_str(&over_fleet(&format!("nodes -o json{arguments}"))).expect("it is JSON");
    let rows = rows.as_array().expect("it is an array").iter();
    rows.map(|row| row["node"].as_str().expect("it has a name").to_owned()).collect()
}

/// Output of a command over these Nodes.
fn over(arguments: &str, list: &Value) -> std::process::Output {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("nodes.json");
    fs::write(&file, list.to_string()).expect("the file can be written");
    output(afd(arguments.split(' ')).arg("--from").arg(file))
}

#[test]
fn the_file_of_nodes_is_what_agents_write_on_the_fixture_hosts() {
    let text = serde_json::to_string_pretty(&nodes::list()).expect("it is JSON");
    expect_file![fleet()].assert_eq(&(text + "\n"));
}

#[test]
fn the_fleet_is_shown_as_expected() {
    let views = [
        ("table.txt", "nodes --all".to_owned()),
        ("wide.txt", "nodes -o wide".to_owned()),
        ("nodes.json", "nodes --all -o json".to_owned()),
        ("explain.txt", format!("nodes --explain {PATH}")),
        ("drift.txt", "nodes --drift".to_owned()),
        ("kueue.yaml", "generate kueue".to_owned()),
        ("karpenter.yaml", "generate karpenter".to_owned()),
        ("nodeaffinity.yaml", "generate nodeaffinity".to_owned()),
        ("grove.yaml", "generate grove".to_owned()),
    ];
    for (file, arguments) in views {
        let expected = workspace().join("fixtures/fleet/expected").join(file);
        expect_file![expected].assert_eq(&over_fleet(&arguments));
    }
}

#[test]
fn nodes_are_selected_by_label_vendor_product_path_and_problem() {
    let all = names("");
    assert!(all.len() > 8 && !all.contains(&"cpu-1".to_owned()), "{all:?}");
    assert_eq!(names(" --all").len(), all.len() + 1);
    assert_eq!(names(" --vendor amd"), ["mi300x-1", "mi300x-2"]);
    assert_eq!(names(" --product Gaudi2"), ["gaudi-1"], "a model");
    assert_eq!(names(" --product NVIDIA-GB200"), ["gb200-1", "gb200-2"], "a product");
    assert_eq!(names(" --problem"), ["h100-lost"]);
    assert_eq!(names(" -l topology.kubernetes.io/zone=b"), ["gaudi-1", "tpu-1"]);
    let able = names(&format!(" --path {PATH}"));
    let rows: Value = serde_json::from_str(&over_fleet("nodes -o json")).expect("it is JSON");
    let labelled = rows.as_array().expect("it is an array").iter().filter(|row| row["paths"][PATH] == true);
    assert!(!able.is_empty() && able.len() == labelled.count(), "{able:?}");
}

#[test]
fn nodes_of_a_product_are_compared_and_a_tie_is_no_majority() {
    let drifts: Value = serde_json::from_str(&over_fleet("nodes --drift -o json")).expect("it is JSON");
    let drifts = drifts.as_array().expect("it is an array");
    let of = |node: &str| -> Vec<&Value> { drifts.iter().filter(|drift| drift["node"] == node).collect() };
    let facts: Vec<&Value> = of("h100-4").iter().map(|drift| &drift["fact"]).collect();
    assert_eq!(facts, ["driver", "firmware"]);
    assert_eq!(
        (&of("h100-4")[0]["value"], of("h100-4")[0]["compared_nodes"].as_u64()),
        (&json!("580.95.05"), Some(6))
    );
    assert!(of("h100-1").is_empty() && of("gaudi-1").is_empty(), "{drifts:?}");
    // Two Nodes of one product that differ.
    assert!(
        of("mi300x-1").iter().chain(&of("mi300x-2")).all(|drift| drift["majority"].is_null()),
        "{drifts:?}"
    );
    assert_eq!((of("mi300x-1").len(), of("mi300x-2").len()), (1, 1));
}

#[test]
fn a_node_with_fewer_links_differs_and_one_of_unknown_links_does_not() {
    let mut list = nodes::list();
    let drifts = |list: &Value| -> Vec<Value> {
        let output = over("nodes --drift -o json", list);
        assert!(output.status.success(), "{output:?}");
        let drifts: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it is JSON");
        drifts.into_iter().filter(|drift| drift["fact"] == "linked-devices").collect()
    };
    let of = |drifts: &[Value]| -> Vec<(String, String)> {
        let text = |drift: &Value, field: &str| drift[field].as_str().unwrap_or_default().to_owned();
        drifts.iter().map(|drift| (text(drift, "node"), text(drift, "value"))).collect()
    };
    let lost = ("h100-lost".to_owned(), "6".to_owned());
    assert_eq!(of(&drifts(&list)), std::slice::from_ref(&lost));
    set_links(&mut list, "h100-3", |linked| *linked = json!(5));
    let found = drifts(&list);
    assert_eq!(of(&found), [("h100-3".to_owned(), "5".to_owned()), lost.clone()]);
    assert_eq!((&found[0]["majority"], &found[0]["compared_nodes"]), (&json!("7"), &json!(5)));
    set_links(&mut list, "h100-3", |linked| *linked = Value::Null);
    assert_eq!(of(&drifts(&list)), [lost], "what is not known is not compared");
}

/// Changes the number of linked devices of each device in the report of a Node.
fn set_links(list: &mut Value, name: &str, change: impl Fn(&mut Value)) {
    let nodes = list["items"].as_array_mut().expect("it is a list");
    let node = nodes.iter_mut().find(|node| node["metadata"]["name"] == name).expect("it is listed");
    let report = &mut node["metadata"]["annotations"]["accelerator.llm-d.ai/report"];
    let mut content: Value = serde_json::from_str(report.as_str().expect("it is text")).expect("it is JSON");
    let devices = content["devices"].as_array_mut().expect("there are devices");
    devices.iter_mut().for_each(|device| change(&mut device["linked_devices"]));
    *report = json!(content.to_string());
}

#[test]
fn the_fleet_is_explained_by_what_nodes_lack() {
    let groups: Value =
        serde_json::from_str(&over_fleet(&format!("nodes --explain {PATH} -o json"))).expect("it is JSON");
    let groups = groups.as_array().expect("it is an array");
    let nodes: usize = groups.iter().map(|group| group["nodes"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(nodes, names("").len(), "each Node is in one group");
    let ready = groups.iter().find(|group| group["ready"] == true).expect("some can serve it");
    assert_eq!(ready["nodes"], json!(names(&format!(" --path {PATH}"))));
    let lacking: Vec<&Value> = groups.iter().filter(|group| group["ready"] == false).collect();
    assert!(
        !lacking.is_empty() && lacking.iter().all(|group| group["reasons"][0].is_string()),
        "{lacking:?}"
    );
    let unknown = groups.iter().find(|group| group["unknown"].is_array()).expect("some facts are not known");
    assert!(unknown["unknown"][0].as_str().is_some_and(|fact| fact.contains("not known")), "{unknown}");
    let wrong = output(afd(["nodes", "--explain", "none", "--from"]).arg(fleet()));
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains(PATH), "{wrong:?}");
}

#[test]
fn what_a_node_says_does_not_control_the_terminal() {
    let mut list = nodes::list();
    let evil = "\u{1b}[31m\u{202e}\n";
    let node = &mut list["items"][0];
    node["metadata"]["name"] = json!(format!("a{evil}"));
    node["metadata"]["labels"]["accelerator.llm-d.ai/driver-version"] = json!(evil);
    node["metadata"]["labels"][format!("accelerator.llm-d.ai/path.{evil}")] = json!("true");
    node["metadata"]["annotations"]["accelerator.llm-d.ai/report"] = json!(
        json!({ "firmware": [evil], "paths": [{ "path": PATH, "ready": null, "unknown": [evil] }] })
            .to_string()
    );
    let conditions = node["status"]["conditions"].as_array_mut().expect("it has conditions");
    conditions.iter_mut().for_each(|condition| condition["reason"] = json!(evil));
    let explain = format!("nodes --explain {PATH}");
    for arguments in [
        "nodes",
        "nodes -o wide",
        "nodes -o json",
        &explain,
        "nodes --drift",
        "generate nodeaffinity",
        "generate kueue",
    ] {
        let shown = over(arguments, &list);
        assert!(shown.status.success(), "{arguments}: {shown:?}");
        let text = String::from_utf8(shown.stdout).expect("it is UTF-8");
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("\n\n\n"), "{arguments}: {text}");
    }
}

#[test]
fn manifests_are_yaml_and_do_not_depend_on_the_order_of_nodes() {
    let mut reversed = nodes::list();
    reversed["items"].as_array_mut().expect("it is a list").reverse();
    for manifest in ["kueue", "karpenter", "nodeaffinity", "grove"] {
        let arguments = format!("generate {manifest}");
        let text = over_fleet(&arguments);
        assert_eq!(String::from_utf8(over(&arguments, &reversed).stdout).as_deref(), Ok(&*text));
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
        assert!(documents.len() > 4 || manifest == "grove", "{text}");
        let kinds =
            documents.iter().all(|document| document["kind"].is_string() || document["affinity"].is_object());
        assert!(kinds, "{text}");
    }
}

/// The Nodes of a host of the fixtures, changed.
fn changed(host: &str, change: impl Fn(&mut Value)) -> Value {
    let mut list = nodes::list();
    let items = list["items"].as_array_mut().expect("it is a list");
    items.retain(|node| node["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(host)));
    items.iter_mut().for_each(change);
    list
}

fn text_over(arguments: &str, list: &Value) -> String {
    let output = over(arguments, list);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is UTF-8")
}

#[test]
fn only_taints_that_stay_are_in_manifests() {
    let taint = |key: &str| json!({ "key": key, "effect": "NoSchedule" });
    let keys =
        ["node-role.kubernetes.io/gpu", "true", "karpenter.sh/disrupted", "amd-dcm", "node.kubernetes.io/x"];
    let list = changed("mi300x", |node| node["spec"]["taints"] = json!(keys.map(taint)));
    for manifest in ["kueue", "karpenter"] {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text_over(&format!("generate {manifest}"), &list))
                .expect("it is YAML");
        let object = documents.last().expect("there is one");
        let taints = object["spec"]["tolerations"]
            .as_array()
            .or_else(|| object["spec"]["template"]["spec"]["taints"].as_array())
            .expect("there are some");
        let found: Vec<&Value> = taints.iter().map(|taint| &taint["key"]).collect();
        assert_eq!(found, [&json!(keys[0]), &json!(keys[1])], "{manifest}");
    }
}

#[test]
fn a_product_without_instance_types_gives_no_machine_of_another_one() {
    let list = changed("mi300x", |node| {
        node["metadata"]["labels"]
            .as_object_mut()
            .expect("it has labels")
            .remove("node.kubernetes.io/instance-type");
    });
    let pool: Value = serde_saphyr::from_str(&text_over("generate karpenter", &list)).expect("it is YAML");
    let types = &pool["spec"]["template"]["spec"]["requirements"][1];
    assert_eq!((&types["key"], &types["values"]), (&json!("node.kubernetes.io/instance-type"), &json!([])));
}

#[test]
fn nodes_with_other_products_and_without_a_known_one_count() {
    let homogeneous = "accelerator.llm-d.ai/homogeneous";
    let mixed = changed("mi300x-1", |node| node["metadata"]["labels"][homogeneous] = json!("false"));
    for manifest in ["kueue", "karpenter", "nodeaffinity"] {
        let text = text_over(&format!("generate {manifest}"), &mixed);
        assert!(text.contains("1 of them have devices of other products as well."), "{text}");
    }
    let unnamed = changed("mi300x", |node| {
        let labels = node["metadata"]["labels"].as_object_mut().expect("it has labels");
        labels.retain(|key, _| !key.starts_with("accelerator.llm-d.ai/product"));
    });
    assert!(text_over("generate nodeaffinity", &unnamed).contains(": 2."), "memory and paths are known");
    assert!(text_over("generate grove", &unnamed).contains("2 of 2 Nodes have it"));
}

#[test]
fn a_majority_is_more_than_half_and_firmware_is_that_of_one_product() {
    let version = "accelerator.llm-d.ai/driver-version";
    let drivers = ["1", "1", "2", "3", "4"];
    let mut list = changed("h100", |node| {
        node["metadata"]["labels"]["accelerator.llm-d.ai/homogeneous"] = json!("false")
    });
    let items = list["items"].as_array_mut().expect("it is a list");
    items.truncate(drivers.len());
    items
        .iter_mut()
        .zip(drivers)
        .for_each(|(node, driver)| node["metadata"]["labels"][version] = json!(driver));
    let drifts: Value = serde_json::from_str(&text_over("nodes --drift -o json", &list)).expect("it is JSON");
    let of = |fact: &str| {
        drifts.as_array().into_iter().flatten().filter(|drift| drift["fact"] == fact).collect::<Vec<_>>()
    };
    assert!(
        of("driver").len() == 5 && of("driver").iter().all(|drift| drift["majority"].is_null()),
        "{drifts}"
    );
    assert!(of("firmware").is_empty(), "{drifts}");
}

#[test]
fn what_others_have_written_breaks_no_table_whatever_its_length() {
    let long = "x".repeat(100_000);
    let list = changed("mi300x", |node| {
        let report =
            json!({ "firmware": [long], "paths": [{ "path": PATH, "ready": false, "reasons": [long] }] });
        node["metadata"]["annotations"]["accelerator.llm-d.ai/report"] = json!(report.to_string());
        node["status"]["conditions"][0]["status"] = json!("False");
        node["status"]["conditions"][0]["reason"] = json!(long);
    });
    for arguments in ["nodes", "nodes -o wide", &format!("nodes --explain {PATH} -o wide"), "nodes --drift"] {
        let text = text_over(arguments, &list);
        assert!(text.lines().all(|line| line.len() < 1000), "{arguments}");
    }
}

#[test]
fn as_a_plugin_of_kubectl_it_shows_the_nodes() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let plugin = folder.path().join("kubectl-afd");
    std::os::unix::fs::symlink(binary(), &plugin).expect("a link can be made");
    let shown = stdout(Command::new(&plugin).arg("--from").arg(fleet()));
    assert_eq!(shown, over_fleet("nodes"));
    let help = stdout(Command::new(&plugin).args(["nodes", "--help"]));
    assert!(help.contains("Usage: kubectl afd nodes"), "{help}");
}

#[test]
fn mistakes_are_named() {
    let mistake = |arguments: &str, list: Value| {
        let output = over(arguments, &list);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = mistake("nodes -l a==", json!({ "items": 1 }));
    assert!(code == Some(1) && error.contains("is no output of `kubectl get nodes -o json`"), "{error}");
    let (code, error) = mistake("nodes -l (a)", json!({ "items": [] }));
    assert!(code == Some(64) && error.contains("is no requirement of a label selector"), "{error}");
    let (_, error) = mistake("generate kueue", json!({ "items": [] }));
    assert!(error.contains("no Node has the label accelerator.llm-d.ai/product"), "{error}");
    let (_, error) = mistake("generate grove", json!({ "items": [] }));
    assert!(error.contains("no Node has the label accelerator.llm-d.ai/present"), "{error}");
    let mut page = nodes::list();
    page["metadata"]["continue"] = json!("token");
    let output_of_page = over("nodes", &page);
    let error = String::from_utf8_lossy(&output_of_page.stderr);
    assert!(
        !output_of_page.status.success() && error.contains("is a page of a list that goes on"),
        "{error}"
    );
    let empty = stdout(afd(["nodes", "-l", "", "--vendor", "amd", "--from"]).arg(fleet()));
    assert!(empty.contains("mi300x-1") && !empty.contains("h100-1"), "{empty}");
    let missing = output(&mut afd(["nodes", "--from", "/no/such/file"]));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file cannot be read"), "{missing:?}");
    assert!(
        stdout(afd(["nodes", "--from", "-"]).stdin(fs::File::open(fleet()).expect("the file can be read")))
            .contains("h100-1")
    );
}
