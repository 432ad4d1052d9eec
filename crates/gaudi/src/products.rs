//! The product of each Habana PCI id, and what all products of a generation have in common.
//!
//! Ids: `include/common/pci_ids.h` of HabanaAI/drivers.accel.habanalabs.kernel. 1030 is a "Gaudi 3" in gohlml, Intel's DRA
//! driver and gaudi-feature-discovery, but not in the kernel driver: it has no row. Memory: Intel's documentation (32, 96 and
//! 128 GB); hl-smi reports 98304 and 131072 MiB, so these are binary units.

use afd_probe::products::{ProductRow, rows_of};

/// A generation of the table.
pub(crate) type GaudiGeneration = ProductRow<GenerationFacts>;

/// What all products of a generation have in common besides their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GenerationFacts {
    memory_gib: Option<u64>,
}

impl GenerationFacts {
    /// The memory size of every product of the generation.
    pub(crate) fn memory_bytes(self) -> Option<u64> {
        self.memory_gib.map(|gib| gib << 30)
    }
}

/// The generation of a device id.
pub(crate) fn find(device_id: u16) -> Option<&'static GaudiGeneration> {
    rows_of(&[GENERATIONS], device_id).next()
}

const fn generation(
    ids: &'static [u16],
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    memory_gib: Option<u64>,
) -> GaudiGeneration {
    ProductRow { ids, name, model: Some(model), architecture, facts: GenerationFacts { memory_gib } }
}

const GENERATIONS: &[GaudiGeneration] = &[
    generation(&[0x1060, 0x1061, 0x1062, 0x1063], "Intel Gaudi 3", "Gaudi3", "gaudi3", Some(128)),
    generation(&[0x1020, 0x1021], "Intel Gaudi 2", "Gaudi2", "gaudi2", Some(96)),
    generation(&[0x1000, 0x1001, 0x1010, 0x1011], "Intel Gaudi", "Gaudi", "gaudi", Some(32)),
    generation(&[0x0020, 0x0030], "Habana Greco", "Greco", "greco", None),
    generation(&[0x0001], "Habana Goya", "Goya", "goya", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_hl_smi_reports() {
        let mebibytes = |id| find(id).and_then(|row| row.facts.memory_bytes()).map(|bytes| bytes >> 20);
        assert_eq!(mebibytes(0x1020), Some(98_304));
        assert_eq!(mebibytes(0x1063), Some(131_072));
        assert_eq!(mebibytes(0x0001), None);
        assert_eq!(find(0x1030), None, "sources disagree on it");
    }
}
