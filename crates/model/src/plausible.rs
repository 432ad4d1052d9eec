//! Which values a quantity can have at all: a firmware or library that hangs, or a table that was torn while it was read, gives
//! others.

use std::ops::RangeInclusive;

use crate::{Known, LinkValue, Missing, Quantity, Rows};

/// Shares are quotients of counters that are read one after the other, so that a full one may exceed 1 a little.
const RATIO: RangeInclusive<f64> = 0.0..=1.05;
const FLAG: RangeInclusive<f64> = 0.0..=1.0;
/// A number that fits into 32 bits and is not all ones.
const NUMBER: RangeInclusive<f64> = 0.0..=(u32::MAX - 1) as f64;
/// 64 TiB: system memory that a device shares is within it, and a byte count in a wrong unit is not.
const BYTES: RangeInclusive<f64> = 0.0..=(1_u64 << 46) as f64;
/// A count of 63 bits: all ones are above it.
const COUNT: RangeInclusive<f64> = 0.0..=(1_u64 << 63) as f64;

/// The memory that a library reports of a device, if it can have as much. 0 is the answer of one that does not know.
pub fn possible_memory(bytes: u64) -> Known<u64> {
    match bytes {
        0 => Missing::NotAvailable.into(),
        bytes if BYTES.contains(&(bytes as f64)) => Known::Value(bytes),
        _ => Missing::Malformed.into(),
    }
}

impl Quantity {
    /// The values that are possible, in the unit of the quantity. What is outside is no reading.
    pub fn plausible_range(self) -> RangeInclusive<f64> {
        self.row().1
    }

    /// The value to publish for one that is possible: a share that exceeds 1 a little is a full one.
    pub fn settled(self, value: f64) -> f64 {
        if self.plausible_range() == RATIO { value.min(1.0) } else { value }
    }

    /// The name of the quantity, as the fact of a problem.
    pub fn fact(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, RangeInclusive<f64>) {
        match self {
            Quantity::Utilization(_) => ("utilization", RATIO),
            Quantity::MemoryTotalBytes => ("memory_total", BYTES),
            Quantity::MemoryUsedBytes => ("memory_used", BYTES),
            Quantity::MemoryReservedBytes => ("memory_reserved", BYTES),
            Quantity::MemoryBandwidthRatio => ("memory_bandwidth", RATIO),
            Quantity::RowsRemapped(Rows::Correctable | Rows::Uncorrectable) => ("rows_remapped", NUMBER),
            Quantity::RowsRemapped(Rows::Pending | Rows::Failed) => ("row_remap_state", FLAG),
            // The greatest board draws less than 2 kW.
            Quantity::PowerWatts => ("power", 0.0..=10e3),
            Quantity::PowerLimitWatts => ("power_limit", 0.0..=10e3),
            // 10 kW for 30 years.
            Quantity::EnergyJoules => ("energy", 0.0..=1e13),
            Quantity::TemperatureCelsius(_) => ("temperature", -50.0..=200.0),
            // A limit of 0 is none.
            Quantity::TemperatureLimitCelsius(..) => ("temperature_limit", 1.0..=200.0),
            // Memory clocks are given as data rates by some: 28 GHz. 65535 MHz is no clock.
            Quantity::ClockHertz(_) => ("clock", 0.0..=50e9),
            Quantity::ClockMaxHertz(_) => ("clock_max", 0.0..=50e9),
            Quantity::Throttled(_) => ("throttled", FLAG),
            // 30 years.
            Quantity::ThrottleSeconds(_) => ("throttle_time", 0.0..=1e9),
            Quantity::RetiredPages(_) => ("retired_pages", NUMBER),
            Quantity::ProcessMemoryUsedBytes(_) => ("process_memory", BYTES),
            // Four times 16 lanes of PCIe 7.
            Quantity::PcieBytesPerSecond(_) => ("pcie_throughput", 0.0..=1e12),
            Quantity::Errors(..) => ("errors", COUNT),
            Quantity::LastXid { .. } => ("last_xid", NUMBER),
            Quantity::PcieTransfersPerSecond(_) => ("pcie_link_speed", 0.0..=256e9),
            Quantity::PcieWidth(_) => ("pcie_link_width", 0.0..=32.0),
            // 30 years at 10 TB/s.
            Quantity::LinkBytes(..) | Quantity::Link(_, LinkValue::Bytes(_)) => ("link_bytes", 0.0..=1e22),
            Quantity::Link(_, LinkValue::Up) => ("link_up", FLAG),
            Quantity::Link(_, LinkValue::Errors(_)) => ("link_errors", COUNT),
            Quantity::Vendor(quantity) if quantity.is_error_count() => ("errors", COUNT),
            // Each in the unit of its exporter.
            Quantity::Vendor(_) => ("vendor_quantity", f64::MIN..=f64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AmdQuantity, Clock, Engine, ErrorDetail, ErrorKind, Sensor};

    #[test]
    fn no_device_has_a_memory_of_all_ones() {
        assert_eq!(possible_memory(1 << 46), Known::Value(1 << 46));
        assert_eq!(possible_memory(0), Missing::NotAvailable.into());
        for bytes in [(1 << 46) + 1, u64::MAX / 10 * 9, u64::MAX] {
            assert_eq!(possible_memory(bytes).missing(), Some(Missing::Malformed));
        }
    }

    #[test]
    fn values_of_hardware_are_plausible_and_fillers_are_not() {
        let cases = [
            (Quantity::Utilization(Engine::Compute), vec![0.0, 1.0], vec![-0.01, 8e6, f64::NAN]),
            (Quantity::PowerWatts, vec![0.0, 1400.0], vec![65_535.0, f64::from(u32::MAX) / 1e3]),
            (Quantity::TemperatureCelsius(Sensor::Memory), vec![-20.0, 0.0, 110.0], vec![2112.0, 255.0]),
            (Quantity::ClockHertz(Clock::Memory), vec![0.0, 28e9], vec![65_535e6, f64::INFINITY]),
            (Quantity::MemoryUsedBytes, vec![0.0, 2e12], vec![u64::MAX as f64]),
            (Quantity::Errors(ErrorKind::Xid, ErrorDetail::Device), vec![0.0, 1e15], vec![u64::MAX as f64]),
            (Quantity::PcieWidth(crate::Which::Current), vec![1.0, 16.0], vec![255.0]),
            (
                AmdQuantity::AllErrors(ErrorKind::EccCorrectable).into(),
                vec![0.0, 1e15],
                vec![u64::MAX as f64],
            ),
        ];
        for (quantity, plausible, implausible) in cases {
            let range = quantity.plausible_range();
            assert!(plausible.iter().all(|value| range.contains(value)), "{quantity:?} {plausible:?}");
            assert!(!implausible.iter().any(|value| range.contains(value)), "{quantity:?} {implausible:?}");
        }
    }
}
