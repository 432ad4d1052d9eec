//! The Grafana dashboards: Grafana's own types accept them, and every query of every panel has values when a real Prometheus scrapes agents of
//! all vendors, held by pods and under a load that varies.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "dashboards/constants.rs"]
mod constants;
#[path = "dashboards/drawn.rs"]
mod drawn;
#[path = "dashboards/fleet.rs"]
mod fleet;
#[path = "dashboards/observed.rs"]
mod observed;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use afd_test_cluster::{Suite, succeed};
use afd_tests::{
    dashboards::{DashboardTable, GRID_WIDTH},
    driver_root::FAKE_LIBRARIES,
    workspace,
};
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::fleet::{Fleet, NODES};

/// The steps of the load that are observed: the job comes and goes, and a device fails.
const OBSERVED_STEPS: u32 = 40;

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    FAKE_LIBRARIES.iter().for_each(|library| _ = library.file());
    Suite::new()
        .outside("grafanas_own_types_accept_the_dashboards", types)
        .outside("every_panel_is_in_its_place_and_explained", layout)
        .test("every_panel_has_values_of_every_vendor_and_they_change", values)
        .on_request("drawn", drawn::draw)
        .main()
}

/// The generated files.
fn files() -> anyhow::Result<Vec<PathBuf>> {
    let folder = workspace().join("daemonset/chart/dashboards");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

async fn types() -> anyhow::Result<()> {
    const PROGRAMS: &str = "AFD_CLUSTER_PROGRAMS";
    let programs =
        env::var_os(PROGRAMS).with_context(|| format!("{PROGRAMS} is not set: see `cargo xtask setup`"))?;
    let program = Path::new(&programs).join("dashboards/dashboards");
    succeed(Command::new(&program).args(files()?)).map(drop)?;
    // It does refuse what is wrong.
    let text = fs::read_to_string(workspace().join("daemonset/dashboards/fleet.json"))?;
    let folder = tempfile::tempdir()?;
    for (right, wrong) in [
        ("\"percentunit\"", "\"percents\""),
        ("\"reduceOptions\"", "\"reducedOptions\""),
        ("\"schemaVersion\": 39", "\"schemaVersion\": \"39\""),
        ("\"legendFormat\"", "\"legend\""),
    ] {
        ensure!(text.contains(right), "there is no {right}");
        let file = folder.path().join("wrong.json");
        fs::write(&file, text.replace(right, wrong))?;
        ensure!(succeed(Command::new(&program).arg(&file)).is_err(), "{wrong} is accepted");
    }
    Ok(())
}

async fn layout() -> anyhow::Result<()> {
    let table = DashboardTable::read();
    let runbook = fs::read_to_string(workspace().join("docs/alerts.md"))?;
    let term = regex::Regex::new("<[a-z_]+>")?;
    let once_per_target = regex::Regex::new(r"max by \(job, instance, [a-z, ]+\) \($")?;
    let mut uids = BTreeSet::new();
    for file in files()? {
        let name = file.display();
        let dashboard: Value = serde_json::from_slice(&fs::read(&file)?)?;
        ensure!(
            uids.insert(dashboard["uid"].as_str().context("it has a uid")?.to_owned()),
            "{name}: its uid is taken"
        );
        let panels = dashboard["panels"].as_array().context("it has panels")?;
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in panels {
            let title = panel["title"].as_str().context("a panel has a title")?;
            ensure!(
                ids.insert(panel["id"].as_u64().context("a panel has an id")?),
                "{name}: the id of {title} is taken"
            );
            ensure!(titles.insert(title), "{name}: there are two {title}");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX));
            ensure!(w > 0 && h > 0 && x + w <= u64::from(GRID_WIDTH), "{name}: {title} is not on the grid");
            for (column, line) in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
                ensure!(cells.insert((column, line)), "{name}: {title} overlaps another panel");
            }
            if panel["type"] == "row" {
                continue;
            }
            let description = panel["description"].as_str().unwrap_or_default();
            ensure!(description.ends_with(['.', '?']), "{name}: {title} is not described");
            for target in panel["targets"].as_array().context("a panel has queries")? {
                let query = target["expr"].as_str().context("a query is a text")?;
                ensure!(!term.is_match(query), "{name}: {title} has an unknown term: {query}");
                for family in ["accelerator_devices", "accelerator_resource_devices"] {
                    let selector = format!("{family}{{state=\"");
                    ensure!(
                        query.matches(&selector).count() == query.matches(family).count(),
                        "{name}: {title} does not select one state: {query}"
                    );
                    ensure!(
                        query.rsplit(&selector).skip(1).all(|before| once_per_target.is_match(before)),
                        "{name}: {title} counts a node twice while its agent is replaced: {query}"
                    );
                }
            }
            let links = panel["links"].as_array().context("a panel has links")?;
            for url in links.iter().filter_map(|link| link["url"].as_str()) {
                let section =
                    url.strip_prefix("${runbooks}#").with_context(|| format!("{title} links to {url}"))?;
                ensure!(
                    runbook.to_lowercase().contains(&format!("\n## {section}\n")),
                    "{name}: there is no section {section}"
                );
            }
        }
        ensure!(
            every_data_source(&dashboard).all(|uid| uid == "${datasource}"),
            "{name}: a data source is no variable"
        );
    }
    ensure!(uids.len() == table.dashboards.len(), "{uids:?}");
    Ok(())
}

