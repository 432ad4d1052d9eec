//! The documentation of labels and metrics, written from the tables that the code uses.

use afd_model::reason::{self, REASONS};

use crate::{
    compat::{CompatSet, labels::LabelSet, metrics::MetricSet},
    condition,
    families::{Family, MetricSubject},
    labels::{DEFAULT_PREFIX, LABELS, PRODUCT_KEY},
    vendors::VENDORS,
};

/// The text of `docs/labels.md`.
pub fn labels() -> String {
    let mut text = format!(
        "# Node labels\n\n\
         Generated from the table in `crates/derive/src/labels/table.rs`; `cargo xtask bless` updates it.\n\n\
         Keys without a slash follow the prefix `{DEFAULT_PREFIX}/` (`--label-prefix` sets another). A fact that is not known\n\
         gives no label; while a source that may know it has not answered, the label stays as the Node has it.\n\
         On a node with several products the keys describe the *primary* product: the one with most devices, of equal ones the\n\
         first by vendor and then by name. Integrated GPUs count only with `--include-integrated`.\n\n\
         | key | values | meaning |\n|---|---|---|\n"
    );
    for label in LABELS {
        text += &format!("| `{}` | {} | {} |\n", label.key, label.examples(), label.meaning);
    }
    text += &format!(
        "| `{PRODUCT_KEY}<product>` | `8` | one key for each product, spelt as the value of `product`; the number of its \
         devices. Works with nodeAffinity `Gt`, and covers every product of a mixed node |\n"
    );
    text += "| `path.<path>` | `true`, `false` | whether the node can serve a path of llm-d; absent where a fact is not known. \
             [paths.md](paths.md) lists the paths |\n";
    text += "\n## Vendors\n\n| devices | `vendor` | `variant` | extended resources | DRA driver |\n|---|---|---|---|---|\n";
    for record in VENDORS {
        text += &format!(
            "| {} | `{}` | `{}` | {} | `{}` |\n",
            record.title,
            record.vendor.as_str(),
            record.variant.as_str(),
            code(record.offers.resources),
            record.offers.dra_driver,
        );
    }
    text += "\n## Labels as the vendors' tools spell them\n\n\
         `--compat SET=auto`, the default, fills in keys that no other field manager owns, `off` none. `on` is the same as `auto`\n\
         in a cluster: a key of another manager is never taken over. It differs for `afd show` alone, which knows no owners: with\n\
         `on` it prints all keys of the set, with `auto` none. Text in `<>` is filled in: such a key stands for any number of labels.\n";
    for (set, labels) in CompatSet::with_labels() {
        text += &format!(
            "\n### `{name}`: {}\n\nWhat is left out or differs, and why: [compat-{name}.md](compat-{name}.md).{}{}\n\n\
             | key | values | meaning |\n|---|---|---|\n",
            labels.tool,
            if labels.notes.is_empty() { "" } else { " " },
            labels.notes,
            name = set.as_str(),
        );
        for row in labels.rows() {
            text += &format!("| `{}` | {} | {} |\n", row.key, row.examples, row.meaning);
        }
    }
    text
}

/// The texts of `docs/compat-<set>.md`, by the names of the sets.
pub fn compat() -> Vec<(&'static str, String)> {
    let mut texts: Vec<(&str, String)> = Vec::new();
    for (set, labels) in CompatSet::with_labels() {
        texts.push((set.as_str(), compat_labels(set, labels)));
    }
    for (set, metrics) in CompatSet::with_metrics() {
        let part = compat_metrics(set, metrics);
        match texts.iter_mut().find(|(name, _)| *name == set.as_str()) {
            Some((_, text)) => *text += &format!("\n{part}"),
            None => texts.push((set.as_str(), part)),
        }
    }
    texts
}

fn compat_labels(set: CompatSet, labels: &LabelSet) -> String {
    let name = set.as_str();
    let mut text = format!(
        "# Labels of the set `{name}` compared with those of {}\n\n\
         Generated from the tables in `crates/derive/src/vendors/{name}/labels.rs`; `cargo xtask bless` updates it. The keys\n\
         that are published are listed in [labels.md](labels.md).\n\n\
         ## Keys that are not published\n\n| key | reason |\n|---|---|\n",
        labels.tool,
    );
    for left_out in labels.left_out {
        text += &format!("| `{}` | {} |\n", left_out.key, left_out.reason);
    }
    text += "\n## Differences\n\n";
    for difference in labels.differences {
        text += &format!("- {difference}\n");
    }
    text
}

