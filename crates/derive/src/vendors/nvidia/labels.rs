//! The labels of NVIDIA GPU Feature Discovery 0.20 (k8s-device-plugin, its documentation of labels and expected outputs).

mod resource;

use std::collections::BTreeSet;

use afd_model::{Device, Fact, Known, Missing, VgpuGuest};

use super::options::{MigStrategy, NvidiaOptions, SharingStrategy};
use crate::{
    compat::labels::{CompatLabel, LabelFill, LabelScope, LabelSet, LeftOutLabel},
    value::{MAX_LENGTH, label_value},
};

pub(super) const LABELS: LabelSet = LabelSet {
    tool: "NVIDIA GPU Feature Discovery",
    notes: "`<resource>` is `gpu` and, with the MIG strategy `mixed`, also `mig-<profile>` for each profile that exists, with `.` \
            instead of `+`. `--nvidia-mig-strategy` sets the strategy of the device plugin (without it the labels describe whole \
            GPUs), and `--nvidia-device-plugin-config` names its configuration, which alone says whether devices are shared. \
            `version: v1` is the configuration of a plugin that shares none.",
    tables: &[NODE, resource::RESOURCE],
    placeholders: &[("resource", "(gpu|mig-[0-9a-z.-]+)")],
    left_out: &[LeftOutLabel {
        key: "nvidia.com/gfd.timestamp",
        reason: "It is the time at which the labeller was started: a write to every Node at every restart, which says nothing \
                 about the GPUs.",
    }],
    differences: &[
        "Without the configuration of the device plugin it is not known whether GPUs are shared: \
         `nvidia.com/<resource>.replicas`, `nvidia.com/<resource>.sharing-strategy` and `nvidia.com/mps.capable` are absent, \
         and `nvidia.com/<resource>.product` is the name of the model without `-SHARED`, which does not say that it is not \
         shared. GPU Feature Discovery reads its own configuration, or writes that nothing is shared. Where the device alone \
         decides, the labels are there: no GPU in MIG mode is shared by MPS, and a model of which all GPUs are in MIG mode \
         is offered in 0 replicas.",
        "`nvidia.com/gpu.*` on a node with several models describe the primary one, by the rule of our own labels, so that they \
         never flap; `product.<slug>` under our own prefix counts every model.",
        "`nvidia.com/gpu.memory` of GB10 and other GPUs that share the system's memory is the system's memory; GPU Feature \
         Discovery has no such label then.",
        "`nvidia.com/gpu.family` of compute capability 11 is `blackwell`, which GPU Feature Discovery calls `undefined`. An \
         unknown capability gives no label.",
        "`nvidia.com/gpu.machine` is absent where the firmware does not report it; GPU Feature Discovery writes `unknown`.",
        "`nvidia.com/gpu.mode` is absent where GPUs differ in it or have another PCI class; GPU Feature Discovery writes \
         `unknown`.",
        "A value of more than 63 characters, or with `-` at an end, is truncated at a word. The API server refuses that of GPU \
         Feature Discovery.",
        "`nvidia.com/gpu.replicas` of a model of which some GPUs are in MIG mode is that of the other GPUs; GPU Feature \
         Discovery writes either.",
        "A GPU that cannot be queried has no labels of its own facts; GPU Feature Discovery writes no labels at all then.",
        "`nvidia.com/mps.capable` on a node with a GPU in MIG mode is `false`; GPU Feature Discovery writes no labels at all \
         then.",
    ],
};

