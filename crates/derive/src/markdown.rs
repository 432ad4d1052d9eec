//! The documentation of labels and metrics, written from the tables that the code uses.

use crate::{
    compat::{CompatSet, dcgm, nvidia, nvidia::resource::RESOURCE_LABELS},
    families::{Family, Subject},
    labels::{DEFAULT_PREFIX, LABELS, PRODUCT_KEY},
};

/// The text of `docs/labels.md`.
pub fn labels() -> String {
    let mut text = format!(
        "# Node labels\n\n\
         Generated from the table in `crates/derive/src/labels.rs`; `cargo xtask bless` writes it anew.\n\n\
         Keys without a slash stand after the prefix `{DEFAULT_PREFIX}/` (`--label-prefix` chooses another). A fact that\n\
         is not known gives no label. On a node with several products the keys describe the *primary* product: the one\n\
         with most devices, of equal ones the first by vendor and then by name. Integrated GPUs count only with\n\
         `--include-integrated`.\n\n\
         | key | values | meaning |\n|---|---|---|\n"
    );
    for label in LABELS {
        text += &format!("| `{}` | {} | {} |\n", label.key, label.examples, label.meaning);
    }
    text += &format!(
        "| `{PRODUCT_KEY}<product>` | `8` | one key for each product, spelt as the value of `product`; the number of its \
         devices. Works with nodeAffinity `Gt`, and is the truth on mixed nodes |\n"
    );
    text += "| `path.<path>` | `true`, `false` | whether the node can serve a path of llm-d; absent where a fact is not known. \
             [paths.md](paths.md) lists the paths |\n";
    text += "\n## Labels as the vendors' tools spell them\n\n\
         `--compat SET=on` publishes all keys of a set, `off` none. `auto`, the default, fills in keys that nobody else\n\
         owns; only a cluster knows the owners, so that `afd show` prints none then. Text in `<>` is filled in: such a key\n\
         stands for any number of labels.\n";
    for set in CompatSet::TABLES {
        text += &format!(
            "\n### `{name}`: {}\n\nWhat is left out or differs, and why: [compat-{name}.md](compat-{name}.md).\n\n\
             | key | values | meaning |\n|---|---|---|\n",
            set.tool(),
            name = set.as_str(),
        );
        for row in set.rows() {
            text += &format!("| `{}` | {} | {} |\n", row.key, row.examples, row.meaning);
        }
    }
    text
}

/// The text of `docs/compat-<set>.md`.
pub fn compat(set: CompatSet) -> String {
    let name = set.as_str();
    let mut text = format!(
        "# Labels of the set `{name}` beside those of {}\n\n\
         Generated from the table in `crates/derive/src/compat/{name}.rs`; `cargo xtask bless` writes it anew. The keys that\n\
         are published stand in [labels.md](labels.md).\n\n\
         ## Keys that are not published\n\n| key | why |\n|---|---|\n",
        set.tool(),
    );
    for left in set.left_out() {
        text += &format!("| `{}` | {} |\n", left.key, left.reason);
    }
    text += "\n## Differences\n\n";
    for difference in set.differences() {
        text += &format!("- {difference}\n");
    }
    text + &compat_metrics(set)
}

/// The part about metrics.
fn compat_metrics(set: CompatSet) -> String {
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "\n# Metrics of the set `{name}` beside those of {exporter}\n\n\
         `afd run --compat-metrics {name}` serves them at `/compat/{name}`, `afd show --output metrics --compat-metrics {name}`\n\
         prints them. All are gauges, as in the exporter. Every series of a GPU has the labels {labels}; a label of which nobody\n\
         tells is empty.\n\n## Families\n\n| family | labels | meaning |\n|---|---|---|\n",
        name = set.as_str(),
        exporter = set.exporter(),
        labels = list(set.metric_labels()),
    );
    for family in set.families() {
        text += &format!("| `{}` | {} | {} |\n", family.name, list(family.labels), family.help);
    }
    text += "\n## Families that are not published\n\n| families | why |\n|---|---|\n";
    for left in set.left_out_families() {
        text += &format!("| {} | {} |\n", list(left.names), left.reason);
    }
    text += "\n## Differences\n\n";
    for difference in set.metric_differences() {
        text += &format!("- {difference}\n");
    }
    text
}

