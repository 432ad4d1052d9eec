//! The binary table `gpu_metrics` of amdgpu (`drivers/gpu/drm/amd/include/kgd_pp_interface.h`).
//!
//! In goes the content of the file, out come its useful fields. The header of the table has its size and revision; the size of
//! the file may differ (a copy may be padded to a page). A field whose bytes are all ones has no value, nor has one beyond the
//! end of what was read.

mod attributes;
mod extra;
mod layout;
pub mod throttle;

use std::fmt;

use afd_model::{AmdQuantity, DeviceLink, Direction, LinkEnd, LinkKind, LinkValue, Quantity, Reading};
use layout::{TableLayout, TableScale};

/// The fields of a table. `None` where the revision lacks the field or it has no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuMetrics {
    /// Edge of the die, degrees Celsius.
    pub edge_celsius: Option<f64>,
    /// Hottest point of the die, degrees Celsius.
    pub hotspot_celsius: Option<f64>,
    /// Memory, degrees Celsius.
    pub memory_celsius: Option<f64>,
    /// Voltage regulator of the SoC domain, degrees Celsius.
    pub vrsoc_celsius: Option<f64>,
    /// The SoC domain of a processor, degrees Celsius.
    pub soc_celsius: Option<f64>,
    /// Power of the socket, watts.
    pub socket_watts: Option<f64>,
    /// Share of the time in which shaders were busy, 0-1.
    pub gfx_ratio: Option<f64>,
    /// Share of the time in which the memory controller was busy, 0-1.
    pub umc_ratio: Option<f64>,
    /// Share of the time in which the video engines were busy, 0-1, averaged over the engines.
    pub vcn_ratio: Option<f64>,
    /// Share of the time in which the JPEG engines were busy, 0-1, averaged over the engines.
    pub jpeg_ratio: Option<f64>,
    /// Energy since the driver was loaded, joules.
    pub energy_joules: Option<f64>,
    /// The same counter in revision 1.3, whose unit depends on the product: 2^-16 J on Aldebaran, about 1 mJ on Navi 2x.
    pub energy_count: Option<u64>,
    /// Bytes read over all XGMI links.
    pub xgmi_read_bytes: Option<f64>,
    /// Bytes written over all XGMI links.
    pub xgmi_write_bytes: Option<f64>,
    /// The number of XGMI links that are up, where the table has the state of each.
    pub xgmi_links_up: Option<u32>,
    /// The present causes of throttling, one bit each ([`throttle`]).
    pub throttle_status: Option<u64>,
    /// What each XGMI link counted, and whether it is up.
    pub links: Vec<Reading>,
    /// Throttle counters.
    pub residencies: Residencies,
    /// The fields of each partition, in the order of their numbers.
    pub partitions: Vec<PartitionMetrics>,
    /// Values that only AMD's exporter publishes.
    pub extra: Vec<(AmdQuantity, f64)>,
}

/// Counters of firmware cycles: of all of them (the first), and of those in which a cause of throttling held (the others). The
/// share of the time is the quotient of two differences; the duration of a cycle is not documented.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Residencies {
    /// Cycles.
    pub cycles: Option<u64>,
    /// The board asserted PROCHOT.
    pub prochot: Option<u64>,
    /// The power limit.
    pub power: Option<u64>,
    /// The temperature of the socket.
    pub socket_thermal: Option<u64>,
    /// The temperature of a voltage regulator.
    pub regulator_thermal: Option<u64>,
    /// The temperature of the memory.
    pub memory_thermal: Option<u64>,
}

/// The fields of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionMetrics {
    /// Share of the time in which its shaders were busy, 0-1.
    pub gfx_ratio: Option<f64>,
    /// The same of its video engines.
    pub vcn_ratio: Option<f64>,
    /// The same of its JPEG engines.
    pub jpeg_ratio: Option<f64>,
    /// Values that only AMD's exporter publishes.
    pub extra: Vec<(AmdQuantity, f64)>,
}

impl GpuMetrics {
    /// The same without the values of which no one can be checked alone: counters, bits and states, and what only AMD's exporter
    /// publishes.
    pub fn without_unchecked(mut self) -> GpuMetrics {
        self.partitions.iter_mut().for_each(|partition| partition.extra.clear());
        GpuMetrics {
            energy_joules: None,
            energy_count: None,
            xgmi_read_bytes: None,
            xgmi_write_bytes: None,
            xgmi_links_up: None,
            links: Vec::new(),
            throttle_status: None,
            residencies: Residencies::default(),
            extra: Vec::new(),
            ..self
        }
    }
}

/// A table that cannot be parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GpuMetricsError {
    /// It is shorter than its header.
    NoHeader,
    /// The size in its header is impossible.
    WrongSize {
        /// The size in the header.
        size: u16,
        /// The number of bytes that were read.
        read: usize,
    },
    /// A revision that this project does not know.
    UnknownRevision {
        /// Format revision.
        format: u8,
        /// Content revision.
        content: u8,
    },
    /// A table of attributes that ends within an attribute.
    Truncated,
}

