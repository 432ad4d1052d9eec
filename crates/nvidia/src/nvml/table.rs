//! What NVML is asked, and what its answers are. No other file has NVML's call names, field ids or metric ids.
//!
//! The querying process walks the rows and the lists of [`call`]; `interpret`, `readings` and `health` read the answers by the
//! same rows and constants. A call with arguments that select is a call of its own: `nvmlDeviceGetClockInfo(1)`.

pub(crate) mod call;

use afd_model::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, LinkCounter, LinkErrorKind, LinkValue, Quantity, Rows,
    Sensor, TemperatureLimit, ThrottleCause,
};
use afd_probe::{
    answers::LibraryCall,
    row::{LibraryRow, ValueScale},
};

use self::call::*;

/// The virtualization mode of a vGPU inside its virtual machine.
pub(crate) const VIRTUALIZATION_VGPU: u32 = 2;
/// NVLinks of a GPU (`NVML_NVLINK_MAX_LINKS`).
pub(crate) const MAX_LINKS: u32 = 18;
/// Numbers of GPU instance profiles: those of nvml.h, and some for newer drivers.
pub(crate) const MAX_PROFILES: u32 = 24;
/// The peer-to-peer capability "over NVLink".
pub(crate) const P2P_NVLINK: u32 = 2;

/// One sampled value.
pub(crate) type NvmlRow = LibraryRow<()>;

const fn number(call: LibraryCall, quantity: Quantity, scale: ValueScale) -> NvmlRow {
    LibraryRow { call, source: (), field: None, quantity, scale }
}

const fn field(call: LibraryCall, field: &'static str, quantity: Quantity, scale: ValueScale) -> NvmlRow {
    LibraryRow { call, source: (), field: Some(field), quantity, scale }
}

const fn errors(kind: ErrorKind) -> Quantity {
    Quantity::Errors(kind, ErrorDetail::Device)
}

const fn limit(sensor: Sensor, limit: TemperatureLimit) -> Quantity {
    Quantity::TemperatureLimitCelsius(sensor, limit)
}

// A number that no GPU can have is dropped by the range of its quantity, and counted.
const COUNT: ValueScale = ValueScale::ONE;
const FLAG: ValueScale = ValueScale::ONE;
const BYTES: ValueScale = ValueScale::ONE;
const KIBIBYTES: ValueScale = ValueScale::times(1024.0);
const MEBIBYTES_PER_SECOND: ValueScale = ValueScale::times((1_u64 << 20) as f64);
const MILLIWATTS: ValueScale = ValueScale::per(1e3);
const MILLIJOULES: ValueScale = ValueScale::per(1e3);
const CELSIUS: ValueScale = ValueScale::ONE;
const MEGAHERTZ: ValueScale = ValueScale::times(1e6);
const NANOSECONDS: ValueScale = ValueScale::per(1e9);
const PERCENT: ValueScale = ValueScale::per(100.0);

/// Sampled of every GPU.
pub(crate) const GPU_ROWS: &[NvmlRow] = &[
    field(UTILIZATION, "gpu", Quantity::Utilization(Engine::Compute), PERCENT),
    field(UTILIZATION, "memory", Quantity::Utilization(Engine::Memory), PERCENT),
    field(ENCODER_UTILIZATION, "utilization", Quantity::Utilization(Engine::Encode), PERCENT),
    field(DECODER_UTILIZATION, "utilization", Quantity::Utilization(Engine::Decode), PERCENT),
    field(JPEG_UTILIZATION, "utilization", Quantity::Utilization(Engine::Jpeg), PERCENT),
    field(OFA_UTILIZATION, "utilization", Quantity::Utilization(Engine::Ofa), PERCENT),
    number(POWER_USAGE, Quantity::PowerWatts, MILLIWATTS),
    number(POWER_LIMIT, Quantity::PowerLimitWatts, MILLIWATTS),
    number(ENERGY, Quantity::EnergyJoules, MILLIJOULES),
    number(TEMPERATURE_GPU, Quantity::TemperatureCelsius(Sensor::Gpu), CELSIUS),
    number(TEMPERATURE_MEMORY, Quantity::TemperatureCelsius(Sensor::Memory), CELSIUS),
    number(CLOCK_SM, Quantity::ClockHertz(Clock::Compute), MEGAHERTZ),
    number(CLOCK_MEMORY, Quantity::ClockHertz(Clock::Memory), MEGAHERTZ),
    number(CLOCK_VIDEO, Quantity::ClockHertz(Clock::Media), MEGAHERTZ),
    number(PCIE_REPLAYS, errors(ErrorKind::PcieReplay), COUNT),
    number(ECC_CORRECTED, errors(ErrorKind::EccCorrectable), ValueScale::ONE),
    number(ECC_UNCORRECTED, errors(ErrorKind::EccUncorrectable), ValueScale::ONE),
    field(REMAPPED_ROWS, "corrRows", Quantity::RowsRemapped(Rows::Correctable), COUNT),
    field(REMAPPED_ROWS, "uncRows", Quantity::RowsRemapped(Rows::Uncorrectable), COUNT),
    field(REMAPPED_ROWS, "isPending", Quantity::RowsRemapped(Rows::Pending), FLAG),
    field(REMAPPED_ROWS, "failureOccurred", Quantity::RowsRemapped(Rows::Failed), FLAG),
    field(VIOLATION_POWER, "violationTime", Quantity::ThrottleSeconds(ThrottleCause::Power), NANOSECONDS),
    field(VIOLATION_THERMAL, "violationTime", Quantity::ThrottleSeconds(ThrottleCause::Thermal), NANOSECONDS),
    number(NVLINK_TRANSMITTED, Quantity::LinkBytes(LinkCounter::Nvlink, Direction::Transmit), KIBIBYTES),
    number(NVLINK_RECEIVED, Quantity::LinkBytes(LinkCounter::Nvlink, Direction::Receive), KIBIBYTES),
];

