//! Names of NVIDIA's products by PCI device id.
//!
//! Names are spelt as NVML spells them. Where one id is sold under several names, the name that the driver reports and the board's
//! subsystem id distinguish them; the row of the id itself has a model only if there is one without them.

mod boards;
mod data_center;
mod workstation;
mod workstation_rtx;

use afd_model::{Known, Missing, Pci, Product};

/// The facts that follow from the device id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NvidiaProductRow {
    /// PCI device id.
    pub(crate) id: u16,
    /// Marketing name.
    pub(crate) name: &'static str,
    /// Short model name; none where the id is that of several models.
    pub(crate) model: Option<&'static str>,
    /// Silicon generation, as GPU Feature Discovery spells it.
    pub(crate) architecture: &'static str,
    /// CUDA compute capability.
    pub(crate) compute: &'static str,
}

const fn row(
    id: u16,
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    compute: &'static str,
) -> NvidiaProductRow {
    NvidiaProductRow { id, name, model: Some(model), architecture, compute }
}

/// An id of several models.
const fn several(
    id: u16,
    name: &'static str,
    architecture: &'static str,
    compute: &'static str,
) -> NvidiaProductRow {
    NvidiaProductRow { id, name, model: None, architecture, compute }
}

/// GPUs without NVLink of chips that have it on other boards, and of chips of the same capability that have it.
const WITHOUT_NVLINK: [u16; 11] =
    [0x1e37, 0x1eb4, 0x1eb8, 0x2236, 0x2237, 0x2238, 0x24b0, 0x2531, 0x2571, 0x25b6, 0x20fd];

impl NvidiaProductRow {
    /// Whether no board of this product has NVLink: before Pascal's GP100, and on Ada and the workstation boards of Blackwell there
    /// is none; on Turing and Ampere some boards have it.
    pub(crate) fn has_no_nvlink(&self) -> bool {
        let never = ["2.0", "3.0", "3.5", "3.7", "5.0", "5.2", "6.1", "8.9", "12.0", "12.1"];
        never.contains(&self.compute) || WITHOUT_NVLINK.contains(&self.id)
    }

    /// The product, under the name that the driver reports if it does.
    pub(crate) fn product(&self, reported: Option<&str>) -> Product {
        Product {
            name: reported.unwrap_or(self.name).to_owned(),
            model: Known::from_option(self.model.map(str::to_owned), Missing::NotAvailable),
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }
}

/// The row of a device id.
pub(crate) fn find(id: u16) -> Option<&'static NvidiaProductRow> {
    [data_center::ROWS, workstation::ROWS, workstation_rtx::ROWS]
        .into_iter()
        .find_map(|rows| rows.binary_search_by_key(&id, |row| row.id).ok().map(|index| &rows[index]))
}

/// The row of a device: that of the board which has the name that the driver reports, else its subsystem id, else that of the
/// device id.
pub(crate) fn of_device(pci: &Pci, reported: Option<&str>) -> Option<&'static NvidiaProductRow> {
    let id = pci.device_id.value()?.0;
    let boards = || boards::ROWS.iter().filter(|(_, row)| row.id == id);
    let is_named =
        |row: &NvidiaProductRow| reported.is_some_and(|name| brandless(name) == brandless(row.name));
    if let Some((_, row)) = boards().find(|(_, row)| is_named(row)) {
        return Some(row);
    }
    let base = find(id);
    if base.is_some_and(is_named) {
        return base;
    }
    let subsystem = pci.subsystem_device_id.value().map(|id| id.0);
    let board = boards().find(|(ids, _)| subsystem.is_some_and(|id| ids.contains(&id)));
    board.map(|(_, row)| row).or(base)
}

/// A name without the vendor's, which older drivers leave out.
fn brandless(name: &str) -> &str {
    name.strip_prefix("NVIDIA ").unwrap_or(name)
}

/// Whether a board only drives displays: NVIDIA's own tools leave it out by its name.
pub(crate) fn is_display_only(name: &str) -> bool {
    name.contains("DGX Display")
}

