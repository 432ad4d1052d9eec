//! Facts that only AMD's GPUs have, and quantities of AMD's own exporter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Clock, Engine, ErrorKind, Known, ThrottleCause};

/// Facts of one AMD GPU, as AMD's tools report them.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AmdFacts {
    /// Product name in the board's EEPROM (FRU): `AMD Instinct MI300X OAM`.
    pub board_name: Known<String>,
    /// Product number in the same EEPROM: `102-G30211-0C`.
    pub board_number: Known<String>,
    /// Compute units of the whole device.
    pub compute_units: Known<u32>,
    /// SIMD units in each compute unit.
    pub simds_per_compute_unit: Known<u32>,
    /// Version of the driver's module; a driver that comes with the kernel has none.
    pub module_version: Known<String>,
    /// Checksum of the sources of the driver's module.
    pub module_source_version: Known<String>,
    /// Whether the compute units can be partitioned.
    pub compute_partitioning_supported: Known<bool>,
    /// Whether the memory can be partitioned.
    pub memory_partitioning_supported: Known<bool>,
    /// The marketing name as the vendor's library reports it, from libdrm's table: `AMD Instinct MI300X`.
    pub market_name: Known<String>,
    /// Version of the VBIOS (IFWI): `022.040.003.043.000001`. The part number is the device's firmware version.
    pub vbios_version: Known<String>,
    /// How the device is virtualised, as the library reports it: `baremetal`, `host`, `guest` or `passthrough`.
    pub virtualization: Known<String>,
    /// Number of bad memory pages at which the device is to be replaced.
    pub bad_page_threshold: Known<u32>,
    /// Number of partitions of the present mode.
    pub nominal_partitions: Known<u32>,
    /// Number of error records (CPER) that the driver keeps, where they are readable.
    pub error_records: Known<u32>,
    /// Firmware versions of the device's blocks, sorted by block.
    pub firmware: Vec<BlockFirmware>,
}

/// The firmware of one block of a device.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlockFirmware {
    /// The block as the vendor names it: `MEC`.
    pub block: String,
    /// Version number.
    pub version: u64,
    /// Feature version, where it is readable.
    pub feature: Known<u32>,
}

/// A quantity of AMD's device metrics exporter; most are read only where those families are enabled.
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
    /// Errors of this kind of all blocks; absent where the count of a block could not be read.
    AllErrors(ErrorKind),
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
