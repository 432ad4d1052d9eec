//! The binary table `gpu_metrics` of amdgpu (`drivers/gpu/drm/amd/include/kgd_pp_interface.h`).
//!
//! In goes the content of the file, out come the fields of use that the table has. The table says in its own header how
//! long it is and of which revision; the length of the file says nothing (a copy may be padded to a page). A field whose
//! bytes are all ones has no value; a field beyond the end of what was read has none either.

mod attributes;

use std::fmt;

/// What the table tells. Every field is `None` where the revision lacks it or it has no value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuMetrics {
    /// Hottest point of the die, degrees Celsius.
    pub hotspot_celsius: Option<f64>,
    /// Memory, degrees Celsius.
    pub memory_celsius: Option<f64>,
    /// Voltage regulator of the SoC domain, degrees Celsius.
    pub vrsoc_celsius: Option<f64>,
    /// Power of the socket, watts.
    pub socket_watts: Option<f64>,
    /// Share of the time in which shaders were busy, 0-1.
    pub gfx_ratio: Option<f64>,
    /// Share of the time in which the memory controller was busy, 0-1.
    pub umc_ratio: Option<f64>,
    /// Energy since the driver was loaded, joules.
    pub energy_joules: Option<f64>,
    /// The same counter in a revision (1.3) that leaves the unit to the part: 2^-16 J on Aldebaran, about 1 mJ on
    /// Navi 2x.
    pub energy_count: Option<u64>,
    /// Bytes read over all XGMI links.
    pub xgmi_read_bytes: Option<f64>,
    /// Bytes written over all XGMI links.
    pub xgmi_write_bytes: Option<f64>,
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
/// Kilobytes of the XGMI counters.
const KILOBYTE: f64 = 1024.0;
/// One count of the energy counter: 2^-16 J, which the header calls 15.259 uJ.
pub(crate) const JOULES_PER_COUNT: f64 = 1.0 / 65536.0;

/// Where the fields of a fixed table are. Offsets from the beginning of the table; `None` where it has no such field.
#[derive(Clone, Copy, Debug)]
struct Layout {
    hotspot: Option<usize>,
    memory: Option<usize>,
    vrsoc: Option<usize>,
    power: Option<usize>,
    gfx: Option<usize>,
    umc: Option<usize>,
    energy: Option<usize>,
    energy_count: Option<usize>,
    xgmi_read: Option<usize>,
    xgmi_write: Option<usize>,
}

const LINKS: usize = 8;

/// The older discrete parts: six temperatures, then activity and power.
const fn discrete(first: usize, energy_count: Option<usize>) -> Layout {
    Layout {
        hotspot: Some(first + 2),
        memory: Some(first + 4),
        vrsoc: Some(first + 8),
        gfx: Some(first + 12),
        umc: Some(first + 14),
        power: Some(first + 18),
        energy: None,
        energy_count,
        xgmi_read: None,
        xgmi_write: None,
    }
}

/// MI300 and its successors: all revisions share the beginning.
const fn accelerator(energy: usize, xgmi_read: usize, xgmi_write: usize) -> Layout {
    Layout {
        hotspot: Some(4),
        memory: Some(6),
        vrsoc: Some(8),
        power: Some(10),
        gfx: Some(12),
        umc: Some(14),
        energy: Some(energy),
        energy_count: None,
        xgmi_read: Some(xgmi_read),
        xgmi_write: Some(xgmi_write),
    }
}

/// APUs: their temperatures and power have other units from revision to revision, and hwmon tells the same; nothing is
/// taken from them.
const APU: Layout = Layout {
    hotspot: None,
    memory: None,
    vrsoc: None,
    power: None,
    gfx: None,
    umc: None,
    energy: None,
    energy_count: None,
    xgmi_read: None,
    xgmi_write: None,
};

fn layout(format: u8, content: u8) -> Option<Layout> {
    match (format, content) {
        // Before 1.3 the energy counter is of unknown width and unit.
        (1, 0) => Some(discrete(16, None)),
        (1, 1 | 2) => Some(discrete(4, None)),
        (1, 3) => Some(discrete(4, Some(24))),
        (1, 4) => Some(accelerator(24, 104, 168)),
        (1, 5) => Some(accelerator(88, 176, 240)),
        (1, 6) => Some(accelerator(16, 128, 192)),
        (1, 7 | 8) => Some(accelerator(24, 136, 200)),
        (2, 0..=4) | (3, 0) => Some(APU),
        _ => None,
    }
}

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
    let layout = layout(format, revision).ok_or(TableError::UnknownRevision { format, content: revision })?;
    let size = usize::from(told);
    if size < HEADER_BYTES || size > content.len() {
        return Err(TableError::WrongSize { told, read: content.len() });
    }
    Ok(fixed(&content[..size], layout))
}

