//! What the device plugin offers: whole GPUs as `gpu`, MIG devices as `gpu` (strategy `single`) or `mig-<profile>` (`mixed`).

use std::collections::BTreeMap;

use afd_model::{Device, MigInstance, Partition};

use super::{MigStrategy, Node, SharingStrategy, mig_on, sanitised};
use crate::value::{MAX_LENGTH, label_value};

/// A label of a resource.
pub(crate) struct ResourceLabel {
    /// The key after `nvidia.com/<resource>.`.
    pub(crate) key: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
    pub(super) value: fn(&Resource<'_>) -> Option<String>,
}

const fn row(
    key: &'static str,
    meaning: &'static str,
    value: fn(&Resource<'_>) -> Option<String>,
) -> ResourceLabel {
    ResourceLabel { key, meaning, value }
}

/// The labels of a resource, in the order of the documentation.
pub(crate) const RESOURCE_LABELS: [ResourceLabel; 16] = [
    row(
        "product",
        "model; with `-MIG-<profile>` for MIG devices, `-SHARED` where shared under the same name",
        |r| label_value(r.product.as_deref()?, MAX_LENGTH),
    ),
    row("count", "number of them, before sharing", |r| Some(r.count.to_string())),
    row("replicas", "how many programs share one; 1 where nobody shares", |r| Some(r.replicas.to_string())),
    row("sharing-strategy", "`none`, `time-slicing` or `mps`", |r| Some(r.strategy.to_owned())),
    row("memory", "MiB of one", |r| r.memory_mib.map(|memory| memory.to_string())),
    row("family", "silicon generation; of GPUs only", |r| {
        label_value(r.gpu?.product.value()?.architecture.value()?, MAX_LENGTH)
    }),
    row("compute.major", "compute capability, first number; of GPUs only", |r| r.capability(0)),
    row("compute.minor", "compute capability, second number; of GPUs only", |r| r.capability(1)),
    row("multiprocessors", "multiprocessors of a MIG device", |r| {
        Some(r.part?.compute_units.value()?.to_string())
    }),
    row("slices.gi", "slices of memory of its GPU instance", |r| {
        r.mig(|mig| mig.gpu_slices.value().copied())
    }),
    row("slices.ci", "slices of multiprocessors of it", |r| r.mig(|mig| mig.compute_slices.value().copied())),
    row("engines.copy", "copy engines of it", |r| r.mig(|mig| mig.copy_engines.value().copied())),
    row("engines.decoder", "video decoders of it", |r| r.mig(|mig| mig.decoders.value().copied())),
    row("engines.encoder", "video encoders of it", |r| r.mig(|mig| mig.encoders.value().copied())),
    row("engines.jpeg", "JPEG decoders of it", |r| r.mig(|mig| mig.jpeg_engines.value().copied())),
    row("engines.ofa", "optical flow engines of it", |r| r.mig(|mig| mig.ofa_engines.value().copied())),
];

/// Something that pods can ask for.
pub(super) struct Resource<'a> {
    /// `gpu` or `mig-1g.10gb`.
    pub(super) name: String,
    product: Option<String>,
    count: usize,
    replicas: u32,
    strategy: &'static str,
    memory_mib: Option<u64>,
    /// A GPU of it, where whole GPUs are described.
    gpu: Option<&'a Device>,
    /// A MIG device of it.
    part: Option<&'a Partition>,
}

impl Resource<'_> {
    fn capability(&self, part: usize) -> Option<String> {
        self.gpu?.compute.value()?.split('.').nth(part).map(str::to_owned)
    }

    fn mig(&self, tell: impl Fn(&MigInstance) -> Option<u32>) -> Option<String> {
        tell(self.part?.mig.as_ref()?).map(|number| number.to_string())
    }
}