/// One sampled value of each NVLink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NvlinkRow {
    /// The call, whose last argument is the number of the link.
    pub(crate) call: LibraryCall,
    pub(crate) value: LinkValue,
    pub(crate) scale: ValueScale,
}

const fn link(call: LibraryCall, value: LinkValue, scale: ValueScale) -> NvlinkRow {
    NvlinkRow { call, value, scale }
}

/// Sampled of every NVLink, on request. Of two rows with one value the first that has a number counts.
pub(crate) const LINK_ROWS: &[NvlinkRow] = &[
    link(NVLINK_STATE, LinkValue::Up, FLAG),
    link(LINK_TRANSMITTED, LinkValue::Bytes(Direction::Transmit), KIBIBYTES),
    link(LINK_RECEIVED, LinkValue::Bytes(Direction::Receive), KIBIBYTES),
    link(LINK_REPLAYS, LinkValue::Errors(LinkErrorKind::Replay), COUNT),
    link(LINK_RECOVERIES, LinkValue::Errors(LinkErrorKind::Recovery), COUNT),
    link(LINK_RECOVERY_EVENTS, LinkValue::Errors(LinkErrorKind::Recovery), COUNT),
    link(LINK_CRC_ERRORS, LinkValue::Errors(LinkErrorKind::Crc), COUNT),
    link(LINK_RECEIVE_ERRORS, LinkValue::Errors(LinkErrorKind::Receive), COUNT),
];

impl NvlinkRow {
    /// The arguments of the call for a link.
    pub(crate) fn arguments(&self, link: u32) -> Vec<u32> {
        [self.call.arguments, &[link]].concat()
    }

    /// The name of the call for a link.
    pub(crate) fn name(&self, link: u32) -> String {
        self.call.with(&self.arguments(link))
    }
}

/// Values of the discovery that stay the same while the driver is loaded, published with every sample.
pub(crate) const STATIC_ROWS: &[NvmlRow] = &[
    number(MAX_CLOCK_SM, Quantity::ClockMaxHertz(Clock::Compute), MEGAHERTZ),
    number(MAX_CLOCK_MEMORY, Quantity::ClockMaxHertz(Clock::Memory), MEGAHERTZ),
    number(MAX_CLOCK_VIDEO, Quantity::ClockMaxHertz(Clock::Media), MEGAHERTZ),
    number(SHUTDOWN_TEMPERATURE, limit(Sensor::Gpu, TemperatureLimit::Shutdown), CELSIUS),
    number(SLOWDOWN_TEMPERATURE, limit(Sensor::Gpu, TemperatureLimit::Slowdown), CELSIUS),
    number(MAX_TEMPERATURE_GPU, limit(Sensor::Gpu, TemperatureLimit::Critical), CELSIUS),
    number(MAX_TEMPERATURE_MEMORY, limit(Sensor::Memory, TemperatureLimit::Critical), CELSIUS),
];

/// Sampled of every GPU and every MIG device. Version 1 counts memory that the driver reserves as used.
pub(crate) const MEMORY_ROWS: &[NvmlRow] = &[
    field(MEMORY, "used", Quantity::MemoryUsedBytes, BYTES),
    field(MEMORY, "reserved", Quantity::MemoryReservedBytes, BYTES),
    field(MEMORY_V1, "used", Quantity::MemoryUsedBytes, BYTES),
];

/// Measured by GPM between two samples of a GPU that supports it, and of its GPU instances.
pub(crate) const GPM_ROWS: &[NvmlRow] = &[
    number(GPM_GRAPHICS, Quantity::Utilization(Engine::Graphics), PERCENT),
    number(GPM_SM, Quantity::Utilization(Engine::Sm), PERCENT),
    number(GPM_TENSOR, Quantity::Utilization(Engine::Tensor), PERCENT),
    number(GPM_MEMORY_BANDWIDTH, Quantity::MemoryBandwidthRatio, PERCENT),
    number(GPM_PCIE_TRANSMITTED, Quantity::PcieBytesPerSecond(Direction::Transmit), MEBIBYTES_PER_SECOND),
    number(GPM_PCIE_RECEIVED, Quantity::PcieBytesPerSecond(Direction::Receive), MEBIBYTES_PER_SECOND),
];

