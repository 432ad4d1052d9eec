//! The throttle status whose bits are the same for every product (`SMU_THROTTLER_*_BIT` in the kernel's `amdgpu_smu.h`).

use afd_model::ThrottleCause;

/// The causes, and the bits of each.
const CAUSES: [(ThrottleCause, &[u32]); 6] = [
    // Package power limits: PPT0-3, SPL, FPPT, SPPT, SPPT of the processor.
    (ThrottleCause::Power, &[0, 1, 2, 3, 4, 5, 6, 7]),
    // Currents: TDC of five rails, EDC of two, APCC.
    (ThrottleCause::Current, &[16, 17, 18, 19, 20, 21, 22, 23]),
    // Die: GPU, core, edge, hotspot, SoC; two liquids.
    (ThrottleCause::Thermal, &[32, 33, 35, 36, 37, 42, 43]),
    (ThrottleCause::MemoryThermal, &[34]),
    // Voltage regulators: graphics, SoC, two of the memory, and their VRHOT lines.
    (ThrottleCause::RegulatorThermal, &[38, 39, 40, 41, 44, 45]),
    // PROCHOT of processor and graphics.
    (ThrottleCause::Prochot, &[46, 47]),
];

/// Each cause and whether it is active, `Any` first, which includes causes without a name here.
pub fn causes(status: u64) -> impl Iterator<Item = (ThrottleCause, bool)> {
    let is_active = move |bits: &[u32]| bits.iter().any(|bit| status >> bit & 1 == 1);
    let each = CAUSES.into_iter().map(move |(cause, bits)| (cause, is_active(bits)));
    std::iter::once((ThrottleCause::Any, status != 0)).chain(each)
}

/// The status without the bits of a cause.
pub(crate) fn without(status: u64, cause: ThrottleCause) -> u64 {
    let bits = CAUSES.iter().filter(|(other, _)| *other == cause).flat_map(|(_, bits)| *bits);
    bits.fold(status, |status, bit| status & !(1 << bit))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_bit_belongs_to_one_cause() {
        let mut seen = BTreeSet::new();
        assert!(CAUSES.into_iter().flat_map(|(_, bits)| bits).all(|bit| *bit < 64 && seen.insert(bit)));
    }

    #[test]
    fn a_cause_is_removed_with_all_of_its_bits() {
        let (hot, strong) = (1_u64 << 36 | 1 << 42, 1_u64 << 2);
        assert_eq!(without(hot | strong, ThrottleCause::Thermal), strong);
        assert_eq!(without(hot | strong, ThrottleCause::Power), hot);
        assert_eq!(without(u64::MAX, ThrottleCause::Any), u64::MAX, "it has no bits of its own");
    }

    #[test]
    fn the_active_causes_are_found() {
        let active = |status| {
            causes(status)
                .filter(|(_, is_active)| *is_active)
                .map(|(cause, _)| cause.as_str())
                .collect::<Vec<_>>()
        };
        assert!(active(0).is_empty());
        assert_eq!(active(1 << 36 | 1 << 2), ["any", "power", "thermal"]);
        assert_eq!(active(1 << 57), ["any"]);
    }
}
