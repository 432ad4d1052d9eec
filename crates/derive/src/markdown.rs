//! The documentation of labels and metrics, written from the tables that the code uses.

use crate::{
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