/// The resources of a node whose primary model has these GPUs.
pub(super) fn offered<'a>(node: &Node<'a>, primary: &[&'a Device]) -> Vec<Resource<'a>> {
    match node.options.mig_strategy {
        MigStrategy::None => vec![gpus(node, primary)],
        MigStrategy::Single => vec![single(node, primary)],
        MigStrategy::Mixed => {
            let mut resources = vec![gpus(node, primary)];
            resources.extend(mixed(node));
            resources
        }
    }
}

/// Whole GPUs of a model. Those in MIG mode are counted and cannot be shared.
fn gpus<'a>(node: &Node<'a>, primary: &[&'a Device]) -> Resource<'a> {
    let first = primary.first().copied();
    let offered_cut = node.options.mig_strategy != MigStrategy::None && primary.iter().all(|gpu| mig_on(gpu));
    let mut resource = Resource {
        name: "gpu".to_owned(),
        product: first.and_then(Device::product_name).map(sanitised),
        count: primary.len(),
        replicas: 1,
        strategy: SharingStrategy::None.as_str(),
        memory_mib: first.and_then(|gpu| gpu.memory_bytes.value()).map(|bytes| bytes >> 20),
        gpu: first,
        part: None,
    };
    if offered_cut {
        resource.replicas = 0;
    } else {
        share(node, &mut resource, "nvidia.com/gpu");
    }
    resource
}

/// Replicas, strategy and the product's suffix, as the configuration says of a resource.
fn share(node: &Node<'_>, resource: &mut Resource<'_>, name: &str) {
    let sharing = &node.options.sharing;
    let replicas = sharing.replicas.get(name).copied().filter(|_| sharing.strategy != SharingStrategy::None);
    resource.strategy = replicas.map_or(SharingStrategy::None, |_| sharing.strategy).as_str();
    resource.replicas = replicas.unwrap_or(1);
    if resource.replicas > 1 && !sharing.renamed {
        resource.product = resource.product.take().map(|product| product + "-SHARED");
    }
}

/// MIG devices offered as GPUs: valid if every GPU in MIG mode is cut, all alike, and no GPU is whole beside them.
fn single<'a>(node: &Node<'a>, primary: &[&'a Device]) -> Resource<'a> {
    let cut: Vec<&Device> = node.gpus.iter().copied().filter(|gpu| mig_on(gpu)).collect();
    let mut whole = gpus(node, primary);
    if cut.is_empty() {
        return whole;
    }
    let parts: Vec<&Partition> = cut.iter().flat_map(|gpu| &gpu.partitions).collect();
    let profile = parts.first().and_then(|part| part.profile.value());
    let alike = profile.is_some() && parts.iter().all(|part| part.profile.value() == profile);
    let all = cut.len() == node.gpus.len() && cut.iter().all(|gpu| !gpu.partitions.is_empty());
    let product = |suffix: &str| whole.product.clone().map(|product| format!("{product}-MIG-{suffix}"));
    match (profile, parts.first()) {
        (Some(profile), Some(part)) if alike && all => {
            let mut resource = Resource {
                product: product(&profile.replace('+', ".")),
                count: parts.len(),
                memory_mib: part.memory_bytes.value().map(|bytes| bytes >> 20),
                part: Some(part),
                ..whole
            };
            share(node, &mut resource, "nvidia.com/gpu");
            resource
        }
        _ => {
            whole.product = product("INVALID");
            (whole.count, whole.replicas, whole.strategy, whole.memory_mib) = (0, 0, "", Some(0));
            whole
        }
    }
}

/// MIG devices by their profile.
fn mixed<'a>(node: &Node<'a>) -> Vec<Resource<'a>> {
    let mut profiles: BTreeMap<String, Vec<(&'a Device, &'a Partition)>> = BTreeMap::new();
    for gpu in node.gpus.iter().copied().filter(|gpu| mig_on(gpu)) {
        for part in &gpu.partitions {
            if let Some(profile) = part.profile.value() {
                profiles.entry(profile.replace('+', ".")).or_default().push((gpu, part));
            }
        }
    }
    let resources = profiles.into_iter().map(|(profile, parts)| {
        let (gpu, part) = parts[0];
        let mut resource = Resource {
            name: format!("mig-{profile}"),
            product: gpu.product_name().map(|name| format!("{}-MIG-{profile}", sanitised(name))),
            count: parts.len(),
            replicas: 1,
            strategy: SharingStrategy::None.as_str(),
            memory_mib: part.memory_bytes.value().map(|bytes| bytes >> 20),
            gpu: None,
            part: Some(part),
        };
        share(node, &mut resource, &format!("nvidia.com/mig-{profile}"));
        resource
    });
    resources.collect()
}