/// The silicon generation of a CUDA compute capability (CUDA C++ Programming Guide, "Compute Capabilities"), as GPU Feature
/// Discovery spells it; none for a capability that is newer than this table.
pub(crate) fn architecture(major: u32, minor: u32) -> Option<&'static str> {
    Some(match (major, minor) {
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, ..5) => "volta",
        (7, _) => "turing",
        (8, ..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10..=12, _) => "blackwell",
        (13, _) => "rubin",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use afd_model::{Device, PciAddress, PciId, Variant, Vendor};

    use super::*;

    fn rows() -> impl Iterator<Item = &'static NvidiaProductRow> {
        let rows = data_center::ROWS.iter().chain(workstation::ROWS).chain(workstation_rtx::ROWS);
        rows.chain(boards::ROWS.iter().map(|(_, row)| row))
    }

    #[test]
    fn every_row_is_found_by_its_id() {
        for row in rows() {
            let is_board = boards::ROWS.iter().any(|(_, board)| board == row);
            let found = find(row.id);
            assert!(
                found == Some(row) || is_board && found.is_some(),
                "{:04x} is out of order or duplicated",
                row.id
            );
        }
    }

    #[test]
    fn models_and_architectures_are_label_values() {
        for row in rows() {
            for text in row.model.into_iter().chain([row.architecture, row.compute]) {
                assert!(!text.is_empty() && text.len() <= 63, "{row:?}");
                assert!(
                    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
                    "{row:?}"
                );
                assert!(text.as_bytes()[text.len() - 1].is_ascii_alphanumeric(), "{row:?}");
            }
        }
    }

    #[test]
    fn functions_other_than_gpus_have_no_row() {
        for (id, what) in [(0x22a3, "NVSwitch of H100"), (0x1af1, "NVSwitch of A100"), (0x10f0, "audio")] {
            assert_eq!(find(id), None, "{what}");
        }
    }

    fn pci(id: u16, subsystem: Option<u16>) -> Pci {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let subsystem_device_id = Known::from_option(subsystem.map(PciId), Missing::NotExposed);
        let pci = Device::bare(address, Vendor::Nvidia, Variant::Gpu).pci;
        Pci { device_id: Known::Value(PciId(id)), subsystem_device_id, ..pci }
    }

    fn model(id: u16, subsystem: Option<u16>, reported: Option<&str>) -> Option<&'static str> {
        of_device(&pci(id, subsystem), reported).expect("the table has the id").model
    }

    #[test]
    fn boards_of_one_id_are_distinguished_by_their_subsystem_and_by_the_drivers_name() {
        assert_eq!(model(0x25b6, Some(0x14a9), None), Some("A16"));
        assert_eq!(model(0x25b6, Some(0x157e), None), Some("A2"));
        assert_eq!(model(0x25b6, Some(0x9999), Some("NVIDIA A2")), Some("A2"));
        assert_eq!(
            model(0x25b6, Some(0x157e), Some("A16")),
            Some("A16"),
            "the driver's name takes precedence"
        );
        assert_eq!(model(0x25b6, None, None), None, "either");
        assert_eq!(model(0x2bb3, Some(0x227a), None), Some("RTX-PRO-5000-72GB"));
        assert_eq!(model(0x2bb3, Some(0x204d), None), Some("RTX-PRO-5000"));
        let name = |id, subsystem| of_device(&pci(id, Some(subsystem)), None).map(|row| row.name);
        for (id, subsystem, expected) in [
            (0x2342, 0x1805, "NVIDIA GH200 120GB"),
            (0x2342, 0x1809, "NVIDIA GH200 480GB"),
            (0x20f5, 0x179a, "NVIDIA A800 80GB PCIe LC"),
            (0x1fb2, 0x1489, "NVIDIA T400"),
            (0x2c33, 0x2053, "NVIDIA RTX PRO 4000 Blackwell SFF Edition"),
            (0x2df9, 0x0000, "NVIDIA RTX PRO 500 Blackwell Embedded GPU"),
        ] {
            assert_eq!(name(id, subsystem), Some(expected));
        }
    }

    #[test]
    fn a_model_is_of_one_generation_and_of_one_form() {
        let mut generations = BTreeMap::new();
        for row in rows() {
            let Some(model) = row.model else { continue };
            let generation = generations.entry(model).or_insert(row.architecture);
            assert_eq!(*generation, row.architecture, "{model} is of two generations");
            for (of_name, of_model) in [
                ("Laptop", "Laptop"),
                ("Embedded", "Embedded"),
                ("Max-Q", "Max-Q"),
                ("Mobile", "Mobile"),
                ("Ada Generation", "Ada"),
                ("Server Edition", "Server"),
            ] {
                assert!(!row.name.contains(of_name) || model.contains(of_model), "{row:?}");
            }
        }
    }

    /// The gigabytes in a name: 80 in `NVIDIA A100 80GB PCIe`.
    fn gigabytes(name: &str) -> Option<u32> {
        name.split([' ', '-'])
            .find_map(|word| word.strip_suffix("GB").or(word.strip_suffix('G'))?.parse().ok())
    }

    #[test]
    fn a_model_has_one_size_of_memory() {
        let mut sizes = BTreeMap::new();
        // The names of GH200 have the memory of the processor, but for that with other memory of the GPU.
        for row in rows().filter(|row| row.model != Some("GH200")) {
            let (Some(model), Some(size)) = (row.model, gigabytes(row.name)) else { continue };
            assert_eq!(*sizes.entry(model).or_insert(size), size, "{model} has two sizes");
        }
        assert_eq!((sizes["A100-40GB"], sizes["A100-80GB"], sizes["H100"]), (40, 80, 80));
        for (id, of_memory) in
            [(0x1db4, "V100-16GB"), (0x1db6, "V100-32GB"), (0x2321, "H100-94GB"), (0x2339, "H100-94GB")]
        {
            assert_eq!(model(id, None, None), Some(of_memory));
        }
        assert_eq!(model(0x06d1, None, None), None, "one id of two sizes");
    }

    #[test]
    fn a_board_for_displays_is_known_by_its_name() {
        let of_id = of_device(&pci(0x1fb0, Some(0x1485)), None).expect("the table has the id");
        assert!(is_display_only(of_id.name) && !is_display_only("NVIDIA DGX GB200"));
    }
}
