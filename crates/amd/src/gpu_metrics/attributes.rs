//! Revision 1.9, and 1.1 of the table of a partition: after the header the number of attributes, then for each attribute an
//! encoding word and its values.
//!
//! The encoding word has the unit in bits 31-24, the type in 23-20 (u8 s8 u16 s16 u32 s32 u64 s64), the attribute in 19-10
//! and the number of values in 9-0.

use afd_model::{AmdQuantity, Direction, Engine, HostLimitCause, LinkValue, Reading};

use super::{GpuMetrics, GpuMetricsError, KILOBYTE, joules, mean, ratio, sensed, xgmi_link};

const HEADER_BYTES: usize = 4;

const HOTSPOT: u64 = 0;
const MEMORY: u64 = 1;
const VRSOC: u64 = 2;
const POWER: u64 = 3;
const GFX: u64 = 4;
const UMC: u64 = 5;
const ENERGY: u64 = 7;
const CYCLES: u64 = 9;
const PROCHOT: u64 = 10;
const POWER_LIMIT: u64 = 11;
const SOCKET_THERMAL: u64 = 12;
const REGULATOR_THERMAL: u64 = 13;
const MEMORY_THERMAL: u64 = 14;
const MAX_BANDWIDTH: u64 = 6;
const PCIE_RECOVERIES: u64 = 24;
const PCIE_ROLLOVERS: u64 = 26;
const NAKS_SENT: u64 = 27;
const NAKS_RECEIVED: u64 = 28;
const XGMI_READ: u64 = 29;
const XGMI_WRITE: u64 = 30;
const XGMI_STATUS: u64 = 31;
const GFX_BUSY: u64 = 40;
const JPEG_BUSY: u64 = 41;
const VCN_BUSY: u64 = 42;
/// `enum amdgpu_xgmi_link_status`: 1 is up, 0 is down, 2 is unknown.
const LINK_UP: f64 = 1.0;
const LINK_DOWN: f64 = 0.0;

pub(super) fn parse(content: &[u8]) -> Result<GpuMetrics, GpuMetricsError> {
    let mut unread = &content[HEADER_BYTES..];
    let count = i32::from_le_bytes(take(&mut unread, 4)?.try_into().map_err(|_| GpuMetricsError::Truncated)?);
    let mut metrics = GpuMetrics::default();
    for _ in 0..count.max(0) {
        let encoding = number(take(&mut unread, 8)?);
        let (kind, attribute, values) = ((encoding >> 20) & 0xf, (encoding >> 10) & 0x3ff, encoding & 0x3ff);
        let width = width(kind).ok_or(GpuMetricsError::Truncated)?;
        let bytes = take(&mut unread, width * values as usize)?;
        let values = || bytes.chunks_exact(width).filter_map(|value| value_of(value, kind % 2 == 1));
        let first = || values().next();
        let count = || first().filter(|count| *count >= 0.0).map(|count| count as u64);
        let busy = || mean(values().filter_map(ratio));
        let sum = || values().reduce(|left, right| left + right).map(|kilobytes| kilobytes * KILOBYTE);
        metrics.extra.extend(extra(attribute, bytes, width, kind));
        metrics.links.extend(links(attribute, bytes, width, kind));
        match attribute {
            HOTSPOT => metrics.hotspot_celsius = first().and_then(sensed),
            MEMORY => metrics.memory_celsius = first().and_then(sensed),
            VRSOC => metrics.vrsoc_celsius = first().and_then(sensed),
            POWER => metrics.socket_watts = first(),
            GFX => metrics.gfx_ratio = first().and_then(ratio),
            UMC => metrics.umc_ratio = first().and_then(ratio),
            ENERGY => metrics.energy_joules = first().map(|count| joules(count as u64)),
            XGMI_READ => metrics.xgmi_read_bytes = sum(),
            XGMI_WRITE => metrics.xgmi_write_bytes = sum(),
            XGMI_STATUS => {
                let known = values().any(|state| state == LINK_UP || state == LINK_DOWN);
                let up = values().filter(|state| *state == LINK_UP).count();
                metrics.xgmi_links_up = u32::try_from(up).ok().filter(|_| known);
            }
            CYCLES => metrics.residencies.cycles = count(),
            PROCHOT => metrics.residencies.prochot = count(),
            POWER_LIMIT => metrics.residencies.power = count(),
            SOCKET_THERMAL => metrics.residencies.socket_thermal = count(),
            REGULATOR_THERMAL => metrics.residencies.regulator_thermal = count(),
            MEMORY_THERMAL => metrics.residencies.memory_thermal = count(),
            GFX_BUSY => metrics.gfx_ratio = metrics.gfx_ratio.or_else(busy),
            JPEG_BUSY => metrics.jpeg_ratio = busy(),
            VCN_BUSY => metrics.vcn_ratio = busy(),
            _ => {}
        }
    }
    Ok(metrics)
}

