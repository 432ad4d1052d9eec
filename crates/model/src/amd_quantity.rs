//! What only AMD's own exporter tells of a moving value.

use crate::{Clock, Direction, Engine, ThrottleCause};

/// A quantity that AMD's exporter publishes and AFD's vocabulary does not; read only where those families are asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AmdQuantity {
    /// System memory that the device may map, bytes.
    GttTotalBytes,
    /// The same in use.
    GttUsedBytes,
    /// Device memory that processors see, bytes.
    VisibleTotalBytes,
    /// The same in use.
    VisibleUsedBytes,
    /// The greatest bandwidth of the device memory, bytes per second.
    MemoryMaxBytesPerSecond,
    /// The lowest clock, hertz.
    ClockMinHertz(Clock),
    /// Degrees Celsius of one stack of memory.
    StackCelsius(u8),
    /// Bytes over one XGMI link.
    LinkBytes(u8, Direction),
    /// Share of the time in which one instance of an engine was busy, 0-1.
    Busy(Engine, u8),
    /// Times that the PCIe link went to recovery.
    PcieRecoveries,
    /// Times that the counter of PCIe replays began anew.
    PcieReplayRollovers,
    /// PCIe packets that were refused to the other end.
    PcieNaksSent,
    /// PCIe packets that the other end refused.
    PcieNaksReceived,
    /// Cycles of the firmware.
    Cycles,
    /// Cycles in which a cause held the device back.
    Held(ThrottleCause),
    /// The share of the cycles since the last sample in which it did, 0-1.
    HeldShare(ThrottleCause),
    /// Cycles in which one XCC ran below the clock that the host allows.
    BelowHostLimit(HostLimitCause, u8),
    /// Compute units in use by the process of this id.
    ProcessComputeUnits(u32),
}

/// Why an XCC ran below the clock that the host allows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostLimitCause {
    /// Power.
    Power,
    /// Temperature.
    Thermal,
    /// Too little work.
    LowUtilization,
    /// Any of them.
    Total,
}
