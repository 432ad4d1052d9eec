//! Inventory to node labels. The keys are an API: they change only with a major version.

mod products;
mod values;

use std::collections::BTreeMap;

use afd_model::{Device, Inventory};

pub(crate) use self::products::primary_product;
use self::products::{ProductGroup, groups, primary};
use crate::{
    rdma,
    value::{MAX_LENGTH, label_value},
    vendors::VENDORS,
};

/// The default prefix of our own labels.
pub const DEFAULT_PREFIX: &str = "accelerator.llm-d.ai";

/// What the admin can choose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelOptions {
    /// Prefix of our own labels, without the slash.
    pub prefix: String,
    /// Whether integrated GPUs count.
    pub include_integrated: bool,
}

impl Default for LabelOptions {
    fn default() -> Self {
        LabelOptions { prefix: DEFAULT_PREFIX.to_owned(), include_integrated: false }
    }
}

impl LabelOptions {
    /// A key of our own with the prefix; one with a slash is complete.
    pub(crate) fn key(&self, key: &str) -> String {
        if key.contains('/') { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The key: after our prefix, or complete if it contains a slash.
    pub key: &'static str,
    /// Values as they occur; empty where they are those of the vendors' records.
    examples: &'static str,
    /// What it means.
    pub meaning: &'static str,
    value: fn(&LabelledNode<'_>) -> Option<String>,
}

impl Label {
    /// Values as they occur, as Markdown.
    pub fn examples(&self) -> String {
        if !self.examples.is_empty() {
            return self.examples.to_owned();
        }
        let mut examples: Vec<&str> = Vec::new();
        for example in VENDORS.into_iter().filter_map(|record| record.label_example(self.key)) {
            if !examples.contains(&example) {
                examples.push(example);
            }
        }
        examples.iter().map(|example| format!("`{example}`")).collect::<Vec<_>>().join(", ")
    }
}

/// All labels with a fixed key, in the order of the documentation. Each product has a key of its own, too: [`PRODUCT_KEY`].
pub const LABELS: [Label; 23] = [
    Label {
        key: "present",
        examples: "`true`",
        meaning: "at least one accelerator",
        value: |_| Some("true".to_owned()),
    },
    Label {
        key: "vendor",
        examples: "",
        meaning: "vendor of the primary product",
        value: |node| Some(node.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: "variant",
        examples: "",
        meaning: "kind of accelerator, in llm-d's words",
        value: |node| Some(node.primary.variant.as_str().to_owned()),
    },
    Label {
        key: "product",
        examples: "",
        meaning: "marketing name",
        value: |node| node.primary.product.clone(),
    },
    Label {
        key: "model",
        examples: "",
        meaning: "short model name",
        value: |node| node.agreed_value(|device| device.product.value()?.model.value().map(String::as_str)),
    },
    Label {
        key: "architecture",
        examples: "",
        meaning: "silicon generation",
        value: |node| {
            node.agreed_value(|device| device.product.value()?.architecture.value().map(String::as_str))
        },
    },
    Label {
        key: "compute",
        examples: "",
        meaning: "compute capability or gfx target",
        value: |node| node.agreed_value(|device| device.compute.value().map(String::as_str)),
    },
    Label {
        key: "count",
        examples: "`8`",
        meaning: "physical devices of the primary product",
        value: |node| Some(node.primary.devices.len().to_string()),
    },
    Label {
        key: "healthy",
        examples: "`8`",
        meaning: "number of those that are healthy or degraded; absent while the health of one is unknown",
        value: values::healthy,
    },
    Label {
        key: "memory-mib",
        examples: "`81559`",
        meaning: "memory of one device in whole MiB",
        value: |node| {
            node.agreed(|device| device.memory_bytes.value().map(|bytes| (bytes >> 20).to_string()))
        },
    },
    Label {
        key: "driver-version",
        examples: "`580.105.08`",
        meaning: "version of the kernel driver; the kernel's release where the driver is part of the kernel",
        value: |node| node.agreed_value(|device| device.driver_version.value().map(String::as_str)),
    },
    Label {
        key: "runtime-version",
        examples: "`13.0`",
        meaning: "CUDA version that the driver supports; absent where the vendor has no such version",
        value: |node| node.agreed_value(|device| device.runtime_version.value().map(String::as_str)),
    },
    Label {
        key: "partition",
        examples: "`none`, `mig-1g.10gb`, `cpx-nps4`, `sriov`, `mixed`",
        meaning: "partitioning mode",
        value: values::partition,
    },
    Label {
        key: "partition-count",
        examples: "`64`",
        meaning: "number of partitions, where devices are partitioned",
        value: |node| {
            let partitions: usize = node.devices().map(|device| device.partitions.len()).sum();
            (partitions > 0).then(|| partitions.to_string())
        },
    },
    Label {
        key: "logical-count",
        examples: "`8`",
        meaning: "devices as a framework counts them, where that differs (2 per chip, for example)",
        value: values::logical_count,
    },
    Label {
        key: "interconnect",
        examples: "`nvlink`, `xgmi`, `ici`, `roce`, `pcie`",
        meaning: "fastest device-to-device link in the node",
        value: |node| {
            let kind = node.devices().filter_map(|device| device.interconnect.value()).max()?;
            Some(kind.as_str().to_owned())
        },
    },
    Label {
        key: "fabric-domain",
        examples: "`<cluster uuid>`",
        meaning: "nodes with the same value are in one scale-up fabric",
        value: |node| node.agreed_value(|device| device.fabric_domain.value().map(String::as_str)),
    },
    Label {
        key: "fabric-partition",
        examples: "`<cluster uuid>.<clique>`",
        meaning: "nodes with the same value can reach each other over that fabric",
        value: |node| node.agreed_value(|device| device.fabric_partition.value().map(String::as_str)),
    },
    Label {
        key: "rdma",
        examples: "`infiniband`, `roce`, `efa`, `none`",
        meaning: "protocol of the active RDMA ports of the node; ports of accelerators do not count",
        value: |node| rdma::protocol(node.inventory).map(str::to_owned),
    },
    Label {
        key: "allocation",
        examples: "`device-plugin`, `dra`, `both`, `none`",
        meaning: "how Kubernetes allocates the devices of this node; only in a cluster",
        value: |node| node.allocation.map(str::to_owned),
    },
    Label {
        key: "homogeneous",
        examples: "`true`, `false`",
        meaning: "whether all accelerators are of one product",
        value: |node| Some(node.homogeneous.to_string()),
    },
    Label {
        key: "llm-d.ai/accelerator-vendor",
        examples: "as `vendor`",
        meaning: "the key that llm-d's guides put on pods, so that pods and nodes can be matched",
        value: |node| Some(node.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: "llm-d.ai/accelerator-variant",
        examples: "as `variant`",
        meaning: "likewise",
        value: |node| Some(node.primary.variant.as_str().to_owned()),
    },
];

/// Prefix of the key that each product has. The rest is the value of the label `product`, truncated so that Kubernetes accepts
/// the key. Its value is the number of devices.
pub const PRODUCT_KEY: &str = "product.";

/// The labels of a node; none if it has no accelerator. `allocation` is how Kubernetes allocates the devices, where that is
/// known.
pub fn labels(
    inventory: &Inventory,
    options: &LabelOptions,
    allocation: Option<&'static str>,
) -> BTreeMap<String, String> {
    let groups = groups(inventory, options.include_integrated);
    let Some(primary) = primary(&groups) else { return BTreeMap::new() };
    let node = LabelledNode { inventory, primary, homogeneous: groups.len() == 1, allocation };
    let mut labels: BTreeMap<String, String> =
        LABELS.iter().filter_map(|label| Some((options.key(label.key), (label.value)(&node)?))).collect();
    for group in &groups {
        let slug =
            group.product.as_deref().and_then(|product| label_value(product, MAX_LENGTH - PRODUCT_KEY.len()));
        if let Some(slug) = slug {
            labels.insert(options.key(&format!("{PRODUCT_KEY}{slug}")), group.devices.len().to_string());
        }
    }
    labels
}

/// What the values of labels are made from.
struct LabelledNode<'a> {
    inventory: &'a Inventory,
    primary: &'a ProductGroup<'a>,
    homogeneous: bool,
    allocation: Option<&'static str>,
}

impl<'a> LabelledNode<'a> {
    /// The devices of the primary product.
    fn devices(&self) -> impl Iterator<Item = &'a Device> + Clone {
        self.primary.devices.iter().copied()
    }

    /// The fact in which all devices agree that have it.
    fn agreed<T: PartialEq>(&self, fact: impl Fn(&'a Device) -> Option<T>) -> Option<T> {
        let mut known = self.devices().filter_map(fact);
        let first = known.next()?;
        known.all(|value| value == first).then_some(first)
    }

    /// The same as a label value.
    fn agreed_value(&self, fact: impl Fn(&'a Device) -> Option<&'a str>) -> Option<String> {
        self.agreed(fact).and_then(|text| label_value(text, MAX_LENGTH))
    }
}

#[cfg(test)]
mod tests;