/// The values that only AMD's exporter publishes, of each instance.
fn extra(attribute: u64, bytes: &[u8], width: usize, kind: u64) -> Vec<(AmdQuantity, f64)> {
    let quantity = |index: u8| match attribute {
        MAX_BANDWIDTH => Some((AmdQuantity::MemoryMaxBytesPerSecond, 1e9)),
        PCIE_RECOVERIES => Some((AmdQuantity::PcieRecoveries, 1.0)),
        PCIE_ROLLOVERS => Some((AmdQuantity::PcieReplayRollovers, 1.0)),
        NAKS_SENT => Some((AmdQuantity::PcieNaksSent, 1.0)),
        NAKS_RECEIVED => Some((AmdQuantity::PcieNaksReceived, 1.0)),
        GFX_BUSY => Some((AmdQuantity::Busy(Engine::Compute, index), 0.01)),
        JPEG_BUSY => Some((AmdQuantity::Busy(Engine::Jpeg, index), 0.01)),
        VCN_BUSY => Some((AmdQuantity::Busy(Engine::Media, index), 0.01)),
        44 => Some((AmdQuantity::BelowHostLimit(HostLimitCause::Power, index), 1.0)),
        45 => Some((AmdQuantity::BelowHostLimit(HostLimitCause::Thermal, index), 1.0)),
        46 => Some((AmdQuantity::BelowHostLimit(HostLimitCause::LowUtilization, index), 1.0)),
        47 => Some((AmdQuantity::BelowHostLimit(HostLimitCause::Total, index), 1.0)),
        _ => None,
    };
    let instances = bytes.chunks_exact(width).enumerate();
    let values = instances.filter_map(|(index, value)| {
        let (quantity, unit) = quantity(u8::try_from(index).ok()?)?;
        let value = value_of(value, kind % 2 == 1)? * unit;
        let is_in_range = value >= 0.0 && (!matches!(quantity, AmdQuantity::Busy(..)) || value <= 1.0);
        is_in_range.then_some((quantity, value))
    });
    values.collect()
}

/// The values of each XGMI link.
fn links(attribute: u64, bytes: &[u8], width: usize, kind: u64) -> Vec<Reading> {
    let (value, unit) = match attribute {
        XGMI_READ => (LinkValue::Bytes(Direction::Receive), KILOBYTE),
        XGMI_WRITE => (LinkValue::Bytes(Direction::Transmit), KILOBYTE),
        XGMI_STATUS => (LinkValue::Up, 1.0),
        _ => return Vec::new(),
    };
    let readings = (0..).zip(bytes.chunks_exact(width)).filter_map(|(link, bytes)| {
        let number = value_of(bytes, kind % 2 == 1)?;
        let is_known = match value {
            LinkValue::Up => number == LINK_UP || number == LINK_DOWN,
            _ => number >= 0.0,
        };
        is_known.then(|| xgmi_link(link, value, number * unit))
    });
    readings.collect()
}

