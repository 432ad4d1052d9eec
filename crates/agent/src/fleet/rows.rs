//! The Nodes as a table, or as JSON.

use std::{io::Write, rc::Rc, time::Duration};

use afd_apiserver::node_pages::ListedCondition;
use afd_publish::node::{MANAGED_BY, age};
use serde_json::{Map, Value, json};

use super::{count_of_nodes, node::FleetNode, strings::SharedStrings};
use crate::{
    args::FleetOutput,
    text_table::write_columns,
    visible::{visible_json, visible_line},
};

/// The labels that are shown, in the order of JSON.
const FIELDS: [&str; 16] = [
    "vendor",
    "variant",
    "product",
    "model",
    "architecture",
    "count",
    "healthy",
    "missing",
    "memory-mib",
    "driver-version",
    "partition",
    "interconnect",
    "rdma",
    "fabric-domain",
    "fabric-partition",
    "allocation",
];
/// Their columns in the table, by label; the last ones only in the wide one.
const COLUMNS: [(&str, &str); 10] = [
    ("PRODUCT", "product"),
    ("COUNT", "count"),
    ("HEALTHY", "healthy"),
    ("MISSING", "missing"),
    ("ALLOCATION", "allocation"),
    ("DRIVER", "driver-version"),
    ("MEMORY", "memory-mib"),
    ("PARTITION", "partition"),
    ("LINK", "interconnect"),
    ("FABRIC", "fabric-domain"),
];
const NARROW: usize = 6;
const UNKNOWN: &str = "-";

/// The Nodes that are shown.
#[derive(Debug, Default)]
pub(super) struct NodeRows {
    rows: Vec<NodeRow>,
    strings: SharedStrings,
    keeps_messages: bool,
}

#[derive(Debug)]
struct NodeRow {
    name: Box<str>,
    fields: [Option<Rc<str>>; FIELDS.len()],
    /// The paths that it can serve, and those that it cannot, separated by commas.
    paths: [Rc<str>; 2],
    /// `Ready` and `Problem`.
    conditions: [Option<RowCondition>; 2],
    release: Option<Rc<str>>,
    is_known: bool,
}

#[derive(Debug)]
struct RowCondition {
    status: Rc<str>,
    reason: Rc<str>,
    message: Option<Box<str>>,
    heartbeat: Option<Box<str>>,
}

impl NodeRows {
    pub(super) fn new(keeps_messages: bool) -> NodeRows {
        NodeRows { keeps_messages, ..NodeRows::default() }
    }

    pub(super) fn add(&mut self, node: &FleetNode<'_>) {
        let fields = FIELDS.map(|name| node.label(name).map(|value| self.strings.get(value)));
        let paths = [true, false].map(|wanted| {
            let names: Vec<&str> =
                node.paths().filter(|(_, ready)| *ready == wanted).map(|(name, _)| name).collect();
            self.strings.get(&names.join(","))
        });
        let conditions =
            node.conditions().map(|condition| condition.map(|condition| self.condition(condition)));
        let release = node.annotation(MANAGED_BY).map(|release| self.strings.get(release));
        let (name, is_known) = (node.name().into(), node.is_known());
        self.rows.push(NodeRow { name, fields, paths, conditions, release, is_known });
    }

    fn condition(&mut self, condition: &ListedCondition) -> RowCondition {
        RowCondition {
            status: self.strings.get(&condition.status),
            reason: self.strings.get(&condition.reason),
            message: self.keeps_messages.then(|| condition.message.as_str().into()),
            heartbeat: condition.last_heartbeat_time.as_deref().map(Into::into),
        }
    }

    /// Writes them, sorted by name.
    pub(super) fn write(mut self, format: FleetOutput, output: &mut dyn Write) -> anyhow::Result<()> {
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
        if format == FleetOutput::Json {
            return write_json(self.rows.iter().map(NodeRow::json), output);
        }
        if self.rows.is_empty() {
            writeln!(
                output,
                "No Nodes found. Those without labels, annotations and conditions of AFD are shown with --all."
            )?;
            return Ok(());
        }
        let is_wide = format == FleetOutput::Wide;
        let columns = if is_wide { &COLUMNS[..] } else { &COLUMNS[..NARROW] };
        let mut header = vec!["NODE"];
        header.extend(columns.iter().map(|(title, _)| *title));
        header.extend(["PATHS", "READY", "PROBLEM", "HEARTBEAT"]);
        if is_wide {
            header.push("RELEASE");
        }
        write_columns(output, &header, self.rows.len(), &|row| self.rows[row].cells(columns, is_wide))?;
        writeln!(output, "\n{}", self.summary())?;
        Ok(())
    }