const fn node(
    key: &'static str,
    examples: &'static str,
    meaning: &'static str,
    needs: &'static [Fact],
    value: fn(&LabelScope<'_>) -> Option<String>,
) -> CompatLabel {
    CompatLabel { key, examples, meaning, needs, unread: |_| false, fill: LabelFill::One(value) }
}

/// A label that needs to know which GPUs are in MIG mode.
const fn of_mig_mode(
    key: &'static str,
    examples: &'static str,
    meaning: &'static str,
    value: fn(&LabelScope<'_>) -> Option<String>,
) -> CompatLabel {
    CompatLabel { unread: mig_mode_is_unread, ..node(key, examples, meaning, &[Fact::VendorFacts], value) }
}

/// The labels of the node, in the order of the documentation.
const NODE: &[CompatLabel] = &[
    node("nvidia.com/gpu.present", "`true`", "there is a GPU; a label of the GPU operator", &[], |_| {
        Some("true".to_owned())
    }),
    node(
        "nvidia.com/cuda.driver.major",
        "`580`",
        "deprecated: as `cuda.driver-version.major`",
        &[Fact::DriverVersion],
        |node| driver(node, 0),
    ),
    node(
        "nvidia.com/cuda.driver.minor",
        "`105`",
        "deprecated: as `cuda.driver-version.minor`",
        &[Fact::DriverVersion],
        |node| driver(node, 1),
    ),
    node(
        "nvidia.com/cuda.driver.rev",
        "`08`",
        "deprecated: as `cuda.driver-version.revision`",
        &[Fact::DriverVersion],
        |node| driver(node, 2),
    ),
    node(
        "nvidia.com/cuda.driver-version.major",
        "`580`",
        "kernel driver, first number",
        &[Fact::DriverVersion],
        |node| driver(node, 0),
    ),
    node(
        "nvidia.com/cuda.driver-version.minor",
        "`105`",
        "kernel driver, second number",
        &[Fact::DriverVersion],
        |node| driver(node, 1),
    ),
    node(
        "nvidia.com/cuda.driver-version.revision",
        "`08`",
        "kernel driver, third number",
        &[Fact::DriverVersion],
        |node| driver(node, 2),
    ),
    node(
        "nvidia.com/cuda.driver-version.full",
        "`580.105.08`",
        "kernel driver",
        &[Fact::DriverVersion],
        |node| driver_version(node).map(str::to_owned),
    ),
    node(
        "nvidia.com/cuda.runtime.major",
        "`13`",
        "deprecated: as `cuda.runtime-version.major`",
        &[Fact::RuntimeVersion],
        |node| runtime(node, 0),
    ),
    node(
        "nvidia.com/cuda.runtime.minor",
        "`0`",
        "deprecated: as `cuda.runtime-version.minor`",
        &[Fact::RuntimeVersion],
        |node| runtime(node, 1),
    ),
    node(
        "nvidia.com/cuda.runtime-version.major",
        "`13`",
        "CUDA version that the driver supports, first number",
        &[Fact::RuntimeVersion],
        |node| runtime(node, 0),
    ),
    node(
        "nvidia.com/cuda.runtime-version.minor",
        "`0`",
        "CUDA version that the driver supports, second number",
        &[Fact::RuntimeVersion],
        |node| runtime(node, 1),
    ),
    node(
        "nvidia.com/cuda.runtime-version.full",
        "`13.0`",
        "CUDA version that the driver supports",
        &[Fact::RuntimeVersion],
        |node| runtime_version(node).map(str::to_owned),
    ),
    CompatLabel {
        unread: |node| node.inventory.machine.missing().is_some_and(Missing::is_undecided),
        ..node(
            "nvidia.com/gpu.machine",
            "`DGXH100`",
            "model of the machine, from its firmware",
            &[],
            |node| label_value(&sanitized(node.inventory.machine.value()?), MAX_LENGTH),
        )
    },
    of_mig_mode(
        "nvidia.com/gpu.mode",
        "`graphics`, `compute`",
        "the PCI class of the GPUs, if all agree; `compute` where MIG devices are offered",
        mode,
    ),
    node(
        "nvidia.com/gpu.clique",
        "`<cluster uuid>.<clique>`",
        "NVLink partition of the rack, if all GPUs agree",
        &[Fact::FabricPartition],
        clique,
    ),
    of_mig_mode("nvidia.com/mig.capable", "`true`, `false`", "whether any GPU supports MIG", mig_capable),
    node(
        "nvidia.com/mig.strategy",
        "`single`, `mixed`",
        "the MIG strategy; absent for `none`",
        &[],
        |node| options(node).mig_strategy.as_str().map(str::to_owned),
    ),
    of_mig_mode(
        "nvidia.com/mps.capable",
        "`true`, `false`",
        "whether GPUs are shared by MPS, which no GPU in MIG mode is",
        mps_capable,
    ),
    node(
        "nvidia.com/vgpu.present",
        "`true`",
        "in a virtual machine with a vGPU, else absent",
        &[Fact::VendorFacts],
        |node| vgpu(node, |_| Some("true".to_owned())),
    ),
    node(
        "nvidia.com/vgpu.host-driver-version",
        "`580.65.05`",
        "driver of the vGPU's host",
        &[Fact::VendorFacts],
        |node| vgpu(node, |vgpu| label_value(vgpu.host_driver_version.value()?, MAX_LENGTH)),
    ),
    node(
        "nvidia.com/vgpu.host-driver-branch",
        "`r580_40`",
        "branch of that driver",
        &[Fact::VendorFacts],
        |node| vgpu(node, |vgpu| label_value(vgpu.host_driver_branch.value()?, MAX_LENGTH)),
    ),
];

fn options<'a>(node: &LabelScope<'a>) -> &'a NvidiaOptions {
    &node.options.nvidia
}

