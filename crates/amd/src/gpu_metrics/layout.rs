//! Where the fields of each fixed revision are, in bytes from the beginning of the table. Computed from the structures of
//! `kgd_pp_interface.h`; `None` where a revision has no such field.

/// Where the fields of a fixed table are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) scale: Scale,
    pub(super) edge: Option<usize>,
    pub(super) hotspot: Option<usize>,
    pub(super) memory: Option<usize>,
    pub(super) vrsoc: Option<usize>,
    pub(super) soc: Option<usize>,
    pub(super) power: Option<usize>,
    /// Power in four bytes.
    pub(super) power_wide: Option<usize>,
    pub(super) gfx: Option<usize>,
    pub(super) umc: Option<usize>,
    /// Activity of each video engine, and their number.
    pub(super) vcn: Option<(usize, usize)>,
    /// The same of the JPEG engines.
    pub(super) jpeg: Option<(usize, usize)>,
    pub(super) energy: Option<usize>,
    pub(super) energy_count: Option<usize>,
    pub(super) xgmi_read: Option<usize>,
    pub(super) xgmi_write: Option<usize>,
    /// The status whose bits mean the same on every part.
    pub(super) throttle: Option<usize>,
    /// Six counters of four bytes.
    pub(super) residencies: Option<usize>,
    pub(super) partitions: Option<Partitions>,
    /// Temperatures of four stacks of memory.
    pub(super) stacks: Option<usize>,
    pub(super) max_bandwidth: Option<usize>,
    /// Counters of the PCIe link: recoveries, replays and rollovers of eight bytes each.
    pub(super) pcie: Option<usize>,
    /// NAKs sent and received, four bytes each.
    pub(super) naks: Option<usize>,
}

/// What a value is divided by to become degrees Celsius, percent and watts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) celsius: f64,
    pub(super) percent: f64,
    pub(super) watts: f64,
}

/// Where the tables of partitions are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partitions {
    pub(super) first: usize,
    pub(super) bytes: usize,
    pub(super) fields: PartitionFields,
}

/// Where the fields of a partition's table are: activity of its XCCs in four bytes each, then of its JPEG engines and of its
/// video engines in two bytes each.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionFields {
    pub(super) gfx: usize,
    pub(super) jpeg: usize,
    pub(super) jpegs: usize,
    /// Counters of eight bytes of each XCC for each cause: power, temperature, little work, any.
    pub(super) below_host_limit: Option<usize>,
}

/// The table that a partition has of its own, revision 1.0.
pub(super) const OF_PARTITION: PartitionFields =
    PartitionFields { gfx: 48, jpeg: 80, jpegs: 40, below_host_limit: Some(232) };

const NOTHING: Layout = Layout {
    scale: Scale { celsius: 1.0, percent: 1.0, watts: 1.0 },
    edge: None,
    hotspot: None,
    memory: None,
    vrsoc: None,
    soc: None,
    power: None,
    power_wide: None,
    gfx: None,
    umc: None,
    vcn: None,
    jpeg: None,
    energy: None,
    energy_count: None,
    xgmi_read: None,
    xgmi_write: None,
    throttle: None,
    residencies: None,
    partitions: None,
    stacks: None,
    max_bandwidth: None,
    pcie: None,
    naks: None,
};

/// Units of a processor's tables, where their revision tells them.
const OF_PROCESSOR: Scale = Scale { celsius: 100.0, percent: 1.0, watts: 1000.0 };

/// The older discrete parts: six temperatures, then activity and power.
const fn discrete(first: usize) -> Layout {
    Layout {
        edge: Some(first),
        hotspot: Some(first + 2),
        memory: Some(first + 4),
        vrsoc: Some(first + 8),
        gfx: Some(first + 12),
        umc: Some(first + 14),
        power: Some(first + 18),
        ..NOTHING
    }
}

/// MI300 and its successors: all revisions share the beginning.
const fn accelerator(energy: usize, xgmi_read: usize) -> Layout {
    Layout {
        hotspot: Some(4),
        memory: Some(6),
        vrsoc: Some(8),
        power: Some(10),
        gfx: Some(12),
        umc: Some(14),
        energy: Some(energy),
        xgmi_read: Some(xgmi_read),
        xgmi_write: Some(xgmi_read + 64),
        pcie: Some(xgmi_read - 32),
        naks: Some(xgmi_read - 8),
        ..NOTHING
    }
}

const fn partitions(
    first: usize,
    bytes: usize,
    jpegs: usize,
    below_host_limit: Option<usize>,
) -> Option<Partitions> {
    Some(Partitions { first, bytes, fields: PartitionFields { gfx: 0, jpeg: 32, jpegs, below_host_limit } })
}

impl Layout {
    /// The layout of a revision. `bytes` tells two layouts apart that were given the same revision.
    pub(super) fn of(format: u8, content: u8, bytes: u16) -> Option<Layout> {
        const VCN: Option<(usize, usize)> = Some((16, 4));
        const JPEG: Option<(usize, usize)> = Some((24, 32));
        let layout = match (format, content) {
            // Before 1.3 the energy counter is of unknown width and unit.
            (1, 0) => discrete(16),
            (1, 1 | 2) => Layout { stacks: Some(88), ..discrete(4) },
            (1, 3) => Layout { energy_count: Some(24), throttle: Some(112), stacks: Some(88), ..discrete(4) },
            (1, 4) => Layout { vcn: VCN, pcie: Some(80), naks: None, ..accelerator(24, 104) },
            (1, 5) => Layout { vcn: VCN, jpeg: JPEG, ..accelerator(88, 176) },
            // Of the kernel before partitions had tables of their own in it.
            (1, 6) if bytes < 1024 => {
                Layout { vcn: VCN, jpeg: JPEG, residencies: Some(104), ..accelerator(88, 200) }
            }
            (1, 6) => Layout {
                residencies: Some(32),
                partitions: partitions(312, 168, 32, None),
                ..accelerator(16, 128)
            },
            (1, 7) => Layout {
                max_bandwidth: Some(16),
                residencies: Some(40),
                partitions: partitions(344, 232, 32, None),
                ..accelerator(24, 136)
            },
            (1, 8) => Layout {
                max_bandwidth: Some(16),
                residencies: Some(40),
                partitions: partitions(344, 440, 40, Some(184)),
                ..accelerator(24, 136)
            },
            // Their temperatures and power have other units from part to part, and hwmon tells the same.
            (2, 0 | 1) => NOTHING,
            (2, 2 | 3) => Layout { throttle: Some(120), ..NOTHING },
            (2, 4) => Layout {
                scale: Scale { percent: 100.0, ..OF_PROCESSOR },
                edge: Some(4),
                soc: Some(6),
                gfx: Some(28),
                power: Some(40),
                throttle: Some(120),
                ..NOTHING
            },
            (3, 0) => Layout {
                scale: OF_PROCESSOR,
                edge: Some(4),
                soc: Some(6),
                gfx: Some(42),
                vcn: Some((44, 1)),
                power_wide: Some(112),
                ..NOTHING
            },
            _ => return None,
        };
        Some(layout)
    }
}