fn width(kind: u64) -> Option<usize> {
    match kind {
        0 | 1 => Some(1),
        2 | 3 => Some(2),
        4 | 5 => Some(4),
        6 | 7 => Some(8),
        _ => None,
    }
}

fn take<'b>(unread: &mut &'b [u8], length: usize) -> Result<&'b [u8], GpuMetricsError> {
    let (head, tail) = unread.split_at_checked(length).ok_or(GpuMetricsError::Truncated)?;
    *unread = tail;
    Ok(head)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// All ones are no value, whatever the width.
fn value_of(bytes: &[u8], signed: bool) -> Option<f64> {
    if bytes.iter().all(|byte| *byte == 0xff) {
        return None;
    }
    let bits = 8 * bytes.len() as u32;
    let raw = number(bytes);
    let negative = signed && raw >> (bits - 1) == 1;
    Some(if negative { raw as f64 - 2_f64.powi(bits as i32) } else { raw as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u64, id: u64, values: &[&[u8]]) -> Vec<u8> {
        let mut bytes = (kind << 20 | id << 10 | values.len() as u64).to_le_bytes().to_vec();
        bytes.extend(values.concat());
        bytes
    }

    fn table(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 9];
        bytes.extend((attributes.len() as i32).to_le_bytes());
        bytes.extend(attributes.concat());
        bytes
    }

    #[test]
    fn attributes_are_read_by_their_encoding() {
        let bytes = table(&[
            attribute(2, HOTSPOT, &[&61_u16.to_le_bytes()]),
            attribute(2, MEMORY, &[&u16::MAX.to_le_bytes()]),
            attribute(4, 1000, &[&[1; 4], &[2; 4]]),
            attribute(2, GFX, &[&50_u16.to_le_bytes()]),
            attribute(6, XGMI_READ, &[&1_u64.to_le_bytes(), &2_u64.to_le_bytes()]),
        ]);
        let metrics = parse(&bytes).expect("the table is complete");
        assert_eq!((metrics.hotspot_celsius, metrics.memory_celsius), (Some(61.0), None));
        assert_eq!((metrics.gfx_ratio, metrics.xgmi_read_bytes), (Some(0.5), Some(3.0 * 1024.0)));
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Err(GpuMetricsError::Truncated));
    }

    #[test]
    fn links_of_unknown_state_do_not_count() {
        let up = |states: &[&[u8]]| {
            parse(&table(&[attribute(2, XGMI_STATUS, states)])).expect("the table is complete").xgmi_links_up
        };
        let state = |state: u16| state.to_le_bytes();
        let (down, up_, unknown) = (state(0), state(1), state(2));
        assert_eq!(up(&[&up_, &up_, &down, &unknown]), Some(2));
        assert_eq!(up(&[&unknown, &unknown]), None);
        assert_eq!(up(&[]), None);
        let table = table(&[attribute(2, XGMI_STATUS, &[&up_, &unknown, &down])]);
        let states = parse(&table).expect("the table is complete").links;
        assert_eq!(states, [xgmi_link(0, LinkValue::Up, 1.0), xgmi_link(2, LinkValue::Up, 0.0)]);
    }

    #[test]
    fn each_link_has_its_bytes() {
        let counters: [&[u8]; 2] = [&1_u64.to_le_bytes(), &u64::MAX.to_le_bytes()];
        let read = parse(&table(&[attribute(6, XGMI_READ, &counters)])).expect("the table is complete").links;
        assert_eq!(read, [xgmi_link(0, LinkValue::Bytes(Direction::Receive), 1024.0)]);
    }

    #[test]
    fn an_excessive_number_of_attributes_is_truncated() {
        assert_eq!(parse(&[0, 0, 1, 9, 0xff, 0xff, 0xff, 0x7f]), Err(GpuMetricsError::Truncated));
    }
}
