//! Names of AMD's products by PCI device id and revision, spelt as in `amdgpu.ids` of libdrm.
//!
//! One id is often sold under several names, which the revision distinguishes. Such an id has a row for each name and one
//! for any other revision, which names the chip only: no name is composed of several.

mod gcn;
mod instinct;
mod integrated;
mod rdna;

use afd_probe::products::{ProductRow, rows_of};

/// The tables.
const TABLES: &[&[AmdProductRow]] = &[instinct::ROWS, rdna::ROWS, gcn::ROWS, integrated::ROWS];

/// A product of AMD.
pub type AmdProductRow = ProductRow<AmdProductFacts>;

/// What id and revision determine besides the names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AmdProductFacts {
    /// PCI revisions of the product; empty for any other revision of the id.
    pub revisions: &'static [u8],
    /// The instruction set (LLVM target).
    pub compute: &'static str,
    /// Whether it is integrated into a processor.
    pub integrated: bool,
    /// Whether it is an SR-IOV virtual function.
    pub virtual_function: bool,
}

const fn row(
    ids: &'static [u16],
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    facts: AmdProductFacts,
) -> AmdProductRow {
    ProductRow { ids, name, model: Some(model), architecture, facts }
}

const fn gfx(compute: &'static str) -> AmdProductFacts {
    AmdProductFacts { revisions: &[], compute, integrated: false, virtual_function: false }
}

const fn apu(compute: &'static str) -> AmdProductFacts {
    AmdProductFacts { integrated: true, ..gfx(compute) }
}

impl AmdProductFacts {
    const fn revisions(self, revisions: &'static [u8]) -> AmdProductFacts {
        AmdProductFacts { revisions, ..self }
    }

    const fn virtual_function(self) -> AmdProductFacts {
        AmdProductFacts { virtual_function: true, ..self }
    }
}

/// Display controllers of server boards, for the console; they do not compute.
///
/// Source: the public PCI id list: ES1000 (515e, 5969), RV100 (5159), the Rage XL series (4752, 474d, 4c59).
const DISPLAY_ONLY: [u16; 6] = [0x4752, 0x474d, 0x4c59, 0x5159, 0x515e, 0x5969];

/// Whether an id is that of a console display controller.
pub fn is_display_only(id: u16) -> bool {
    DISPLAY_ONLY.contains(&id)
}

/// The row of a device id and revision, else of the id for any revision.
pub fn find(id: u16, revision: Option<u8>) -> Option<&'static AmdProductRow> {
    let of_revision =
        revision.and_then(|revision| rows_of(TABLES, id).find(|row| row.facts.revisions.contains(&revision)));
    of_revision.or_else(|| rows_of(TABLES, id).find(|row| row.facts.revisions.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_unique_and_names_are_label_values() {
        let mut keys = BTreeSet::new();
        for row in TABLES.iter().copied().flatten() {
            let revisions = row.facts.revisions.iter().copied().map(Some);
            for revision in revisions.chain(row.facts.revisions.is_empty().then_some(None)) {
                for id in row.ids {
                    assert!(keys.insert((id, revision)), "{id:04x} {revision:02x?} is listed twice");
                }
            }
            for id in row.ids {
                assert!(find(*id, None).is_some(), "{row:?} is not found without a revision");
                assert!(!is_display_only(*id), "{row:?}");
            }
            for text in [row.model.expect("AMD has model names"), row.architecture, row.facts.compute] {
                assert!(
                    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
                    "{row:?}"
                );
                assert!(text.ends_with(|c: char| c.is_ascii_alphanumeric()), "{row:?}");
            }
        }
    }

    #[test]
    fn a_revision_distinguishes_products_of_one_id() {
        let name = |id, revision| find(id, revision).map(|row| row.name);
        assert_eq!(name(0x744c, Some(0xc8)), Some("AMD Radeon RX 7900 XTX"));
        assert_eq!(name(0x744c, Some(0xcc)), Some("AMD Radeon RX 7900 XT"));
        assert_eq!(name(0x744c, None), Some("AMD Radeon Graphics (Navi 31)"));
        assert_eq!(name(0x74a1, Some(0)), Some("AMD Instinct MI300X"));
        assert_eq!(name(0x14a0, None), None, "a bridge is no product");
    }
}
