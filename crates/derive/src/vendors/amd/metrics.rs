//! The families of AMD's device metrics exporter (`pkg/amdgpu/gpuagent` and `docs/configuration/metricslist.md` of
//! ROCm/device-metrics-exporter).

mod counters;
mod left_out;
mod values;

use afd_model::{AmdQuantity, Device, PartitionName, Partitioning, Quantity};

use crate::{
    compat::{
        SetScope,
        metrics::{
            CompatFamily, CompatInput, ExporterUnit, MetricSet, SeriesOrder, SeriesSource, SharedUnits,
            UnitLabel, UnitSeries, allocatable_units, plain,
        },
    },
    families::MetricKind,
    vendors::is_driven,
};

pub(super) const METRICS: MetricSet = MetricSet {
    exporter: "AMD's device metrics exporter",
    page: "amd",
    always_served: false,
    notes: "All families are gauges, as in the exporter.",
    units: driven_units,
    unit_labels: &[
        UnitLabel { name: "gpu_id", value: |unit| Some(unit.number.to_string()) },
        UnitLabel { name: "gpu_uuid", value: |unit| Some(uuid(unit)) },
        UnitLabel { name: "gpu_partition_id", value: |unit| Some(partition_number(unit).to_string()) },
        UnitLabel { name: "gpu_compute_partition_type", value: |unit| Some(partition_types(unit.device).0) },
        UnitLabel { name: "gpu_memory_partition_type", value: |unit| Some(partition_types(unit.device).1) },
        UnitLabel { name: "card_model", value: |unit| Some(card_model(unit.device)) },
        UnitLabel {
            name: "serial_number",
            value: |unit| Some(unit.device.serial.value().cloned().unwrap_or_default()),
        },
        UnitLabel {
            name: "deployment_mode",
            value: |unit| Some(deployment_mode(unit.device).unwrap_or_default().to_owned()),
        },
        empty("pod"),
        empty("namespace"),
        empty("container"),
        empty("job_id"),
        empty("job_user"),
        empty("job_partition"),
        empty("hostname"),
    ],
    holder_labels: &[],
    tables: &[&[NODES], values::VALUES, counters::ERRORS, counters::VIOLATIONS],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByLabelValues,
    left_out: left_out::FAMILIES,
    differences: &[
        "A value that was not read is an absent series. AMD's exporter writes 0 for it, and for a true 255, 65535, 2^31-1 and \
         2^32-1 as well.",
        "Radeon cards and processors have the families that the kernel reports.",
        "`gpu_health` is AFD's verdict ([health-amd.md](health-amd.md)), absent while the health is unknown.",
        "A GPU that no driver or one for virtual machines has is not listed, as with the exporter; our own metrics have it.",
        "`gpu_id` numbers GPUs, or partitions of partitioned GPUs, in the order of their PCI addresses. Values of the whole GPU \
         are series of its first partition.",
        "`clock_index` is 0 for `system`, 1 for `memory` and 2 for `soc`; the kernel's files have no others.",
        "`hostname`, `pod`, `namespace`, `container` and the labels of jobs are empty: Prometheus adds the node's name when it \
         scrapes, and no file says which container holds a GPU.",
        "`deployment_mode` of a physical function under `amdgpu` is from AMD SMI, and empty without it: the kernel has no \
         attribute that distinguishes bare metal from passthrough.",
        "`gpu_used_vram` of a partition is there where KFD reports it, which only AMD's own build of the driver does.",
    ],
};

/// What the exporter lists: devices that AMD's drivers are bound to, and their partitions.
fn driven_units<'i>(scope: SetScope, input: &CompatInput<'i>) -> Vec<ExporterUnit<'i>> {
    let mut units = allocatable_units(scope, input);
    units.retain(|unit| is_driven(unit.device));
    for (number, unit) in units.iter_mut().enumerate() {
        unit.number = number;
    }
    units
}

const fn empty(name: &'static str) -> UnitLabel {
    UnitLabel { name, value: |_| Some(String::new()) }
}

const NODES: CompatFamily = CompatFamily {
    name: "gpu_nodes_total",
    kind: MetricKind::Gauge,
    labels: &[],
    help: "Number of GPUs, or of partitions of partitioned GPUs.",
    every_vendor: false,
    source: SeriesSource::Node(|units| units.len() as f64),
};

fn scaled(unit: &ExporterUnit<'_>, quantity: Quantity, factor: f64) -> UnitSeries {
    plain(unit.value(quantity, factor))
}

fn amd_value(unit: &ExporterUnit<'_>, quantity: AmdQuantity, factor: f64) -> UnitSeries {
    scaled(unit, quantity.into(), factor)
}

/// The exporter writes the same UUID for all partitions of a GPU.
fn uuid(unit: &ExporterUnit<'_>) -> String {
    unit.device.uuid.value().cloned().unwrap_or_default()
}

fn partition_number(unit: &ExporterUnit<'_>) -> u32 {
    match unit.partition.map(|partition| partition.name) {
        Some(PartitionName::Xcp(number)) => number,
        _ => 0,
    }
}

/// The compute and the memory partition mode, as the exporter writes them.
fn partition_types(device: &Device) -> (String, String) {
    match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            let memory = memory.value().map_or("", |memory| memory.as_str());
            (compute.as_str().to_lowercase(), memory.to_lowercase())
        }
        Some(Partitioning::Whole) => ("none".to_owned(), "none".to_owned()),
        Some(Partitioning::Mig | Partitioning::Sriov { .. }) | None => (String::new(), String::new()),
    }
}

fn card_model(device: &Device) -> String {
    device.amd().and_then(|facts| facts.board_number.value()).cloned().unwrap_or_default()
}

fn deployment_mode(device: &Device) -> Option<&'static str> {
    let virtualization = device.amd().and_then(|facts| facts.virtualization.value()).map(String::as_str);
    match (device.driver.value()?.as_str(), virtualization) {
        ("gim", _) | ("amdgpu", Some("host")) => Some("hypervisor"),
        ("amdgpu", Some("passthrough")) => Some("vm_pf"),
        ("amdgpu", Some("guest")) => Some("vm_vf"),
        ("amdgpu", _) if device.virtual_function => Some("vm_vf"),
        ("amdgpu", Some("baremetal")) => Some("baremetal"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
