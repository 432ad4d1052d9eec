//! What Prometheus answers to the queries of the dashboards.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use afd_tests::{
    dashboards::{Dashboard, DashboardTable, Panel, PanelKind},
    prometheus::{Prometheus, QueriedSeries},
};

/// Seconds since the epoch.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs_f64()
}

/// The series of a query of a panel, on the dashboard of a node where that has one node only.
#[derive(Debug)]
pub(crate) struct ObservedQuery {
    pub(crate) node: Option<&'static str>,
    pub(crate) letter: char,
    pub(crate) series: Vec<QueriedSeries>,
}

/// A panel with the answers to its queries.
#[derive(Debug)]
pub(crate) struct ObservedPanel<'t> {
    pub(crate) dashboard: &'t Dashboard,
    pub(crate) panel: &'t Panel,
    pub(crate) queries: Vec<ObservedQuery>,
}

/// Runs the queries of a dashboard over a time, and returns what is wrong with them.
pub(crate) fn dashboard<'t>(
    prometheus: &Prometheus,
    table: &DashboardTable,
    dashboard: &'t Dashboard,
    time: [f64; 2],
    nodes: &[&'static str],
) -> (Vec<ObservedPanel<'t>>, Vec<String>) {
    let is_of_one_node =
        table.variables(dashboard).any(|variable| variable.name == "node" && !variable.multi);
    let selected: Vec<Option<&'static str>> =
        if is_of_one_node { nodes.iter().copied().map(Some).collect() } else { vec![None] };
    let mut problems = Vec::new();
    let mut panels = Vec::new();
    for panel in dashboard.panels() {
        let mut queries = Vec::new();
        for node in &selected {
            for (letter, query) in panel.queries() {
                let expression = with_values(table, dashboard, query, *node, time);
                match prometheus.range(&expression, time) {
                    Ok(series) => queries.push(ObservedQuery { node: *node, letter, series }),
                    Err(error) => {
                        problems.push(format!("{} / {}: {error}: {expression}", dashboard.file, panel.title))
                    }
                }
            }
        }
        panels.push(ObservedPanel { dashboard, panel, queries });
    }
    (panels, problems)
}

/// A query with the values of all variables, as Grafana replaces them.
fn with_values(
    table: &DashboardTable,
    dashboard: &Dashboard,
    query: &str,
    node: Option<&str>,
    [from, to]: [f64; 2],
) -> String {
    let mut query =
        query.replace("$__rate_interval", "5s").replace("$__range", &format!("{}s", (to - from) as u64));
    for variable in table.variables(dashboard) {
        let value = if variable.name == "node" { node.unwrap_or(".*") } else { ".*" };
        query = query.replace(&format!("${}", variable.name), value);
    }
    query
}

/// The values of a variable.
pub(crate) fn variable_values(
    prometheus: &Prometheus,
    query: &str,
    regex: &str,
    node: &str,
) -> Result<Vec<String>, String> {
    let query = query.replace("$node", node);
    let inside =
        |name: &str| query.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').map(str::to_owned);
    if let Some(arguments) = inside("label_values") {
        let (selector, label) =
            arguments.rsplit_once(", ").ok_or("label_values has a selector and a label")?;
        return prometheus.label_values(selector, label);
    }
    let expression = inside("query_result").ok_or("neither label_values nor query_result")?;
    let regex = regex::Regex::new(regex.trim_matches('/')).map_err(|error| error.to_string())?;
    let series = prometheus.instant(&expression)?;
    // Grafana matches the text of a series.
    let texts = series.iter().map(|series| {
        let labels =
            series.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect::<Vec<_>>();
        format!("{{{}}}", labels.join(","))
    });
    Ok(texts.filter_map(|text| Some(regex.captures(&text)?.get(1)?.as_str().to_owned())).collect())
}

