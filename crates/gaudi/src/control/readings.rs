//! Readings from what the driver's ioctl returned, in base units.

use afd_model::{Direction, Engine, ErrorDetail, ErrorKind, Quantity, Reading, Rows};
use afd_probe::row::{LibraryRow, ValueScale};

use super::operations::{
    DEVICE_UTILIZATION, DRAM_USAGE, HW_IP_INFO, InfoOperation, PCI_COUNTERS, PENDING_ROWS, TOTAL_ENERGY,
};
use crate::hlml::HlmlAnswers;

const KILO: ValueScale = ValueScale::times(1e3);
const MILLI: ValueScale = ValueScale::per(1000.0);

const ROWS: [LibraryRow<()>; 5] = [
    row(DEVICE_UTILIZATION, None, Quantity::Utilization(Engine::Compute), ValueScale::PERCENT),
    row(TOTAL_ENERGY, None, Quantity::EnergyJoules, MILLI),
    row(PCI_COUNTERS, Some("tx"), Quantity::PcieBytesPerSecond(Direction::Transmit), KILO),
    row(PCI_COUNTERS, Some("rx"), Quantity::PcieBytesPerSecond(Direction::Receive), KILO),
    row(
        PCI_COUNTERS,
        Some("replay"),
        Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device),
        ValueScale::ONE,
    ),
];

const fn row(
    operation: InfoOperation,
    field: Option<&'static str>,
    quantity: Quantity,
    scale: ValueScale,
) -> LibraryRow<()> {
    LibraryRow { call: operation.call, source: (), field, quantity, scale }
}

/// The readings of a device.
pub(crate) fn readings(answers: &HlmlAnswers) -> impl Iterator<Item = Reading> {
    ROWS.iter().filter_map(|row| row.reading(answers)).chain(memory(answers)).chain(pending_rows(answers))
}

/// Whether rows wait for their replacement: the driver counts them.
fn pending_rows(answers: &HlmlAnswers) -> Option<Reading> {
    let count = answers.known::<u64>(PENDING_ROWS.call).into_value()?;
    Some(Reading { quantity: Quantity::RowsRemapped(Rows::Pending), value: f64::from(u8::from(count > 0)) })
}

/// Memory in use: neither what can be used nor what is free includes what is reserved. A driver that does not report what is
/// reserved has 0 in its place.
fn memory(answers: &HlmlAnswers) -> impl Iterator<Item = Reading> {
    let number = |call: InfoOperation, field: &str| answers.field::<u64>(call.call, field).into_value();
    let size = number(HW_IP_INFO, "dram_size");
    let free = number(DRAM_USAGE, "dram_free_mem");
    // The size is rounded down to a page, what is free is not.
    let used = size.zip(free).map(|(size, free)| size.saturating_sub(free));
    let reserved = number(HW_IP_INFO, "reserved_dram_size").filter(|bytes| *bytes > 0);
    let reading = |quantity, bytes: u64| Reading { quantity, value: bytes as f64 };
    [
        used.map(|bytes| reading(Quantity::MemoryUsedBytes, bytes)),
        reserved.map(|bytes| reading(Quantity::MemoryReservedBytes, bytes)),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_wait_however_many_they_are() {
        let pending = |count: u32| {
            let mut answers = HlmlAnswers::default();
            answers.put(PENDING_ROWS.call, Ok(json!(count)));
            readings(&answers).map(|reading| (reading.quantity, reading.value)).collect::<Vec<_>>()
        };
        let expected = |value: f64| vec![(Quantity::RowsRemapped(Rows::Pending), value)];
        assert_eq!([pending(0), pending(1), pending(7)], [0.0, 1.0, 1.0].map(expected));
    }
}