/// The value of the first GPU that has it; all GPUs of a node have one driver.
fn first<'a, T>(node: &LabelScope<'a>, value: impl Fn(&'a Device) -> Option<T>) -> Option<T> {
    node.devices.iter().find_map(|gpu| value(gpu))
}

fn driver_version<'a>(node: &LabelScope<'a>) -> Option<&'a str> {
    first(node, |gpu| gpu.driver_version.value().map(String::as_str))
}

fn runtime_version<'a>(node: &LabelScope<'a>) -> Option<&'a str> {
    first(node, |gpu| gpu.runtime_version.value().map(String::as_str))
}

fn driver(node: &LabelScope<'_>, number: usize) -> Option<String> {
    driver_version(node)?.split('.').nth(number).map(str::to_owned)
}

fn runtime(node: &LabelScope<'_>, number: usize) -> Option<String> {
    runtime_version(node)?.split('.').nth(number).map(str::to_owned)
}

fn vgpu(node: &LabelScope<'_>, value: impl Fn(&VgpuGuest) -> Option<String>) -> Option<String> {
    first(node, |gpu| value(gpu.nvidia()?.vgpu.as_ref()?))
}

/// Removes characters that label values cannot have and replaces white space by `-`, as GPU Feature Discovery does.
fn sanitized(text: &str) -> String {
    let allowed: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ')).collect();
    allowed.split_whitespace().collect::<Vec<_>>().join("-")
}

fn is_in_mig_mode(gpu: &Device) -> bool {
    gpu.nvidia().is_some_and(|facts| facts.mig_enabled == Known::Value(true))
}

fn mig_mode_is_unread(node: &LabelScope<'_>) -> bool {
    node.is_unread(|gpu| gpu.nvidia()?.mig_enabled.missing())
}

fn mig_capable(node: &LabelScope<'_>) -> Option<String> {
    let modes = || node.devices.iter().filter_map(|gpu| Some(&gpu.nvidia()?.mig_enabled));
    if modes().any(Known::is_known) {
        Some("true".to_owned())
    } else if modes().any(|mode| mode.missing() == Some(Missing::NotAvailable)) {
        Some("false".to_owned())
    } else {
        None
    }
}

fn mps_capable(node: &LabelScope<'_>) -> Option<String> {
    if node.devices.iter().any(|gpu| is_in_mig_mode(gpu)) {
        return Some("false".to_owned());
    }
    let sharing = options(node).sharing.as_ref()?;
    Some((sharing.strategy == SharingStrategy::Mps).to_string())
}

fn mode(node: &LabelScope<'_>) -> Option<String> {
    if options(node).mig_strategy != MigStrategy::None && node.devices.iter().any(|gpu| is_in_mig_mode(gpu)) {
        return Some("compute".to_owned());
    }
    let classes = node.devices.iter().map(|gpu| gpu.pci.class.value().map(|class| class.base_and_subclass()));
    let classes: BTreeSet<Option<u16>> = classes.collect();
    let one = classes.len() == 1;
    match classes.first().copied().flatten().filter(|_| one)? {
        0x0300 => Some("graphics".to_owned()),
        0x0302 => Some("compute".to_owned()),
        _ => None,
    }
}

fn clique(node: &LabelScope<'_>) -> Option<String> {
    let partitions: BTreeSet<&String> =
        node.devices.iter().filter_map(|gpu| gpu.fabric_partition.value()).collect();
    let one = partitions.len() == 1;
    partitions.first().filter(|_| one).and_then(|partition| label_value(partition, MAX_LENGTH))
}

#[cfg(test)]
mod tests;
