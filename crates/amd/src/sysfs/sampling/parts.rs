//! The partitions of a device: where they are sampled, and what a table tells of one.

use afd_model::{Engine, HandleKind, Partition, PartitionId, PartitionName, Quantity, Reading};
use afd_probe::{Facts, PciFunction};

use super::{Readings, binary, number};
use crate::{
    gpu_metrics::{self, PartitionMetrics},
    kfd,
};

/// Where a partition is sampled.
#[derive(Clone, Debug)]
pub(super) struct PartPlace {
    pub(super) id: PartitionId,
    pub(super) number: Option<usize>,
    /// The file that tells the memory used of it.
    used_memory: Option<String>,
    /// The table of its own.
    metrics: Option<String>,
}

impl PartPlace {
    pub(super) fn of(function: &PciFunction, partition: &Partition) -> PartPlace {
        let handle = |kind| partition.handles.iter().find(|handle| handle.kind == kind);
        let number = match partition.name {
            PartitionName::Xcp(number) => Some(number as usize),
            _ => None,
        };
        // The first partition is the PCI device, the others have a platform device.
        let metrics = match handle(HandleKind::XcpDevice) {
            Some(name) => Some(format!("/sys/devices/platform/{}/xcp/xcp_metrics", name.value)),
            None if number == Some(0) => Some(function.attribute("xcp/xcp_metrics")),
            None => None,
        };
        let used_memory = handle(HandleKind::KfdNode).map(|node| kfd::used_memory_path(&node.value));
        PartPlace { id: partition.id, number, used_memory, metrics }
    }
}

/// The readings of a partition; `of_device` is what the device's table tells of it.
pub(super) fn readings(
    facts: &mut Facts<'_>,
    part: &PartPlace,
    of_device: Option<&PartitionMetrics>,
    exporter: bool,
) -> Vec<Reading> {
    let mut readings = Readings::default();
    let used = part.used_memory.as_deref().and_then(|path| number(facts, "memory_used_bytes", path));
    readings.add(Quantity::MemoryUsedBytes, used);
    let own = part.metrics.as_deref().and_then(|path| binary(facts, path, gpu_metrics::parse_partition));
    for metrics in own.iter().chain(of_device) {
        of_partition(metrics, &mut readings);
        if exporter {
            readings.add_extra(&metrics.extra);
        }
    }
    readings.0
}

pub(super) fn of_partition(metrics: &PartitionMetrics, readings: &mut Readings) {
    for (engine, ratio) in [
        (Engine::Compute, metrics.gfx_ratio),
        (Engine::Media, metrics.vcn_ratio),
        (Engine::Jpeg, metrics.jpeg_ratio),
    ] {
        readings.add(Quantity::Utilization(engine), ratio);
    }
}
