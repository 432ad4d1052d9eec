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

/// The bits of the package power limits.
pub(crate) const POWER_BITS: &[u32] = CAUSES[0].1;
/// GPU: the whole die.
pub(crate) const GPU_BIT: u32 = 32;
/// A memory stack.
pub(crate) const MEMORY_BIT: u32 = 34;
/// The edge of the die.
pub(crate) const EDGE_BIT: u32 = 35;
/// The hot spot of the die.
pub(crate) const HOTSPOT_BIT: u32 = 36;
/// The SoC domain.
pub(crate) const SOC_BIT: u32 = 37;

/// The status without these bits.
pub(crate) fn without(status: u64, bits: &[u32]) -> u64 {
    bits.iter().fold(status, |status, bit| status & !(1 << bit))
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
    fn only_the_named_bits_are_removed() {
        let (hot, strong) = (1_u64 << HOTSPOT_BIT | 1 << 42, 1_u64 << 2);
        assert_eq!(without(hot | strong, &[HOTSPOT_BIT]), 1 << 42 | strong);
        assert_eq!(without(hot | strong, POWER_BITS), hot);
        let cause = |bit: u32| causes(1 << bit).filter(|(_, is_active)| *is_active).last();
        let of_cause = |bits: &[u32], name| bits.iter().all(|bit| cause(*bit) == Some((name, true)));
        assert!(of_cause(&[GPU_BIT, EDGE_BIT, HOTSPOT_BIT, SOC_BIT], ThrottleCause::Thermal));
        assert!(of_cause(&[MEMORY_BIT], ThrottleCause::MemoryThermal));
        assert!(of_cause(POWER_BITS, ThrottleCause::Power));
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
