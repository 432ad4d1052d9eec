//! What is generated of the chart: its README and the descriptions of its schema from the comments of its values, and the options
//! that it sets from the agent's own.

use std::{fs, iter};

use afd_agent::args::Args;
use afd_tests::chart::chart;
use anyhow::{Context, ensure};
use clap::CommandFactory;
use expect_test::expect_file;
use regex::Regex;
use serde_json::{Value, json};

/// In the README, the values begin here. What is above is written by hand.
const MARKER: &str = "<!-- values -->\n";
/// Where a line of the schema ends.
const WIDTH: usize = 120;

/// A value of the chart and its comment.
struct Documented {
    path: Vec<String>,
    comment: String,
}

pub(crate) async fn values() -> anyhow::Result<()> {
    let read = |name: &str| fs::read_to_string(chart().join(name)).with_context(|| name.to_owned());
    let text = read("values.yaml")?;
    let defaults: Value = serde_saphyr::from_str(&text)?;
    let mut schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let documented = documented(&text, &schema)?;
    for path in paths(&schema, &defaults, &[]) {
        let has_comment = documented.iter().any(|value| value.path == path && !value.comment.is_empty());
        // The values of a parent chart, which this one does not read.
        ensure!(has_comment || path == ["global"], "{} has no comment in values.yaml", path.join("."));
    }
    let mut command = Args::command();
    command.build();
    let run = command.find_subcommand("run").context("there is a command run")?;
    describe(&mut schema, &documented, run)?;
    let mut formatted = format(&schema, 0);
    formatted.push('\n');
    expect_file![chart().join("values.schema.json")].assert_eq(&formatted);

    let readme = read("README.md")?;
    let (head, _) = readme.split_once(MARKER).context("the README has a place for the values")?;
    let table = table(&documented, &schema, &defaults);
    expect_file![chart().join("README.md")].assert_eq(&format!("{head}{MARKER}{table}"));

    artifact_hub(&serde_saphyr::from_str(&read("Chart.yaml")?)?)?;
    let options = serde_json::to_string_pretty(&super::options_of_values(run))? + "\n";
    expect_file![chart().join("options.json")].assert_eq(&options);
    Ok(())
}

/// What Artifact Hub shows of a chart.
fn artifact_hub(chart: &Value) -> anyhow::Result<()> {
    for field in ["home", "icon", "description", "kubeVersion", "version", "appVersion"] {
        ensure!(chart[field].as_str().is_some_and(|text| !text.is_empty()), "Chart.yaml has no {field}");
    }
    for list in ["keywords", "sources", "maintainers"] {
        ensure!(chart[list].as_array().is_some_and(|list| !list.is_empty()), "Chart.yaml has no {list}");
    }
    let annotations = &chart["annotations"];
    ensure!(annotations["artifacthub.io/license"] == "Apache-2.0", "{annotations}");
    ensure!(annotations["artifacthub.io/category"].is_string(), "{annotations}");
    Ok(())
}

/// A value's own part of the schema.
fn property<'s>(schema: &'s Value, path: &[String]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, name| schema.get("properties")?.get(name))
}

/// The values of the schema that values.yaml has to have: where the default is an empty mapping, its fields are not among them.
fn paths(schema: &Value, defaults: &Value, parent: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path: Vec<String> = parent.iter().chain(iter::once(name)).cloned().collect();
        let default = &defaults[name];
        if default.as_object().is_some_and(|fields| !fields.is_empty()) {
            found.extend(paths(property, default, &path));
        }
        found.push(path);
    }
    found
}

/// The values of values.yaml that the schema knows, in their order, each with the comment above it.
fn documented(text: &str, schema: &Value) -> anyhow::Result<Vec<Documented>> {
    let key = Regex::new(r"^( *)([A-Za-z][A-Za-z0-9]*):(?: |$)")?;
    let (mut found, mut path, mut comment) = (Vec::new(), Vec::<String>::new(), Vec::new());
    for line in text.lines() {
        if let Some(words) = line.trim_start().strip_prefix("# ") {
            comment.push(words.trim().to_owned());
            continue;
        }
        if let Some(parts) = key.captures(line) {
            path.truncate(parts[1].len() / 2);
            path.push(parts[2].to_owned());
            if property(schema, &path).is_some() {
                found.push(Documented { path: path.clone(), comment: comment.join(" ") });
            }
        }
        comment.clear();
    }
    Ok(found)
}

/// Writes the comments into the schema. The graces are those of the agent.
fn describe(schema: &mut Value, documented: &[Documented], run: &clap::Command) -> anyhow::Result<()> {
    for value in documented {
        let place = value.path.iter().fold(&mut *schema, |schema, name| &mut schema["properties"][name]);
        place["description"] = json!(value.comment);
    }
    for arg in run.get_arguments().filter(|arg| arg.get_help_heading() == Some("Graces")) {
        let (long, help) = arg.get_long().zip(arg.get_help()).context("a grace has a name and a text")?;
        let grace = &mut schema["properties"]["graces"]["properties"][super::camel_case(long)];
        ensure!(grace.is_object(), "graces.{} is not in the schema", super::camel_case(long));
        grace["description"] = json!(help.to_string());
    }
    Ok(())
}

/// JSON with short objects on one line.
fn format(value: &Value, indent: usize) -> String {
    let line = one_line(value);
    if indent > 0 && indent + line.len() < WIDTH {
        return line;
    }
    let inner = " ".repeat(indent + 2);
    let entries: Vec<String> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| format!("{inner}{}: {}", json!(key), format(value, indent + 2)))
            .collect(),
        Value::Array(values) => {
            values.iter().map(|value| format!("{inner}{}", format(value, indent + 2))).collect()
        }
        _ => return line,
    };
    let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
    format!("{open}\n{}\n{}{close}", entries.join(",\n"), " ".repeat(indent))
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}: {}", json!(key), one_line(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(one_line).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The table of the README. A group has no default of its own.
fn table(documented: &[Documented], schema: &Value, defaults: &Value) -> String {
    let mut table = "| value | default | description |\n|---|---|---|\n".to_owned();
    for value in documented {
        let default = value.path.iter().fold(defaults, |defaults, name| &defaults[name]);
        let has_fields = documented
            .iter()
            .any(|other| other.path.len() > value.path.len() && other.path.starts_with(&value.path));
        let is_group =
            has_fields && property(schema, &value.path).is_some_and(|own| own["properties"].is_object());
        let name = value.path.join(".");
        let (name, default) = if is_group {
            (format!("**`{name}`**"), String::new())
        } else {
            (format!("`{name}`"), format!("`{default}`"))
        };
        let text = value.comment.replace('|', "\\|").replace('<', "&lt;");
        table += &format!("| {name} | {default} | {text} |\n");
    }
    table
}