impl fmt::Display for GpuMetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuMetricsError::NoHeader => f.write_str("shorter than its header of 4 bytes"),
            GpuMetricsError::WrongSize { size, read } => {
                write!(f, "its header has a size of {size} bytes, {read} were read")
            }
            GpuMetricsError::UnknownRevision { format, content } => {
                write!(f, "unknown revision {format}.{content}")
            }
            GpuMetricsError::Truncated => f.write_str("ends within an attribute"),
        }
    }
}

impl std::error::Error for GpuMetricsError {}

const HEADER_BYTES: usize = 4;
/// XGMI links that a table has counters for.
const LINKS: usize = 8;
/// Partitions that a table has fields for, and XCCs and video engines of a partition.
const PARTITIONS: usize = 8;
const XCCS: usize = 8;
const VCNS: usize = 4;
/// The unit of the XGMI counters.
const KILOBYTE: f64 = 1024.0;
/// The unit of the energy counter: 2^-16 J, 15.259 uJ in the header.
pub(crate) const JOULES_PER_COUNT: f64 = 1.0 / 65536.0;

/// Parses a table.
///
/// # Errors
/// When it is too short, has an impossible size, or is of an unknown revision.
pub fn parse(content: &[u8]) -> Result<GpuMetrics, GpuMetricsError> {
    let [low, high, format, revision, ..] = *content else { return Err(GpuMetricsError::NoHeader) };
    let declared = u16::from_le_bytes([low, high]);
    if (format, revision) == (1, 9) {
        return attributes::parse(content);
    }
    let unknown = GpuMetricsError::UnknownRevision { format, content: revision };
    let layout = TableLayout::of_revision(format, revision, declared).ok_or(unknown)?;
    let size = usize::from(declared);
    if size < HEADER_BYTES || size > content.len() {
        return Err(GpuMetricsError::WrongSize { size: declared, read: content.len() });
    }
    Ok(fixed(&content[..size], &layout))
}

/// Parses the table of one partition (`xcp/xcp_metrics`).
///
/// # Errors
/// As [`parse`].
pub fn parse_partition(content: &[u8]) -> Result<PartitionMetrics, GpuMetricsError> {
    let [low, high, format, revision, ..] = *content else { return Err(GpuMetricsError::NoHeader) };
    let size = u16::from_le_bytes([low, high]);
    match (format, revision) {
        (1, 0) if usize::from(size) > content.len() => {
            Err(GpuMetricsError::WrongSize { size, read: content.len() })
        }
        (1, 0) => Ok(partition(&content[..usize::from(size)], layout::PARTITION_TABLE)),
        (1, 1) => attributes::parse(content).map(|metrics| PartitionMetrics {
            gfx_ratio: metrics.gfx_ratio,
            vcn_ratio: metrics.vcn_ratio,
            jpeg_ratio: metrics.jpeg_ratio,
            extra: metrics.extra,
        }),
        _ => Err(GpuMetricsError::UnknownRevision { format, content: revision }),
    }
}

fn fixed(table: &[u8], layout: &TableLayout) -> GpuMetrics {
    let scaled =
        |offset: Option<usize>, scale: f64| u16_at(table, offset?).map(|value| f64::from(value) / scale);
    let TableScale { celsius, percent, watts } = layout.scale;
    let temperature = |offset| scaled(offset, celsius).and_then(sensed);
    let share = |offset| scaled(offset, percent).and_then(ratio);
    let links = |offset: Option<usize>| {
        let counters = (0..LINKS).filter_map(|link| u64_at(table, offset? + 8 * link));
        sum(counters).map(|kilobytes| kilobytes * KILOBYTE)
    };
    let wide_power =
        || layout.power_wide.and_then(|offset| u32_at(table, offset)).map(|value| f64::from(value) / watts);
    let engines = |location: Option<(usize, usize)>| {
        location.and_then(|(offset, number)| average(table, offset, number, 2, percent))
    };
    let residency =
        |index: usize| layout.residencies.and_then(|offset| u32_at(table, offset + 4 * index)).map(u64::from);
    GpuMetrics {
        edge_celsius: temperature(layout.edge),
        hotspot_celsius: temperature(layout.hotspot),
        memory_celsius: temperature(layout.memory),
        vrsoc_celsius: temperature(layout.vrsoc),
        soc_celsius: temperature(layout.soc),
        socket_watts: scaled(layout.power, watts).or_else(wide_power),
        gfx_ratio: share(layout.gfx),
        umc_ratio: share(layout.umc),
        vcn_ratio: engines(layout.vcn),
        jpeg_ratio: engines(layout.jpeg),
        energy_joules: layout.energy.and_then(|offset| u64_at(table, offset)).map(joules),
        energy_count: layout.energy_count.and_then(|offset| u64_at(table, offset)),
        xgmi_read_bytes: links(layout.xgmi_read),
        xgmi_write_bytes: links(layout.xgmi_write),
        xgmi_links_up: None,
        links: xgmi_bytes(table, layout),
        throttle_status: layout.throttle.and_then(|offset| u64_at(table, offset)),
        residencies: Residencies {
            cycles: residency(0),
            prochot: residency(1),
            power: residency(2),
            socket_thermal: residency(3),
            regulator_thermal: residency(4),
            memory_thermal: residency(5),
        },
        partitions: partitions(table, layout.partitions),
        extra: extra::of_device(table, layout),
    }
}

