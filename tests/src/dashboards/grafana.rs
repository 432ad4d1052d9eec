//! A dashboard as Grafana imports it: the classic JSON model, as `grafana-foundation-sdk` describes it.

use serde_json::{Map, Value, json};

use super::{Dashboard, DashboardTable, DashboardVariable, Panel, PanelKind, PlacedPanel};

/// The version of the model, that of Grafana 10.4. Newer Grafanas migrate it when they read it.
const SCHEMA_VERSION: u32 = 39;
/// The tag by which the dashboards link to each other.
const TAG: &str = "accelerators";

/// The JSON of a dashboard.
pub fn dashboard_json(table: &DashboardTable, dashboard: &Dashboard) -> Value {
    let variables = table.variables(dashboard).map(query_variable);
    let list: Vec<Value> =
        [data_source_variable()].into_iter().chain(variables).chain([runbooks_variable()]).collect();
    let others = Value::Object(Map::from_iter([
        ("type".to_owned(), json!("dashboards")),
        ("title".to_owned(), json!("Accelerators")),
        ("tags".to_owned(), json!([TAG])),
        ("asDropdown".to_owned(), json!(true)),
        ("includeVars".to_owned(), json!(true)),
        ("keepTime".to_owned(), json!(true)),
        ("icon".to_owned(), json!("external link")),
        ("tooltip".to_owned(), json!("")),
        ("targetBlank".to_owned(), json!(false)),
        ("url".to_owned(), json!("")),
    ]));
    json!({
        "uid": dashboard.uid(),
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG, "llm-d"],
        "editable": true,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "time": { "from": "now-6h", "to": "now" },
        "refresh": "1m",
        "templating": { "list": list },
        "annotations": { "list": [] },
        "links": [others],
        "panels": dashboard.placed().iter().map(panel_json).collect::<Vec<_>>(),
    })
}

