//! The binary table `gpu_metrics` of amdgpu (`drivers/gpu/drm/amd/include/kgd_pp_interface.h`).
//!
//! In goes the content of the file, out come the fields of use that the table has. The table says in its own header how
//! long it is and of which revision; the length of the file says nothing (a copy may be padded to a page). A field whose
//! bytes are all ones has no value; a field beyond the end of what was read has none either.

mod attributes;
mod extra;
mod layout;
pub mod throttle;

use std::fmt;

use afd_model::AmdQuantity;
use layout::{Layout, Scale};

/// What the table tells. Every field is `None` where the revision lacks it or it has no value.
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
    /// Share of the time in which the video engines were busy, 0-1, on the average of the engines.
    pub vcn_ratio: Option<f64>,
    /// Share of the time in which the JPEG engines were busy, 0-1, on the average of the engines.
    pub jpeg_ratio: Option<f64>,
    /// Energy since the driver was loaded, joules.
    pub energy_joules: Option<f64>,
    /// The same counter in a revision (1.3) that leaves the unit to the part: 2^-16 J on Aldebaran, about 1 mJ on
    /// Navi 2x.
    pub energy_count: Option<u64>,
    /// Bytes read over all XGMI links.
    pub xgmi_read_bytes: Option<f64>,
    /// Bytes written over all XGMI links.
    pub xgmi_write_bytes: Option<f64>,
    /// How many XGMI links are up, where the table tells the state of each.
    pub xgmi_links_up: Option<u32>,
    /// Why the part is slowed down now, a bit for each cause ([`throttle`]).
    pub throttle_status: Option<u64>,
    /// How long it was slowed down.
    pub residencies: Residencies,
    /// What it tells of each partition, in the order of their numbers.
    pub partitions: Vec<PartitionMetrics>,
    /// What only AMD's exporter publishes.
    pub extra: Vec<(AmdQuantity, f64)>,
}

/// Counters that rise by one in each cycle of the firmware (the first) and in each one in which the cause held (the
/// others). The share of the time is the quotient of two differences; how long a cycle is, nobody documents.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Residencies {
    /// Cycles.
    pub cycles: Option<u64>,
    /// The board asserted PROCHOT.
    pub prochot: Option<u64>,
    /// The power limit held the part back.
    pub power: Option<u64>,
    /// The temperature of the socket did.
    pub socket_thermal: Option<u64>,
    /// The temperature of a voltage regulator did.
    pub regulator_thermal: Option<u64>,
    /// The temperature of the memory did.
    pub memory_thermal: Option<u64>,
}

/// What a table tells of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionMetrics {
    /// Share of the time in which its shaders were busy, 0-1.
    pub gfx_ratio: Option<f64>,
    /// The same of its video engines.
    pub vcn_ratio: Option<f64>,
    /// The same of its JPEG engines.
    pub jpeg_ratio: Option<f64>,
    /// What only AMD's exporter publishes.
    pub extra: Vec<(AmdQuantity, f64)>,
}

/// A table that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TableError {
    /// It is shorter than its header.
    NoHeader,
    /// Its header tells a length that cannot be right.
    WrongSize {
        /// The length that it tells.
        told: u16,
        /// How much was read.
        read: usize,
    },
    /// A revision that this project does not know.
    UnknownRevision {
        /// Format revision.
        format: u8,
        /// Content revision.
        content: u8,
    },
    /// A table of attributes that ends in the middle of one.
    CutShort,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::NoHeader => f.write_str("shorter than its header of 4 bytes"),
            TableError::WrongSize { told, read } => {
                write!(f, "its header tells {told} bytes, {read} were read")
            }
            TableError::UnknownRevision { format, content } => {
                write!(f, "revision {format}.{content} is not known")
            }
            TableError::CutShort => f.write_str("ends in the middle of an attribute"),
        }
    }
}

impl std::error::Error for TableError {}

const HEADER_BYTES: usize = 4;
/// XGMI links of which a table has counters.
const LINKS: usize = 8;
/// Partitions, and XCCs and video engines of one, for which a table has room.
const PARTITIONS: usize = 8;
const XCCS: usize = 8;
const VCNS: usize = 4;
/// Kilobytes of the XGMI counters.
const KILOBYTE: f64 = 1024.0;
/// One count of the energy counter: 2^-16 J, which the header calls 15.259 uJ.
pub(crate) const JOULES_PER_COUNT: f64 = 1.0 / 65536.0;

/// Reads a table.
///
/// # Errors
/// When it is too short, tells an impossible length, or is of an unknown revision.
pub fn parse(content: &[u8]) -> Result<GpuMetrics, TableError> {
    let [low, high, format, revision, ..] = *content else { return Err(TableError::NoHeader) };
    let told = u16::from_le_bytes([low, high]);
    if (format, revision) == (1, 9) {
        return attributes::parse(content);
    }
    let unknown = TableError::UnknownRevision { format, content: revision };
    let layout = Layout::of(format, revision, told).ok_or(unknown)?;
    let size = usize::from(told);
    if size < HEADER_BYTES || size > content.len() {
        return Err(TableError::WrongSize { told, read: content.len() });
    }
    Ok(fixed(&content[..size], &layout))
}

