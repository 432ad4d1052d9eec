//! Names of AMD's products by PCI device id and revision, spelt as `amdgpu.ids` of libdrm spells them.
//!
//! One id is often sold under several names, which the revision tells apart. Such an id has a row for each name and one
//! for any other revision, which names the chip only: no name is made up of several.

mod gcn;
mod instinct;
mod integrated;
mod rdna;

/// The tables.
const TABLES: [&[Row]; 4] = [instinct::ROWS, rdna::ROWS, gcn::ROWS, integrated::ROWS];

/// What id and revision tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// PCI device id.
    pub id: u16,
    /// PCI revisions that the name is for; none for any other revision of the id.
    pub revisions: &'static [u8],
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
        Row {
            id,
            revisions: &[],
            name,
            model,
            architecture,
            compute,
            integrated: false,
            virtual_function: false,
        }
    }

    const fn revisions(self, revisions: &'static [u8]) -> Row {
        Row { revisions, ..self }
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

/// The row of a device id and revision, else of the id for any revision.
pub fn find(id: u16, revision: Option<u8>) -> Option<&'static Row> {
    let rows = || TABLES.into_iter().flatten().filter(move |row| row.id == id);
    let of_revision = revision.and_then(|revision| rows().find(|row| row.revisions.contains(&revision)));
    of_revision.or_else(|| rows().find(|row| row.revisions.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_unique_and_texts_are_label_values() {
        let mut keys = BTreeSet::new();
        for row in TABLES.into_iter().flatten() {
            let revisions = row.revisions.iter().copied().map(Some);
            for revision in revisions.chain(row.revisions.is_empty().then_some(None)) {
                assert!(keys.insert((row.id, revision)), "{:04x} {revision:02x?} is there twice", row.id);
            }
            assert!(find(row.id, None).is_some(), "{row:?} is not found without a revision");
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

    #[test]
    fn a_revision_tells_parts_of_one_id_apart() {
        let name = |id, revision| find(id, revision).map(|row| row.name);
        assert_eq!(name(0x744c, Some(0xc8)), Some("AMD Radeon RX 7900 XTX"));
        assert_eq!(name(0x744c, Some(0xcc)), Some("AMD Radeon RX 7900 XT"));
        assert_eq!(name(0x744c, None), Some("AMD Radeon Graphics (Navi 31)"));
        assert_eq!(name(0x74a1, Some(0)), Some("AMD Instinct MI300X"));
        assert_eq!(name(0x14a0, None), None, "a bridge is no product");
    }
}
