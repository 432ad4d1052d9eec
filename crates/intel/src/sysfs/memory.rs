//! The memory of a GPU and of its virtual functions, as files report it.
//!
//! A virtual function in a guest has the id of the physical GPU and a part of its memory. No file says that it is one: the
//! capacity of the product counts only for what is known to be a whole GPU.

use afd_model::{Device, HandleKind, Known, MemorySource, PartitionName};
use afd_probe::{Facts, PciBus, PciFunction};

use super::{sampling::numbered, switch_port};
use crate::{
    interpret::{bar_bytes, memory_by_product},
    products::IntelGpu,
};

const FACT: &str = "memory_bytes";

/// Fills in the memory of a device that has its own, and of its virtual functions.
pub(super) fn add(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    function: &PciFunction,
    device: &mut Device,
    gpu: Option<&IntelGpu>,
) {
    if device.integrated {
        return;
    }
    let card = device.handle(HandleKind::DrmCard).map(|card| function.attribute(&format!("drm/{card}")));
    device.memory_bytes = of_tiles(facts, function).or_else(|| match &card {
        Some(card) => of_card(facts, card),
        None => Known::default(),
    });
    device.memory_source = device.memory_bytes.map(|_| MemorySource::Drm);
    if let (Some(gpu), false) = (gpu, device.memory_bytes.is_known()) {
        let resource = facts.text(FACT, &function.attribute("resource"));
        let bar = resource.value().and_then(|text| bar_bytes(text, 2));
        let by_product = memory_by_product(gpu, bar)
            .filter(|(bytes, _)| bar.is_some_and(|bar| bar >= *bytes) || is_physical(facts, bus, function));
        if let (Some((bytes, source)), false) = (by_product, device.virtual_function) {
            (device.memory_bytes, device.memory_source) = (Known::Value(bytes), Known::Value(source));
        }
    }
    let quotas: Vec<Known<u64>> = device
        .partitions
        .iter()
        .map(|partition| quota(facts, function, card.as_deref(), partition.name))
        .collect();
    for (partition, quota) in device.partitions.iter_mut().zip(quotas) {
        partition.memory_bytes = quota;
    }
}

/// The memory of all tiles by the driver xe (`tile<N>/physical_vram_size_bytes`). Upstream kernels have no such file.
fn of_tiles(facts: &mut Facts<'_>, function: &PciFunction) -> Known<u64> {
    sum(numbered(facts, &function.directory, "tile")
        .into_iter()
        .map(|tile| facts.number(FACT, &format!("{tile}/physical_vram_size_bytes"))))
}

/// `lmem_total_bytes` (i915 from Intel's packages) is that of one tile.
fn of_card(facts: &mut Facts<'_>, card: &str) -> Known<u64> {
    let tiles = numbered(facts, &format!("{card}/gt"), "gt").len().max(1) as u64;
    let of_tile: Known<u64> = facts.number(FACT, &format!("{card}/lmem_total_bytes"));
    sum(std::iter::once(of_tile)).map(|bytes| bytes.saturating_mul(tiles))
}

/// Whether a function is known to be the whole GPU: it can have virtual functions, or the switch of its board is visible.
fn is_physical(facts: &Facts<'_>, bus: &PciBus, function: &PciFunction) -> bool {
    facts.host().exists(&function.attribute("sriov_totalvfs")) || switch_port(bus, function).is_some()
}

/// The memory that the driver has given to a virtual function: `sriov_admin/vf<N>/profile/vram_quota` of xe, and of i915
/// `iov/vf<N>/gt*/lmem_quota` in the directory of the card. They number the functions from 1.
fn quota(
    facts: &mut Facts<'_>,
    function: &PciFunction,
    card: Option<&str>,
    name: PartitionName,
) -> Known<u64> {
    let PartitionName::VirtualFunction(index) = name else { return Known::default() };
    let vf = format!("vf{}", u64::from(index) + 1);
    let of_xe = facts.number(FACT, &function.attribute(&format!("sriov_admin/{vf}/profile/vram_quota")));
    sum(std::iter::once(of_xe)).or_else(|| {
        let folders = ["prelim_iov", "iov"].map(|folder| card.map(|card| format!("{card}/{folder}/{vf}")));
        let mut gts = Vec::new();
        for folder in folders.into_iter().flatten() {
            let names = facts.names(FACT, &folder).into_iter().filter(|name| name.starts_with("gt"));
            gts.extend(names.map(|name| format!("{folder}/{name}/lmem_quota")));
        }
        sum(gts.into_iter().map(|path| facts.number(FACT, &path)))
    })
}

/// The sum of sizes that are all known; 0 stands for none.
fn sum(sizes: impl Iterator<Item = Known<u64>>) -> Known<u64> {
    let add =
        |sum: Known<u64>, size: Known<u64>| sum.and_then(|sum| size.map(|size| size.saturating_add(sum)));
    sizes
        .reduce(add)
        .unwrap_or_default()
        .and_then(|sum| if sum == 0 { afd_model::Missing::NotAvailable.into() } else { Known::Value(sum) })
}

#[cfg(test)]
mod tests;
