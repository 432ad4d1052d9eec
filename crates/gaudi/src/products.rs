//! The product of each Habana PCI id, and what all products of a generation have in common.
//!
//! Ids: `include/common/pci_ids.h` of HabanaAI/drivers.accel.habanalabs.kernel; 1030 is a "Gaudi 3" in gohlml,
//! Intel's DRA driver and gaudi-feature-discovery, but not in the kernel driver. Memory: Intel's documentation (32, 96 and
//! 128 GB); hl-smi reports 98304 and 131072 MiB, so these are binary units.

use afd_model::{Known, Product};

/// A generation of the table.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct GaudiGeneration {
    ids: &'static [u16],
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    memory_gib: Option<u64>,
}

/// The generation of a device id.
pub(crate) fn find(device_id: u16) -> Option<&'static GaudiGeneration> {
    GENERATIONS.iter().find(|generation| generation.ids.contains(&device_id))
}

impl GaudiGeneration {
    /// The product for the inventory.
    pub(crate) fn product(&self) -> Product {
        Product {
            name: self.name.to_owned(),
            model: Known::Value(self.model.to_owned()),
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }

    /// The memory size of every product of the generation.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory_gib.map(|gib| gib << 30)
    }
}

const GENERATIONS: &[GaudiGeneration] = &[
    GaudiGeneration {
        ids: &[0x1030, 0x1060, 0x1061, 0x1062, 0x1063],
        name: "Intel Gaudi 3",
        model: "Gaudi3",
        architecture: "gaudi3",
        memory_gib: Some(128),
    },
    GaudiGeneration {
        ids: &[0x1020, 0x1021],
        name: "Intel Gaudi 2",
        model: "Gaudi2",
        architecture: "gaudi2",
        memory_gib: Some(96),
    },
    GaudiGeneration {
        ids: &[0x1000, 0x1001, 0x1010, 0x1011],
        name: "Intel Gaudi",
        model: "Gaudi",
        architecture: "gaudi",
        memory_gib: Some(32),
    },
    GaudiGeneration {
        ids: &[0x0020, 0x0030],
        name: "Habana Greco",
        model: "Greco",
        architecture: "greco",
        memory_gib: None,
    },
    GaudiGeneration {
        ids: &[0x0001],
        name: "Habana Goya",
        model: "Goya",
        architecture: "goya",
        memory_gib: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_hl_smi_reports() {
        let mebibytes = |id| find(id).and_then(GaudiGeneration::memory_bytes).map(|bytes| bytes >> 20);
        assert_eq!(mebibytes(0x1020), Some(98_304));
        assert_eq!(mebibytes(0x1063), Some(131_072));
        assert_eq!(mebibytes(0x0001), None);
    }
}
