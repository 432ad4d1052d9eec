//! Inventory to node labels. The keys are an API: they change only with a major version.

use std::collections::BTreeMap;

use afd_model::{
    Device, HealthState, Inventory, Partitioning, Variant, Vendor, XcpComputeMode, XcpMemoryMode,
};

use crate::rdma;
use crate::value::{MAX_LENGTH, label_value};

/// The prefix of our own labels unless the admin chooses another.
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

/// One label of the table.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The key: after our prefix, or whole if it contains a slash.
    pub key: &'static str,
    /// Values as they occur.
    pub examples: &'static str,
    /// What it means.
    pub meaning: &'static str,
    value: fn(&Scope<'_>) -> Option<String>,
}

/// All labels with a fixed key, in the order of the documentation. Besides, each product has a key of its own:
/// [`PRODUCT_KEY`].
pub const LABELS: [Label; 23] = [
    Label {
        key: "present",
        examples: "`true`",
        meaning: "at least one accelerator",
        value: |_| Some("true".to_owned()),
    },
    Label {
        key: "vendor",
        examples: "`nvidia`, `amd`, `intel`, `google`",
        meaning: "who made the primary product; Gaudi is `intel`",
        value: |scope| Some(scope.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: "variant",
        examples: "`gpu`, `xpu`, `hpu`, `tpu`",
        meaning: "its kind: Intel GPUs are `xpu`, Gaudi is `hpu`",
        value: |scope| Some(scope.primary.variant.as_str().to_owned()),
    },
    Label {
        key: "product",
        examples: "`NVIDIA-H100-80GB-HBM3`, `Intel-Gaudi-3`",
        meaning: "marketing name",
        value: |scope| scope.primary.product.clone(),
    },
    Label {
        key: "model",
        examples: "`H100`, `MI300X`, `Max-1550`, `Gaudi3`, `v6e`",
        meaning: "the short name that people say",
        value: |scope| scope.agreed_text(|device| device.product.value()?.model.value().map(String::as_str)),
    },
    Label {
        key: "architecture",
        examples: "`hopper`, `cdna3`, `xe-hpc`, `gaudi3`, `trillium`",
        meaning: "silicon generation",
        value: |scope| {
            scope.agreed_text(|device| device.product.value()?.architecture.value().map(String::as_str))
        },
    },
    Label {
        key: "compute",
        examples: "`9.0`, `gfx942`",
        meaning: "what a kernel is compiled for",
        value: |scope| scope.agreed_text(|device| device.compute.value().map(String::as_str)),
    },
    Label {
        key: "count",
        examples: "`8`",
        meaning: "physical devices of the primary product",
        value: |scope| Some(scope.primary.devices.len().to_string()),
    },
    Label {
        key: "healthy",
        examples: "`8`",
        meaning: "of those, how many may take work; absent while no source tells of one of them",
        value: healthy,
    },
    Label {
        key: "memory-mib",
        examples: "`81559`",
        meaning: "memory of one device, whole MiB",
        value: |scope| {
            scope.agreed(|device| device.memory_bytes.value().map(|bytes| (bytes >> 20).to_string()))
        },
    },
    Label {
        key: "driver-version",
        examples: "`580.105.08`",
        meaning: "loaded kernel driver; the kernel's release where the driver is part of the kernel",
        value: |scope| scope.agreed_text(|device| device.driver_version.value().map(String::as_str)),
    },
    Label {
        key: "runtime-version",
        examples: "`13.0`",
        meaning: "CUDA version that the driver supports; absent where there is no such thing",
        value: |scope| scope.agreed_text(|device| device.runtime_version.value().map(String::as_str)),
    },
    Label {
        key: "partition",
        examples: "`none`, `mig-1g.10gb`, `cpx-nps4`, `sriov`, `mixed`",
        meaning: "how the devices are cut",
        value: partition,
    },
    Label {
        key: "partition-count",
        examples: "`64`",
        meaning: "allocatable parts, where devices are cut",
        value: |scope| {
            let parts: usize = scope.devices().map(|device| device.partitions.len()).sum();
            (parts > 0).then(|| parts.to_string())
        },
    },
    Label {
        key: "logical-count",
        examples: "`8`",
        meaning: "devices as a framework counts them, where that differs (TPU 7x: 2 per chip)",
        value: logical_count,
    },
    Label {
        key: "interconnect",
        examples: "`nvlink`, `xgmi`, `ici`, `roce`, `pcie`",
        meaning: "fastest link from device to device in the node",
        value: |scope| {
            let kind = scope.devices().filter_map(|device| device.interconnect.value()).max()?;
            Some(kind.as_str().to_owned())
        },
    },
    Label {
        key: "fabric-domain",
        examples: "`<cluster uuid>`",
        meaning: "nodes with the same value are in one scale-up fabric",
        value: |scope| scope.agreed_text(|device| device.fabric_domain.value().map(String::as_str)),
    },
    Label {
        key: "fabric-partition",
        examples: "`<cluster uuid>.<clique>`",
        meaning: "nodes with the same value can reach each other over that fabric",
        value: |scope| scope.agreed_text(|device| device.fabric_partition.value().map(String::as_str)),
    },
    Label {
        key: "rdma",
        examples: "`infiniband`, `roce`, `efa`, `none`",
        meaning: "active RDMA ports of the node, those of accelerators aside",
        value: |scope| rdma::protocol(scope.inventory).map(str::to_owned),
    },
    Label {
        key: "allocation",
        examples: "`device-plugin`, `dra`, `both`, `none`",
        meaning: "how Kubernetes hands the devices out on this node; only in a cluster",
        value: |scope| scope.allocation.map(str::to_owned),
    },
    Label {
        key: "homogeneous",
        examples: "`true`, `false`",
        meaning: "whether all accelerators are of one product",
        value: |scope| Some(scope.homogeneous.to_string()),
    },
    Label {
        key: "llm-d.ai/accelerator-vendor",
        examples: "as `vendor`",
        meaning: "the key that llm-d's guides put on pods, so that the two can be matched",
        value: |scope| Some(scope.primary.vendor.as_str().to_owned()),
    },
    Label {
        key: "llm-d.ai/accelerator-variant",
        examples: "as `variant`",
        meaning: "the same",
        value: |scope| Some(scope.primary.variant.as_str().to_owned()),
    },
];

/// The beginning of the key that each product has; after it stands the value of the label `product`, cut so that
/// Kubernetes takes the key. Its value is the number of devices.
pub const PRODUCT_KEY: &str = "product.";

/// The labels of a node; none if it has no accelerator. `allocation` is how Kubernetes hands the devices out, where that
/// is known.
pub fn labels(
    inventory: &Inventory,
    options: &LabelOptions,
    allocation: Option<&'static str>,
) -> BTreeMap<String, String> {
    let groups = groups(counted(inventory, options.include_integrated));
    let Some(primary) = primary(&groups) else { return BTreeMap::new() };
    let scope = Scope { inventory, primary, homogeneous: groups.len() == 1, allocation };
    let mut labels: BTreeMap<String, String> =
        LABELS.iter().filter_map(|label| Some((key(label.key, options), (label.value)(&scope)?))).collect();
    for group in &groups {
        let slug =
            group.product.as_deref().and_then(|product| label_value(product, MAX_LENGTH - PRODUCT_KEY.len()));
        if let Some(slug) = slug {
            let count = group.devices.len().to_string();
            labels.insert(key(&format!("{PRODUCT_KEY}{slug}"), options), count);
        }
    }
    labels
}

/// The devices of the primary product, and whether there is no other product; `None` if there is no accelerator.
pub(crate) fn primary_product(
    inventory: &Inventory,
    include_integrated: bool,
) -> Option<(Vec<&Device>, bool)> {
    let groups = groups(counted(inventory, include_integrated));
    primary(&groups).map(|primary| (primary.devices.clone(), groups.len() == 1))
}

fn counted(inventory: &Inventory, include_integrated: bool) -> impl Iterator<Item = &Device> {
    inventory.devices.iter().filter(move |device| include_integrated || !device.integrated)
}

pub(crate) fn key(key: &str, options: &LabelOptions) -> String {
    if key.contains('/') { key.to_owned() } else { format!("{}/{key}", options.prefix) }
}

/// The devices of one product.
struct Group<'a> {
    vendor: Vendor,
    variant: Variant,
    product: Option<String>,
    devices: Vec<&'a Device>,
}

