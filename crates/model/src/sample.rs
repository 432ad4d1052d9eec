//! Samples: what the probes' verb `sample` returns.
//!
//! A sample is a list of readings. A value that could not be read is not in the list, so nothing is published that was not
//! read.

use std::borrow::Cow;

use crate::{DeviceLink, LinkValue, PortCounters, Problem, UnitId, VendorQuantity};

/// What one probe sampled, and what it could not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// One sample per device or partition.
    pub samples: Vec<Sample>,
    /// What the RDMA ports of the node have counted.
    pub ports: Vec<PortCounters>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// A fact of the discovery has changed, such as the health of a device: discover again now.
    pub rediscover: bool,
    /// An event has changed what a discovery shows, such as the health of a device: discover without any delay.
    pub has_news: bool,
    /// Whether the vendor's library answered this sample, so that its values are among the readings.
    pub library_answered: bool,
}

/// The readings of one device or partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The device or partition.
    pub unit: UnitId,
    /// The values that were read.
    pub readings: Vec<Reading>,
}

/// One value in the unit of its quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The quantity.
    pub quantity: Quantity,
    /// The value.
    pub value: f64,
}

/// A quantity with its unit. One quantity is one series of the device or partition.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Quantity {
    /// Share of the time in which an engine was busy, 0-1.
    Utilization(Engine),
    /// Device memory in bytes.
    MemoryTotalBytes,
    /// Device memory in use, bytes.
    MemoryUsedBytes,
    /// Device memory reserved by driver and firmware, bytes.
    MemoryReservedBytes,
    /// Share of the memory bandwidth in use, 0-1.
    MemoryBandwidthRatio,
    /// Memory rows that were remapped, or the state of remapping.
    RowsRemapped(Rows),
    /// Watts.
    PowerWatts,
    /// The power limit in force, watts.
    PowerLimitWatts,
    /// Joules since a fixed point in time, as long as the driver stays loaded.
    EnergyJoules,
    /// Degrees Celsius.
    TemperatureCelsius(Sensor),
    /// Degrees Celsius at which the device protects itself, at a sensor.
    TemperatureLimitCelsius(Sensor, TemperatureLimit),
    /// Present clock, hertz.
    ClockHertz(Clock),
    /// The highest clock, hertz.
    ClockMaxHertz(Clock),
    /// 1 while clocks are throttled for this cause, else 0.
    Throttled(ThrottleCause),
    /// Seconds for which clocks were throttled: since the agent started or, where the device counts them itself, since it
    /// started to count.
    ThrottleSeconds(ThrottleCause),
    /// Bad pages of device memory, by state.
    RetiredPages(PageState),
    /// Device memory in bytes that the process with this id uses.
    ProcessMemoryUsedBytes(u32),
    /// Bytes per second over PCIe.
    PcieBytesPerSecond(Direction),
    /// Number of errors since the driver was loaded.
    Errors(ErrorKind, ErrorDetail),
    /// The number of the last XID since the driver was loaded, 0 while there was none.
    LastXid {
        /// What the number means.
        meaning: &'static str,
    },
    /// Transfers per second on each PCIe lane.
    PcieTransfersPerSecond(Which),
    /// Number of PCIe lanes.
    PcieWidth(Which),
    /// Bytes over all device-to-device links of a type.
    LinkBytes(LinkCounter, Direction),
    /// A value of one device-to-device link.
    Link(DeviceLink, LinkValue),
    /// A quantity of one vendor's own exporter.
    Vendor(VendorQuantity),
}

/// Engine of a device (metric label `engine`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Engine {
    /// Shaders and matrix units.
    Compute,
    /// The memory controller.
    Memory,
    /// The graphics engine, which runs shaders and compute alike (GPM).
    Graphics,
    /// Multiprocessors with at least one warp.
    Sm,
    /// Tensor cores.
    Tensor,
    /// Video encoder.
    Encode,
    /// Video decoder.
    Decode,
    /// Optical flow.
    Ofa,
    /// Copies.
    Copy,
    /// Video units where the source does not distinguish encoder and decoder.
    Media,
    /// JPEG decoder.
    Jpeg,
}

/// Temperature sensor (metric label `sensor`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Sensor {
    /// The die, where the vendor has one sensor for it.
    Gpu,
    /// Edge of the die.
    Edge,
    /// Hottest point of the die.
    Junction,
    /// Device memory.
    Memory,
    /// Voltage regulator of the SoC domain.
    Vrsoc,
    /// The SoC domain of a processor whose GPU is part of it.
    Soc,
    /// Package.
    Package,
    /// Board.
    Board,
    /// Hottest voltage regulator.
    Regulator,
    /// A sensor that the driver does not name.
    Device,
}

/// What a device does at a limit of its temperature (metric label `limit`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TemperatureLimit {
    /// It lowers its clocks.
    Slowdown,
    /// It switches itself off.
    Shutdown,
    /// The highest temperature that it is made for.
    Critical,
}

/// Clock domain (metric label `clock`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Clock {
    /// Shaders.
    Compute,
    /// Device memory.
    Memory,
    /// The SoC fabric.
    Soc,
    /// Media engines.
    Media,
}

