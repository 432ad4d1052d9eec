//! The product of each Intel PCI id, and facts that no kernel interface exposes.
//!
//! Sources of names: Intel's compute runtime (`shared/source/dll/devices/devices_base.inl`), for the Arc Pro B65 and
//! B70 its DRA driver (`pkg/gpu/device/models.go`), for products without a name the kernel's platform
//! (`include/drm/intel/pciids.h`). Where these sources disagree (0bd6, 0b69) the compute runtime takes
//! precedence.
//! Capacities are the nominal ones of Intel's announcements and product pages, in GiB for one GPU, and only where
//! they are documented; a Flex 140 board has 12 GB for its two GPUs.

mod integrated;

use afd_model::{Known, Product};
use afd_probe::products::{ProductRow, rows_of};

/// A GPU of the table.
pub(crate) type IntelGpu = ProductRow<IntelProductFacts>;

/// What a device id determines besides the names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct IntelProductFacts {
    /// Integrated into a processor.
    pub(crate) integrated: bool,
    /// The memory capacities of products with this id in GiB, smallest first. Empty if unknown.
    pub(crate) capacities_gib: &'static [u64],
}

const TABLES: &[&[IntelGpu]] = &[DISCRETE, integrated::ROWS];

/// The GPU with a device id.
pub(crate) fn find(device_id: u16) -> Option<&'static IntelGpu> {
    rows_of(TABLES, device_id).next()
}

/// The product for the inventory. The model of an integrated GPU is derived from its name.
pub(crate) fn product(gpu: &IntelGpu) -> Product {
    let product = gpu.product();
    if gpu.facts.integrated {
        Product { model: Known::Value(short_name(gpu.name)), ..product }
    } else {
        product
    }
}

/// Whether a GPU is on a board with a PCIe switch of its own, behind which the GPU's link files always report 2.5 GT/s x1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BoardSwitch {
    /// All boards have one: the Arc and Flex series and Battlemage.
    Always,
    /// Some boards have one: DG1, Max and Crescent Island.
    Sometimes,
    /// It is a part of the processor.
    Never,
}

/// Whether the board of a GPU has a switch.
pub(crate) fn board_switch(gpu: &IntelGpu) -> BoardSwitch {
    match gpu.architecture {
        "xe-hpg" | "xe2-hpg" => BoardSwitch::Always,
        _ if gpu.facts.integrated => BoardSwitch::Never,
        _ => BoardSwitch::Sometimes,
    }
}

/// The short model name: `UHD-Graphics` for `Intel UHD Graphics (Tiger Lake)`.
fn short_name(name: &str) -> String {
    let name = name.split(" (").next().unwrap_or(name);
    name.strip_prefix("Intel ").unwrap_or(name).replace(' ', "-")
}

const fn gpu(
    ids: &'static [u16],
    name: &'static str,
    model: Option<&'static str>,
    architecture: &'static str,
    facts: IntelProductFacts,
) -> IntelGpu {
    ProductRow { ids, name, model, architecture, facts }
}

const fn discrete(capacities_gib: &'static [u64]) -> IntelProductFacts {
    IntelProductFacts { integrated: false, capacities_gib }
}

