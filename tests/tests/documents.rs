//! Generated documents are up to date: the documentation of labels, metrics, conditions and paths, the JSON Schema, and the table in the
//! README. `cargo xtask bless` rewrites all but the README.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeSet, fs};

use afd_derive::{families::Family, markdown, paths::document, vendors};
use afd_model::Inventory;
use afd_tests::{
    dashboards::{self, DashboardTable, dashboard_json},
    fixture,
    fixture::Fixture,
    stdout, workspace,
};
use expect_test::expect_file;

#[test]
fn labels_are_documented_from_their_table() {
    expect_file![workspace().join("docs/labels.md")].assert_eq(&markdown::labels());
}

#[test]
fn compatibility_sets_are_documented_from_their_tables() {
    for (set, text) in markdown::compat() {
        expect_file![workspace().join(format!("docs/compat-{set}.md"))].assert_eq(&text);
    }
}

#[test]
fn metrics_are_documented_from_their_table() {
    expect_file![workspace().join("docs/metrics.md")].assert_eq(&markdown::metrics());
}

#[test]
fn conditions_are_documented_from_the_table_of_reasons() {
    expect_file![workspace().join("docs/conditions.md")].assert_eq(&markdown::conditions());
}

#[test]
fn the_chart_reads_of_vendors_what_their_records_say() {
    expect_file![workspace().join("daemonset/chart/vendors.json")].assert_eq(&vendors::chart_vendors());
    expect_file![workspace().join("daemonset/chart/mounts.json")].assert_eq(&vendors::chart_mounts());
}

#[test]
fn the_dashboards_are_generated_from_their_table() {
    let table = DashboardTable::read();
    let folder = workspace().join("daemonset/chart/dashboards");
    for dashboard in &table.dashboards {
        let json =
            serde_json::to_string_pretty(&dashboard_json(&table, dashboard)).expect("a dashboard is JSON");
        expect_file![folder.join(format!("{}.json", dashboard.file))].assert_eq(&(json + "\n"));
    }
    let files = fs::read_dir(&folder).expect("the folder can be read").count();
    assert_eq!(files, table.dashboards.len(), "the folder has other files");
    expect_file![workspace().join("docs/dashboards.md")].assert_eq(&dashboards::document(&table));
}

#[test]
fn paths_are_documented_from_their_rules() {
    expect_file![workspace().join("docs/paths.md")].assert_eq(&document::document());
}

#[test]
fn the_schema_is_generated_from_the_model() {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Inventory)).expect("a schema is JSON");
    expect_file![workspace().join("docs/inventory.schema.json")].assert_eq(&(schema + "\n"));
}

#[test]
fn every_inventory_matches_the_schema_and_can_be_read_back() {
    let schema = serde_json::to_value(schemars::schema_for!(Inventory)).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is valid");
    for fixture in fixture::all() {
        let text =
            fs::read_to_string(fixture.expected("inventory.json")).expect("the expected file can be read");
        let value: serde_json::Value = serde_json::from_str(&text).expect("an inventory is JSON");
        let wrong: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{}: {}", fixture.name, wrong.join("\n"));
        let inventory: Inventory =
            serde_json::from_value(value.clone()).expect("an inventory can be read back");
        assert_eq!(serde_json::to_value(inventory).expect("an inventory is JSON"), value, "{}", fixture.name);
    }
}

/// Every family in the table must occur on some host.
#[test]
fn every_family_is_shown_by_a_fixture() {
    let shown: BTreeSet<String> = fixture::all()
        .iter()
        .map(|fixture| {
            let page = fs::read_to_string(fixture.expected("metrics.txt")).expect("the file can be read");
            // Few hosts have this one.
            page + &fs::read_to_string(fixture.expected("metrics-links.txt")).unwrap_or_default()
        })
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    // Only a running agent has these, some of them only with a kubelet or in a cluster; the bandwidth needs two samples of
    // NVIDIA's GPM. Their tests are in nvml.rs, hostile_library.rs, kubelet.rs, hostile_kubelet.rs, hostile_api.rs and kubernetes.rs.
    let of_a_running_agent = [
        Family::BuildInfo,
        Family::ProbeDurationSeconds,
        Family::Allocation,
        Family::PublishedHealth,
        Family::ResourceDevices,
        Family::LastXid,
        Family::KubeletErrorsTotal,
        Family::KubeletSkippedDevices,
        Family::ResourceSliceSkippedDevices,
        Family::KubernetesRequestsTotal,
        Family::LabelWritesTotal,
        Family::LabelContestedTotal,
        Family::LabelRefusedTotal,
        Family::HttpConnections,
        Family::HttpRejectedTotal,
        Family::HttpTakenPortsTotal,
        Family::WebConfigErrorsTotal,
        Family::ProbeRestartsTotal,
        Family::LibraryMessagesDroppedTotal,
        Family::LastSampleTimestampSeconds,
        Family::MemoryBandwidthRatio,
    ];
    let missing: Vec<&str> = Family::ALL
        .iter()
        .filter(|family| !of_a_running_agent.contains(family))
        .map(|family| family.spec().name)
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no fixture shows {missing:?}");
}

#[test]
fn the_readme_shows_the_output_of_the_binary() {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("the README can be read");
    let host = Fixture::named("amd-mi300x8-spx").without_library().lay_out();
    for (command, lines) in [("show", 9), ("explain", 6)] {
        let shown = stdout(&mut host.afd([command]));
        let shown: Vec<&str> = shown.lines().take(lines).map(str::trim_end).collect();
        let text = format!("$ afd {command}\n{}\n", shown.join("\n"));
        assert!(readme.contains(&text), "the README should show:\n{text}");
    }
    let picture = Fixture::named("nvidia-h200x8-infiniband").lay_out();
    let picture = stdout(&mut picture.afd(["topology", "--output", "svg"]));
    expect_file![workspace().join("docs/images/topology.svg")].assert_eq(&picture);
}

/// The alert also leaves out what was not held all the time.
#[test]
fn the_panel_of_idle_devices_has_the_measure_of_the_alert() {
    let chart = workspace().join("daemonset/chart");
    let read = |path: &str| fs::read_to_string(chart.join(path)).expect("it can be read");
    let rules = read("rules.yaml");
    let (_, alert) = rules.split_once("- alert: AcceleratorIdleButHeld").expect("there is the alert");
    let average = r#"avg_over_time(accelerator_device_utilization_ratio{engine="compute"}[2h])"#;
    let measure = format!("(max by (job, instance, vendor, device, partition) ({average}) < 0.01");
    assert!(alert.split_whitespace().collect::<Vec<_>>().join(" ").contains(&format!("{measure} and ")));
    let query = format!("{measure})").replace('"', "\\\"");
    assert!(read("dashboards/holders.json").contains(&query), "{query}");
}
