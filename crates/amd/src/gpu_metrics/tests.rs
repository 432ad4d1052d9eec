use afd_model::{Direction, HostLimitCause};
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
fn a_table_without_values_has_no_fields() {
    for (size, content) in
        [(80, 0), (96, 1), (104, 2), (120, 3), (288, 4), (360, 5), (1664, 6), (2208, 7), (3872, 8)]
    {
        assert_eq!(parse(&table(size, 1, content)), Ok(GpuMetrics::default()), "1.{content}");
    }
    for (size, format, content) in
        [(384, 1, 6), (120, 2, 1), (128, 2, 2), (152, 2, 3), (168, 2, 4), (264, 3, 0)]
    {
        assert_eq!(parse(&table(size, format, content)), Ok(GpuMetrics::default()), "{format}.{content}");
    }
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
    let metrics = parse(&bytes).expect("the table is complete");
    assert_eq!((metrics.hotspot_celsius, metrics.memory_celsius), (Some(55.0), Some(61.0)));
    assert_eq!(metrics.socket_watts, Some(255.0), "255 in two bytes is a value");
    assert_eq!((metrics.gfx_ratio, metrics.umc_ratio), (Some(0.37), None));
    assert_eq!((metrics.energy_joules, metrics.energy_count), (None, Some(655_360)));
}

#[test]
fn links_without_a_value_are_left_out_of_the_sum() {
    let mut bytes = table(360, 1, 5);
    put(&mut bytes, 176, &3_u64.to_le_bytes());
    put(&mut bytes, 184, &4_u64.to_le_bytes());
    let metrics = parse(&bytes).expect("the table is complete");
    assert_eq!((metrics.xgmi_read_bytes, metrics.xgmi_write_bytes), (Some(7.0 * 1024.0), None));
}

#[test]
fn malformed_tables_are_errors() {
    assert_eq!(parse(&[1, 2, 3]), Err(GpuMetricsError::NoHeader));
    assert_eq!(parse(&table(120, 1, 3)[..30]), Err(GpuMetricsError::WrongSize { size: 120, read: 30 }));
    assert_eq!(parse(&[4, 0, 9, 9]), Err(GpuMetricsError::UnknownRevision { format: 9, content: 9 }));
}

#[test]
fn partitions_end_with_the_last_that_has_a_value() {
    for (size, content, first, bytes, jpegs) in
        [(1664, 6, 312, 168, 32), (2208, 7, 344, 232, 32), (3872, 8, 344, 440, 40)]
    {
        let mut table = table(size, 1, content);
        put(&mut table, first, &40_u32.to_le_bytes());
        put(&mut table, first + 4, &60_u32.to_le_bytes());
        put(&mut table, first + 2 * bytes + 32 + 2 * jpegs, &7_u16.to_le_bytes());
        let partitions = parse(&table).expect("the table is complete").partitions;
        let only =
            |gfx_ratio, vcn_ratio| PartitionMetrics { gfx_ratio, vcn_ratio, ..PartitionMetrics::default() };
        let partitions: Vec<_> = partitions
            .into_iter()
            .map(|partition| PartitionMetrics { extra: Vec::new(), ..partition })
            .collect();
        assert_eq!(
            partitions,
            [only(Some(0.5), None), only(None, None), only(None, Some(0.07))],
            "1.{content}"
        );
    }
}

#[test]
fn the_values_of_amds_exporter_are_found() {
    let mut bytes = table(3872, 1, 8);
    put(&mut bytes, 16, &8000_u64.to_le_bytes());
    put(&mut bytes, 104, &5_u64.to_le_bytes());
    put(&mut bytes, 120, &6_u64.to_le_bytes());
    put(&mut bytes, 128, &7_u32.to_le_bytes());
    put(&mut bytes, 132, &8_u32.to_le_bytes());
    put(&mut bytes, 136, &1_u64.to_le_bytes());
    put(&mut bytes, 344 + 184 + 8, &9_u64.to_le_bytes());
    put(&mut bytes, 344 + 376, &10_u64.to_le_bytes());
    let metrics = parse(&bytes).expect("the table is complete");
    assert_eq!(
        metrics.extra,
        [
            (AmdQuantity::MemoryMaxBytesPerSecond, 8e12),
            (AmdQuantity::PcieRecoveries, 5.0),
            (AmdQuantity::PcieReplayRollovers, 6.0),
            (AmdQuantity::PcieNaksSent, 7.0),
            (AmdQuantity::PcieNaksReceived, 8.0),
        ]
    );
    let [read] = metrics.links.as_slice() else { panic!("one link has a counter: {:?}", metrics.links) };
    assert_eq!(*read, xgmi_link(0, LinkValue::Bytes(Direction::Receive), 1024.0));
    assert_eq!(
        metrics.partitions[0].extra,
        [
            (AmdQuantity::BelowHostLimit(HostLimitCause::Power, 1), 9.0),
            (AmdQuantity::BelowHostLimit(HostLimitCause::Total, 0), 10.0),
        ]
    );
}

