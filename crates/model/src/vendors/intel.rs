//! Facts that only Intel's GPUs have, and quantities of Intel's own exporters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Direction, Known};

/// Facts of one Intel GPU, from Level Zero.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct IntelFacts {
    /// Tiles of the GPU; 0 where it is not divided.
    pub tiles: Known<u32>,
    /// Whether the memory is protected by ECC.
    pub ecc_enabled: Known<bool>,
    /// The firmware images.
    pub firmware: Vec<IntelFirmware>,
    /// Components in the order of the library. A reading names one by its position.
    pub memory_modules: Vec<IntelComponent>,
    /// Groups of engines.
    pub engines: Vec<IntelComponent>,
    /// Domains in which power is measured.
    pub power_domains: Vec<IntelComponent>,
    /// Temperature sensors.
    pub sensors: Vec<IntelComponent>,
    /// Clock domains.
    pub frequency_domains: Vec<IntelComponent>,
    /// Sets of error counters.
    pub error_sets: Vec<IntelComponent>,
    /// Ports of Xe Link.
    pub ports: Vec<XelinkPort>,
}

/// A component of an Intel GPU.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct IntelComponent {
    /// Its type, as the library names it: `compute_all`, `memory`, `correctable`.
    pub kind: String,
    /// The tile that it belongs to; none where it is of the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<u32>,
    /// Whether it is memory of the system, which an integrated GPU uses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_system: bool,
}

/// A firmware image of an Intel GPU.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct IntelFirmware {
    /// Its name: `GFX`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The tile that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<u32>,
}

/// A port of Xe Link.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct XelinkPort {
    /// Its number on the tile.
    pub number: Known<u32>,
    /// The tile that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<u32>,
    /// The device at its other end.
    pub peer: Known<DeviceId>,
    /// The tile of that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_tile: Option<u32>,
    /// Lanes.
    pub lanes: Known<u32>,
}

/// A quantity of one component of an Intel GPU, by the position of the component in [`IntelFacts`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IntelQuantity {
    /// What is read.
    pub value: IntelValue,
    /// The component; 0 where the value is of the whole GPU.
    pub component: u8,
}

/// What is read of a component of an Intel GPU.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IntelValue {
    /// Share of the time in which a group of engines was busy, 0-1.
    EngineRatio,
    /// Bytes of a memory module.
    MemorySize,
    /// Bytes in use of a memory module.
    MemoryUsed,
    /// Bytes that were read from (`Receive`) or written to a memory module.
    MemoryBytes(Direction),
    /// The same, bytes per second.
    MemoryBytesPerSecond(Direction),
    /// The greatest bandwidth of a memory module, bytes per second.
    MemoryBandwidthLimit,
    /// Share of the bandwidth of a memory module in use, 0-1.
    MemoryBandwidthRatio,
    /// Joules of a power domain.
    Energy,
    /// Watts of a power domain.
    Power,
    /// A limit of a power domain, watts.
    PowerLimit {
        /// `sustained`, `burst`, `peak`, `instantaneous`.
        level: &'static str,
        /// `any`, `mains`, `battery`.
        source: &'static str,
    },
    /// Degrees Celsius of a sensor.
    Temperature,
    /// The present clock of a clock domain, hertz.
    Frequency,
    /// The clock that is requested, hertz.
    FrequencyRequest,
    /// The lowest clock that may be used, hertz.
    FrequencyMin,
    /// The highest clock that may be used, hertz.
    FrequencyMax,
    /// 1 while a clock domain is throttled for a reason, else 0.
    Throttled(&'static str),
    /// Errors of a category in a set of counters.
    RasErrors(&'static str),
    /// Bytes over PCIe.
    PcieBytes(Direction),
    /// State of a port of Xe Link: 1 if it is healthy.
    PortUp,
    /// Bytes over a port.
    PortBytes(Direction),
    /// Bytes per second over a port.
    PortBytesPerSecond(Direction),
    /// 1 if the memory module is in the state that the library names, else 0.
    MemoryHealth(&'static str),
    /// 1 if the PCIe link is in the state that the library names, else 0.
    PcieState(&'static str),
}
