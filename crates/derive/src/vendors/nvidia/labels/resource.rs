//! What the device plugin offers: GPUs as `gpu`, MIG devices as `gpu` (strategy `single`) or `mig-<profile>` (`mixed`).

use std::collections::BTreeMap;

use afd_model::{Device, Fact, MigInstance, Partition};

use super::{
    super::options::{MigStrategy, SharingStrategy},
    is_in_mig_mode, mig_mode_is_unread, options, sanitized,
};
use crate::{
    compat::labels::{CompatLabel, LabelFill, LabelScope},
    labels::primary_devices,
    value::{MAX_LENGTH, label_value, label_value_with_end},
};

macro_rules! of_each_resource {
    ($($key:literal, $examples:literal, $meaning:literal, $needs:expr, $value:expr;)*) => {
        &[$(CompatLabel {
            key: concat!("nvidia.com/<resource>.", $key),
            examples: $examples,
            meaning: $meaning,
            needs: $needs,
            unread: mig_mode_is_unread,
            fill: LabelFill::Many(|node| {
                let value: fn(&OfferedResource<'_>) -> Option<String> = $value;
                let label = |resource: &OfferedResource<'_>| {
                    Some((format!(concat!("{}.", $key), resource.name), value(resource)?))
                };
                resources(node).iter().filter_map(label).collect()
            }),
        }),*]
    };
}

/// What decides which resources there are, and of which model.
const RESOURCES: &[Fact] = &[Fact::Product, Fact::Partitioning, Fact::VendorFacts];
const MEMORY: &[Fact] = &[Fact::Product, Fact::Partitioning, Fact::VendorFacts, Fact::Memory];
const FAMILY: &[Fact] = &[Fact::Product, Fact::Partitioning, Fact::VendorFacts, Fact::Architecture];
const COMPUTE: &[Fact] = &[Fact::Product, Fact::Partitioning, Fact::VendorFacts, Fact::Compute];

/// The labels of each resource, in the order of the documentation.
pub(super) const RESOURCE: &[CompatLabel] = of_each_resource! {
    "product", "`NVIDIA-L4`, `NVIDIA-L4-SHARED`",
        "model; with `-MIG-<profile>` for MIG devices, and `-SHARED` where the plugin's configuration shares them under the same name",
        RESOURCES, |r| label_value_with_end(r.product.as_deref()?, &r.product_end, MAX_LENGTH);
    "count", "`8`", "number of them, before sharing", RESOURCES, |r| Some(r.count.to_string());
    "replicas", "`1`", "replicas of each; 1 where the plugin's configuration does not share it",
        RESOURCES, |r| Some(r.replicas?.to_string());
    "sharing-strategy", "`none`, `time-slicing`, `mps`", "how the plugin's configuration shares them",
        RESOURCES, |r| r.strategy.map(str::to_owned);
    "memory", "`81559`", "memory of one in MiB", MEMORY, |r| r.memory_mib.map(|memory| memory.to_string());
    "family", "`hopper`", "silicon generation; of GPUs only",
        FAMILY, |r| label_value(r.gpu?.product.value()?.architecture.value()?, MAX_LENGTH);
    "compute.major", "`9`", "compute capability, first number; of GPUs only", COMPUTE, |r| r.capability(0);
    "compute.minor", "`0`", "compute capability, second number; of GPUs only", COMPUTE, |r| r.capability(1);
    "multiprocessors", "`14`", "multiprocessors of a MIG device",
        RESOURCES, |r| Some(r.partition?.compute_units.value()?.to_string());
    "slices.gi", "`1`", "memory slices of its GPU instance", RESOURCES, |r| r.mig(|mig| mig.gpu_slices.value().copied());
    "slices.ci", "`1`", "compute slices of it", RESOURCES, |r| r.mig(|mig| mig.compute_slices.value().copied());
    "engines.copy", "`1`", "copy engines of it", RESOURCES, |r| r.mig(|mig| mig.copy_engines.value().copied());
    "engines.decoder", "`0`", "video decoders of it", RESOURCES, |r| r.mig(|mig| mig.decoders.value().copied());
    "engines.encoder", "`0`", "video encoders of it", RESOURCES, |r| r.mig(|mig| mig.encoders.value().copied());
    "engines.jpeg", "`0`", "JPEG decoders of it", RESOURCES, |r| r.mig(|mig| mig.jpeg_engines.value().copied());
    "engines.ofa", "`0`", "optical flow engines of it", RESOURCES, |r| r.mig(|mig| mig.ofa_engines.value().copied());
};

/// An extended resource.
struct OfferedResource<'a> {
    /// `gpu` or `mig-1g.10gb`.
    name: String,
    /// The model.
    product: Option<String>,
    /// What follows the model and distinguishes the resource from others of it.
    product_end: String,
    count: usize,
    /// `None` while it is not known whether they are shared; so the strategy.
    replicas: Option<u32>,
    strategy: Option<&'static str>,
    memory_mib: Option<u64>,
    /// One of its GPUs, where it stands for GPUs.
    gpu: Option<&'a Device>,
    /// One of its MIG devices.
    partition: Option<&'a Partition>,
}

