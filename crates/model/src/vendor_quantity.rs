//! Quantities that only one vendor's own exporter publishes.

use crate::{Clock, Direction, Engine, Quantity, ThrottleCause};

/// A quantity of one vendor's exporter that AFD's own vocabulary does not have.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum VendorQuantity {
    /// Of AMD's device metrics exporter.
    Amd(AmdQuantity),
    /// Of dcgm-exporter.
    Nvidia(NvidiaQuantity),
}

impl From<AmdQuantity> for Quantity {
    fn from(quantity: AmdQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Amd(quantity))
    }
}

impl From<NvidiaQuantity> for Quantity {
    fn from(quantity: NvidiaQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Nvidia(quantity))
    }
}

/// A quantity of dcgm-exporter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NvidiaQuantity {
    /// The last XID since the agent started, 0 while there was none.
    LastXid {
        /// What the number means.
        meaning: &'static str,
    },
    /// 1 if the vGPU is licensed, else 0.
    VgpuLicensed,
}

/// A quantity of AMD's device metrics exporter; read only where those families are enabled.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AmdQuantity {
    /// System memory that the device can map (GTT), bytes.
    GttTotalBytes,
    /// GTT memory in use, bytes.
    GttUsedBytes,
    /// Device memory visible to the CPU, bytes.
    VisibleTotalBytes,
    /// Visible memory in use, bytes.
    VisibleUsedBytes,
    /// Maximum bandwidth of the device memory, bytes per second.
    MemoryMaxBytesPerSecond,
    /// Lowest clock, hertz.
    ClockMinHertz(Clock),
    /// Temperature of one memory stack, degrees Celsius.
    StackCelsius(u8),
    /// Bytes over one XGMI link.
    LinkBytes(u8, Direction),
    /// Share of the time in which one instance of an engine was busy, 0-1.
    Busy(Engine, u8),
    /// Number of PCIe link recoveries.
    PcieRecoveries,
    /// Number of rollovers of the PCIe replay counter.
    PcieReplayRollovers,
    /// PCIe NAKs sent.
    PcieNaksSent,
    /// PCIe NAKs received.
    PcieNaksReceived,
    /// Firmware cycles.
    Cycles,
    /// Firmware cycles in which this cause throttled the device.
    ThrottledCycles(ThrottleCause),
    /// Share of the firmware cycles since the last sample in which it did, 0-1.
    ThrottledShare(ThrottleCause),
    /// Firmware cycles in which one XCC ran below the clock limit of the host.
    BelowHostLimit(HostLimitCause, u8),
    /// Compute units in use by the process with this id.
    ProcessComputeUnits(u32),
}

/// Why an XCC ran below the clock limit of the host.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostLimitCause {
    /// Power.
    Power,
    /// Temperature.
    Thermal,
    /// Low utilisation.
    LowUtilization,
    /// Any of them.
    Total,
}
