//! The counters of RDMA ports (`Documentation/ABI/stable/sysfs-class-infiniband`; `drivers/infiniband/core/sysfs.c`): proof that
//! traffic goes over RDMA.
//!
//! `counters/` has those of the InfiniBand architecture, whose widths it fixes: most have 4 to 16 bits and stay at their largest value.
//! One that is there is no count any more, and is not returned. Data is counted in words of 4 bytes, by 64 bits or, on old devices, by
//! 32. `hw_counters/` has those of the driver, by 64 bits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use afd_host::Host;
use afd_model::{Nic, PortCount, PortCounters};

use super::CLASS;

/// How often they are read. Each file of some drivers is a command to the firmware.
const INTERVAL: Duration = Duration::from_secs(15);

/// More ports do not have nodes.
const MAX_PORTS: usize = 64;

/// A counter as the kernel has it.
struct CounterFile {
    /// The file below the folder of the port.
    path: &'static str,
    count: PortCount,
    /// How many bits it has; 0 where that depends on the device.
    bits: u32,
    /// What one unit is worth.
    unit: u64,
}

const fn data(path: &'static str, count: PortCount, bits: u32, unit: u64) -> CounterFile {
    CounterFile { path, count, bits, unit }
}

const fn errors(path: &'static str, name: &'static str, bits: u32) -> CounterFile {
    CounterFile { path, count: PortCount::Errors(name), bits, unit: 1 }
}

/// Bytes of a word of `port_rcv_data`: "the total number of data octets, divided by 4".
const WORD: u64 = 4;

/// Of several files with the same count the first one that has a value counts. The widths are those of `PORT_PMA_ATTR` in the kernel's
/// `sysfs.c`. `rx_bytes` is of EFA and bnxt_re; the errors below are of mlx5 (Linux, "Understanding mlx5 hardware counters"), EFA
/// (`efa_verbs.c`) and bnxt_re (`hw_counters.c`).
const FILES: [CounterFile; 23] = [
    data("counters/port_rcv_data", PortCount::ReceiveBytes, 0, WORD),
    data("hw_counters/rx_bytes", PortCount::ReceiveBytes, 64, 1),
    data("counters/port_xmit_data", PortCount::TransmitBytes, 0, WORD),
    data("hw_counters/tx_bytes", PortCount::TransmitBytes, 64, 1),
    data("counters/link_downed", PortCount::LinkDown, 8, 1),
    errors("counters/symbol_error", "symbol_error", 16),
    errors("counters/link_error_recovery", "link_error_recovery", 8),
    errors("counters/port_rcv_errors", "port_rcv_errors", 16),
    errors("counters/port_rcv_remote_physical_errors", "port_rcv_remote_physical_errors", 16),
    errors("counters/port_xmit_discards", "port_xmit_discards", 16),
    errors("counters/local_link_integrity_errors", "local_link_integrity_errors", 4),
    errors("counters/excessive_buffer_overrun_errors", "excessive_buffer_overrun_errors", 4),
    errors("hw_counters/out_of_sequence", "out_of_sequence", 64),
    errors("hw_counters/packet_seq_err", "packet_seq_err", 64),
    errors("hw_counters/local_ack_timeout_err", "local_ack_timeout_err", 64),
    errors("hw_counters/rnr_nak_retry_err", "rnr_nak_retry_err", 64),
    errors("hw_counters/out_of_buffer", "out_of_buffer", 64),
    errors("hw_counters/rx_icrc_encapsulated", "rx_icrc_encapsulated", 64),
    errors("hw_counters/rx_drops", "rx_drops", 64),
    errors("hw_counters/retrans_timeout_events", "retrans_timeout_events", 64),
    errors("hw_counters/unresponsive_remote_events", "unresponsive_remote_events", 64),
    errors("hw_counters/to_retransmits", "to_retransmits", 64),
    errors("hw_counters/unrecoverable_err", "unrecoverable_err", 64),
];

/// Only devices with counters of 64 bits have this file.
const WIDE: &str = "counters/unicast_rcv_packets";

/// Reads the counters of the ports of NICs.
#[derive(Debug, Default)]
pub struct PortSampler {
    ports: Vec<SampledPort>,
    read_at: Option<Instant>,
}

#[derive(Debug)]
struct SampledPort {
    nic: String,
    port: u32,
    /// The files that it has, by their places in [`FILES`].
    files: Vec<usize>,
    is_wide: bool,
    /// The last values of counters of 32 bits.
    last: BTreeMap<usize, u64>,
    /// Counters of 32 bits that have gone down: they were reset, or have wrapped around, after an unknown number of bytes.
    unusable: BTreeSet<usize>,
    counters: PortCounters,
}

