//! The page of the documentation.

use super::DashboardTable;

const HEAD: &str = "\
# Dashboards

Generated from `daemonset/dashboards.toml`; `cargo xtask bless` updates it.

The dashboards for Grafana 10.4 and newer are in `daemonset/dashboards/`: import the files, or have the chart install them. Each has a
variable for the data source, and links to the others.

They need a Prometheus that scrapes the agents and has the recording rules of `daemonset/chart/rules.yaml` (`prometheusRule.enabled`). Series are
joined by `job` and `instance`, and the node is that of `afd_build_info`: no relabelling is needed. The labels `namespace` and `pod` of
the holders need `honorLabels: true`, as the chart's PodMonitor has it; where a scrape lacks it, the panels about pods are empty
rather than wrong.

A value that no source reports is absent: an empty cell, or no line. The states of `accelerator_devices` overlap, so that no panel adds them up.
Panels of what is wrong are empty when all is well.
";

/// The page, from the table.
pub fn document(table: &DashboardTable) -> String {
    let mut text = HEAD.to_owned();
    for dashboard in &table.dashboards {
        let file = &dashboard.file;
        text += &format!(
            "\n## {}\n\n`daemonset/dashboards/{file}.json`. {}\n",
            dashboard.title, dashboard.description
        );
        for row in &dashboard.rows {
            text += &format!(
                "\n### {}: {}\n\n| panel | what it answers | runbook |\n|---|---|---|\n",
                dashboard.file, row.title
            );
            for panel in &row.panels {
                let runbook = panel.runbook.as_ref().map_or_else(String::new, |section| {
                    format!("[{section}](alerts.md#{})", section.to_lowercase())
                });
                text +=
                    &format!("| {} | {} | {runbook} |\n", panel.title, panel.description.replace('|', "\\|"));
            }
        }
    }
    text
}
