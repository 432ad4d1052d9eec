//! Names of NVIDIA's products by PCI device id.
//!
//! Names are spelt as NVML spells them. Where one id is sold under several names, which the board's subsystem id
//! distinguishes, the row has the base one; the name that the driver reports takes precedence.

mod data_center;
mod workstation;

/// The facts that follow from the device id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NvidiaProductRow {
    /// PCI device id.
    pub(crate) id: u16,
    /// Marketing name.
    pub(crate) name: &'static str,
    /// Short model name.
    pub(crate) model: &'static str,
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
    NvidiaProductRow { id, name, model, architecture, compute }
}

/// The row of a device id.
pub(crate) fn find(id: u16) -> Option<&'static NvidiaProductRow> {
    [data_center::ROWS, workstation::ROWS]
        .into_iter()
        .find_map(|rows| rows.binary_search_by_key(&id, |row| row.id).ok().map(|index| &rows[index]))
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
    use super::*;

    fn rows() -> impl Iterator<Item = &'static NvidiaProductRow> {
        data_center::ROWS.iter().chain(workstation::ROWS)
    }

    #[test]
    fn every_row_is_found_by_its_id() {
        for row in rows() {
            assert_eq!(find(row.id), Some(row), "{:04x} is out of order or duplicated", row.id);
        }
    }

    #[test]
    fn models_and_architectures_are_label_values() {
        for row in rows() {
            for text in [row.model, row.architecture, row.compute] {
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
}