/// The bytes over each XGMI link.
fn xgmi_bytes(table: &[u8], layout: &TableLayout) -> Vec<Reading> {
    let counters =
        [(layout.xgmi_read, Direction::Receive), (layout.xgmi_write, Direction::Transmit)].into_iter();
    let of_direction = |(first, direction): (Option<usize>, Direction)| {
        (0..LINKS).filter_map(move |link| {
            let bytes = u64_at(table, first? + 8 * link)? as f64 * KILOBYTE;
            Some(xgmi_link(link as u32, LinkValue::Bytes(direction), bytes))
        })
    };
    counters.flat_map(of_direction).collect()
}

/// A reading of an XGMI link. The table does not say which device is at the other end of which link.
fn xgmi_link(number: u32, value: LinkValue, reading: f64) -> Reading {
    let link = DeviceLink { kind: LinkKind::Xgmi, tile: None, number, end: LinkEnd::Unknown };
    Reading { quantity: Quantity::Link(link, value), value: reading }
}

/// The partitions of a table, up to the last one with a value.
fn partitions(table: &[u8], layout: Option<layout::PartitionTables>) -> Vec<PartitionMetrics> {
    let Some(layout) = layout else { return Vec::new() };
    let mut partitions: Vec<PartitionMetrics> = (0..PARTITIONS)
        .map(|number| {
            let start = layout.first + number * layout.bytes;
            let bytes = table.get(start..start + layout.bytes).unwrap_or_default();
            partition(bytes, layout.fields)
        })
        .collect();
    let last = partitions.iter().rposition(|partition| *partition != PartitionMetrics::default());
    partitions.truncate(last.map_or(0, |last| last + 1));
    partitions
}

fn partition(table: &[u8], fields: layout::PartitionFields) -> PartitionMetrics {
    PartitionMetrics {
        gfx_ratio: average(table, fields.gfx, XCCS, 4, 1.0),
        jpeg_ratio: average(table, fields.jpeg, fields.jpegs, 2, 1.0),
        vcn_ratio: average(table, fields.jpeg + 2 * fields.jpegs, VCNS, 2, 1.0),
        extra: extra::of_partition(table, fields),
    }
}

/// The average share of engines with a number of `width` bytes each; those without a value do not count.
fn average(table: &[u8], offset: usize, number: usize, width: usize, percent: f64) -> Option<f64> {
    let value = |index: usize| match width {
        2 => u16_at(table, offset + 2 * index).map(f64::from),
        _ => u32_at(table, offset + 4 * index).map(f64::from),
    };
    let shares = (0..number).filter_map(|index| ratio(value(index)? / percent));
    mean(shares)
}

/// The mean of the values, if there is one.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, number) = values.fold((0.0, 0_u32), |(sum, number), value| (sum + value, number + 1));
    (number > 0).then(|| sum / f64::from(number))
}

fn u16_at(table: &[u8], offset: usize) -> Option<u16> {
    let bytes = table.get(offset..offset.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_le_bytes(bytes)).filter(|value| *value != u16::MAX)
}

fn u32_at(table: &[u8], offset: usize) -> Option<u32> {
    let bytes = table.get(offset..offset.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes)).filter(|value| *value != u32::MAX)
}

fn u64_at(table: &[u8], offset: usize) -> Option<u64> {
    let bytes = table.get(offset..offset.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes)).filter(|value| *value != u64::MAX)
}

/// Percent to a ratio; more than 100 is invalid.
fn ratio(percent: f64) -> Option<f64> {
    (percent <= 100.0).then_some(percent / 100.0)
}

/// A temperature; 0 stands for a sensor that the hardware lacks.
fn sensed(celsius: f64) -> Option<f64> {
    (celsius != 0.0).then_some(celsius)
}

fn joules(count: u64) -> f64 {
    count as f64 * JOULES_PER_COUNT
}

/// The sum of the values, if there is one.
fn sum(values: impl Iterator<Item = u64>) -> Option<f64> {
    values.map(|value| value as f64).reduce(|left, right| left + right)
}

#[cfg(test)]
mod tests;
