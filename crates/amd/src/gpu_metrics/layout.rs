//! The offsets of the fields of each fixed revision, in bytes. Computed from the structures of `kgd_pp_interface.h`; `None`
//! where a revision lacks the field.

/// The offsets of the fields of a fixed table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLayout {
    pub(super) scale: TableScale,
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
    /// Activity of the video engines, and their number.
    pub(super) vcn: Option<(usize, usize)>,
    /// The same of the JPEG engines.
    pub(super) jpeg: Option<(usize, usize)>,
    pub(super) energy: Option<usize>,
    pub(super) energy_count: Option<usize>,
    pub(super) xgmi_read: Option<usize>,
    pub(super) xgmi_write: Option<usize>,
    /// The status whose bits are the same for every product.
    pub(super) throttle: Option<usize>,
    /// Six counters of four bytes.
    pub(super) residencies: Option<usize>,
    pub(super) partitions: Option<PartitionTables>,
    /// Temperatures of four stacks of memory.
    pub(super) stacks: Option<usize>,
    pub(super) max_bandwidth: Option<usize>,
    /// Counters of the PCIe link: recoveries, replays and rollovers of eight bytes each.
    pub(super) pcie: Option<usize>,
    /// NAKs sent and received, four bytes each.
    pub(super) naks: Option<usize>,
}

/// The divisors of values in degrees Celsius, percent and watts.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableScale {
    pub(super) celsius: f64,
    pub(super) percent: f64,
    pub(super) watts: f64,
}

/// Where the tables of the partitions are.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionTables {
    pub(super) first: usize,
    pub(super) bytes: usize,
    pub(super) fields: PartitionFields,
}

/// The offsets of the fields of a partition: activity of its XCCs in four bytes each, then of its JPEG engines and of its video
/// engines in two bytes each.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionFields {
    pub(super) gfx: usize,
    pub(super) jpeg: usize,
    pub(super) jpegs: usize,
    /// Counters of eight bytes of each XCC for each cause: power, temperature, low utilization, any.
    pub(super) below_host_limit: Option<usize>,
}

/// The table of a partition, revision 1.0.
pub(super) const PARTITION_TABLE: PartitionFields =
    PartitionFields { gfx: 48, jpeg: 80, jpegs: 40, below_host_limit: Some(232) };

const EMPTY: TableLayout = TableLayout {
    scale: TableScale { celsius: 1.0, percent: 1.0, watts: 1.0 },
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

/// The units of the tables of processors, where the revision defines them.
const PROCESSOR_SCALE: TableScale = TableScale { celsius: 100.0, percent: 1.0, watts: 1000.0 };

/// Older discrete products: six temperatures, then activity and power.
const fn discrete(first: usize) -> TableLayout {
    TableLayout {
        edge: Some(first),
        hotspot: Some(first + 2),
        memory: Some(first + 4),
        vrsoc: Some(first + 8),
        gfx: Some(first + 12),
        umc: Some(first + 14),
        power: Some(first + 18),
        ..EMPTY
    }
}

/// MI300 and its successors: all revisions start with the same fields.
const fn accelerator(energy: usize, xgmi_read: usize) -> TableLayout {
    TableLayout {
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
        ..EMPTY
    }
}

const fn partitions(
    first: usize,
    bytes: usize,
    jpegs: usize,
    below_host_limit: Option<usize>,
) -> Option<PartitionTables> {
    Some(PartitionTables {
        first,
        bytes,
        fields: PartitionFields { gfx: 0, jpeg: 32, jpegs, below_host_limit },
    })
}

impl TableLayout {
    /// The layout of a revision. Two layouts have the same revision and are distinguished by the size of the table.
    pub(super) fn of_revision(format: u8, content: u8, bytes: u16) -> Option<TableLayout> {
        const VCN: Option<(usize, usize)> = Some((16, 4));
        const JPEG: Option<(usize, usize)> = Some((24, 32));
        let layout = match (format, content) {
            // Before 1.3 width and unit of the energy counter are unknown.
            (1, 0) => discrete(16),
            (1, 1 | 2) => TableLayout { stacks: Some(88), ..discrete(4) },
            (1, 3) => {
                TableLayout { energy_count: Some(24), throttle: Some(112), stacks: Some(88), ..discrete(4) }
            }
            (1, 4) => TableLayout { vcn: VCN, pcie: Some(80), naks: None, ..accelerator(24, 104) },
            (1, 5) => TableLayout { vcn: VCN, jpeg: JPEG, ..accelerator(88, 176) },
            // Of older kernels, without tables of partitions.
            (1, 6) if bytes < 1024 => {
                TableLayout { vcn: VCN, jpeg: JPEG, residencies: Some(104), ..accelerator(88, 200) }
            }
            (1, 6) => TableLayout {
                residencies: Some(32),
                partitions: partitions(312, 168, 32, None),
                ..accelerator(16, 128)
            },
            (1, 7) => TableLayout {
                max_bandwidth: Some(16),
                residencies: Some(40),
                partitions: partitions(344, 232, 32, None),
                ..accelerator(24, 136)
            },
            (1, 8) => TableLayout {
                max_bandwidth: Some(16),
                residencies: Some(40),
                partitions: partitions(344, 440, 40, Some(184)),
                ..accelerator(24, 136)
            },
            // The units of temperatures and power depend on the product, and hwmon has the same values.
            (2, 0 | 1) => EMPTY,
            (2, 2 | 3) => TableLayout { throttle: Some(120), ..EMPTY },
            (2, 4) => TableLayout {
                scale: TableScale { percent: 100.0, ..PROCESSOR_SCALE },
                edge: Some(4),
                soc: Some(6),
                gfx: Some(28),
                power: Some(40),
                throttle: Some(120),
                ..EMPTY
            },
            (3, 0) => TableLayout {
                scale: PROCESSOR_SCALE,
                edge: Some(4),
                soc: Some(6),
                gfx: Some(42),
                vcn: Some((44, 1)),
                power_wide: Some(112),
                ..EMPTY
            },
            _ => return None,
        };
        Some(layout)
    }
}