impl PortSampler {
    /// Takes in the NICs of a discovery. Ports of accelerators are left out: they connect accelerators with each other.
    pub fn set_nics(&mut self, host: &Host, nics: &[Nic]) {
        let own = nics.iter().filter(|nic| !nic.of_accelerator);
        let ports = own.flat_map(|nic| nic.ports.iter().map(move |port| (nic.name.as_str(), port.number)));
        let ports: Vec<(&str, u32)> = ports.take(MAX_PORTS).collect();
        if self.ports.iter().map(|port| (port.nic.as_str(), port.port)).eq(ports.iter().copied()) {
            return;
        }
        self.ports = ports.into_iter().map(|(nic, port)| SampledPort::new(host, nic, port)).collect();
        self.read_at = None;
    }

    /// What the ports have counted, at most as old as the interval.
    pub fn sample(&mut self, host: &Host, now: Instant) -> Vec<PortCounters> {
        if self.read_at.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL) {
            self.read_at = Some(now);
            self.ports.iter_mut().for_each(|port| port.read(host));
        }
        self.ports.iter().map(|port| port.counters.clone()).collect()
    }
}

impl SampledPort {
    fn new(host: &Host, nic: &str, port: u32) -> SampledPort {
        let folder = |name: &str| {
            let names = host.list(&format!("{CLASS}/{nic}/ports/{port}/{name}")).unwrap_or_default();
            names.into_iter().map(move |file| format!("{name}/{file}")).collect::<BTreeSet<String>>()
        };
        let mut found = folder("counters");
        found.extend(folder("hw_counters"));
        let files = (0..FILES.len()).filter(|index| found.contains(FILES[*index].path));
        SampledPort {
            nic: nic.to_owned(),
            port,
            files: files.collect(),
            is_wide: found.contains(WIDE),
            last: BTreeMap::new(),
            unusable: BTreeSet::new(),
            counters: PortCounters { nic: nic.to_owned(), port, counts: Vec::new() },
        }
    }

    fn read(&mut self, host: &Host) {
        let mut counts: Vec<(PortCount, u64)> = Vec::with_capacity(self.files.len());
        for index in self.files.clone() {
            let CounterFile { path, count, .. } = &FILES[index];
            if counts.iter().any(|(known, _)| known == count) {
                continue;
            }
            let content = host.read(&format!("{CLASS}/{}/ports/{}/{path}", self.nic, self.port));
            let number = content.ok().and_then(|bytes| parse_counter(&bytes));
            counts.extend(number.and_then(|number| self.count(index, number)).map(|number| (*count, number)));
        }
        self.counters.counts = counts;
    }

    /// The count of a counter that has this value; none where the value is none.
    fn count(&mut self, index: usize, number: u64) -> Option<u64> {
        let CounterFile { bits, unit, .. } = FILES[index];
        let bits = match bits {
            0 => {
                self.is_wide |= number > u64::from(u32::MAX);
                if self.is_wide { 64 } else { 32 }
            }
            bits => bits,
        };
        if bits == 32 {
            let has_gone_down = self.last.insert(index, number).is_some_and(|last| number < last);
            if has_gone_down {
                self.unusable.insert(index);
            }
        }
        let is_saturated = number >= u64::MAX >> (64 - bits);
        if is_saturated || (bits == 32 && self.unusable.contains(&index)) {
            return None;
        }
        number.checked_mul(unit)
    }
}