/// The text of `docs/metrics.md`.
pub fn metrics() -> String {
    let mut text = "# Metrics\n\n\
         Generated from the table in `crates/derive/src/families.rs`; `cargo xtask bless` writes it anew.\n\n\
         A value that could not be read is an absent series, never 0; what could not be read is counted in\n\
         `afd_probe_problems`. Every series of a device has the labels `vendor`, `device` (PCI address), `uuid` (empty\n\
         where the device has none) and `partition` (empty for the whole device); the labels below come on top.\n"
        .to_owned();
    for (subject, title) in [
        (Subject::Device, "Devices and partitions"),
        (Subject::Node, "The node"),
        (Subject::Agent, "The agent"),
    ] {
        text += &format!("\n## {title}\n\n| family | type | labels | meaning |\n|---|---|---|---|\n");
        for spec in Family::ALL.iter().map(|family| family.spec()).filter(|spec| spec.subject == subject) {
            let labels: Vec<String> = spec.labels.iter().map(|label| format!("`{label}`")).collect();
            text += &format!(
                "| `{}` | {} | {} | {} |\n",
                spec.name,
                spec.kind.as_str(),
                labels.join(", "),
                spec.help
            );
        }
    }
    text + "\nThe `process_*` families of Prometheus' client libraries tell what the agent itself costs.\n"
}

/// The text of `docs/compat-gfd.md`.
pub fn compat_gfd() -> String {
    let mut text = "# Labels of NVIDIA GPU Feature Discovery\n\n\
         Generated from the tables in `crates/derive/src/compat/nvidia.rs`; `cargo xtask bless` writes it anew.\n\n\
         The set `nvidia` (`--compat nvidia=on`) has the keys of GPU Feature Discovery 0.20, all under `nvidia.com/`. A fact\n\
         that is not known gives no label. `--nvidia-mig-strategy` says how the device plugin offers MIG devices, and\n\
         `--nvidia-device-plugin-config` names its configuration, for sharing.\n\n\
         | key | meaning |\n|---|---|\n"
        .to_owned();
    for label in &nvidia::NODE_LABELS {
        text += &format!("| `{}` | {} |\n", label.key, label.meaning);
    }
    text += "\nThe GPUs, and with the strategy `mixed` each MIG profile (`mig-1g.10gb` instead of `gpu`; `+` in a profile is \
             written `.`):\n\n| key | meaning |\n|---|---|\n";
    for label in &RESOURCE_LABELS {
        text += &format!("| `gpu.{}` | {} |\n", label.key, label.meaning);
    }
    text += "\n## Not published\n\n";
    text += &listed(&nvidia::NOT_PUBLISHED.map(|(key, reason)| (format!("`{key}`"), reason)));
    text += "\n## Differences\n\n";
    text + &listed(&nvidia::DIFFERENCES)
}

/// The text of `docs/compat-dcgm.md`.
pub fn compat_dcgm() -> String {
    let mut text = "# Metrics of dcgm-exporter\n\n\
         Generated from the tables in `crates/derive/src/compat/dcgm.rs`; `cargo xtask bless` writes it anew.\n\n\
         `/compat/dcgm` has the default list of dcgm-exporter 4.8, with its labels `gpu`, `UUID`, `pci_bus_id`, `device`,\n\
         `modelName`, `GPU_I_PROFILE`, `GPU_I_ID`, `Hostname`, `DCGM_FI_DRIVER_VERSION`, `pod`, `namespace`, `container`,\n\
         and `err_code` and `err_msg` of an XID. `DCGM_FI_DEV_GPU_UTIL` is told of every vendor's devices, for llm-d's endpoint\n\
         picker; the others of NVIDIA's.\n\n\
         | family | type | meaning |\n|---|---|---|\n"
        .to_owned();
    for family in &dcgm::FAMILIES {
        text += &format!("| `{}` | {} | {} |\n", family.name, family.kind.as_str(), family.help);
    }
    text += "\n## Differences\n\n";
    text + &listed(&dcgm::DIFFERENCES)
}

fn listed<K: std::fmt::Display>(rows: &[(K, &str)]) -> String {
    rows.iter().map(|(key, text)| format!("- {key}: {text}.\n")).collect()
}
