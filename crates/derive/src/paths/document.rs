//! The documentation of paths, written from the rules and the view that the code uses.

use super::{
    check::FUNCTIONS,
    rules::{LABEL, Rules},
    view::{Field, Kind, Record},
};

/// What can be said in few words for all paths.
const HEAD: &str = "# llm-d paths\n\n\
Generated from the rules in `crates/derive/src/paths/rules.toml`; `cargo xtask bless` writes it anew.\n\n\
A path is a way of serving that llm-d has a guide for. AFD tells of each whether this node can serve it: as the label\n\
`path.<path>` (`true`, `false`), as `accelerator_path_ready{path, reason}` (1 with an empty reason, or 0 with each reason),\n\
in the annotation `report`, and in words with `afd explain [PATH]`.\n\n\
**true** means that one pod of any of the path's roles, in the default shape of llm-d's guide, fits on the node by what the\n\
node itself tells. It does not mean that devices or memory are free, that other nodes are ready as well, or that the network\n\
joins them; what is not checked is listed with each path. A device counts unless it is known to have failed: of some devices\n\
no source tells the health, and the label `healthy` is absent then.\n\n\
**false** means that something which the path requires is known not to hold. **No label** and no series mean that nothing is\n\
known to be wrong, and that a fact is not known; `afd explain` names it.\n\n\
As all labels, these describe the primary product of the node: the one with most devices.\n";

const RULES: &str = "## Rules of one's own\n\n\
`--path-rules FILE` adds paths, and requirements of paths that are there already. The file has the form of the built-in one\n\
(TOML):\n\n\
```toml\n\
[[path]]\n\
name = \"fast-lane\"\n\
title = \"Our low-latency pool\"\n\n\
[[requirement]]\n\
paths = [\"fast-lane\", \"pd-disaggregation\"]\n\
when = \"node.vendor == 'nvidia'\"\n\
require = \"node.ports.exists(port, port.active && port.rate_bits_per_second >= 400000000000)\"\n\
reason = \"NicTooSlow\"\n\
message = \"no active port has 400 Gb/s; {size(node.ports)} ports were found\"\n\
```\n\n\
`require` (and `when`, without which it is asked of every node) are expressions of the Common Expression Language\n\
([CEL](https://cel.dev)), as in Kubernetes' admission policies. `{x}` in a message is the value of the expression `x`. A file\n\
with mistakes is refused as a whole, with every mistake and its place: also a field or function that there is not, and a number\n\
compared with a text.\n\n\
What is not known is absent, and asking for it makes an expression unknown, unless the rest decides: `false && unknown` is false,\n\
`true || unknown` is true, `exists` is true where one element says so, `all` is false where one does. `has(x)` asks whether `x`\n\
is known. A requirement that is unknown leaves the path unknown, unless another one does not hold.\n";

/// The text of `docs/paths.md`.
pub fn document() -> String {
    let rules = Rules::built_in();
    let mut text = HEAD.to_owned();
    for path in rules.paths() {
        text += &format!("\n## `{LABEL}{}`: {}\n\n", path.name, path.title);
        if let Some(guide) = &path.guide {
            text += &format!("[Guide]({guide}). ");
        }
        if let Some(pods) = &path.pods {
            text += &format!("Pods: {pods}.\n");
        }
        text += "\n| reason | when | requires | source |\n|---|---|---|---|\n";
        for requirement in rules.requirements_of(path) {
            let when = requirement.when.as_ref().map_or_else(String::new, |when| code(when.text()));
            let source = requirement.source.as_deref().unwrap_or_default();
            text += &format!(
                "| {} | {when} | {} | {source} |\n",
                requirement.reason,
                code(requirement.require.text())
            );
        }
        text += "\nNot checked:\n\n";
        for what in &path.not_checked {
            text += &format!("- {what}\n");
        }
    }
    text += &format!("\n{RULES}\n## What can be asked\n");
    for record in Record::ALL {
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

/// A bar would end the cell of the table.
fn code(expression: &str) -> String {
    format!("`{}`", expression.replace('|', "\\|"))
}

/// Where a part of the view stands.
fn place(record: Record) -> &'static str {
    match record {
        Record::Node => "node",
        Record::Device => "node.devices",
        Record::Partition => "node.devices[].partitions",
        Record::Port => "node.ports",
        Record::Host => "node.host",
    }
}

fn kind(field: Field) -> String {
    match field.kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Number => "int".to_owned(),
        Kind::Text => "string".to_owned(),
        Kind::One(record) => format!("`{}`", place(record)),
        Kind::Many(record) => format!("list of `{}`", place(record)),
    }
}