/// What the value of a label is made from.
struct Scope<'a> {
    inventory: &'a Inventory,
    primary: &'a Group<'a>,
    homogeneous: bool,
    allocation: Option<&'static str>,
}

impl<'a> Scope<'a> {
    /// The devices of the primary product.
    fn devices(&self) -> impl Iterator<Item = &'a Device> + Clone {
        self.primary.devices.iter().copied()
    }

    /// The value that all devices share which tell one.
    fn agreed<T: PartialEq>(&self, tell: impl Fn(&'a Device) -> Option<T>) -> Option<T> {
        let mut told = self.devices().filter_map(tell);
        let first = told.next()?;
        told.all(|value| value == first).then_some(first)
    }

    fn agreed_text(&self, tell: impl Fn(&'a Device) -> Option<&'a str>) -> Option<String> {
        self.agreed(tell).and_then(|text| label_value(text, MAX_LENGTH))
    }
}

fn groups<'a>(devices: impl Iterator<Item = &'a Device>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<_, Group<'a>> = BTreeMap::new();
    for device in devices {
        let product = device.product_name().and_then(|name| label_value(name, MAX_LENGTH));
        let (vendor, variant) = (device.vendor, device.variant);
        groups
            .entry((vendor.as_str(), product.clone(), variant))
            .or_insert(Group { vendor, variant, product, devices: Vec::new() })
            .devices
            .push(device);
    }
    groups.into_values().collect()
}

