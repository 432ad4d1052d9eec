//! The values of a fixed table that only AMD's exporter publishes.

use afd_model::{AmdQuantity, Engine, HostLimitCause};

use super::{
    VCNS, XCCS,
    layout::{PartitionFields, TableLayout},
    ratio, sensed, u16_at, u32_at, u64_at,
};

type ExporterValues = Vec<(AmdQuantity, f64)>;

const STACKS: u8 = 4;
/// The unit of the maximum bandwidth.
const GIGABYTE: f64 = 1e9;
/// In the order of their counters.
const HOST_LIMIT_CAUSES: [HostLimitCause; 4] =
    [HostLimitCause::Power, HostLimitCause::Thermal, HostLimitCause::LowUtilization, HostLimitCause::Total];

pub(super) fn of_device(table: &[u8], layout: &TableLayout) -> ExporterValues {
    let mut values = ExporterValues::new();
    let mut add = |quantity, value: Option<f64>| values.extend(value.map(|value| (quantity, value)));
    for stack in 0..STACKS {
        let celsius = layout.stacks.and_then(|offset| u16_at(table, offset + 2 * usize::from(stack)));
        add(AmdQuantity::StackCelsius(stack), celsius.map(f64::from).and_then(sensed));
    }
    let bandwidth = layout.max_bandwidth.and_then(|offset| u64_at(table, offset));
    add(AmdQuantity::MemoryMaxBytesPerSecond, bandwidth.map(|bandwidth| bandwidth as f64 * GIGABYTE));
    let pcie =
        |offset: usize| layout.pcie.and_then(|first| u64_at(table, first + offset)).map(|count| count as f64);
    add(AmdQuantity::PcieRecoveries, pcie(0));
    add(AmdQuantity::PcieReplayRollovers, pcie(16));
    let naks = |offset: usize| layout.naks.and_then(|first| u32_at(table, first + offset)).map(f64::from);
    add(AmdQuantity::PcieNaksSent, naks(0));
    add(AmdQuantity::PcieNaksReceived, naks(4));
    values
}

pub(super) fn of_partition(table: &[u8], fields: PartitionFields) -> ExporterValues {
    let mut values = ExporterValues::new();
    let mut busy = |engine, index: usize, percent: Option<f64>| {
        let share = percent.and_then(ratio);
        values.extend(share.map(|share| (AmdQuantity::Busy(engine, index as u8), share)));
    };
    for xcc in 0..XCCS {
        busy(Engine::Compute, xcc, u32_at(table, fields.gfx + 4 * xcc).map(f64::from));
    }
    for engine in 0..fields.jpegs {
        busy(Engine::Jpeg, engine, u16_at(table, fields.jpeg + 2 * engine).map(f64::from));
    }
    for engine in 0..VCNS {
        let offset = fields.jpeg + 2 * fields.jpegs + 2 * engine;
        busy(Engine::Media, engine, u16_at(table, offset).map(f64::from));
    }
    let counters = fields.below_host_limit.into_iter().flat_map(|first| {
        HOST_LIMIT_CAUSES.into_iter().enumerate().flat_map(move |(order, cause)| {
            (0..XCCS).map(move |xcc| (cause, xcc, first + 8 * (XCCS * order + xcc)))
        })
    });
    for (cause, xcc, offset) in counters {
        let count = u64_at(table, offset).map(|count| count as f64);
        values.extend(count.map(|count| (AmdQuantity::BelowHostLimit(cause, xcc as u8), count)));
    }
    values
}