fn compat_metrics(set: CompatSet, metrics: &MetricSet) -> String {
    let name = set.as_str();
    let page = metrics.page;
    let served = if metrics.always_served {
        format!("`/compat/{page}` serves them always, and `afd show --output {page}` prints them.",)
    } else {
        format!(
            "`afd run --compat-metrics {name}` serves them at `/compat/{page}`, `afd show --output metrics --compat-metrics {name}`\n\
             prints them."
        )
    };
    let labels: Vec<&str> = metrics
        .unit_labels
        .iter()
        .map(|label| label.name)
        .chain(metrics.holder_labels.iter().map(|label| label.name))
        .collect();
    let mut text = format!(
        "# Metrics of the set `{name}` compared with those of {}\n\n\
         Generated from the tables in `{}`; `cargo xtask bless` updates it.\n\n\
         {served}\n{}\n\
         Every series of a device has the labels {}; a label without a value is empty.\n\n\
         ## Families\n\n| family | type | labels | meaning |\n|---|---|---|---|\n",
        metrics.exporter,
        set.metrics_file(),
        metrics.notes,
        code(&labels),
    );
    for family in metrics.families() {
        text += &format!(
            "| `{}` | {} | {} | {} |\n",
            family.name,
            family.kind.as_str(),
            code(family.labels),
            family.help
        );
    }
    if !metrics.left_out.is_empty() {
        text += "\n## Families that are not published\n\n| families | reason |\n|---|---|\n";
        for left_out in metrics.left_out {
            text += &format!("| {} | {} |\n", code(left_out.names), left_out.reason);
        }
    }
    text += "\n## Differences\n\n";
    for difference in metrics.differences {
        text += &format!("- {difference}\n");
    }
    text
}

/// The text of `docs/metrics.md`.
pub fn metrics() -> String {
    let mut text = "# Metrics\n\n\
         Generated from the table in `crates/derive/src/families.rs`; `cargo xtask bless` updates it.\n\n\
         A value that could not be read is an absent series, never 0; what could not be read is counted in\n\
         `afd_probe_problems`. Every series of a device has the labels `vendor`, `device` (PCI address), `uuid` (empty\n\
         where the device has none) and `partition` (empty for the whole device), followed by the labels below.\n\n\
         The values of each link between devices are published only with `--per-link`: without it, or where they are not\n\
         counted, the bytes are the sum over all links of a type and have no labels `link` and `peer`. `link` is the number of\n\
         the link (`7`), after the number of the tile where each tile numbers its own (`0.3`).\n"
        .to_owned();
    for (subject, title) in [
        (MetricSubject::Device, "Devices and partitions"),
        (MetricSubject::Node, "The node"),
        (MetricSubject::Agent, "The agent"),
    ] {
        text += &format!("\n## {title}\n\n| family | type | labels | meaning |\n|---|---|---|---|\n");
        for spec in Family::ALL.iter().map(|family| family.spec()).filter(|spec| spec.subject == subject) {
            text += &format!(
                "| `{}` | {} | {} | {} |\n",
                spec.name,
                spec.kind.as_str(),
                code(spec.labels),
                spec.help
            );
        }
    }
    text + "\nThe `process_*` families of Prometheus' client libraries show what the agent itself costs.\n"
}

/// The text of `docs/conditions.md`.
pub fn conditions() -> String {
    let (ready, problem) = condition::kinds(DEFAULT_PREFIX);
    let mut text = format!(
        "# Conditions of the Node, and reasons\n\n\
         Generated from the table in `crates/model/src/reason/table.rs`; `cargo xtask bless` updates it.\n\n\
         `{ready}` says whether every expected device can take work: `True`, `False`, or `Unknown` in maintenance and while\n\
         that cannot be known. `{problem}` has the polarity that node-problem-detector and repair controllers expect: `True` only\n\
         for a confirmed fault of a device, never `Unknown`. It keeps its value until that is decided. `--label-prefix` sets\n\
         another prefix.\n\n\
         Of several causes the first counts, in this order: missing devices, faults of devices, driver, library, fabric, offers.\n\
         `--problem-reasons` adds reasons for which `Problem` becomes `True` as well. What a reason does to the conditions\n\
         concerns a device that has failed, or whose health is unknown; a degraded device is `True`, whatever its reasons. The\n\
         graces are defaults.\n\n\
         The reasons of a device are those of `accelerator_device_health_reason`. A failed device with a reason that is not\n\
         listed has a device fault.\n\n\
         | reason | class | meaning | `Ready` | `Problem` | grace | what to do |\n|---|---|---|---|---|---|---|\n"
    );
    for row in REASONS {
        let (class, effect) = (row.class.as_str(), row.effect);
        text += &format!(
            "| <a id=\"{}\"></a>`{}` | {class} | {} | {} | {} | {} | {} |\n",
            reason::anchor(row.code),
            row.code,
            row.meaning,
            effect.ready,
            effect.problem,
            effect.grace,
            row.action
        );
    }
    text
}

fn code(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