/// Cause of throttling (metric label `cause`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ThrottleCause {
    /// Any cause.
    Any,
    /// Power limit.
    Power,
    /// Temperature of the die.
    Thermal,
    /// Temperature of the memory.
    MemoryThermal,
    /// Temperature of a voltage regulator.
    RegulatorThermal,
    /// Current limit.
    Current,
    /// The board asserted PROCHOT.
    Prochot,
    /// The hardware throttles itself, for heat or power.
    Hardware,
    /// The hardware throttles itself for heat.
    HardwareThermal,
    /// The power supply asserted its brake.
    PowerBrake,
}

/// State of a bad memory page (metric label `state`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PageState {
    /// Taken out of use.
    Retired,
    /// To be taken out of use, at the next reset or sooner.
    Pending,
    /// It could not be taken out of use.
    Failed,
}

/// Kind of error (metric label `kind`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ErrorKind {
    /// Memory error that ECC corrected.
    EccCorrectable,
    /// Memory error that ECC could not correct.
    EccUncorrectable,
    /// Deferred memory error: poison not yet consumed.
    EccDeferred,
    /// Error that the hardware corrected, by category.
    RasCorrectable,
    /// Error that the hardware could not correct, by category.
    RasUncorrectable,
    /// PCIe replays.
    PcieReplay,
    /// Failures and degradations of device-to-device links.
    Link,
    /// Resets of the device.
    Reset,
    /// XIDs: errors that a driver reports by number.
    Xid,
    /// Errors after which a device has to be reset, as its library reports them.
    Critical,
}

/// What an error count is about within the device (metric label `detail`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ErrorDetail {
    /// The whole device.
    Device,
    /// A block of the device.
    Block(&'static str),
    /// The number of the error.
    Number(u32),
    /// All numbers that are not counted by themselves.
    Other,
}

impl ErrorDetail {
    /// The value of the metric label; empty for the whole device.
    pub fn label(self) -> Cow<'static, str> {
        match self {
            ErrorDetail::Device => "".into(),
            ErrorDetail::Block(name) => name.into(),
            ErrorDetail::Number(number) => number.to_string().into(),
            ErrorDetail::Other => "other".into(),
        }
    }
}

/// Remapped memory rows (metric label `kind`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rows {
    /// Remapped for correctable errors.
    Correctable,
    /// Remapped for uncorrectable errors.
    Uncorrectable,
    /// 1 if a remapping is pending until the next reset.
    Pending,
    /// 1 if a remapping failed for lack of spare rows.
    Failed,
}

/// State of the PCIe link (metric label `which`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Which {
    /// The present state.
    Current,
    /// The fastest that the device can drive.
    Max,
}

/// Type of the links that are counted (metric label `type`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkCounter {
    /// All XGMI links of the device.
    Xgmi,
    /// All NVLinks of the device.
    Nvlink,
    /// All Xe Link ports of the device.
    Xelink,
}

/// Direction, as seen from the device (metric label `direction`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// Into the device.
    Receive,
    /// Out of the device.
    Transmit,
}

macro_rules! spelling {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $name {
            /// The value of the metric label.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
    };
}

spelling!(Engine {
    Compute => "compute", Memory => "memory", Graphics => "graphics", Sm => "sm", Tensor => "tensor",
    Encode => "encode", Decode => "decode", Ofa => "ofa", Copy => "copy", Media => "media", Jpeg => "jpeg",
});
spelling!(Sensor {
    Gpu => "gpu", Edge => "edge", Junction => "junction", Memory => "memory", Vrsoc => "vrsoc", Soc => "soc", Package => "package",
    Board => "board", Regulator => "regulator", Device => "device",
});
spelling!(TemperatureLimit { Slowdown => "slowdown", Shutdown => "shutdown", Critical => "critical" });
spelling!(Clock { Compute => "compute", Memory => "memory", Soc => "soc", Media => "media" });
spelling!(ThrottleCause {
    Any => "any", Power => "power", Thermal => "thermal", MemoryThermal => "memory_thermal",
    RegulatorThermal => "regulator_thermal", Current => "current", Prochot => "prochot",
    Hardware => "hardware", HardwareThermal => "hardware_thermal", PowerBrake => "power_brake",
});
spelling!(Rows {
    Correctable => "correctable", Uncorrectable => "uncorrectable", Pending => "pending", Failed => "failed",
});
spelling!(PageState { Retired => "retired", Pending => "pending", Failed => "failed" });
spelling!(ErrorKind {
    EccCorrectable => "ecc_correctable", EccUncorrectable => "ecc_uncorrectable",
    EccDeferred => "ecc_deferred", RasCorrectable => "ras_correctable",
    RasUncorrectable => "ras_uncorrectable", PcieReplay => "pcie_replay", Link => "link", Reset => "reset",
    Xid => "xid", Critical => "critical",
});
spelling!(Which { Current => "current", Max => "max" });
spelling!(LinkCounter { Xgmi => "xgmi", Nvlink => "nvlink", Xelink => "xelink" });
spelling!(Direction { Receive => "receive", Transmit => "transmit" });
