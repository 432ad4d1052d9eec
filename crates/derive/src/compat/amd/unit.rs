//! The labels that AMD's exporter puts on every series of a GPU or partition.

use afd_model::{HandleKind, PartitionName, Partitioning};

use super::facts;
use crate::compat::metrics::Unit;

/// The labels that every series of a unit has: those that the exporter always sets, and `gpu_uuid`.
pub(in crate::compat) const LABELS: [&str; 15] = [
    "gpu_id",
    "gpu_uuid",
    "gpu_partition_id",
    "gpu_compute_partition_type",
    "gpu_memory_partition_type",
    "card_model",
    "serial_number",
    "deployment_mode",
    "pod",
    "namespace",
    "container",
    "job_id",
    "job_user",
    "job_partition",
    "hostname",
];

/// The values of [`LABELS`].
pub(in crate::compat) fn label_values(unit: &Unit<'_>) -> Vec<String> {
    let device = unit.device;
    let handles = unit.partition.map_or(&device.handles, |part| &part.handles);
    let uuid = handles.iter().find(|handle| handle.kind == HandleKind::Uuid);
    let number = match unit.partition.map(|partition| partition.name) {
        Some(PartitionName::Xcp(number)) => number,
        _ => 0,
    };
    let (compute, memory) = match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            let memory = memory.value().map_or("", |memory| memory.as_str());
            (compute.as_str().to_lowercase(), memory.to_lowercase())
        }
        Some(Partitioning::Whole) => ("none".to_owned(), "none".to_owned()),
        Some(Partitioning::Mig | Partitioning::Sriov { .. }) | None => (String::new(), String::new()),
    };
    let model = facts(device).and_then(|facts| facts.board_number.value());
    let told = facts(device).and_then(|facts| facts.virtualization.value()).map(String::as_str);
    let mode = match device.driver.value().map(String::as_str) {
        Some("gim") => "hypervisor",
        Some("amdgpu") if told == Some("host") => "hypervisor",
        Some("amdgpu") if told == Some("passthrough") => "vm_pf",
        Some("amdgpu") if told == Some("guest") => "vm_vf",
        Some("amdgpu") if device.virtual_function => "vm_vf",
        Some("amdgpu") => "baremetal",
        _ => "",
    };
    let mut values = vec![
        unit.number.to_string(),
        uuid.map_or(String::new(), |handle| handle.value.clone()),
        number.to_string(),
        compute,
        memory,
        model.cloned().unwrap_or_default(),
        device.serial.value().cloned().unwrap_or_default(),
        mode.to_owned(),
    ];
    values.resize(LABELS.len(), String::new());
    values
}
