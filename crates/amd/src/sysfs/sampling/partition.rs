//! The partitions of a device: where they are sampled, and their readings.

use afd_model::{Engine, HandleKind, Partition, PartitionId, PartitionName, Quantity, Reading};
use afd_probe::{Facts, PciFunction};

use super::readings::{ReadingSet, binary, number};
use crate::{
    gpu_metrics::{self, PartitionMetrics},
    kfd,
};

/// Where to sample one partition.
#[derive(Clone, Debug)]
pub(super) struct PartitionSource {
    pub(super) id: PartitionId,
    pub(super) number: Option<usize>,
    /// The file with its used memory.
    used_memory: Option<String>,
    /// Its own table.
    metrics: Option<String>,
}

impl PartitionSource {
    pub(super) fn find(function: &PciFunction, partition: &Partition) -> PartitionSource {
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
        PartitionSource { id: partition.id, number, used_memory, metrics }
    }

    /// The readings of the partition; `of_device` is its part of the table of the device.
    pub(super) fn readings(
        &self,
        facts: &mut Facts<'_>,
        of_device: Option<&PartitionMetrics>,
        exporter: bool,
    ) -> Vec<Reading> {
        let mut readings = ReadingSet::default();
        let used = self.used_memory.as_deref().and_then(|path| number(facts, "memory_used_bytes", path));
        readings.add(Quantity::MemoryUsedBytes, used);
        let own = self.metrics.as_deref().and_then(|path| binary(facts, path, gpu_metrics::parse_partition));
        for metrics in own.iter().chain(of_device) {
            add_table(metrics, &mut readings);
            if exporter {
                readings.add_extra(&metrics.extra);
            }
        }
        readings.0
    }
}

pub(super) fn add_table(metrics: &PartitionMetrics, readings: &mut ReadingSet) {
    for (engine, ratio) in [
        (Engine::Compute, metrics.gfx_ratio),
        (Engine::Media, metrics.vcn_ratio),
        (Engine::Jpeg, metrics.jpeg_ratio),
    ] {
        readings.add(Quantity::Utilization(engine), ratio);
    }
}
