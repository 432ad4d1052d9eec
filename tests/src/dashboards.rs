//! The Grafana dashboards: their table `daemonset/dashboards.toml`, from which the JSON in the chart and the page of the documentation are
//! generated.

mod grafana;
mod markdown;

use std::{collections::BTreeMap, fs};

use serde::Deserialize;

pub use self::{grafana::dashboard_json, markdown::document};
use crate::workspace;

/// The columns of Grafana's grid.
pub const GRID_WIDTH: u32 = 24;

/// The table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardTable {
    terms: BTreeMap<String, String>,
    variables: BTreeMap<String, DashboardVariable>,
    /// The dashboards.
    #[serde(rename = "dashboard")]
    pub dashboards: Vec<Dashboard>,
}

/// A variable of a dashboard, which Prometheus fills.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardVariable {
    /// Its name in queries, where that is not its key in the table.
    #[serde(default)]
    pub name: String,
    label: String,
    /// `label_values(SERIES, LABEL)` or `query_result(QUERY)`.
    pub query: String,
    /// Selects from each result of `query_result`.
    #[serde(default)]
    pub regex: String,
    /// Whether several or all values can be selected.
    #[serde(default)]
    pub multi: bool,
}

/// A dashboard.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// The name of its file without its end; its uid in Grafana begins with `afd-`.
    pub file: String,
    /// Its title.
    pub title: String,
    description: String,
    variables: Vec<String>,
    #[serde(rename = "row")]
    rows: Vec<DashboardRow>,
}

/// A row of panels under a title.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DashboardRow {
    title: String,
    #[serde(rename = "panel")]
    panels: Vec<Panel>,
}

/// How a panel shows its queries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum PanelKind {
    /// A number.
    Stat,
    /// Lines over time.
    Timeseries,
    /// A row for each series; the queries are its columns.
    Table,
    /// A cell for each pair of two labels.
    Matrix,
}

/// A panel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Its title, which no other panel of the dashboard has.
    pub title: String,
    /// How it is drawn.
    pub kind: PanelKind,
    width: u32,
    height: Option<u32>,
    /// The unit of its values in Grafana.
    #[serde(default)]
    pub unit: String,
    /// The end of the axis.
    pub max: Option<f64>,
    decimals: Option<u32>,
    /// The name of a line: labels in `{{}}`.
    #[serde(default)]
    pub legend: String,
    description: String,
    query: Vec<String>,
    /// Labels, and the letters of queries, with the titles of their columns.
    #[serde(default)]
    pub columns: Vec<(String, String)>,
    /// The units of queries of a table.
    #[serde(default)]
    pub units: Vec<(String, String)>,
    /// The label of the rows of a matrix.
    #[serde(default)]
    pub rows: String,
    /// The label of its columns.
    #[serde(default)]
    pub cells: String,
    #[serde(default)]
    thresholds: Vec<(f64, String)>,
    /// Texts and colours in place of values.
    #[serde(default)]
    pub values: Vec<(i64, String, String)>,
    runbook: Option<String>,
    /// Why its values do not change while they are observed.
    pub constant: Option<String>,
    /// The nodes of the test's fleet that have no value, and why.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
}

/// A panel in its place on the grid.
#[derive(Clone, Copy, Debug)]
pub struct PlacedPanel<'t> {
    /// Its number, which no other panel or row of the dashboard has.
    pub id: u32,
    /// The panel; none for the title of a row.
    pub panel: Option<&'t Panel>,
    /// Its title.
    pub title: &'t str,
    /// Left edge, upper edge, width and height.
    pub place: [u32; 4],
}

impl DashboardTable {
    /// The table of the repository, whose queries have no terms any more.
    ///
    /// # Panics
    /// When it is not such a table.
    pub fn read() -> DashboardTable {
        let text =
            fs::read_to_string(workspace().join("daemonset/dashboards.toml")).expect("the table can be read");
        let mut table: DashboardTable =
            toml::from_str(&text).unwrap_or_else(|error| panic!("daemonset/dashboards.toml: {error}"));
        let terms = table.terms.clone();
        let panels = table.dashboards.iter_mut().flat_map(|dashboard| &mut dashboard.rows);
        for query in panels.flat_map(|row| &mut row.panels).flat_map(|panel| &mut panel.query) {
            *query = expanded(query, &terms);
        }
        for (name, variable) in &mut table.variables {
            if variable.name.is_empty() {
                variable.name.clone_from(name);
            }
        }
        table
    }

    /// The variables of a dashboard but the data source.
    ///
    /// # Panics
    /// When the table lacks one.
    pub fn variables<'t>(&'t self, dashboard: &'t Dashboard) -> impl Iterator<Item = &'t DashboardVariable> {
        dashboard.variables.iter().map(|name| {
            self.variables
                .get(name)
                .unwrap_or_else(|| panic!("{}: there is no variable {name}", dashboard.file))
        })
    }
}

/// A query with the texts of its terms, which may contain terms.
fn expanded(query: &str, terms: &BTreeMap<String, String>) -> String {
    let replaced =
        terms.iter().fold(query.to_owned(), |query, (name, text)| query.replace(&format!("<{name}>"), text));
    if replaced == query { replaced } else { expanded(&replaced, terms) }
}

impl Dashboard {
    /// Its name in the URLs of Grafana.
    pub fn uid(&self) -> String {
        format!("afd-{}", self.file)
    }

    /// All panels, in order.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// Rows and panels in their places: from left to right, as many in a line as fit.
    pub fn placed(&self) -> Vec<PlacedPanel<'_>> {
        let mut placed = Vec::new();
        let mut id = 0;
        let mut top = 0;
        for row in &self.rows {
            id += 1;
            placed.push(PlacedPanel { id, panel: None, title: &row.title, place: [0, top, GRID_WIDTH, 1] });
            top += 1;
            let (mut left, mut line) = (0, 0);
            for panel in &row.panels {
                if left + panel.width > GRID_WIDTH {
                    (left, top, line) = (0, top + line, 0);
                }
                id += 1;
                let place = [left, top, panel.width, panel.height()];
                placed.push(PlacedPanel { id, panel: Some(panel), title: &panel.title, place });
                left += panel.width;
                line = line.max(panel.height());
            }
            top += line;
        }
        placed
    }
}

impl Panel {
    fn height(&self) -> u32 {
        self.height.unwrap_or(if self.kind == PanelKind::Stat { 4 } else { 8 })
    }

    /// Its queries with their letters, by which a table names its columns.
    pub fn queries(&self) -> impl Iterator<Item = (char, &str)> {
        ('A'..).zip(self.query.iter().map(String::as_str))
    }

    /// The unit of a query.
    pub fn unit_of(&self, letter: char) -> &str {
        let own = self.units.iter().find(|(query, _)| query.starts_with(letter));
        own.map_or(self.unit.as_str(), |(_, unit)| unit)
    }
}
