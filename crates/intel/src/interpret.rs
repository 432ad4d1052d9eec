//! Interprets the files of i915 and xe. Pure functions; no file is read here.

pub(crate) mod library;

use std::time::Instant;

use afd_model::{MemorySource, Sensor, ThrottleCause};

use crate::products::IntelGpu;

const GIB: u64 = 1 << 30;

/// Whether a class code (base class and subclass) is that of a VGA or other display controller.
pub(crate) fn is_display_class(class: u16) -> bool {
    matches!(class, 0x0300 | 0x0380)
}

/// The memory size of a GPU whose driver reports none: the capacity of the product; if it is sold with several, the largest
/// one if BAR 2 has exactly that size. A smaller BAR may map only a window.
pub(crate) fn memory_by_product(gpu: &IntelGpu, bar_bytes: Option<u64>) -> Option<(u64, MemorySource)> {
    match gpu.facts.capacities_gib {
        [only] => Some((only * GIB, MemorySource::ProductTable)),
        [.., largest] if bar_bytes == Some(largest * GIB) => Some((largest * GIB, MemorySource::PciBar)),
        _ => None,
    }
}

/// The size of a BAR from the `resource` file of a PCI function: one line per BAR with start, end and flags in
/// hexadecimal, `0x0000000c00000000 0x0000000fffffffff 0x000000000014220c`; all zeros for an absent BAR.
pub(crate) fn bar_bytes(resource: &str, bar: usize) -> Option<u64> {
    let mut fields = resource.lines().nth(bar)?.split_whitespace();
    let mut next = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (start, end) = (next()?, next()?);
    if end == 0 { None } else { end.checked_sub(start)?.checked_add(1) }
}

/// The throttle cause of a file name: `throttle_reason_pl1` of i915, `reason_pl1` of xe, `status` for any cause. RATL is
/// the running average of the temperature, VR_TDC the current of the voltage regulator.
pub(crate) fn throttle_cause(file: &str) -> Option<ThrottleCause> {
    let reason =
        file.strip_prefix("throttle_reason_").or_else(|| file.strip_prefix("reason_")).unwrap_or(file);
    match reason {
        "status" => Some(ThrottleCause::Any),
        "pl1" | "pl2" | "pl4" => Some(ThrottleCause::Power),
        "thermal" | "ratl" => Some(ThrottleCause::Thermal),
        "prochot" => Some(ThrottleCause::Prochot),
        "vr_thermalert" => Some(ThrottleCause::RegulatorThermal),
        "vr_tdc" => Some(ThrottleCause::Current),
        _ => None,
    }
}

/// The sensor of `temp<number>_input`. On some kernels it has no label, only a number: i915 has the package as 1; xe has
/// the package as 2 and the memory as 3 (`sysfs-driver-intel-i915-hwmon`, `sysfs-driver-intel-xe-hwmon`). The other labels
/// of xe (`mctrl`, `pcie`, `vram_ch_0`) are more detailed.
pub(crate) fn sensor(driver: &str, number: u32, label: Option<&str>) -> Option<Sensor> {
    match (label, driver, number) {
        (Some("pkg"), ..) | (None, "i915", 1) | (None, "xe", 2) => Some(Sensor::Package),
        (Some("vram"), ..) | (None, "xe", 3) => Some(Sensor::Memory),
        _ => None,
    }
}

/// The power in watts between two readings of an energy counter in microjoules. None if no time has passed or the counter
/// was reset.
pub(crate) fn watts(before: (Instant, u64), now: (Instant, u64)) -> Option<f64> {
    let seconds = now.0.checked_duration_since(before.0)?.as_secs_f64();
    let microjoules = now.1.checked_sub(before.1)?;
    (seconds > 0.0).then(|| microjoules as f64 / 1e6 / seconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::products;

    #[test]
    fn a_bar_is_the_memory_only_if_it_has_the_largest_capacity_of_the_product() {
        let a770 = products::find(0x56a0).expect("the A770 is in the table");
        assert_eq!(memory_by_product(a770, None), None);
        assert_eq!(
            memory_by_product(a770, Some(8 * GIB)),
            None,
            "16 GB behind a window of 8 GB would have the same BAR"
        );
        assert_eq!(memory_by_product(a770, Some(16 * GIB)), Some((16 * GIB, MemorySource::PciBar)));
        let b580 = products::find(0xe20b).expect("the B580 is in the table");
        assert_eq!(memory_by_product(b580, Some(1 << 28)), Some((12 * GIB, MemorySource::ProductTable)));
    }

    #[test]
    fn the_size_of_a_bar_is_computed_from_its_line() {
        let resource = "0x00000000fb000000 0x00000000fbffffff 0x0000000000140204\n\
                        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                        0x0000000800000000 0x0000000bffffffff 0x000000000014220c\n";
        assert_eq!(bar_bytes(resource, 0), Some(16 << 20));
        assert_eq!(bar_bytes(resource, 1), None);
        assert_eq!(bar_bytes(resource, 2), Some(16 * GIB));
        assert_eq!(bar_bytes(resource, 3), None);
    }

    #[test]
    fn power_needs_elapsed_time_and_an_increased_counter() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        assert_eq!(watts((start, 1_000_000), (later, 81_000_000)), Some(40.0));
        assert_eq!(watts((start, 1_000_000), (start, 81_000_000)), None);
        assert_eq!(watts((start, 81_000_000), (later, 1_000_000)), None);
        assert_eq!(watts((later, 1_000_000), (start, 81_000_000)), None);
    }

    #[test]
    fn a_temperature_sensor_is_identified_by_label_or_by_the_documented_number() {
        assert_eq!(sensor("xe", 2, Some("pkg")), Some(Sensor::Package));
        assert_eq!(sensor("xe", 6, Some("vram_ch_0")), None);
        assert_eq!(sensor("xe", 3, None), Some(Sensor::Memory));
        assert_eq!(sensor("i915", 1, None), Some(Sensor::Package));
        assert_eq!(sensor("i915", 2, None), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", bar in 0_usize..8, number in 0_u32..20) {
            let _ = bar_bytes(&text, bar);
            let _ = throttle_cause(&text);
            let _ = sensor(&text, number, Some(&text));
        }

        #[test]
        fn no_addresses_panic(start: u64, end: u64) {
            let _ = bar_bytes(&format!("{start:#018x} {end:#018x} 0x0"), 0);
        }

        #[test]
        fn no_counters_panic(before: u64, now: u64) {
            let start = Instant::now();
            let _ = watts((start, before), (start + Duration::from_secs(1), now));
        }
    }
}
