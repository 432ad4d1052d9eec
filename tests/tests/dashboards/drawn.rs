//! A page that draws the panels roughly as Grafana does, so that a developer can look at them: titles and legends that are cut, units that are
//! wrong, hundreds of lines. A development aid: `cargo test -p afd-tests --test dashboards -- --ignored drawn` writes pages and pictures
//! into `tmp/dashboards` of the folder of builds.

use std::{fs, path::Path, process::Command};

use afd_test_cluster::succeed;
use afd_tests::dashboards::{Dashboard, DashboardTable};
use serde_json::{Value, json};

use crate::{
    OBSERVED_STEPS,
    fleet::{Fleet, MANY, NODES},
    observed::{self, ObservedPanel},
};

const PAGE: &str = include_str!("drawn.html");
/// The nodes whose dashboards are drawn: one with eight devices, and one with 64 partitions.
const DRAWN_NODES: [&str; 3] = ["h100-0", "gaudi3-0", MANY.name];
/// The height of a line of the page, in pixels, and of what is above the panels.
const LINE: u32 = 38;
const HEAD: u32 = 80;

pub(crate) async fn draw() -> anyhow::Result<()> {
    let fleet = Fleet::start(&[&NODES[..], &[MANY]].concat()).await?;
    let begin = observed::now();
    fleet.steps(OBSERVED_STEPS / 2).await;
    fleet.fail_device();
    fleet.steps(OBSERVED_STEPS / 2).await;
    let time = [begin, observed::now()];
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards");
    fs::create_dir_all(&folder)?;
    let table = DashboardTable::read();
    for dashboard in &table.dashboards {
        let (panels, _) = observed::dashboard(&fleet.prometheus, &table, dashboard, time, &DRAWN_NODES);
        let is_of_one_node =
            panels.iter().any(|panel| panel.queries.iter().any(|query| query.node.is_some()));
        let nodes: Vec<Option<&str>> =
            if is_of_one_node { DRAWN_NODES.into_iter().map(Some).collect() } else { vec![None] };
        for node in nodes {
            let name =
                format!("{}{}", dashboard.file, node.map(|node| format!("-{node}")).unwrap_or_default());
            let page = folder.join(format!("{name}.html"));
            fs::write(&page, PAGE.replace("DATA", &data(dashboard, &panels, node).to_string()))?;
            let lines = dashboard.placed().iter().map(|placed| placed.place[1] + placed.place[3]).max();
            let height = lines.unwrap_or_default() * LINE + HEAD;
            succeed(
                Command::new("chromium")
                    .args([
                        "--headless",
                        "--no-sandbox",
                        "--disable-gpu",
                        "--hide-scrollbars",
                        "--no-first-run",
                    ])
                    .arg(format!("--window-size=1620,{height}"))
                    .arg(format!("--user-data-dir={}", folder.join("profile").display()))
                    .arg(format!("--screenshot={}", folder.join(format!("{name}.png")).display()))
                    .arg(format!("file://{}", page.display())),
            )?;
        }
    }
    fs::remove_dir_all(folder.join("profile"))?;
    Ok(())
}

/// What the page draws.
fn data(dashboard: &Dashboard, panels: &[ObservedPanel<'_>], node: Option<&str>) -> Value {
    let placed = dashboard.placed();
    let mut observed = panels.iter();
    let panels = placed.iter().map(|placed| {
        let Some(panel) = placed.panel else { return json!({ "title": placed.title, "place": placed.place }) };
        let queries = observed.next().into_iter().flat_map(|panel| &panel.queries).filter(|query| query.node == node);
        let queries = queries.map(|query| {
            let series = query.series.iter().map(|series| json!({ "labels": series.labels, "values": series.values }));
            json!({ "letter": query.letter, "series": series.collect::<Vec<_>>() })
        });
        json!({
            "title": panel.title, "place": placed.place, "kind": format!("{:?}", panel.kind).to_lowercase(),
            "unit": panel.unit, "max": panel.max, "legend": panel.legend, "columns": panel.columns, "units": panel.units,
            "values": panel.values, "rows": panel.rows, "cells": panel.cells, "queries": queries.collect::<Vec<_>>(),
        })
    });
    json!({ "title": dashboard.title, "panels": panels.collect::<Vec<_>>() })
}
