//! Names of AMD's products by PCI device id and revision, spelt as in `amdgpu.ids` of libdrm.
//!
//! One id is often sold under several names, which the revision distinguishes. Such an id has a row for each name and one
//! for any other revision, which names the chip only and has no model: no name is composed of several. It is that of a revision
//! with two names as well. An id that `amdgpu.ids` itself gives to two products under one name has the models of both,
//! distinguished by the name on the board or by the compute units.

mod gcn;
mod instinct;
mod integrated;
mod rdna;

use std::ops::RangeInclusive;

use afd_model::{Known, Missing};
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
    /// The models that have this id and revision, each with the compute units of one die; empty where it is one.
    pub models: &'static [(&'static str, u32)],
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

/// An id without the revision, which would say which product it is.
const fn chip(
    ids: &'static [u16],
    name: &'static str,
    architecture: &'static str,
    facts: AmdProductFacts,
) -> AmdProductRow {
    ProductRow { ids, name, model: None, architecture, facts }
}

/// An id that is sold as several models.
const fn shared(
    ids: &'static [u16],
    name: &'static str,
    architecture: &'static str,
    facts: AmdProductFacts,
    models: &'static [(&'static str, u32)],
) -> AmdProductRow {
    ProductRow { ids, name, model: None, architecture, facts: AmdProductFacts { models, ..facts } }
}