fn fixed(table: &[u8], layout: Layout) -> GpuMetrics {
    let short = |offset: Option<usize>| short(table, offset?).map(f64::from);
    let links = |offset: Option<usize>| {
        let counters = (0..LINKS).filter_map(|link| long(table, offset? + 8 * link));
        sum(counters).map(|kilobytes| kilobytes * KILOBYTE)
    };
    GpuMetrics {
        hotspot_celsius: short(layout.hotspot),
        memory_celsius: short(layout.memory),
        vrsoc_celsius: short(layout.vrsoc),
        socket_watts: short(layout.power),
        gfx_ratio: short(layout.gfx).and_then(ratio),
        umc_ratio: short(layout.umc).and_then(ratio),
        energy_joules: layout.energy.and_then(|offset| long(table, offset)).map(joules),
        energy_count: layout.energy_count.and_then(|offset| long(table, offset)),
        xgmi_read_bytes: links(layout.xgmi_read),
        xgmi_write_bytes: links(layout.xgmi_write),
    }
}

fn short(table: &[u8], offset: usize) -> Option<u16> {
    let bytes = table.get(offset..offset.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_le_bytes(bytes)).filter(|value| *value != u16::MAX)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(size: u16, format: u8, content: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; usize::from(size)];
        bytes[..2].copy_from_slice(&size.to_le_bytes());
        (bytes[2], bytes[3]) = (format, content);
        bytes
    }

    fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    }

    #[test]
    fn a_table_without_values_tells_nothing() {
        for (size, content) in
            [(80, 0), (96, 1), (104, 2), (120, 3), (288, 4), (360, 5), (1664, 6), (2208, 7), (3872, 8)]
        {
            assert_eq!(parse(&table(size, 1, content)), Ok(GpuMetrics::default()), "1.{content}");
        }
        assert_eq!(parse(&table(264, 3, 0)), Ok(GpuMetrics::default()));
    }

    #[test]
    fn fields_are_found_in_a_padded_table_of_mi210() {
        let mut bytes = table(120, 1, 3);
        put(&mut bytes, 6, &55_u16.to_le_bytes());
        put(&mut bytes, 8, &61_u16.to_le_bytes());
        put(&mut bytes, 16, &37_u16.to_le_bytes());
        put(&mut bytes, 22, &255_u16.to_le_bytes());
        put(&mut bytes, 24, &655_360_u64.to_le_bytes());
        bytes.resize(4096, 0);
        let told = parse(&bytes).expect("the table is whole");
        assert_eq!((told.hotspot_celsius, told.memory_celsius), (Some(55.0), Some(61.0)));
        assert_eq!(told.socket_watts, Some(255.0), "255 in two bytes is a value");
        assert_eq!((told.gfx_ratio, told.umc_ratio), (Some(0.37), None));
        assert_eq!((told.energy_joules, told.energy_count), (None, Some(655_360)));
    }

    #[test]
    fn links_without_a_value_are_left_out_of_the_sum() {
        let mut bytes = table(360, 1, 5);
        put(&mut bytes, 176, &3_u64.to_le_bytes());
        put(&mut bytes, 184, &4_u64.to_le_bytes());
        let told = parse(&bytes).expect("the table is whole");
        assert_eq!((told.xgmi_read_bytes, told.xgmi_write_bytes), (Some(7.0 * 1024.0), None));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(parse(&[1, 2, 3]), Err(TableError::NoHeader));
        assert_eq!(parse(&table(120, 1, 3)[..30]), Err(TableError::WrongSize { told: 120, read: 30 }));
        assert_eq!(parse(&[4, 0, 9, 9]), Err(TableError::UnknownRevision { format: 9, content: 9 }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), content in 0_u8..10) {
            let _ = parse(&bytes);
            if bytes.len() >= 4 {
                let size = (bytes.len() as u16).to_le_bytes();
                (bytes[0], bytes[1], bytes[2], bytes[3]) = (size[0], size[1], 1, content);
                let _ = parse(&bytes);
            }
        }
    }
}
