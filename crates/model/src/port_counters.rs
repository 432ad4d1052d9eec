//! What RDMA ports have counted.

/// The counters of one RDMA port that could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortCounters {
    /// The kernel's name of the NIC: `mlx5_0`.
    pub nic: String,
    /// The number of the port, from 1.
    pub port: u32,
    /// What was counted.
    pub counts: Vec<(PortCount, u64)>,
}

/// What a counter of an RDMA port counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PortCount {
    /// Bytes that came in.
    ReceiveBytes,
    /// Bytes that went out.
    TransmitBytes,
    /// How often the link went down.
    LinkDown,
    /// Errors of a kind, by the kernel's name of its counter.
    Errors(&'static str),
}

impl PortCounters {
    /// The bytes in both directions, if both are known.
    pub fn bytes(&self) -> Option<u64> {
        let of = |wanted| self.counts.iter().find(|(count, _)| *count == wanted).map(|(_, number)| *number);
        of(PortCount::ReceiveBytes)?.checked_add(of(PortCount::TransmitBytes)?)
    }
}