fn data_source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn data_source_variable() -> Value {
    json!({ "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0, "refresh": 1 })
}

/// Where docs/alerts.md is read. The chart replaces the value by `prometheusRule.runbooks`.
fn runbooks_variable() -> Value {
    json!({
        "type": "constant", "name": "runbooks", "label": "Runbooks", "hide": 2, "query": "docs/alerts.md",
        "current": { "selected": true, "text": "docs/alerts.md", "value": "docs/alerts.md" },
    })
}

fn query_variable(variable: &DashboardVariable) -> Value {
    let DashboardVariable { name, label, query, regex, multi } = variable;
    let mut json = json!({
        "type": "query", "name": name, "label": label, "datasource": data_source(), "definition": query,
        "query": { "query": query, "refId": name }, "regex": regex, "refresh": 2, "sort": 1, "multi": multi,
        "includeAll": multi, "hide": 0,
    });
    if *multi {
        // Also matches series that lack the label.
        json["allValue"] = json!(".*");
        json["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
    }
    json
}

fn panel_json(placed: &PlacedPanel<'_>) -> Value {
    let [x, y, w, h] = placed.place;
    let grid = json!({ "x": x, "y": y, "w": w, "h": h });
    let Some(panel) = placed.panel else {
        return json!({
            "id": placed.id, "type": "row", "title": placed.title, "collapsed": false, "gridPos": grid, "panels": [],
        });
    };
    let links: Vec<Value> = panel
        .runbook
        .iter()
        .map(|section| {
            link(&format!("Runbook: {section}"), &format!("${{runbooks}}#{}", section.to_lowercase()))
        })
        .collect();
    let mut json = json!({
        "id": placed.id,
        "type": match panel.kind {
            PanelKind::Stat => "stat",
            PanelKind::Timeseries => "timeseries",
            PanelKind::Table | PanelKind::Matrix => "table",
        },
        "title": panel.title,
        "description": panel.description,
        "datasource": data_source(),
        "gridPos": grid,
        "links": links,
        "targets": panel.queries().map(|query| target(panel, query)).collect::<Vec<_>>(),
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
        "options": options(panel),
    });
    let transformations = transformations(panel);
    if !transformations.is_empty() {
        json["transformations"] = json!(transformations);
    }
    json
}

/// A link in the form that panels and fields share.
fn link(title: &str, url: &str) -> Value {
    json!({
        "title": title, "type": "link", "icon": "", "tooltip": "", "url": url, "tags": [], "asDropdown": false,
        "targetBlank": false, "includeVars": false, "keepTime": false,
    })
}

fn target(panel: &Panel, (letter, query): (char, &str)) -> Value {
    let mut target = json!({
        "refId": letter.to_string(), "datasource": data_source(), "expr": query, "editorMode": "code",
    });
    let is_range = panel.kind == PanelKind::Timeseries;
    target["range"] = json!(is_range);
    target["instant"] = json!(!is_range);
    match panel.kind {
        PanelKind::Timeseries => target["legendFormat"] = json!(panel.legend),
        PanelKind::Stat => {}
        PanelKind::Table | PanelKind::Matrix => target["format"] = json!("table"),
    }
    target
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = json!({ "unit": if panel.unit.is_empty() { "none" } else { &panel.unit } });
    let mut steps = vec![json!({ "color": "text", "value": null })];
    for (value, color) in &panel.thresholds {
        // Grafana wants the lowest without a value.
        let value = if *value == 0.0 { Value::Null } else { json!(value) };
        steps.retain(|step| !step["value"].is_null() || !value.is_null());
        steps.push(json!({ "color": color, "value": value }));
    }
    defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
    if let Some(decimals) = panel.decimals {
        defaults["decimals"] = json!(decimals);
    }
    if !panel.values.is_empty() {
        defaults["mappings"] = json!([mapping(panel)]);
    }
    match panel.kind {
        PanelKind::Timeseries => {
            defaults["color"] = json!({ "mode": "palette-classic" });
            defaults["min"] = json!(0);
            if let Some(max) = panel.max {
                defaults["max"] = json!(max);
            }
            // A gap stays a gap.
            defaults["custom"] = json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 5, "showPoints": "auto", "spanNulls": false,
                "axisSoftMin": 0,
            });
            if panel.legend.contains("{{node}}") {
                defaults["links"] = json!([link("Node", &node_url("${__field.labels.node}"))]);
            }
        }
        PanelKind::Stat => defaults["color"] = json!({ "mode": "thresholds" }),
        PanelKind::Table | PanelKind::Matrix => {
            defaults["color"] = json!({ "mode": "thresholds" });
            defaults["custom"] =
                json!({ "align": "auto", "filterable": true, "inspect": false, "cellOptions": cell(panel) });
        }
    }
    defaults
}

fn mapping(panel: &Panel) -> Value {
    let options = panel.values.iter().zip(0..).map(|((value, text, color), index)| {
        (value.to_string(), json!({ "text": text, "color": color, "index": index }))
    });
    json!({ "type": "value", "options": options.collect::<Map<_, _>>() })
}

fn cell(panel: &Panel) -> Value {
    json!({ "type": if panel.values.is_empty() { "auto" } else { "color-text" } })
}

fn node_url(node: &str) -> String {
    format!("/d/afd-node?var-node={node}&${{datasource:queryparam}}&${{__url_time_range}}")
}

/// What differs by column: the unit of a query, and the link from a node to its dashboard.
fn overrides(panel: &Panel) -> Vec<Value> {
    let mut overrides = Vec::new();
    let mut add = |column: &str, id: &str, value: Value| {
        let matcher = json!({ "id": "byName", "options": column });
        overrides.push(json!({ "matcher": matcher, "properties": [{ "id": id, "value": value }] }));
    };
    for (label, title) in &panel.columns {
        if label == "node" {
            add(title, "links", json!([link("Node", &node_url("${__value.text}"))]));
        }
        if let Some((_, unit)) = panel.units.iter().find(|(letter, _)| letter == label) {
            add(title, "unit", json!(unit));
        }
    }
    if panel.kind == PanelKind::Matrix && panel.rows == "node" {
        add("node\\path", "links", json!([link("Node", &node_url("${__value.text}"))]));
    }
    overrides
}

fn options(panel: &Panel) -> Value {
    match panel.kind {
        PanelKind::Stat => json!({
            "graphMode": "none", "colorMode": "value", "justifyMode": "auto", "textMode": "auto", "wideLayout": true,
            "showPercentChange": false, "percentChangeColorMode": "standard", "orientation": "auto",
            "reduceOptions": { "values": false, "calcs": ["lastNotNull"], "fields": "" },
        }),
        PanelKind::Timeseries => json!({
            "legend": {
                "displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["lastNotNull", "max"],
                "sortBy": "Max", "sortDesc": true,
            },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        PanelKind::Table | PanelKind::Matrix => {
            json!({ "showHeader": true, "cellHeight": "sm", "frameIndex": 0 })
        }
    }
}

fn transformations(panel: &Panel) -> Vec<Value> {
    match panel.kind {
        PanelKind::Stat | PanelKind::Timeseries => Vec::new(),
        PanelKind::Matrix => vec![json!({
            "id": "groupingToMatrix",
            "options": { "rowField": panel.rows, "columnField": panel.cells, "valueField": "Value" },
        })],
        PanelKind::Table => {
            let is_merged = panel.query.len() > 1;
            // Grafana names the values of one query `Value`, those of several `Value #A`.
            let value =
                |letter: char| if is_merged { format!("Value #{letter}") } else { "Value".to_owned() };
            let field = |column: &str| match column
                .chars()
                .next()
                .filter(|c| column.len() == 1 && c.is_ascii_uppercase())
            {
                Some(letter) => value(letter),
                None => column.to_owned(),
            };
            let shown = |name: &str| panel.columns.iter().any(|(column, _)| field(column) == name);
            let mut excluded = Map::from_iter([("Time".to_owned(), json!(true))]);
            let values = panel.queries().map(|(letter, _)| value(letter)).filter(|name| !shown(name));
            excluded.extend(values.map(|name| (name, json!(true))));
            let (mut index, mut names) = (Map::new(), Map::new());
            for (position, (column, title)) in panel.columns.iter().enumerate() {
                index.insert(field(column), json!(position));
                names.insert(field(column), json!(title));
            }
            let organized = json!({ "excludeByName": excluded, "indexByName": index, "renameByName": names });
            let merge = is_merged.then(|| json!({ "id": "merge", "options": {} }));
            merge.into_iter().chain([json!({ "id": "organize", "options": organized })]).collect()
        }
    }
}