impl ObservedPanel<'_> {
    fn name(&self) -> String {
        format!("{} / {}", self.dashboard.file, self.panel.title)
    }

    /// All series with the node that they are of, as far as that is known.
    fn series(&self) -> impl Iterator<Item = (Option<&str>, &QueriedSeries)> {
        self.queries.iter().flat_map(|query| {
            query
                .series
                .iter()
                .map(|series| (query.node.or_else(|| series.labels.get("node").map(String::as_str)), series))
        })
    }

    /// What is wrong with it.
    pub(crate) fn problems(&self, nodes: &[&'static str]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |problem: String| problems.push(format!("{}: {problem}", self.name()));
        for (letter, query) in self.panel.queries() {
            if self.queries.iter().filter(|own| own.letter == letter).all(|own| own.series.is_empty()) {
                wrong(format!("no value of query {letter}: {query}"));
            }
        }
        let of_nodes: BTreeSet<&str> = self.series().filter_map(|(node, _)| node).collect();
        if !of_nodes.is_empty() {
            for node in nodes {
                match (of_nodes.contains(node), self.panel.missing.contains_key(*node)) {
                    (false, false) => wrong(format!("no value of {node}")),
                    (true, true) => wrong(format!("{node} is declared to be missing, and is not")),
                    _ => {}
                }
            }
        }
        if self.panel.constant.is_none() {
            let subjects: BTreeSet<Option<&str>> = self.series().map(|(node, _)| node).collect();
            for subject in subjects {
                let mut own = self.series().filter(|(node, _)| *node == subject);
                if !own.any(|(_, series)| series.values.windows(2).any(|pair| pair[0].1 != pair[1].1)) {
                    wrong(format!(
                        "no value changes{}",
                        subject.map(|node| format!(" of {node}")).unwrap_or_default()
                    ));
                }
            }
        }
        problems.extend(
            self.names()
                .into_iter()
                .chain(self.values())
                .map(|problem| format!("{}: {problem}", self.name())),
        );
        problems
    }

    /// Names of lines and columns that are empty, unknown or not unique.
    fn names(&self) -> Vec<String> {
        let occurring: BTreeSet<&str> =
            self.series().flat_map(|(_, series)| series.labels.keys().map(String::as_str)).collect();
        let mut problems = Vec::new();
        match self.panel.kind {
            PanelKind::Timeseries => {
                for query in &self.queries {
                    let names: Vec<String> = query
                        .series
                        .iter()
                        .map(|series| legend(&self.panel.legend, &series.labels))
                        .collect();
                    let unique: BTreeSet<&String> = names.iter().collect();
                    if unique.len() < names.len() {
                        problems.push(format!("lines with one name: {names:?}"));
                    }
                    if let Some(name) = names.iter().find(|name| name.trim_matches([' ', '/']).is_empty()) {
                        problems.push(format!("a line is called {name:?}"));
                    }
                }
            }
            PanelKind::Table => {
                let is_letter =
                    |column: &str| column.len() == 1 && column.starts_with(|c: char| c.is_ascii_uppercase());
                let columns: BTreeSet<&str> = self
                    .panel
                    .columns
                    .iter()
                    .map(|(column, _)| column.as_str())
                    .filter(|column| !is_letter(column))
                    .collect();
                // No partition is on the nodes.
                for column in columns.difference(&occurring).filter(|column| **column != "partition") {
                    problems.push(format!("no series has the label {column}"));
                }
                for label in occurring.difference(&columns) {
                    problems.push(format!("no column shows the label {label}"));
                }
            }
            PanelKind::Stat if self.series().count() != 1 => problems.push("a stat has one value".to_owned()),
            PanelKind::Stat | PanelKind::Matrix => {}
        }
        problems
    }

    /// Values that their unit does not allow.
    fn values(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for query in &self.queries {
            let allowed = match self.panel.unit_of(query.letter) {
                "percentunit" => 0.0..=1.0,
                "celsius" => 1.0..=120.0,
                "watt" => 0.0..=20_000.0,
                "hertz" => 0.0..=1e10,
                _ => 0.0..=f64::MAX,
            };
            let mut values = query.series.iter().flat_map(|series| &series.values);
            if let Some((_, value)) = values.find(|(_, value)| !allowed.contains(value)) {
                problems.push(format!("{value} {}", self.panel.unit_of(query.letter)));
            }
        }
        problems
    }

    /// The last value of the series of a query that has these labels.
    pub(crate) fn value(&self, letter: char, labels: &[(&str, &str)]) -> Option<f64> {
        let mut series = self.queries.iter().filter(|query| query.letter == letter).flat_map(|query| {
            query.series.iter().filter(|series| {
                labels.iter().all(|(name, value)| {
                    series.label(name) == *value || *name == "node" && query.node == Some(*value)
                })
            })
        });
        Some(series.next()?.values.last()?.1)
    }
}

/// The name of a line: `{{label}}` is its value.
pub(crate) fn legend(format: &str, labels: &BTreeMap<String, String>) -> String {
    let mut parts = format.split("{{");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| match part.split_once("}}") {
        Some((label, rest)) => name + labels.get(label).map(String::as_str).unwrap_or_default() + rest,
        None => name + part,
    })
}