    fn summary(&self) -> String {
        let sum = |name: &str| -> u64 {
            self.rows.iter().filter_map(|row| row.field(name)?.parse::<u64>().ok()).sum()
        };
        let with_problem = self.rows.iter().filter(|row| row.status(1) == Some("True")).count();
        format!(
            "{}: {} devices of primary products, {} known to be healthy, {} missing; {} with a confirmed fault.",
            count_of_nodes(self.rows.len()),
            sum("count"),
            sum("healthy"),
            sum("missing"),
            count_of_nodes(with_problem),
        )
    }
}

impl NodeRow {
    fn field(&self, name: &str) -> Option<&str> {
        let index = FIELDS.iter().position(|field| *field == name)?;
        self.fields[index].as_deref()
    }

    fn status(&self, condition: usize) -> Option<&str> {
        self.conditions[condition].as_ref().map(|condition| &*condition.status)
    }

    fn cells(&self, columns: &[(&str, &str)], is_wide: bool) -> Vec<String> {
        let cell = |text: Option<&str>| text.map_or_else(|| UNKNOWN.to_owned(), visible_line);
        let mut cells = vec![visible_line(&self.name)];
        cells.extend(columns.iter().map(|(_, name)| cell(self.field(name))));
        if !self.is_known {
            "without AFD".clone_into(&mut cells[1]);
        }
        let [can, cannot] = &self.paths;
        cells.push(match (is_wide, count(can), count(cannot)) {
            (_, 0, 0) => UNKNOWN.to_owned(),
            (true, 0, _) => "none".to_owned(),
            (true, ..) => visible_line(can),
            (false, can, cannot) => format!("{can}/{}", can + cannot),
        });
        cells.extend(self.conditions.iter().enumerate().map(|(index, condition)| {
            let usual = ["True", "False"][index];
            condition.as_ref().map_or_else(
                || UNKNOWN.to_owned(),
                |condition| match &*condition.status {
                    status if status == usual || condition.reason.is_empty() => visible_line(status),
                    status => visible_line(&format!("{status}:{}", condition.reason)),
                },
            )
        }));
        let heartbeats =
            self.conditions.iter().flatten().filter_map(|condition| age(condition.heartbeat.as_deref()?));
        cells.push(heartbeats.min().map_or_else(|| UNKNOWN.to_owned(), short));
        if is_wide {
            cells.push(cell(self.release.as_deref()));
        }
        cells
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("node".to_owned(), json!(self.name));
        object.insert("afd".to_owned(), json!(self.is_known));
        for (name, value) in FIELDS.iter().zip(&self.fields) {
            let is_number = matches!(*name, "count" | "healthy" | "missing" | "memory-mib");
            let number = value.as_deref().filter(|_| is_number).and_then(|text| text.parse::<u64>().ok());
            object
                .insert(name.replace('-', "_"), number.map_or_else(|| json!(value.as_deref()), Value::from));
        }
        let [can, cannot] = &self.paths;
        let verdicts = [(can, true), (cannot, false)].into_iter();
        let verdicts = verdicts.flat_map(|(names, ready)| {
            names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(move |name| (name.to_owned(), Value::Bool(ready)))
        });
        object.insert("paths".to_owned(), Value::Object(verdicts.collect()));
        for (name, condition) in ["ready", "problem"].into_iter().zip(&self.conditions) {
            let condition = condition.as_ref().map(|RowCondition { status, reason, message, heartbeat }| {
                json!({ "status": **status, "reason": **reason, "message": message, "heartbeat": heartbeat })
            });
            object.insert(name.to_owned(), condition.unwrap_or_default());
        }
        object.insert("managed_by".to_owned(), json!(self.release.as_deref()));
        Value::Object(object)
    }
}

/// Writes objects as an array, a line for each.
pub(super) fn write_json(objects: impl Iterator<Item = Value>, output: &mut dyn Write) -> anyhow::Result<()> {
    let mut separator = "[\n";
    for object in objects {
        write!(output, "{separator}{}", visible_json(&object.to_string()))?;
        separator = ",\n";
    }
    writeln!(output, "{}", if separator == "[\n" { "[]" } else { "\n]" })?;
    Ok(())
}

fn count(names: &str) -> usize {
    names.split(',').filter(|name| !name.is_empty()).count()
}

/// A duration in its largest unit, as kubectl writes ages.
fn short(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_largest_unit() {
        let written =
            [5, 119, 120, 7199, 7200, 172_799, 172_800].map(|seconds| short(Duration::from_secs(seconds)));
        assert_eq!(written, ["5s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