impl OfferedResource<'_> {
    fn capability(&self, number: usize) -> Option<String> {
        self.gpu?.compute.value()?.split('.').nth(number).map(str::to_owned)
    }

    fn mig(&self, value: impl Fn(&MigInstance) -> Option<u32>) -> Option<String> {
        value(self.partition?.mig.as_ref()?).map(|number| number.to_string())
    }
}

/// The resources of a node.
fn resources<'a>(node: &LabelScope<'a>) -> Vec<OfferedResource<'a>> {
    match options(node).mig_strategy {
        MigStrategy::None => vec![gpus(node)],
        MigStrategy::Single => vec![single(node)],
        MigStrategy::Mixed => {
            let mut resources = vec![gpus(node)];
            resources.extend(mixed(node));
            resources
        }
    }
}

/// The GPUs of the primary model. Those in MIG mode are counted and cannot be shared.
fn gpus<'a>(node: &LabelScope<'a>) -> OfferedResource<'a> {
    let primary = primary_devices(&node.devices);
    let first = primary.first().copied();
    let only_mig_devices =
        options(node).mig_strategy != MigStrategy::None && primary.iter().all(|gpu| is_in_mig_mode(gpu));
    let mut resource = OfferedResource {
        name: "gpu".to_owned(),
        product: first.and_then(Device::product_name).map(sanitized),
        product_end: String::new(),
        count: primary.len(),
        replicas: None,
        strategy: None,
        memory_mib: first.and_then(|gpu| gpu.memory_bytes.value()).map(|bytes| bytes >> 20),
        gpu: first,
        partition: None,
    };
    if only_mig_devices {
        // None is offered, however the plugin is configured.
        resource.replicas = Some(0);
        resource.strategy = options(node).sharing.as_ref().map(|_| SharingStrategy::None.as_str());
    } else {
        share(node, &mut resource, "nvidia.com/gpu");
    }
    resource
}

/// Sets replicas, strategy and the product's suffix by the plugin's configuration, if one was read.
fn share(node: &LabelScope<'_>, resource: &mut OfferedResource<'_>, name: &str) {
    let Some(sharing) = &options(node).sharing else {
        (resource.replicas, resource.strategy) = (None, None);
        return;
    };
    let replicas = sharing.replicas.get(name).copied().filter(|_| sharing.strategy != SharingStrategy::None);
    resource.strategy = Some(replicas.map_or(SharingStrategy::None, |_| sharing.strategy).as_str());
    resource.replicas = Some(replicas.unwrap_or(1));
    if replicas.is_some_and(|replicas| replicas > 1) && !sharing.renamed {
        resource.product_end.push_str("-SHARED");
    }
}

/// MIG devices offered as GPUs: valid if every GPU is in MIG mode and partitioned, all alike.
fn single<'a>(node: &LabelScope<'a>) -> OfferedResource<'a> {
    let partitioned: Vec<&Device> = node.devices.iter().copied().filter(|gpu| is_in_mig_mode(gpu)).collect();
    let mut resource = gpus(node);
    if partitioned.is_empty() {
        return resource;
    }
    let partitions: Vec<&Partition> = partitioned.iter().flat_map(|gpu| &gpu.partitions).collect();
    let profile = partitions.first().and_then(|partition| partition.profile.value());
    let alike = profile.is_some() && partitions.iter().all(|partition| partition.profile.value() == profile);
    let all =
        partitioned.len() == node.devices.len() && partitioned.iter().all(|gpu| !gpu.partitions.is_empty());
    match (profile, partitions.first()) {
        (Some(profile), Some(partition)) if alike && all => {
            let mut resource = OfferedResource {
                product_end: format!("-MIG-{}", profile.replace('+', ".")),
                count: partitions.len(),
                memory_mib: partition.memory_bytes.value().map(|bytes| bytes >> 20),
                partition: Some(partition),
                ..resource
            };
            share(node, &mut resource, "nvidia.com/gpu");
            resource
        }
        _ => {
            "-MIG-INVALID".clone_into(&mut resource.product_end);
            (resource.count, resource.memory_mib) = (0, Some(0));
            (resource.replicas, resource.strategy) = (Some(0), Some(""));
            resource
        }
    }
}

/// MIG devices by their profile.
fn mixed<'a>(node: &LabelScope<'a>) -> Vec<OfferedResource<'a>> {
    let mut profiles: BTreeMap<String, Vec<(&'a Device, &'a Partition)>> = BTreeMap::new();
    for gpu in node.devices.iter().copied().filter(|gpu| is_in_mig_mode(gpu)) {
        for partition in &gpu.partitions {
            if let Some(profile) = partition.profile.value() {
                profiles.entry(profile.replace('+', ".")).or_default().push((gpu, partition));
            }
        }
    }
    let resources = profiles.into_iter().map(|(profile, partitions)| {
        let (gpu, partition) = partitions[0];
        let mut resource = OfferedResource {
            name: format!("mig-{profile}"),
            product: gpu.product_name().map(sanitized),
            product_end: format!("-MIG-{profile}"),
            count: partitions.len(),
            replicas: None,
            strategy: None,
            memory_mib: partition.memory_bytes.value().map(|bytes| bytes >> 20),
            gpu: None,
            partition: Some(partition),
        };
        share(node, &mut resource, &format!("nvidia.com/mig-{profile}"));
        resource
    });
    resources.collect()
}
