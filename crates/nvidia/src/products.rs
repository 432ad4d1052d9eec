//! Names of NVIDIA's products by PCI device id.
//!
//! Names are spelt as NVML spells them. Where one id is sold under several names (the board's subsystem id tells them
//! apart), the row has the base one; the driver's own word goes before it.

mod data_center;
mod workstation;

/// What the id alone tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// PCI device id.
    pub id: u16,
    /// Marketing name.
    pub name: &'static str,
    /// The short name that people say.
    pub model: &'static str,
    /// Silicon generation, as GPU Feature Discovery spells it.
    pub architecture: &'static str,
    /// CUDA compute capability.
    pub compute: &'static str,
}

const fn row(
    id: u16,
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    compute: &'static str,
) -> Row {
    Row { id, name, model, architecture, compute }
}

/// The row of a device id.
pub fn find(id: u16) -> Option<&'static Row> {
    [data_center::ROWS, workstation::ROWS]
        .into_iter()
        .find_map(|rows| rows.binary_search_by_key(&id, |row| row.id).ok().map(|index| &rows[index]))
}

/// The silicon generation of a CUDA compute capability (CUDA C++ Programming Guide, "Compute Capabilities"), as GPU Feature
/// Discovery spells it; none for one that is newer than this table.
pub fn architecture(major: u32, minor: u32) -> Option<&'static str> {
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

    fn rows() -> impl Iterator<Item = &'static Row> {
        data_center::ROWS.iter().chain(workstation::ROWS)
    }

    #[test]
    fn every_row_is_found_by_its_id() {
        for row in rows() {
            assert_eq!(find(row.id), Some(row), "{:04x} is out of order or there twice", row.id);
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
    fn what_is_no_gpu_has_no_row() {
        for (id, what) in [(0x22a3, "NVSwitch of H100"), (0x1af1, "NVSwitch of A100"), (0x10f0, "audio")] {
            assert_eq!(find(id), None, "{what}");
        }
    }
}