/// A number of a counter file.
pub fn parse_counter(content: &[u8]) -> Option<u64> {
    std::str::from_utf8(content).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use afd_model::Known;
    use proptest::prelude::*;

    use super::*;
    use crate::{PciBus, rdma::nics};

    const PORT: &str = "/sys/class/infiniband/mlx5_0/ports/1";

    /// A host with one port that has these counters.
    fn host(files: &[(&str, &str)]) -> TestHost {
        let folder = TestHost::new()
            .file(&format!("{PORT}/state"), "4: ACTIVE\n")
            .link("/sys/class/infiniband/mlx5_0/device", "../../../0000:18:00.0");
        files
            .iter()
            .fold(folder, |folder, (path, text)| folder.file(&format!("{PORT}/{path}"), format!("{text}\n")))
    }

    fn counts_of(files: &[(&str, &str)]) -> Vec<(PortCount, u64)> {
        let folder = host(files);
        let host = folder.open();
        let mut sampler = PortSampler::default();
        let (nics, problems) = nics(&host, &PciBus::read(&host));
        assert_eq!(problems.iter().filter(|problem| problem.fact.contains("counter")).count(), 0);
        sampler.set_nics(&host, &nics);
        let mut ports = sampler.sample(&host, Instant::now());
        assert_eq!((ports[0].nic.as_str(), ports[0].port), ("mlx5_0", 1));
        ports.remove(0).counts
    }

    #[test]
    fn data_is_counted_in_words_of_four_bytes_and_by_efa_in_bytes() {
        let words = [("counters/port_rcv_data", "25"), ("counters/port_xmit_data", "7"), (WIDE, "1")];
        assert_eq!(counts_of(&words), [(PortCount::ReceiveBytes, 100), (PortCount::TransmitBytes, 28)]);
        let bytes =
            [("hw_counters/rx_bytes", "25"), ("hw_counters/tx_bytes", "7"), ("hw_counters/rx_drops", "1")];
        let expected = [
            (PortCount::ReceiveBytes, 25),
            (PortCount::TransmitBytes, 7),
            (PortCount::Errors("rx_drops"), 1),
        ];
        assert_eq!(counts_of(&bytes), expected);
        // The architecture's counter takes precedence.
        let both = [("counters/port_rcv_data", "25"), ("hw_counters/rx_bytes", "99")];
        assert_eq!(counts_of(&both), [(PortCount::ReceiveBytes, 100)]);
        assert_eq!(counts_of(&[]), []);
        assert_eq!(counts_of(&[("counters/symbol_error", "many"), ("counters/link_downed", "-1")]), []);
    }

    #[test]
    fn a_counter_at_its_largest_value_is_no_count() {
        for (path, largest) in [
            ("counters/symbol_error", "65535"),
            ("counters/link_error_recovery", "255"),
            ("counters/link_downed", "255"),
            ("counters/local_link_integrity_errors", "15"),
            ("counters/excessive_buffer_overrun_errors", "15"),
            ("counters/port_rcv_data", "4294967295"),
            ("counters/port_xmit_data", "4294967295"),
            ("hw_counters/out_of_sequence", "18446744073709551615"),
        ] {
            assert_eq!(counts_of(&[(path, largest)]), [], "{path}");
            let below = (largest.parse::<u64>().expect("it is a number") - 1).to_string();
            assert_eq!(counts_of(&[(path, &below)]).len(), 1, "{path}");
        }
        let wide = [("counters/port_rcv_data", "4294967295"), (WIDE, "1")];
        assert_eq!(counts_of(&wide), [(PortCount::ReceiveBytes, u64::from(u32::MAX) * 4)]);
        assert_eq!(counts_of(&[("counters/port_rcv_data", &u64::MAX.to_string()), (WIDE, "1")]), []);
        assert_eq!(counts_of(&[("counters/port_rcv_data", &(u64::MAX / 2).to_string()), (WIDE, "1")]), []);
    }

    #[test]
    fn a_counter_of_32_bits_that_goes_down_is_no_count_any_more() {
        let narrow = |is_wide| SampledPort { is_wide, ..SampledPort::new(&host(&[]).open(), "mlx5_0", 1) };
        let mut port = narrow(false);
        let counted = [10, 4_000_000_000, 5, 6].map(|number| port.count(0, number));
        assert_eq!(counted, [Some(40), Some(16_000_000_000), None, None]);
        // Prometheus sees the reset of a wide one.
        let mut port = narrow(true);
        assert_eq!([10, 5].map(|number| port.count(0, number)), [Some(40), Some(20)]);
        // One that is beyond 32 bits has more.
        let mut port = narrow(false);
        assert_eq!([1 << 33, 5].map(|number| port.count(0, number)), [Some(1 << 35), Some(20)]);
    }

    #[test]
    fn ports_are_read_at_intervals_and_at_once_where_nics_change() {
        let folder = host(&[("counters/port_rcv_data", "25")]);
        let host = folder.open();
        let (mut nics, _) = nics(&host, &PciBus::read(&host));
        let mut sampler = PortSampler::default();
        sampler.set_nics(&host, &nics);
        let start = Instant::now();
        let bytes = |ports: &[PortCounters]| {
            ports.first().and_then(|port| port.counts.first().map(|(_, bytes)| *bytes))
        };
        assert_eq!(bytes(&sampler.sample(&host, start)), Some(100));
        let _folder = folder.file(&format!("{PORT}/counters/port_rcv_data"), "26\n");
        assert_eq!(bytes(&sampler.sample(&host, start + INTERVAL / 2)), Some(100), "it is not read yet");
        assert_eq!(bytes(&sampler.sample(&host, start + INTERVAL)), Some(104));
        nics[0].of_accelerator = true;
        sampler.set_nics(&host, &nics);
        assert!(sampler.sample(&host, start + INTERVAL).is_empty(), "it connects accelerators");
        nics[0].of_accelerator = false;
        nics[0].driver = Known::Value("mlx5_core".to_owned());
        sampler.set_nics(&host, &nics);
        assert_eq!(bytes(&sampler.sample(&host, start + INTERVAL)), Some(104));
    }

    proptest! {
        #[test]
        fn no_content_panics_and_no_saturated_counter_is_returned(content in any::<Vec<u8>>(), number in any::<u64>(), index in 0..FILES.len()) {
            let _ = parse_counter(&content);
            let mut port = SampledPort::new(&host(&[]).open(), "mlx5_0", 1);
            let bits = if FILES[index].bits == 0 { 64 } else { FILES[index].bits };
            if let Some(count) = port.count(index, number) {
                prop_assert!(count / FILES[index].unit < u64::MAX >> (64 - bits));
            }
        }
    }
}
