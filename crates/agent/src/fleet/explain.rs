//! `afd nodes --explain PATH`: which Nodes can serve a path, and what the others lack.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use afd_derive::paths::{PathRules, PathSpec};
use serde_json::{Value, json};

use super::{node::FleetNode, rows::write_json};
use crate::{args::FleetOutput, explain::UnknownPathError, text_table::write_columns, visible::visible_line};

/// How many names of a group are shown in the table.
const EXAMPLES: usize = 3;

/// The Nodes by what they lack for a path.
#[derive(Debug)]
pub(super) struct PathGroups<'p> {
    path: &'p str,
    groups: BTreeMap<PathGroup, GroupNodes>,
}

/// What the Nodes of a group have in common. The order is that of the output.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum PathGroup {
    Ready,
    /// The reasons against it.
    NotReady(Vec<String>),
    /// The facts that are not known.
    Unknown(Vec<String>),
    /// The Node carries no verdict, as without accelerators, or without a rule for the path.
    NoVerdict,
}

#[derive(Debug, Default)]
struct GroupNodes {
    products: BTreeMap<String, usize>,
    names: Vec<Box<str>>,
}

impl PathGroup {
    /// By the label, and the reasons of the report.
    fn of(node: &FleetNode<'_>, path: &str) -> PathGroup {
        let report = node.report();
        let verdicts = report["paths"].as_array().into_iter().flatten();
        let verdict = verdicts.into_iter().find(|verdict| verdict["path"] == path);
        let listed = |name: &str| -> Vec<String> {
            let texts = verdict.and_then(|verdict| verdict[name].as_array()).into_iter().flatten();
            let texts: BTreeSet<String> = texts.filter_map(|text| Some(text.as_str()?.to_owned())).collect();
            texts.into_iter().collect()
        };
        match (node.label(&format!("path.{path}")), verdict) {
            (Some("true"), _) => PathGroup::Ready,
            (Some(_), _) => PathGroup::NotReady(listed("reasons")),
            (None, Some(verdict)) if verdict["ready"].is_null() => PathGroup::Unknown(listed("unknown")),
            (None, _) => PathGroup::NoVerdict,
        }
    }

    fn answer(&self) -> &'static str {
        match self {
            PathGroup::Ready => "yes",
            PathGroup::NotReady(_) => "no",
            PathGroup::Unknown(_) => "unknown",
            PathGroup::NoVerdict => "-",
        }
    }

    fn lacks(&self) -> &[String] {
        match self {
            PathGroup::NotReady(texts) | PathGroup::Unknown(texts) => texts,
            PathGroup::Ready | PathGroup::NoVerdict => &[],
        }
    }
}

impl<'p> PathGroups<'p> {
    pub(super) fn new(path: &'p str) -> PathGroups<'p> {
        PathGroups { path, groups: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, node: &FleetNode<'_>) {
        let nodes = self.groups.entry(PathGroup::of(node, self.path)).or_default();
        let product = node.label("product").unwrap_or("-");
        match nodes.products.get_mut(product) {
            Some(count) => *count += 1,
            None => drop(nodes.products.insert(product.to_owned(), 1)),
        }
        nodes.names.push(node.name().into());
    }

    /// Writes the groups: those that are ready, then the largest.
    pub(super) fn write(self, format: FleetOutput, output: &mut dyn Write) -> anyhow::Result<()> {
        let rules = PathRules::built_in();
        let spec = rules.paths().iter().find(|spec| spec.name == self.path);
        if spec.is_none() && self.groups.keys().all(|group| *group == PathGroup::NoVerdict) {
            return Err(UnknownPathError::new(
                self.path,
                rules.paths().iter().map(|spec| spec.name.as_str()),
            )
            .into());
        }
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_by_key(|(group, nodes)| {
            let rank = ["yes", "no", "unknown"].iter().position(|answer| *answer == group.answer());
            (rank.unwrap_or(usize::MAX), usize::MAX - nodes.names.len())
        });
        if format == FleetOutput::Json {
            return write_json(groups.iter().map(|(group, nodes)| json(group, nodes)), output);
        }
        let all: usize = groups.iter().map(|(_, nodes)| nodes.names.len()).sum();
        let ready = groups.iter().find(|(group, _)| *group == PathGroup::Ready);
        let ready = ready.map_or(0, |(_, nodes)| nodes.names.len());
        let title = spec.map_or(self.path, |spec| &spec.title);
        writeln!(output, "{}: {ready} of {all} Nodes can serve it\n", visible_line(title))?;
        let examples = if format == FleetOutput::Wide { usize::MAX } else { EXAMPLES };
        let header = ["READY", "NODES", "MISSING", "PRODUCTS", "NAMES"];
        write_columns(output, &header, groups.len(), &|row| cells(&groups[row], examples))?;
        if let Some(spec) = spec {
            write_requirements(&rules, spec, &groups, output)?;
        }
        Ok(())
    }
}

fn json(group: &PathGroup, nodes: &GroupNodes) -> Value {
    let ready = match group {
        PathGroup::Ready => Some(true),
        PathGroup::NotReady(_) => Some(false),
        PathGroup::Unknown(_) | PathGroup::NoVerdict => None,
    };
    let is = |wanted: bool| wanted.then(|| group.lacks());
    json!({
        "ready": ready,
        "reasons": is(matches!(group, PathGroup::NotReady(_))),
        "unknown": is(matches!(group, PathGroup::Unknown(_))),
        "products": nodes.products,
        "nodes": nodes.names,
    })
}

fn cells((group, nodes): &(PathGroup, GroupNodes), examples: usize) -> Vec<String> {
    let lacks = group.lacks();
    let products: Vec<String> =
        nodes.products.iter().map(|(product, count)| format!("{product} ({count})")).collect();
    let mut names = nodes.names.iter().take(examples).map(|name| &**name).collect::<Vec<_>>().join(", ");
    if nodes.names.len() > examples {
        names += &format!(" and {} more", nodes.names.len() - examples);
    }
    let lacks = if lacks.is_empty() { "-".to_owned() } else { lacks.join(", ") };
    let cells = [group.answer().to_owned(), nodes.names.len().to_string(), lacks, products.join(", "), names];
    cells.iter().map(|cell| visible_line(cell)).collect()
}

/// What the path requires where a Node does not meet it, by the built-in rules.
fn write_requirements(
    rules: &PathRules,
    spec: &PathSpec,
    groups: &[(PathGroup, GroupNodes)],
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let is_reason = |reason: &String| {
        let mut groups = groups.iter().filter(|(group, _)| matches!(group, PathGroup::NotReady(_)));
        groups.any(|(group, _)| group.lacks().contains(reason))
    };
    let unmet: Vec<_> =
        rules.requirements_of(spec).filter(|requirement| is_reason(&requirement.reason)).collect();
    if !unmet.is_empty() {
        writeln!(output, "\nRequired:")?;
    }
    for requirement in unmet {
        let applies =
            requirement.when.as_ref().map(|when| format!(", where {}", when.source())).unwrap_or_default();
        writeln!(output, "  {}: {}{applies}", requirement.reason, requirement.require.source())?;
    }
    writeln!(output, "\n`afd explain {}` on a Node shows what to do.", spec.name)?;
    Ok(())
}
