//! Values that move: what a probe's second verb, `sample`, brings.
//!
//! A sample is a list of readings. What could not be read is not in the list, so nothing can be published that
//! was not read.

use crate::{AmdQuantity, DeviceId, Problem};

/// What one probe sampled, and what it could not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// One sample per device or partition.
    pub samples: Vec<Sample>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// Something that discovery tells has changed, such as the health of a device: it should look again.
    pub look_again: bool,
}

/// The readings of one device or partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The device.
    pub device: DeviceId,
    /// Name of the partition, if the readings are a partition's.
    pub partition: Option<String>,
    /// What was read.
    pub readings: Vec<Reading>,
}

/// One value, in the unit that its quantity states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub quantity: Quantity,
    /// The value.
    pub value: f64,
}

/// What can be measured, with its unit. One quantity is one series of the device or partition.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Quantity {
    /// Share of the time in which an engine was busy, 0-1.
    Utilization(Engine),
    /// Device memory in bytes.
    MemoryTotalBytes,
    /// Device memory in use, bytes.
    MemoryUsedBytes,
    /// Device memory that the driver or firmware keeps for itself, bytes.
    MemoryReservedBytes,
    /// Share of the memory bandwidth in use, 0-1.
    MemoryBandwidthRatio,
    /// Memory rows that were replaced, or the state of replacing them.
    RowsRemapped(Rows),
    /// Watts.
    PowerWatts,
    /// The power limit in force, watts.
    PowerLimitWatts,
    /// Joules since a point in the past that does not move while the driver is loaded.
    EnergyJoules,
    /// Degrees Celsius.
    TemperatureCelsius(Sensor),
    /// Hertz now.
    ClockHertz(Clock),
    /// The highest clock, hertz.
    ClockMaxHertz(Clock),
    /// Whether the device is being slowed down, 0 or 1.
    Throttled(ThrottleCause),
    /// Seconds for which the device was slowed down, since the agent began to watch it or, where the device counts
    /// seconds itself, since it began.
    ThrottleSeconds(ThrottleCause),
    /// Pages of device memory that are bad, by what became of them.
    RetiredPages(PageState),
    /// Device memory in bytes that the process of this id holds.
    ProcessMemoryUsedBytes(u32),
    /// How often the driver told of an XID (NVIDIA's number of an error) since the agent looks.
    Xids(u32),
    /// The last XID since the agent looks, 0 while there was none.
    LastXid,
    /// Whether the vGPU has a licence, 0 or 1.
    VgpuLicensed,
    /// Bytes per second over PCIe.
    PcieBytesPerSecond(Direction),
    /// Count of errors since the driver was loaded; the text tells the block of the device, or is empty.
    Errors(ErrorKind, &'static str),
    /// Transfers per second on each PCIe lane.
    PcieTransfersPerSecond(Which),
    /// Number of PCIe lanes.
    PcieWidth(Which),
    /// Bytes over the device-to-device links.
    LinkBytes(LinkCounter, Direction),
    /// What only AMD's exporter publishes.
    Amd(AmdQuantity),
}

/// Part of a device that works on its own (metric label `engine`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Engine {
    /// Shaders, matrix units: what models run on.
    Compute,
    /// The memory controller.
    Memory,
    /// The graphics engine, which runs shaders and compute alike (NVIDIA GPM).
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
    /// Video units where the source does not tell encoder and decoder apart.
    Media,
    /// JPEG decoder.
    Jpeg,
}

/// Where a temperature is taken (metric label `sensor`).
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
    /// A sensor of the device that the driver gives no name.
    Device,
}

/// Which clock (metric label `clock`).
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

/// Why a device is slowed down (metric label `cause`).
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
    /// The hardware slows itself down, for heat or power.
    Hardware,
    /// The hardware slows itself down for heat.
    HardwareThermal,
    /// The power supply asserted its brake.
    PowerBrake,
}

/// What became of a bad page of memory (metric label `state`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PageState {
    /// Taken out of use.
    Retired,
    /// To be taken out of use, at the next reset or sooner.
    Pending,
    /// It could not be taken out of use.
    Failed,
}

/// What went wrong (metric label `kind`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ErrorKind {
    /// Memory error that ECC put right.
    EccCorrectable,
    /// Memory error that ECC could not put right.
    EccUncorrectable,
    /// Memory error left for later: poison not yet consumed.
    EccDeferred,
    /// PCIe packets sent again.
    PcieReplay,
    /// Resets of the device.
    Reset,
}

/// Rows of memory that a part replaces by spare ones (metric label `kind`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rows {
    /// Replaced for errors that ECC put right.
    Correctable,
    /// Replaced for errors that ECC could not put right.
    Uncorrectable,
    /// 1 if a row waits for a reset to be replaced.
    Pending,
    /// 1 if there was no spare row left.
    Failed,
}

/// Which state of the PCIe link (metric label `which`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Which {
    /// As it runs now.
    Current,
    /// The fastest that the device can drive.
    Max,
}

/// Over which links bytes are counted (metric label `type`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkCounter {
    /// All XGMI links of the device.
    Xgmi,
    /// All NVLinks of the device.
    Nvlink,
}

/// Seen from the device (metric label `direction`).
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
    Encode => "encode", Decode => "decode", Ofa => "ofa", Media => "media", Jpeg => "jpeg",
});
spelling!(Sensor {
    Gpu => "gpu", Edge => "edge", Junction => "junction", Memory => "memory", Vrsoc => "vrsoc", Soc => "soc", Package => "package",
    Board => "board", Device => "device",
});
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
    EccDeferred => "ecc_deferred", PcieReplay => "pcie_replay", Reset => "reset",
});
spelling!(Which { Current => "current", Max => "max" });
spelling!(LinkCounter { Xgmi => "xgmi", Nvlink => "nvlink" });
spelling!(Direction { Receive => "receive", Transmit => "transmit" });
