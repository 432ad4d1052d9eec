//! The documentation of paths, written from the rules and the view that the code uses.

use super::{
    check::FUNCTIONS,
    rules::{PATH_KEY, PathRules, Requirement},
    view::{FieldKind, ViewField, ViewRecord},
};

/// The beginning, which holds for all paths.
const HEAD: &str = "# llm-d paths\n\n\
Generated from the rules in `crates/derive/src/paths/rules.toml`; `cargo xtask bless` updates it.\n\n\
A path is a way of serving that llm-d has a guide for. AFD publishes for each path whether the node can serve it: as the label\n\
`path.<path>` (`true`, `false`), as `accelerator_path_ready{path}` (1 or 0) with `accelerator_path_reason{path, reason}`,\n\
in the annotation `report`, and as text with `afd explain [PATH]`.\n\n\
**true** means that one pod of any of the path's roles, in the default shape of llm-d's guide, fits on the node as far as the\n\
node itself shows. It does not mean that devices or memory are free, that other nodes are ready as well, or that the network\n\
connects them; what is not checked is listed for each path. A device counts unless it is known to have failed: the health of\n\
some devices is not reported, and the label `healthy` leaves them out.\n\n\
**false** means that a requirement of the path is known not to hold. **No label** and no series mean that no requirement is\n\
known not to hold, and that a fact is not known; `afd explain` names it.\n\n\
A **note** is what makes a node slower than the guide expects. The node serves the path all the same: the label is `true`, and\n\
`afd explain` and the annotation `report` have the note.\n\n\
Like all labels, these describe the primary product of the node: of the products that can compute, the one with most devices.\n";

const RULES: &str = "## Your own rules\n\n\
`--path-rules FILE` adds paths, and requirements and notes of existing paths. The file has the format of the built-in one (TOML):\n\n\
```toml\n\
[[path]]\n\
name = \"fast-lane\"\n\
title = \"Our low-latency pool\"\n\n\
[[requirement]]\n\
paths = [\"fast-lane\", \"pd-disaggregation\"]\n\
when = \"node.variant == 'gpu'\"\n\
require = \"node.ports.exists(port, port.active && port.rate_bits_per_second >= 400000000000)\"\n\
reason = \"NicTooSlow\"\n\
message = \"no active port has 400 Gb/s; {size(node.ports)} ports were found\"\n\
```\n\n\
A `[[note]]` has the same keys, with `prefer` in place of `require`.\n\n\
`require` and `when` (without `when` a requirement applies to every node) are expressions of the Common Expression Language\n\
([CEL](https://cel.dev)), as in Kubernetes' admission policies. `{x}` in a message is the value of the expression `x`. A file\n\
with errors is refused as a whole, and every error is reported with its place. Unknown fields and functions, and a number\n\
compared with a string, are errors.\n\n\
An unknown fact is absent, and reading it makes an expression unknown unless the other operands decide: `false && unknown` is\n\
false, `true || unknown` is true, `exists` is true if one element is true, `all` is false if one element is false. `has(x)` tests\n\
whether `x` is known. An unknown requirement leaves the path unknown, unless another one does not hold.\n";

/// The text of `docs/paths.md`.
pub fn document() -> String {
    let rules = PathRules::built_in();
    let mut text = HEAD.to_owned();
    for path in rules.paths() {
        text += &format!("\n## `{PATH_KEY}{}`: {}\n\n", path.name, path.title);
        if let Some(guide) = &path.guide {
            text += &format!("[Guide]({guide}). ");
        }
        if let Some(pods) = &path.pods {
            text += &format!("Pods: {pods}.\n");
        }
        text += "\n| reason | when | requires | source |\n|---|---|---|---|\n";
        for requirement in rules.requirements_of(path) {
            text += &row(requirement);
        }
        let mut notes = rules.notes_of(path).peekable();
        if notes.peek().is_some() {
            text += "\n| note | when | works better with | source |\n|---|---|---|---|\n";
        }
        for note in notes {
            text += &row(note);
        }
        text += "\nNot checked:\n\n";
        for what in &path.not_checked {
            text += &format!("- {what}\n");
        }
    }
    text += &format!("\n{RULES}\n## Fields\n");
    for record in ViewRecord::ALL {
        text += &format!("\n### `{}`\n\n| field | kind | meaning |\n|---|---|---|\n", place(record));
        for field in record.fields() {
            text += &format!("| `{}` | {} | {} |\n", field.name, kind(field), field.meaning);
        }
    }
    text += "\n### Functions\n\nBeside CEL's operators and its macros `has`, `all`, `exists`, `exists_one`, `filter` and `map`:\n\n";
    for (_, meaning) in FUNCTIONS {
        text += &format!("- {meaning}\n");
    }
    text
}

fn row(requirement: &Requirement) -> String {
    let when = requirement.when.as_ref().map_or_else(String::new, |when| code(when.source()));
    let source = requirement.source.as_deref().unwrap_or_default();
    format!("| {} | {when} | {} | {source} |\n", requirement.reason, code(requirement.require.source()))
}

/// A bar would end the cell of the table.
fn code(expression: &str) -> String {
    format!("`{}`", expression.replace('|', "\\|"))
}

/// The place of a record in the view.
fn place(record: ViewRecord) -> &'static str {
    match record {
        ViewRecord::Node => "node",
        ViewRecord::Device => "node.devices",
        ViewRecord::Partition => "node.devices[].partitions",
        ViewRecord::Port => "node.ports",
        ViewRecord::Host => "node.host",
    }
}

fn kind(field: ViewField) -> String {
    match field.kind {
        FieldKind::Bool => "bool".to_owned(),
        FieldKind::Number => "int".to_owned(),
        FieldKind::String => "string".to_owned(),
        FieldKind::One(record) => format!("`{}`", place(record)),
        FieldKind::Many(record) => format!("list of `{}`", place(record)),
    }
}
