//! What the labels are made from: values of devices and of what the device plugin allocates, and whether they could be read.

use afd_model::{AmdFacts, BlockFirmware, Device, Known, Partition, Partitioning};

use super::chip_family;
use crate::{
    compat::labels::{LabelScope, agreed, counts, room},
    value::{MAX_LENGTH, label_value},
};

/// What the device plugin allocates: a partition, or a device without partitions.
pub(super) struct AllocatableUnit<'i> {
    device: &'i Device,
    pub(super) memory_bytes: Option<u64>,
    compute_units: Option<u32>,
}

pub(super) fn name_is_unread(scope: &LabelScope<'_>) -> bool {
    scope.is_unread(|device| {
        let facts = device.amd()?;
        facts.board_name.as_ref().or_else(|| facts.market_name.as_ref()).missing()
    })
}

pub(super) fn compute_units_are_unread(scope: &LabelScope<'_>) -> bool {
    scope.is_unread(|device| device.amd()?.compute_units.missing())
        || scope.is_unread(|device| device.amd()?.simds_per_compute_unit.missing())
}

pub(super) fn feature_is_unread(scope: &LabelScope<'_>) -> bool {
    scope.is_unread(|device| {
        let mut missing = device.amd()?.firmware.iter().filter_map(|firmware| firmware.feature.missing());
        missing.find(|missing| missing.is_undecided())
    })
}

pub(super) fn of_devices(scope: &LabelScope<'_>, value: impl Fn(&Device) -> Option<String>) -> Vec<String> {
    scope.devices.iter().filter_map(|device| value(device)).collect()
}

pub(super) fn of_units(
    scope: &LabelScope<'_>,
    value: impl Fn(&AllocatableUnit<'_>) -> Option<String>,
) -> Vec<String> {
    let units = scope.devices.iter().flat_map(|device| units(device));
    units.filter_map(|unit| value(&unit)).collect()
}

fn units(device: &Device) -> Vec<AllocatableUnit<'_>> {
    let has_xcps = matches!(device.partitioning.value(), Some(Partitioning::Xcp { .. }) | None);
    if device.partitions.is_empty() || !has_xcps {
        let compute_units = device.amd().and_then(|facts| facts.compute_units.value().copied());
        return vec![AllocatableUnit {
            device,
            memory_bytes: device.memory_bytes.value().copied(),
            compute_units,
        }];
    }
    let unit = |partition: &Partition| AllocatableUnit {
        device,
        memory_bytes: partition.memory_bytes.value().copied(),
        compute_units: partition.compute_units.value().copied(),
    };
    device.partitions.iter().map(unit).collect()
}

pub(super) fn family(scope: &LabelScope<'_>) -> Vec<String> {
    of_units(scope, |unit| chip_family::of_instruction_set(unit.device.compute.value()?).map(str::to_owned))
}

pub(super) fn device_id(scope: &LabelScope<'_>) -> Vec<String> {
    of_devices(scope, |device| device.pci.device_id.value().map(ToString::to_string))
}

pub(super) fn product_name(scope: &LabelScope<'_>) -> Vec<String> {
    of_devices(scope, |device| {
        let name =
            |field: fn(&AmdFacts) -> &Known<String>| device.amd().and_then(|facts| field(facts).value());
        let board = name(|facts| &facts.board_name).or_else(|| name(|facts| &facts.market_name));
        underscored(board.map(String::as_str).or_else(|| device.product_name())?)
    })
}

pub(super) fn vram(scope: &LabelScope<'_>) -> Vec<String> {
    of_units(scope, |unit| {
        let mebibytes = unit.memory_bytes? >> 20;
        Some(format!("{}G", (mebibytes + 512) / 1024))
    })
}

pub(super) fn simd_count(scope: &LabelScope<'_>) -> Vec<String> {
    of_units(scope, |unit| {
        let per_compute_unit = *unit.device.amd()?.simds_per_compute_unit.value()?;
        unit.compute_units?.checked_mul(per_compute_unit).map(|simds| simds.to_string())
    })
}

pub(super) fn cu_count(scope: &LabelScope<'_>) -> Vec<String> {
    of_units(scope, |unit| unit.compute_units.map(|count| count.to_string()))
}

/// Blanks become `_`; brackets are removed, and so is a word that has neither letter nor digit.
fn underscored(name: &str) -> Option<String> {
    let words: Vec<String> = name
        .split_whitespace()
        .map(|word| word.replace(['(', ')'], ""))
        .filter(|word| word.contains(|c: char| c.is_ascii_alphanumeric()))
        .collect();
    label_value(&words.join("_"), MAX_LENGTH)
}

pub(super) fn of_facts<'i>(
    scope: &LabelScope<'i>,
    value: impl Fn(&'i AmdFacts) -> Option<&'i String>,
) -> Option<String> {
    let values: Vec<String> =
        scope.devices.iter().filter_map(|device| value(device.amd()?)).cloned().collect();
    label_value(&agreed(&values)?, MAX_LENGTH)
}

pub(super) fn supported(scope: &LabelScope<'_>, value: impl Fn(&AmdFacts) -> Option<bool>) -> Option<String> {
    agreed(&of_devices(scope, |device| value(device.amd()?).map(|supported| supported.to_string())))
}

pub(super) fn partitioning_mode(device: &Device) -> Option<String> {
    match device.partitioning.value()? {
        Partitioning::Xcp { compute, memory } => {
            label_value(&format!("{compute}_{}", memory.value()?).to_lowercase(), MAX_LENGTH)
        }
        Partitioning::Whole | Partitioning::Mig | Partitioning::Sriov { .. } => None,
    }
}

pub(super) fn mode(device: &Device) -> Option<String> {
    let mode = match device.driver.value()?.as_str() {
        "amdgpu" => "container",
        "gim" => "vf-passthrough",
        _ => return None,
    };
    Some(mode.to_owned())
}

pub(super) fn of_firmware(
    scope: &LabelScope<'_>,
    key: &'static str,
    end: impl Fn(&BlockFirmware) -> Option<String>,
) -> Vec<(String, String)> {
    let firmware = scope.devices.iter().filter_map(|device| device.amd()).flat_map(|facts| &facts.firmware);
    let ends: Vec<String> = firmware.filter_map(end).collect();
    counts(&ends, room(key))
}