/// The utilization of a MIG device, for which NVML has no call: the activity of its graphics engine.
pub(crate) const MIG_UTILIZATION: NvmlRow =
    number(GPM_GRAPHICS, Quantity::Utilization(Engine::Compute), PERCENT);

/// Causes of throttling by their bits in [`CLOCKS_EVENT_REASONS`] (`nvmlClocksEventReason*`).
pub(crate) const THROTTLE_BITS: [(u64, ThrottleCause); 5] = [
    (0x4, ThrottleCause::Power),
    (0x8, ThrottleCause::Hardware),
    (0x20, ThrottleCause::Thermal),
    (HW_THERMAL_SLOWDOWN, ThrottleCause::HardwareThermal),
    (HW_POWER_BRAKE, ThrottleCause::PowerBrake),
];
const HW_THERMAL_SLOWDOWN: u64 = 0x40;
const HW_POWER_BRAKE: u64 = 0x80;

/// `NVML_GPU_FABRIC_STATE_COMPLETED`.
pub(crate) const FABRIC_COMPLETED: u64 = 3;

/// A value by which health is judged. In this order their reasons are listed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum HealthInput {
    /// `nvmlDeviceGpuRecoveryAction_t`.
    RecoveryAction,
    RowRemapFailure,
    RowRemapPending,
    PageRetirementPending,
    /// `nvmlGpuFabricState_t`.
    FabricState,
    /// `nvmlReturn_t` of the registration with the fabric.
    FabricStatus,
    /// `NVML_GPU_FABRIC_HEALTH_SUMMARY_*`.
    FabricHealth,
    ThermalSlowdown,
    PowerBrake,
}

/// Where a health input comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthRow {
    pub(crate) input: HealthInput,
    pub(crate) call: LibraryCall,
    /// The field of the struct that the call fills.
    pub(crate) field: Option<&'static str>,
    /// The bits of the number that are the input.
    pub(crate) bits: u64,
    /// Asked in each sample as well, so that a change causes a discovery.
    pub(crate) is_sampled: bool,
}

const fn health(input: HealthInput, call: LibraryCall, field: Option<&'static str>) -> HealthRow {
    HealthRow { input, call, field, bits: u64::MAX, is_sampled: true }
}

const fn fabric(input: HealthInput, field: &'static str) -> HealthRow {
    HealthRow { is_sampled: false, ..health(input, FABRIC, Some(field)) }
}

const fn clocks(input: HealthInput, bits: u64) -> HealthRow {
    HealthRow { bits, ..health(input, CLOCKS_EVENT_REASONS, None) }
}

/// All health inputs.
pub(crate) const HEALTH_ROWS: &[HealthRow] = &[
    health(HealthInput::RecoveryAction, RECOVERY_ACTION, None),
    health(HealthInput::RowRemapFailure, REMAPPED_ROWS, Some("failureOccurred")),
    health(HealthInput::RowRemapPending, REMAPPED_ROWS, Some("isPending")),
    health(HealthInput::PageRetirementPending, RETIRED_PAGES_PENDING, None),
    fabric(HealthInput::FabricState, "state"),
    fabric(HealthInput::FabricStatus, "status"),
    fabric(HealthInput::FabricHealth, "healthSummary"),
    clocks(HealthInput::ThermalSlowdown, HW_THERMAL_SLOWDOWN),
    clocks(HealthInput::PowerBrake, HW_POWER_BRAKE),
];

/// Bit of the event that is an XID (`nvmlEventTypeXidCriticalError`).
pub(crate) const XID_EVENT: u64 = 0x8;

/// Whether the value of a call stays the same while the driver is loaded and the GPU is there, so that it is retained when the call
/// fails later: all calls of a discovery but those that judge health, that concern an index, or that are no facts.
pub(crate) fn is_static(call: &str) -> bool {
    const OTHERS: [LibraryCall; 8] = [
        INIT,
        DEVICE_COUNT,
        HANDLE_BY_INDEX,
        MIG_BY_INDEX,
        P2P_STATUS,
        REGISTER_EVENTS,
        FABRIC_V1,
        CLOCKS_THROTTLE_REASONS,
    ];
    let of_health = HEALTH_ROWS.iter().map(|row| row.call);
    let mut names = of_health.chain(OTHERS).map(String::from);
    !names.any(|name| call == name || call.strip_prefix(&name).is_some_and(|rest| rest.starts_with('(')))
}

#[cfg(test)]
mod tests;