const DISCRETE: &[IntelGpu] = &[
    gpu(&[0x0bd5], "Intel Data Center GPU Max 1550", Some("Max-1550"), "xe-hpc", discrete(&[128])),
    gpu(&[0x0bd6], "Intel Data Center GPU Max 1550", Some("Max-1550"), "xe-hpc", discrete(&[])),
    gpu(&[0x0bd4], "Intel Data Center GPU Max 1550VG", Some("Max-1550VG"), "xe-hpc", discrete(&[])),
    gpu(&[0x0b69], "Intel Data Center GPU Max 1450", Some("Max-1450"), "xe-hpc", discrete(&[])),
    gpu(&[0x0bd7, 0x0bd8], "Intel Data Center GPU Max 1350", Some("Max-1350"), "xe-hpc", discrete(&[96])),
    gpu(
        &[0x0bd9, 0x0bda, 0x0bdb],
        "Intel Data Center GPU Max 1100",
        Some("Max-1100"),
        "xe-hpc",
        discrete(&[48]),
    ),
    gpu(&[0x0b6e], "Intel Data Center GPU Max 1100C", Some("Max-1100C"), "xe-hpc", discrete(&[])),
    gpu(&[0x0bd0], "Intel Ponte Vecchio", None, "xe-hpc", discrete(&[])),
    gpu(&[0x56c0], "Intel Data Center GPU Flex 170", Some("Flex-170"), "xe-hpg", discrete(&[16])),
    gpu(&[0x56c1], "Intel Data Center GPU Flex 140", Some("Flex-140"), "xe-hpg", discrete(&[6])),
    gpu(&[0x56c2], "Intel Data Center GPU Flex 170V", Some("Flex-170V"), "xe-hpg", discrete(&[])),
    gpu(&[0x56a0], "Intel Arc A770", Some("A770"), "xe-hpg", discrete(&[8, 16])),
    gpu(&[0x56a1], "Intel Arc A750", Some("A750"), "xe-hpg", discrete(&[8])),
    gpu(&[0x56a2], "Intel Arc A580", Some("A580"), "xe-hpg", discrete(&[8])),
    gpu(&[0x56a5], "Intel Arc A380", Some("A380"), "xe-hpg", discrete(&[6])),
    gpu(&[0x56a6], "Intel Arc A310", Some("A310"), "xe-hpg", discrete(&[4])),
    gpu(&[0x56af], "Intel Arc A760A", Some("A760A"), "xe-hpg", discrete(&[])),
    gpu(&[0x5690], "Intel Arc A770M", Some("A770M"), "xe-hpg", discrete(&[16])),
    gpu(&[0x5691], "Intel Arc A730M", Some("A730M"), "xe-hpg", discrete(&[12])),
    gpu(&[0x5696], "Intel Arc A570M", Some("A570M"), "xe-hpg", discrete(&[8])),
    gpu(&[0x5692], "Intel Arc A550M", Some("A550M"), "xe-hpg", discrete(&[8])),
    gpu(&[0x5697], "Intel Arc A530M", Some("A530M"), "xe-hpg", discrete(&[4, 8])),
    gpu(&[0x5693], "Intel Arc A370M", Some("A370M"), "xe-hpg", discrete(&[4])),
    gpu(&[0x5694], "Intel Arc A350M", Some("A350M"), "xe-hpg", discrete(&[4])),
    gpu(&[0x56b0], "Intel Arc Pro A30M", Some("Pro-A30M"), "xe-hpg", discrete(&[])),
    gpu(&[0x56b1], "Intel Arc Pro A40/A50", None, "xe-hpg", discrete(&[6])),
    gpu(&[0x56b2], "Intel Arc Pro A60M", Some("Pro-A60M"), "xe-hpg", discrete(&[])),
    gpu(&[0x56b3], "Intel Arc Pro A60", Some("Pro-A60"), "xe-hpg", discrete(&[12])),
    gpu(&[0x56ba], "Intel Arc A380E", Some("A380E"), "xe-hpg", discrete(&[])),
    gpu(&[0x56bb], "Intel Arc A310E", Some("A310E"), "xe-hpg", discrete(&[])),
    gpu(&[0x56bc], "Intel Arc A370E", Some("A370E"), "xe-hpg", discrete(&[])),
    gpu(&[0x56bd], "Intel Arc A350E", Some("A350E"), "xe-hpg", discrete(&[])),
    gpu(&[0x56be], "Intel Arc A750E", Some("A750E"), "xe-hpg", discrete(&[])),
    gpu(&[0x56bf], "Intel Arc A580E", Some("A580E"), "xe-hpg", discrete(&[])),
    gpu(&[0x5695, 0x56a3, 0x56a4], "Intel Graphics (DG2)", None, "xe-hpg", discrete(&[])),
    gpu(&[0xe20b], "Intel Arc B580", Some("B580"), "xe2-hpg", discrete(&[12])),
    gpu(&[0xe209], "Intel Arc B580", Some("B580"), "xe2-hpg", discrete(&[])),
    gpu(&[0xe20c], "Intel Arc B570", Some("B570"), "xe2-hpg", discrete(&[10])),
    gpu(&[0xe211], "Intel Arc Pro B60", Some("Pro-B60"), "xe2-hpg", discrete(&[24])),
    gpu(&[0xe212], "Intel Arc Pro B50", Some("Pro-B50"), "xe2-hpg", discrete(&[16])),
    gpu(&[0xe222], "Intel Arc Pro B65", Some("Pro-B65"), "xe2-hpg", discrete(&[])),
    gpu(&[0xe223], "Intel Arc Pro B70", Some("Pro-B70"), "xe2-hpg", discrete(&[32])),
    gpu(
        &[0xe202, 0xe20d, 0xe210, 0xe215, 0xe216, 0xe220, 0xe221],
        "Intel Graphics (Battlemage)",
        None,
        "xe2-hpg",
        discrete(&[]),
    ),
    gpu(
        &[0x674c, 0x674d, 0x674e, 0x674f, 0x6750],
        "Intel Crescent Island",
        Some("Crescent-Island"),
        "xe3p-xpc",
        discrete(&[]),
    ),
    gpu(&[0x4905], "Intel Iris Xe MAX Graphics", Some("Iris-Xe-MAX"), "xe-lp", discrete(&[])),
    gpu(&[0x4906], "Intel Graphics (DG1)", None, "xe-lp", discrete(&[])),
    gpu(&[0x4907], "Intel Server GPU SG-18M", Some("SG-18M"), "xe-lp", discrete(&[])),
    gpu(&[0x4908], "Intel Iris Xe Graphics (DG1)", Some("Iris-Xe-DG1"), "xe-lp", discrete(&[])),
    gpu(&[0x4909], "Intel Iris Xe MAX 100 Graphics", Some("Iris-Xe-MAX-100"), "xe-lp", discrete(&[])),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_belongs_to_one_discrete_or_integrated_product() {
        let mut seen = BTreeSet::new();
        for id in TABLES.iter().copied().flatten().flat_map(|row| row.ids) {
            assert!(seen.insert(id), "{id:04x} is listed twice");
        }
    }

    #[test]
    fn the_model_of_an_integrated_gpu_is_its_name_without_the_platform() {
        let model = |id| find(id).and_then(|gpu| product(gpu).model.into_value());
        assert_eq!(model(0x9a60).as_deref(), Some("UHD-Graphics"));
        assert_eq!(model(0x3e92).as_deref(), Some("UHD-Graphics-630"));
        assert_eq!(model(0xe211).as_deref(), Some("Pro-B60"));
        assert_eq!(model(0xe202), None);
    }

    #[test]
    fn capacities_are_listed_smallest_first() {
        for gpu in DISCRETE {
            assert!(gpu.facts.capacities_gib.is_sorted(), "{}", gpu.name);
        }
    }
}