/// The product with most devices; of equal ones the first by vendor, then by product name.
fn primary<'g, 'a>(groups: &'g [Group<'a>]) -> Option<&'g Group<'a>> {
    groups.iter().rev().max_by_key(|group| group.devices.len())
}

fn healthy(scope: &Scope<'_>) -> Option<String> {
    let states = scope.devices().map(|device| device.health.state);
    if states.clone().any(|state| state == HealthState::Unknown) {
        return None;
    }
    let able = states.filter(|state| matches!(state, HealthState::Healthy | HealthState::Degraded)).count();
    Some(able.to_string())
}

fn partition(scope: &Scope<'_>) -> Option<String> {
    let mut cuts = scope.devices().filter_map(|device| Some(cut(device, device.partitioning.value()?)));
    let first = cuts.next()?;
    if cuts.all(|cut| cut == first) { label_value(&first, MAX_LENGTH) } else { Some("mixed".to_owned()) }
}

fn cut(device: &Device, partitioning: &Partitioning) -> String {
    match partitioning {
        Partitioning::Mig => mig(device),
        Partitioning::Whole => "none".to_owned(),
        Partitioning::Sriov { .. } => "sriov".to_owned(),
        Partitioning::Xcp { compute, memory } => match memory.value() {
            Some(XcpMemoryMode::Nps1) | None if *compute == XcpComputeMode::Spx => "none".to_owned(),
            Some(memory) => format!("{compute}-{memory}").to_lowercase(),
            None => compute.as_str().to_lowercase(),
        },
    }
}

/// `mig-1g.10gb`; `mig` for a GPU that is not cut yet, or whose driver does not tell how.
fn mig(device: &Device) -> String {
    let mut profiles = device.partitions.iter().filter_map(|partition| partition.profile.value());
    match profiles.next() {
        None => "mig".to_owned(),
        Some(first) if profiles.all(|profile| profile == first) => format!("mig-{}", first.replace('+', ".")),
        Some(_) => "mixed".to_owned(),
    }
}

fn logical_count(scope: &Scope<'_>) -> Option<String> {
    let counts = scope.devices().map(|device| device.logical_devices.value().copied());
    let logical: u32 = counts.sum::<Option<u32>>()?;
    (logical as usize != scope.primary.devices.len()).then(|| logical.to_string())
}

#[cfg(test)]
mod tests;