/// The uids of the data sources of panels, queries and variables.
fn every_data_source(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter().flat_map(every_data_source)),
        Value::Object(fields) => {
            let own = fields.get("datasource").map(|source| source["uid"].as_str().unwrap_or("none"));
            Box::new(own.into_iter().chain(fields.values().flat_map(every_data_source)))
        }
        _ => Box::new(std::iter::empty()),
    }
}

async fn values() -> anyhow::Result<()> {
    let fleet = Fleet::start(&NODES).await?;
    let begin = observed::now();
    fleet.steps(OBSERVED_STEPS / 2).await;
    fleet.fail_device();
    fleet.steps(OBSERVED_STEPS / 2).await;
    let time = [begin, observed::now()];
    let table = DashboardTable::read();
    let nodes = NODES.map(|node| node.name);
    let mut problems = Vec::new();
    for dashboard in &table.dashboards {
        for variable in table.variables(dashboard) {
            for node in nodes {
                let values =
                    observed::variable_values(&fleet.prometheus, &variable.query, &variable.regex, node);
                if values.as_ref().map_or(true, Vec::is_empty) {
                    problems.push(format!(
                        "{}: variable {} has the values {values:?}",
                        dashboard.file, variable.name
                    ));
                }
                if variable.name == "node" && values != Ok(sorted(&nodes)) {
                    problems.push(format!("the nodes are {values:?}"));
                }
            }
        }
        let (panels, errors) = observed::dashboard(&fleet.prometheus, &table, dashboard, time, &nodes);
        problems.extend(errors);
        for panel in &panels {
            problems.extend(panel.problems(&nodes));
            problems.extend(constants::problems(panel));
        }
    }
    problems.extend(recipes(&fleet)?);
    ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

/// The queries of docs/promql.md that Prometheus refuses, or that have no value although the fleet has what they ask for.
fn recipes(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    // In the fleet no device has been idle for two hours.
    const WITHOUT_VALUE: &str = "[2h]";
    let page = fs::read_to_string(workspace().join("docs/promql.md"))?;
    let queries: Vec<&str> =
        page.split("```promql\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    ensure!(queries.len() == 10, "docs/promql.md has {} queries", queries.len());
    let problem = |query: &&str| match fleet.prometheus.instant(query) {
        Err(error) => Some(format!("{error}:\n{query}")),
        Ok(series) if series.is_empty() && !query.contains(WITHOUT_VALUE) => {
            Some(format!("no value of\n{query}"))
        }
        Ok(_) => None,
    };
    Ok(queries.iter().filter_map(problem).collect())
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}