const fn gfx(compute: &'static str) -> AmdProductFacts {
    AmdProductFacts { revisions: &[], compute, integrated: false, virtual_function: false, models: &[] }
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

/// The model of a device whose id is sold as several ones: the one that the name on the board has as a word, else the one with as
/// many compute units.
pub(crate) fn model_of_shared_id(
    models: &[(&str, u32)],
    board_name: Known<&str>,
    compute_units: Known<u32>,
) -> Known<String> {
    let by_name = board_name.and_then(|name| {
        let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
        only(models, |(model, _)| words().any(|word| word.eq_ignore_ascii_case(model)))
    });
    by_name.or_else(|| compute_units.and_then(|units| only(models, |(_, own)| *own == units)))
}

fn only(models: &[(&str, u32)], is_one: impl Fn(&(&str, u32)) -> bool) -> Known<String> {
    let mut fitting = models.iter().filter(|model| is_one(model));
    match (fitting.next(), fitting.next()) {
        (Some((model, _)), None) => Known::Value((*model).to_owned()),
        _ => Missing::NotAvailable.into(),
    }
}

/// Display controllers that do not compute: those of server boards, and all before GCN, which only the driver radeon knows.
///
/// Source: the ids of that driver in the kernel (`drm_pciids.h`), and the public PCI id list for the Rage XL series (474d, 4752,
/// 4c59).
const DISPLAY_ONLY: [RangeInclusive<u16>; 8] = [
    // Rage to R400, with ES1000 (515e, 5969).
    0x3000..=0x5fff,
    // Northern Islands: Cayman, Barts, Turks, Caicos.
    0x6700..=0x677f,
    // Evergreen: Cypress, Juniper, Redwood, Cedar.
    0x6880..=0x68ff,
    // R500.
    0x7100..=0x72ff,
    // Chipsets with R300 to R500.
    0x7800..=0x79ff,
    // R600 and R700, and chipsets and processors with them.
    0x9400..=0x97ff,
    // Processors with Evergreen and Northern Islands.
    0x9802..=0x980a,
    0x9900..=0x99ff,
];

/// Whether an id is that of a display controller that never computes.
pub fn is_display_only(id: u16) -> bool {
    DISPLAY_ONLY.iter().any(|ids| ids.contains(&id))
}

/// Whether a product, although the driver amdgpu knows it, is a display card: no release of ROCm computes with GCN 1 or 2.
pub(crate) fn is_display_card(row: &AmdProductRow) -> bool {
    matches!(row.architecture, "gcn1" | "gcn2")
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
            let models = row.model.into_iter().chain(row.facts.models.iter().map(|(model, _)| *model));
            for text in models.chain([row.architecture, row.facts.compute]) {
                assert!(
                    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
                    "{row:?}"
                );
                assert!(text.ends_with(|c: char| c.is_ascii_alphanumeric()), "{row:?}");
            }
        }
    }

    #[test]
    fn cards_before_gcn_are_no_gpus_and_the_first_of_gcn_are_display_cards() {
        // HD 6450, HD 5450, HD 4350, X1300, FirePro V4900, Mobility HD 6970M, HD 6310, ES1000.
        for old in [0x6779, 0x68f9, 0x954f, 0x7183, 0x675f, 0x6720, 0x9802, 0x515e] {
            assert!(is_display_only(old), "{old:04x}");
        }
        let is_card = |id| find(id, None).is_some_and(is_display_card);
        for early in [0x6613, 0x6798, 0x67b0, 0x683f] {
            assert!(!is_display_only(early) && is_card(early), "{early:04x}");
        }
        for computing in [0x67df, 0x687f, 0x66a1, 0x738c, 0x74a1, 0x744c, 0x15bf] {
            assert!(!is_display_only(computing) && !is_card(computing), "{computing:04x}");
        }
    }

    #[test]
    fn a_model_of_a_shared_id_is_unambiguous_or_absent() {
        let instinct = |id| find(id, None).expect("the id is in the table").facts.models;
        let model = |id, board: Option<&'static str>, units: Option<u32>| {
            let board_name = Known::from_option(board, Missing::NotExposed);
            let units = Known::from_option(units, Missing::NotExposed);
            model_of_shared_id(instinct(id), board_name, units).into_value()
        };
        assert_eq!(
            model(0x740c, Some("AMD INSTINCT MI250X (MCM) OAM AC MBA"), None).as_deref(),
            Some("MI250X")
        );
        assert_eq!(
            model(0x740c, Some("MI250"), Some(110)).as_deref(),
            Some("MI250"),
            "the board counts first"
        );
        assert_eq!(model(0x740c, Some("AMD Instinct MI250X / MI250"), Some(104)).as_deref(), Some("MI250"));
        assert_eq!(model(0x740c, Some("D65209"), Some(110)).as_deref(), Some("MI250X"));
        assert_eq!(model(0x740c, None, Some(64)), None);
        assert_eq!(model(0x66a1, None, Some(64)).as_deref(), Some("MI60"));
        assert_eq!(model(0x66a1, None, Some(60)).as_deref(), Some("MI50"));
        assert_eq!(model(0x66a1, None, None), None);
        let unread =
            model_of_shared_id(instinct(0x66a1), Missing::NotExposed.into(), Missing::Unreadable.into());
        assert_eq!(unread.missing(), Some(Missing::Unreadable), "what could not be read may still decide");
    }

    #[test]
    fn every_row_has_one_model_several_or_is_a_chip() {
        for row in TABLES.iter().copied().flatten() {
            let is_chip = row.name.ends_with(')') && !row.facts.integrated;
            let models = usize::from(row.model.is_some()) + row.facts.models.len();
            assert_eq!(models == 0, is_chip, "{row:?}");
            assert!(row.facts.models.len() != 1, "{row:?}");
        }
    }

    #[test]
    fn a_revision_distinguishes_products_of_one_id() {
        let name = |id, revision| find(id, revision).map(|row| row.name);
        assert_eq!(name(0x744c, Some(0xc8)), Some("AMD Radeon RX 7900 XTX"));
        assert_eq!(name(0x744c, Some(0xcc)), Some("AMD Radeon RX 7900 XT"));
        assert_eq!(name(0x744c, None), Some("AMD Radeon Graphics (Navi 31)"));
        assert_eq!(name(0x743f, Some(0xc3)), Some("AMD Radeon Graphics (Navi 24)"), "RX 6500 or RX 6500M");
        assert_eq!(name(0x74a1, Some(0)), Some("AMD Instinct MI300X"));
        assert_eq!(name(0x14a0, None), None, "a bridge is no product");
    }
}
