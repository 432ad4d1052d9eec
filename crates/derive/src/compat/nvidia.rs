//! The labels of NVIDIA GPU Feature Discovery 0.20 (k8s-device-plugin, its documentation of labels and expected outputs).

pub(crate) mod resource;

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Device, Inventory, Known, Missing, Vendor};

use self::resource::RESOURCE_LABELS;
use crate::value::{MAX_LENGTH, label_value};

const PREFIX: &str = "nvidia.com";

/// How NVIDIA's device plugin offers the devices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NvidiaOptions {
    /// How MIG devices are offered.
    pub mig_strategy: MigStrategy,
    /// How devices are shared.
    pub sharing: Sharing,
}

/// How MIG devices are offered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MigStrategy {
    /// Not at all: GPUs are offered whole.
    #[default]
    None,
    /// As `nvidia.com/gpu`; every GPU is cut alike.
    Single,
    /// As `nvidia.com/mig-<profile>`.
    Mixed,
}

/// How devices are shared, as the device plugin's configuration says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sharing {
    /// By which means; nobody shares by default.
    pub strategy: SharingStrategy,
    /// Whether a shared resource has another name (`nvidia.com/gpu.shared`).
    pub renamed: bool,
    /// Replicas of each resource: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`.
    pub replicas: BTreeMap<String, u32>,
}

/// By which means devices are shared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SharingStrategy {
    /// They are not.
    #[default]
    None,
    /// Programs take turns.
    TimeSlicing,
    /// By the Multi-Process Service.
    Mps,
}

impl SharingStrategy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SharingStrategy::None => "none",
            SharingStrategy::TimeSlicing => "time-slicing",
            SharingStrategy::Mps => "mps",
        }
    }
}

impl MigStrategy {
    pub(crate) fn as_str(self) -> Option<&'static str> {
        match self {
            MigStrategy::None => None,
            MigStrategy::Single => Some("single"),
            MigStrategy::Mixed => Some("mixed"),
        }
    }
}

/// A label of the node.
pub struct NodeLabel {
    /// The key after `nvidia.com/`.
    pub key: &'static str,
    /// What it means.
    pub meaning: &'static str,
    value: fn(&Node<'_>) -> Option<String>,
}

const fn node(key: &'static str, meaning: &'static str, value: fn(&Node<'_>) -> Option<String>) -> NodeLabel {
    NodeLabel { key, meaning, value }
}

/// The labels of the node, in the order of the documentation.
pub const NODE_LABELS: [NodeLabel; 22] = [
    node("gpu.present", "the GPU operator's: there is a GPU", |_| Some("true".to_owned())),
    node("cuda.driver.major", "deprecated: as `cuda.driver-version.major`", |node| node.driver(0)),
    node("cuda.driver.minor", "deprecated: as `cuda.driver-version.minor`", |node| node.driver(1)),
    node("cuda.driver.rev", "deprecated: as `cuda.driver-version.revision`", |node| node.driver(2)),
    node("cuda.driver-version.major", "kernel driver, first number", |node| node.driver(0)),
    node("cuda.driver-version.minor", "kernel driver, second number", |node| node.driver(1)),
    node("cuda.driver-version.revision", "kernel driver, third number", |node| node.driver(2)),
    node("cuda.driver-version.full", "kernel driver", |node| node.driver_version.map(str::to_owned)),
    node("cuda.runtime.major", "deprecated: as `cuda.runtime-version.major`", |node| node.runtime(0)),
    node("cuda.runtime.minor", "deprecated: as `cuda.runtime-version.minor`", |node| node.runtime(1)),
    node("cuda.runtime-version.major", "CUDA version that the driver supports, first number", |node| {
        node.runtime(0)
    }),
    node("cuda.runtime-version.minor", "CUDA version that the driver supports, second number", |node| {
        node.runtime(1)
    }),
    node("cuda.runtime-version.full", "CUDA version that the driver supports", |node| {
        node.runtime_version.map(str::to_owned)
    }),
    node("gpu.machine", "the machine, as its firmware says", |node| {
        label_value(&sanitised(node.inventory.machine.value()?), MAX_LENGTH)
    }),
    node("gpu.mode", "`graphics` or `compute`, by PCI class; `compute` where MIG devices are offered", mode),
    node("gpu.clique", "NVLink domain of the rack: `<cluster uuid>.<clique>`, if all GPUs agree", clique),
    node("mig.capable", "whether any GPU has MIG", mig_capable),
    node("mig.strategy", "`single` or `mixed`; absent for none", |node| {
        node.options.mig_strategy.as_str().map(str::to_owned)
    }),
    node("mps.capable", "whether GPUs are shared by MPS", |node| {
        let mps = node.options.sharing.strategy == SharingStrategy::Mps;
        Some((mps && !node.gpus.iter().any(|gpu| mig_on(gpu))).to_string())
    }),
    node("vgpu.present", "`true` in a virtual machine with a vGPU, else absent", |node| {
        node.vgpu(|_| Some("true".to_owned()))
    }),
    node("vgpu.host-driver-version", "driver of the vGPU's host", |node| {
        node.vgpu(|vgpu| label_value(vgpu.host_driver_version.value()?, MAX_LENGTH))
    }),
    node("vgpu.host-driver-branch", "branch of that driver", |node| {
        node.vgpu(|vgpu| label_value(vgpu.host_driver_branch.value()?, MAX_LENGTH))
    }),
];

/// What GPU Feature Discovery publishes and we do not.
pub const NOT_PUBLISHED: [(&str, &str); 1] = [(
    "gfd.timestamp",
    "the time at which the labeller was started; it would be a write to every node at every restart, and tells nothing of \
     the GPUs",
)];

/// Where values differ on purpose.
pub const DIFFERENCES: [(&str, &str); 8] = [
    (
        "`gpu.*` on a node with several models",
        "describe the model with most GPUs, of equal ones the first by name, so that they never flap; `product.<slug>` \
         under our own prefix counts every model",
    ),
    (
        "`gpu.memory` of GB10 and other parts that share the system's memory",
        "the system's memory; absent there",
    ),
    (
        "`gpu.family` of compute capability 11",
        "`blackwell`; `undefined` there. A capability that nobody knows gives no label",
    ),
    ("`gpu.machine` where the firmware does not tell", "absent; `unknown` there"),
    (
        "values of more than 63 characters, or with `-` at an end",
        "cut at a word; refused by the API server there",
    ),
    (
        "`gpu.replicas` of a model of which some GPUs are in MIG mode",
        "as for the GPUs that are not; either, by chance, there",
    ),
    ("a GPU that cannot be asked", "costs its own facts only; all labels there"),
    ("`mps.capable` on a node with a GPU in MIG mode", "`false`; no labels at all there"),
];

/// All labels; none on a node without an NVIDIA GPU.
pub fn labels(inventory: &Inventory, options: &NvidiaOptions) -> BTreeMap<String, String> {
    let gpus: Vec<&Device> =
        inventory.devices.iter().filter(|device| device.vendor == Vendor::Nvidia).collect();
    let Some(primary) = primary(&gpus) else { return BTreeMap::new() };
    let node = Node {
        inventory,
        options,
        driver_version: first(&gpus, |gpu| gpu.driver_version.value().map(String::as_str)),
        runtime_version: first(&gpus, |gpu| gpu.runtime_version.value().map(String::as_str)),
        gpus,
    };
    let mut labels: BTreeMap<String, String> = NODE_LABELS
        .iter()
        .filter_map(|label| Some((format!("{PREFIX}/{}", label.key), (label.value)(&node)?)))
        .collect();
    for resource in resource::offered(&node, &primary) {
        for label in &RESOURCE_LABELS {
            if let Some(value) = (label.value)(&resource) {
                labels.insert(format!("{PREFIX}/{}.{}", resource.name, label.key), value);
            }
        }
    }
    labels
}

/// What the values are made from.
struct Node<'a> {
    inventory: &'a Inventory,
    options: &'a NvidiaOptions,
    gpus: Vec<&'a Device>,
    driver_version: Option<&'a str>,
    runtime_version: Option<&'a str>,
}

impl Node<'_> {
    fn driver(&self, part: usize) -> Option<String> {
        self.driver_version?.split('.').nth(part).map(str::to_owned)
    }