#[test]
fn two_layouts_of_one_revision_are_distinguished_by_size() {
    for (size, at) in [(384, 104), (1664, 32)] {
        let mut table = table(size, 1, 6);
        put(&mut table, at, &1000_u32.to_le_bytes());
        put(&mut table, at + 20, &7_u32.to_le_bytes());
        let residencies = parse(&table).expect("the table is complete").residencies;
        let expected = Residencies { cycles: Some(1000), memory_thermal: Some(7), ..Residencies::default() };
        assert_eq!(residencies, expected, "{size} bytes");
    }
}

#[test]
fn a_processors_table_is_in_hundredths_of_a_degree_and_milliwatts() {
    let mut newest = table(264, 3, 0);
    put(&mut newest, 4, &6150_u16.to_le_bytes());
    put(&mut newest, 6, &5800_u16.to_le_bytes());
    put(&mut newest, 42, &93_u16.to_le_bytes());
    put(&mut newest, 44, &4_u16.to_le_bytes());
    put(&mut newest, 112, &84_210_u32.to_le_bytes());
    let metrics = parse(&newest).expect("the table is complete");
    assert_eq!((metrics.edge_celsius, metrics.soc_celsius), (Some(61.5), Some(58.0)));
    assert_eq!(
        (metrics.gfx_ratio, metrics.vcn_ratio, metrics.socket_watts),
        (Some(0.93), Some(0.04), Some(84.21))
    );
    let mut van_gogh = table(168, 2, 4);
    put(&mut van_gogh, 4, &5050_u16.to_le_bytes());
    put(&mut van_gogh, 28, &2500_u16.to_le_bytes());
    put(&mut van_gogh, 40, &11_500_u16.to_le_bytes());
    put(&mut van_gogh, 120, &(1_u64 << 33).to_le_bytes());
    let metrics = parse(&van_gogh).expect("the table is complete");
    assert_eq!(
        (metrics.edge_celsius, metrics.gfx_ratio, metrics.socket_watts),
        (Some(50.5), Some(0.25), Some(11.5))
    );
    assert_eq!(metrics.throttle_status, Some(1 << 33));
}

#[test]
fn a_partition_has_a_table_of_its_own() {
    let mut fixed = table(488, 1, 0);
    put(&mut fixed, 48, &30_u32.to_le_bytes());
    put(&mut fixed, 160, &10_u16.to_le_bytes());
    let metrics = parse_partition(&fixed).expect("the table is complete");
    assert_eq!((metrics.gfx_ratio, metrics.vcn_ratio, metrics.jpeg_ratio), (Some(0.3), Some(0.1), None));
    assert_eq!(
        parse_partition(&table(488, 1, 7)),
        Err(GpuMetricsError::UnknownRevision { format: 1, content: 7 })
    );
    assert_eq!(parse_partition(&fixed[..100]), Err(GpuMetricsError::WrongSize { size: 488, read: 100 }));
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), format in 1_u8..4, content in 0_u8..10) {
        let (_, _) = (parse(&bytes), parse_partition(&bytes));
        if bytes.len() >= 4 {
            let size = (bytes.len() as u16).to_le_bytes();
            (bytes[0], bytes[1], bytes[2], bytes[3]) = (size[0], size[1], format, content);
            let (_, _) = (parse(&bytes), parse_partition(&bytes));
        }
    }
}
