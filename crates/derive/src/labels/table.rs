//! The table of our own labels.

use afd_model::Fact;

use super::{LabelledNode, values};
use crate::{rdma, vendors::VENDORS};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The key: after our prefix, or complete if it contains a slash.
    pub key: &'static str,
    /// Values as they occur; empty where they are those of the vendors' records.
    examples: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What decides its value.
    pub(super) made_from: LabelOrigin,
    pub(super) value: fn(&LabelledNode<'_>) -> Option<String>,
}

/// What decides the value of a label. It is undecided while a fact that it needs is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LabelOrigin {
    /// Vendor and kind of the primary product. The products matter only where devices of several kinds are present.
    Kind,
    /// The same, and the model where the guides distinguish models of this kind.
    GuideVariant,
    /// These facts of the devices of the primary product, and which product that is.
    PrimaryProduct(&'static [Fact]),
    /// These facts of all devices that count.
    Devices(&'static [Fact]),
    /// The RDMA ports.
    Ports,
    /// What Kubernetes offers.
    Offers,
}

use LabelOrigin::{Devices, GuideVariant, Kind, Offers, Ports, PrimaryProduct};

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
pub const LABELS: [Label; 24] = [
    Label {
        key: "present",
        examples: "`true`",
        meaning: "at least one accelerator",
        made_from: Devices(&[]),
        value: |_| Some("true".to_owned()),
    },
    Label {
        key: "vendor",
        examples: "",
        meaning: "vendor of the primary product",
        made_from: Kind,
        value: |node| Some(node.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: "variant",
        examples: "",
        meaning: "kind of accelerator, in llm-d's words",
        made_from: Kind,
        value: |node| Some(node.primary.variant.as_str().to_owned()),
    },
    Label {
        key: "product",
        examples: "",
        meaning: "marketing name",
        made_from: PrimaryProduct(&[]),
        value: |node| node.primary.product.clone(),
    },
    Label {
        key: "model",
        examples: "",
        meaning: "short model name",
        made_from: PrimaryProduct(&[Fact::Model]),
        value: |node| node.agreed_value(|device| device.product.value()?.model.value().map(String::as_str)),
    },
    Label {
        key: "architecture",
        examples: "",
        meaning: "silicon generation",
        made_from: PrimaryProduct(&[Fact::Architecture]),
        value: |node| {
            node.agreed_value(|device| device.product.value()?.architecture.value().map(String::as_str))
        },
    },
    Label {
        key: "compute",
        examples: "",
        meaning: "compute capability or gfx target",
        made_from: PrimaryProduct(&[Fact::Compute]),
        value: |node| node.agreed_value(|device| device.compute.value().map(String::as_str)),
    },
    Label {
        key: "count",
        examples: "`8`",
        meaning: "physical devices of the primary product",
        made_from: PrimaryProduct(&[]),
        value: |node| Some(node.primary.devices.len().to_string()),
    },
    Label {
        key: "healthy",
        examples: "`8`",
        meaning: "number of those that are known to be healthy or degraded: at least so many can take work; absent where the health of none is known",
        made_from: PrimaryProduct(&[Fact::Health]),
        value: values::healthy,
    },
    Label {
        key: MISSING_KEY,
        examples: "`1`",
        meaning: "devices of the node, of all products, that are expected and not there; absent where none is missing",
        made_from: Devices(&[]),
        value: |node| values::missing(node.inventory),
    },
    Label {
        key: "memory-mib",
        examples: "`81559`",
        meaning: "memory of one device in whole MiB",
        made_from: PrimaryProduct(&[Fact::Memory]),
        value: |node| {
            node.agreed(|device| device.memory_bytes.value().map(|bytes| (bytes >> 20).to_string()))
        },
    },
    Label {
        key: "driver-version",
        examples: "`580.105.08`",
        meaning: "version of the vendor's kernel driver; the kernel's release where the driver is part of the kernel; absent where another driver is bound",
        made_from: PrimaryProduct(&[Fact::DriverVersion]),
        value: |node| node.agreed_value(|device| device.driver_version.value().map(String::as_str)),
    },
    Label {
        key: "runtime-version",
        examples: "`13.0`",
        meaning: "CUDA version that the driver supports; absent where the vendor has no such version",
        made_from: PrimaryProduct(&[Fact::RuntimeVersion]),
        value: |node| node.agreed_value(|device| device.runtime_version.value().map(String::as_str)),
    },
    Label {
        key: "partition",
        examples: "`none`, `mig-1g.10gb`, `cpx-nps4`, `sriov`, `mixed`",
        meaning: "partitioning mode",
        made_from: PrimaryProduct(&[Fact::Partitioning]),
        value: values::partition,
    },
    Label {
        key: "partition-count",
        examples: "`64`",
        meaning: "number of partitions of the kind that `partition` names, where devices are partitioned",
        made_from: PrimaryProduct(&[Fact::Partitioning]),
        value: values::partition_count,
    },
    Label {
        key: "logical-count",
        examples: "`8`",
        meaning: "devices as a framework counts them, where that differs (2 per chip, for example)",
        made_from: PrimaryProduct(&[Fact::LogicalDevices]),
        value: values::logical_count,
    },
    Label {
        key: "interconnect",
        examples: "`nvlink`, `xgmi`, `ici`, `roce`, `pcie`",
        meaning: "fastest device-to-device link in the node",
        made_from: PrimaryProduct(&[Fact::Interconnect]),
        value: |node| {
            let kind = node.devices().filter_map(|device| device.interconnect.value()).max()?;
            Some(kind.as_str().to_owned())
        },
    },
    Label {
        key: "fabric-domain",
        examples: "`<cluster uuid>`",
        meaning: "nodes with the same value are in one scale-up fabric",
        made_from: PrimaryProduct(&[Fact::FabricDomain]),
        value: |node| node.agreed_value(|device| device.fabric_domain.value().map(String::as_str)),
    },
    Label {
        key: "fabric-partition",
        examples: "`<cluster uuid>.<clique>`",
        meaning: "nodes with the same value can reach each other over that fabric",
        made_from: PrimaryProduct(&[Fact::FabricPartition]),
        value: |node| node.agreed_value(|device| device.fabric_partition.value().map(String::as_str)),
    },
    Label {
        key: "rdma",
        examples: "`infiniband`, `roce`, `efa`, `none`",
        meaning: "protocol of the active RDMA ports of the node; ports of accelerators do not count",
        made_from: Ports,
        value: |node| rdma::protocol(node.inventory).map(str::to_owned),
    },
    Label {
        key: "allocation",
        examples: "`device-plugin`, `dra`, `both`, `none`",
        meaning: "how Kubernetes allocates the devices of this node; only in a cluster",
        made_from: Offers,
        value: |node| node.allocation.value().map(|allocation| (*allocation).to_owned()),
    },
    Label {
        key: "homogeneous",
        examples: "`true`, `false`",
        meaning: "whether all accelerators that can compute are of one product",
        made_from: Devices(&[Fact::Product, Fact::Driver]),
        value: |node| Some(node.products.is_homogeneous().to_string()),
    },
    Label {
        key: "llm-d.ai/accelerator-vendor",
        examples: "as `vendor`",
        meaning: "the key that llm-d's guides put on pods, so that pods and nodes can be matched",
        made_from: Kind,
        value: |node| Some(node.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: GUIDE_VARIANT_KEY,
        examples: "",
        meaning: "likewise; `variant`, or the guides' own name of the model",
        made_from: GuideVariant,
        value: |node| Some(node.guide_variant().to_owned()),
    },
];

/// Prefix of the key that each product has. The rest is the value of the label `product`, truncated so that Kubernetes accepts
/// the key. Its value is the number of devices.
pub const PRODUCT_KEY: &str = "product.";

/// The key of what llm-d's guides call the accelerators.
pub(crate) const GUIDE_VARIANT_KEY: &str = "llm-d.ai/accelerator-variant";

/// The key of the one label that a node without devices may have.
pub(super) const MISSING_KEY: &str = "missing";