/// Reads the table of one partition (`xcp/xcp_metrics`).
///
/// # Errors
/// As [`parse`].
pub fn parse_partition(content: &[u8]) -> Result<PartitionMetrics, TableError> {
    let [low, high, format, revision, ..] = *content else { return Err(TableError::NoHeader) };
    let told = u16::from_le_bytes([low, high]);
    match (format, revision) {
        (1, 0) if usize::from(told) > content.len() => {
            Err(TableError::WrongSize { told, read: content.len() })
        }
        (1, 0) => Ok(partition(&content[..usize::from(told)], layout::OF_PARTITION)),
        (1, 1) => attributes::parse(content).map(|told| PartitionMetrics {
            gfx_ratio: told.gfx_ratio,
            vcn_ratio: told.vcn_ratio,
            jpeg_ratio: told.jpeg_ratio,
            extra: told.extra,
        }),
        _ => Err(TableError::UnknownRevision { format, content: revision }),
    }
}

fn fixed(table: &[u8], layout: &Layout) -> GpuMetrics {
    let scaled =
        |offset: Option<usize>, scale: f64| short(table, offset?).map(|value| f64::from(value) / scale);
    let Scale { celsius, percent, watts } = layout.scale;
    let share = |offset| scaled(offset, percent).and_then(ratio);
    let links = |offset: Option<usize>| {
        let counters = (0..LINKS).filter_map(|link| long(table, offset? + 8 * link));
        sum(counters).map(|kilobytes| kilobytes * KILOBYTE)
    };
    let wide_power =
        || layout.power_wide.and_then(|offset| word(table, offset)).map(|value| f64::from(value) / watts);
    let engines = |place: Option<(usize, usize)>| {
        place.and_then(|(offset, number)| average(table, offset, number, 2, percent))
    };
    let residency =
        |index: usize| layout.residencies.and_then(|offset| word(table, offset + 4 * index)).map(u64::from);
    GpuMetrics {
        edge_celsius: scaled(layout.edge, celsius),
        hotspot_celsius: scaled(layout.hotspot, celsius),
        memory_celsius: scaled(layout.memory, celsius),
        vrsoc_celsius: scaled(layout.vrsoc, celsius),
        soc_celsius: scaled(layout.soc, celsius),
        socket_watts: scaled(layout.power, watts).or_else(wide_power),
        gfx_ratio: share(layout.gfx),
        umc_ratio: share(layout.umc),
        vcn_ratio: engines(layout.vcn),
        jpeg_ratio: engines(layout.jpeg),
        energy_joules: layout.energy.and_then(|offset| long(table, offset)).map(joules),
        energy_count: layout.energy_count.and_then(|offset| long(table, offset)),
        xgmi_read_bytes: links(layout.xgmi_read),
        xgmi_write_bytes: links(layout.xgmi_write),
        xgmi_links_up: None,
        throttle_status: layout.throttle.and_then(|offset| long(table, offset)),
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

/// What the table tells of each partition, up to the last one of which it tells anything.
fn partitions(table: &[u8], layout: Option<layout::Partitions>) -> Vec<PartitionMetrics> {
    let Some(layout) = layout else { return Vec::new() };
    let mut told: Vec<PartitionMetrics> = (0..PARTITIONS)
        .map(|number| {
            let begin = layout.first + number * layout.bytes;
            let part = table.get(begin..begin + layout.bytes).unwrap_or_default();
            partition(part, layout.fields)
        })
        .collect();
    let number =
        told.iter().rposition(|part| *part != PartitionMetrics::default()).map_or(0, |last| last + 1);
    told.truncate(number);
    told
}

fn partition(table: &[u8], fields: layout::PartitionFields) -> PartitionMetrics {
    PartitionMetrics {
        gfx_ratio: average(table, fields.gfx, XCCS, 4, 1.0),
        jpeg_ratio: average(table, fields.jpeg, fields.jpegs, 2, 1.0),
        vcn_ratio: average(table, fields.jpeg + 2 * fields.jpegs, VCNS, 2, 1.0),
        extra: extra::of_partition(table, fields),
    }
}

/// The average share of engines of which each has a number of `width` bytes; those without a value do not count.
fn average(table: &[u8], offset: usize, number: usize, width: usize, percent: f64) -> Option<f64> {
    let value = |index: usize| match width {
        2 => short(table, offset + 2 * index).map(f64::from),
        _ => word(table, offset + 4 * index).map(f64::from),
    };
    let shares = (0..number).filter_map(|index| ratio(value(index)? / percent));
    mean(shares)
}

/// The mean of what has a value, if anything has.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, number) = values.fold((0.0, 0_u32), |(sum, number), value| (sum + value, number + 1));
    (number > 0).then(|| sum / f64::from(number))
}

fn short(table: &[u8], offset: usize) -> Option<u16> {
    let bytes = table.get(offset..offset.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_le_bytes(bytes)).filter(|value| *value != u16::MAX)
}

fn word(table: &[u8], offset: usize) -> Option<u32> {
    let bytes = table.get(offset..offset.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes)).filter(|value| *value != u32::MAX)
}

fn long(table: &[u8], offset: usize) -> Option<u64> {
    let bytes = table.get(offset..offset.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes)).filter(|value| *value != u64::MAX)
}

/// Percent to a ratio; more than 100 is no share of time.
fn ratio(percent: f64) -> Option<f64> {
    (percent <= 100.0).then_some(percent / 100.0)
}

fn joules(count: u64) -> f64 {
    count as f64 * JOULES_PER_COUNT
}

/// The sum of what has a value, if anything has.
fn sum(values: impl Iterator<Item = u64>) -> Option<f64> {
    values.map(|value| value as f64).reduce(|left, right| left + right)
}

#[cfg(test)]
mod tests;
