//! What Habana's PCI ids are called, and what every part of a generation has.
//!
//! Ids: `include/common/pci_ids.h` of HabanaAI/drivers.accel.habanalabs.kernel; 1030 is a "Gaudi 3" in gohlml, in
//! Intel's DRA driver and in gaudi-feature-discovery, and in no driver. Memory: Intel's documentation (32, 96 and
//! 128 GB); hl-smi prints 98304 and 131072 MiB, so these are binary units.

use afd_model::{Known, Product};

/// A generation of the table.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Generation {
    ids: &'static [u16],
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    memory_gib: Option<u64>,
}

/// The generation of a device id.
pub(crate) fn find(device_id: u16) -> Option<&'static Generation> {
    GENERATIONS.iter().find(|generation| generation.ids.contains(&device_id))
}

impl Generation {
    /// The product as the inventory tells it.
    pub(crate) fn product(&self) -> Product {
        Product {
            name: self.name.to_owned(),
            model: Known::Value(self.model.to_owned()),
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }

    /// Memory of every part of the generation.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory_gib.map(|gib| gib << 30)
    }
}

const GENERATIONS: &[Generation] = &[
    Generation {
        ids: &[0x1030, 0x1060, 0x1061, 0x1062, 0x1063],
        name: "Intel Gaudi 3",
        model: "Gaudi3",
        architecture: "gaudi3",
        memory_gib: Some(128),
    },
    Generation {
        ids: &[0x1020, 0x1021],
        name: "Intel Gaudi 2",
        model: "Gaudi2",
        architecture: "gaudi2",
        memory_gib: Some(96),
    },
    Generation {
        ids: &[0x1000, 0x1001, 0x1010, 0x1011],
        name: "Intel Gaudi",
        model: "Gaudi",
        architecture: "gaudi",
        memory_gib: Some(32),
    },
    Generation {
        ids: &[0x0020, 0x0030],
        name: "Habana Greco",
        model: "Greco",
        architecture: "greco",
        memory_gib: None,
    },
    Generation { ids: &[0x0001], name: "Habana Goya", model: "Goya", architecture: "goya", memory_gib: None },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_hl_smi_prints() {
        let mebibytes = |id| find(id).and_then(Generation::memory_bytes).map(|bytes| bytes >> 20);
        assert_eq!(mebibytes(0x1020), Some(98_304));
        assert_eq!(mebibytes(0x1063), Some(131_072));
        assert_eq!(mebibytes(0x0001), None);
    }
}