    fn runtime(&self, part: usize) -> Option<String> {
        self.runtime_version?.split('.').nth(part).map(str::to_owned)
    }

    fn vgpu(&self, tell: impl Fn(&afd_model::VgpuGuest) -> Option<String>) -> Option<String> {
        self.gpus.iter().find_map(|gpu| tell(gpu.nvidia()?.vgpu.as_ref()?))
    }
}

/// What the first GPU that tells it says; all GPUs of a node have one driver.
fn first<'a, T>(gpus: &[&'a Device], tell: impl Fn(&'a Device) -> Option<T>) -> Option<T> {
    gpus.iter().find_map(|gpu| tell(gpu))
}

/// The GPUs of the model with most of them, of equal ones the first by name. A GPU without a name counts if none has one.
fn primary<'a>(gpus: &[&'a Device]) -> Option<Vec<&'a Device>> {
    let mut groups: BTreeMap<Option<&str>, Vec<&'a Device>> = BTreeMap::new();
    for gpu in gpus {
        groups.entry(gpu.product_name()).or_default().push(gpu);
    }
    let named: Vec<_> =
        groups.iter().filter(|(name, _)| name.is_some()).map(|(_, group)| group.clone()).collect();
    let groups = if named.is_empty() { groups.into_values().collect() } else { named };
    groups.into_iter().rev().max_by_key(Vec::len)
}

/// Characters that label values cannot have are dropped and white space becomes `-`, as GPU Feature Discovery does.
fn sanitised(text: &str) -> String {
    let kept: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ')).collect();
    kept.split_whitespace().collect::<Vec<_>>().join("-")
}

fn mig_on(gpu: &Device) -> bool {
    gpu.nvidia().is_some_and(|facts| facts.mig_enabled == Known::Value(true))
}

fn mig_capable(node: &Node<'_>) -> Option<String> {
    let told = || node.gpus.iter().filter_map(|gpu| Some(&gpu.nvidia()?.mig_enabled));
    if told().any(Known::is_known) {
        Some("true".to_owned())
    } else if told().any(|mig| mig.missing() == Some(Missing::NotAvailable)) {
        Some("false".to_owned())
    } else {
        None
    }
}

fn mode(node: &Node<'_>) -> Option<String> {
    if node.options.mig_strategy != MigStrategy::None && node.gpus.iter().any(|gpu| mig_on(gpu)) {
        return Some("compute".to_owned());
    }
    let modes: BTreeSet<_> = node
        .gpus
        .iter()
        .map(|gpu| match gpu.pci.class.value().map(|class| class.base_and_subclass()) {
            Some(0x0300) => "graphics",
            Some(0x0302) => "compute",
            _ => "unknown",
        })
        .collect();
    let one = modes.len() == 1;
    modes.first().map(|mode| if one { *mode } else { "unknown" }.to_owned())
}

fn clique(node: &Node<'_>) -> Option<String> {
    let domains: BTreeSet<&String> =
        node.gpus.iter().filter_map(|gpu| gpu.fabric_partition.value()).collect();
    let one = domains.len() == 1;
    domains.first().filter(|_| one).and_then(|domain| label_value(domain, MAX_LENGTH))
}

#[cfg(test)]
mod tests;
