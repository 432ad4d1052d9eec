//! Names of AMD's products by PCI device id.
//!
//! Where one id is sold under several names (the revision tells them apart), the row has the base one, spelt as
//! `amdgpu.ids` of libdrm spells it.

mod instinct;
mod integrated;
mod radeon;

/// What the id alone tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// PCI device id.
    pub id: u16,
    /// Marketing name.
    pub name: &'static str,
    /// The short name that people say.
    pub model: &'static str,
    /// Silicon generation.
    pub architecture: &'static str,
    /// The instruction set that a kernel is compiled for.
    pub compute: &'static str,
    /// Whether it is part of a processor.
    pub integrated: bool,
    /// Whether it is an SR-IOV virtual function.
    pub virtual_function: bool,
}

impl Row {
    const fn new(
        id: u16,
        name: &'static str,
        model: &'static str,
        architecture: &'static str,
        compute: &'static str,
    ) -> Row {
        Row { id, name, model, architecture, compute, integrated: false, virtual_function: false }
    }

    const fn virtual_function(self) -> Row {
        Row { virtual_function: true, ..self }
    }

    const fn integrated(self) -> Row {
        Row { integrated: true, ..self }
    }
}

/// Display controllers that are soldered to server boards for their consoles; they do not compute.
///
/// Source: the public PCI id list: ES1000 (515e, 5969), RV100 (5159), Rage XL and its kin (4752, 474d, 4c59).
const DISPLAY_ONLY: [u16; 6] = [0x4752, 0x474d, 0x4c59, 0x5159, 0x515e, 0x5969];

/// Whether an id is that of a display controller for a console.
pub fn is_display_only(id: u16) -> bool {
    DISPLAY_ONLY.contains(&id)
}

/// The row of a device id.
pub fn find(id: u16) -> Option<&'static Row> {
    [instinct::ROWS, radeon::ROWS, integrated::ROWS].into_iter().flatten().find(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_texts_are_label_values() {
        let mut ids = BTreeSet::new();
        for row in [instinct::ROWS, radeon::ROWS, integrated::ROWS].into_iter().flatten() {
            assert!(ids.insert(row.id), "{:04x} is there twice", row.id);
            assert!(!is_display_only(row.id), "{row:?}");
            for text in [row.model, row.architecture, row.compute] {
                assert!(
                    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
                    "{row:?}"
                );
                assert!(text.ends_with(|c: char| c.is_ascii_alphanumeric()), "{row:?}");
            }
        }
    }
}
