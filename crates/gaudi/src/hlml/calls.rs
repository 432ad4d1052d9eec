//! Calls and statuses of HLML, each written once. Enums are those of hlml.h.

use afd_model::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, GaudiQuantity, Missing, Quantity, Rows, Sensor,
    TemperatureLimit,
};
use afd_probe::{
    answers::LibraryCall,
    row::{LibraryRow, ValueScale},
    status::StatusRow,
};

use super::{
    HlmlResult,
    ffi::{HlmlApi, HlmlDevice},
};

pub(crate) const INIT: LibraryCall = LibraryCall::new("hlml_init");
pub(crate) const LIBRARY_VERSION: LibraryCall = LibraryCall::new("hlml_get_hlml_version");
pub(crate) const DRIVER_VERSION: LibraryCall = LibraryCall::new("hlml_get_driver_version");
pub(crate) const COUNT: LibraryCall = LibraryCall::new("hlml_device_get_count");
pub(crate) const HANDLE: LibraryCall = LibraryCall::new("hlml_device_get_handle_by_index");
pub(crate) const PCI_INFO: LibraryCall = LibraryCall::new("hlml_device_get_pci_info");
pub(crate) const SERIAL: LibraryCall = LibraryCall::new("hlml_device_get_serial");
pub(crate) const UUID: LibraryCall = LibraryCall::new("hlml_device_get_uuid");
pub(crate) const MODULE_ID: LibraryCall = LibraryCall::new("hlml_device_get_module_id");
pub(crate) const FIRMWARE: LibraryCall = LibraryCall::new("hlml_get_fw_os_version");
pub(crate) const FIT_VERSION: LibraryCall = LibraryCall::new("hlml_get_firmware_fit_version");
pub(crate) const SPI_VERSION: LibraryCall = LibraryCall::new("hlml_get_firmware_spi_version");
pub(crate) const ECC_MODE: LibraryCall = LibraryCall::new("hlml_device_get_ecc_mode");
pub(crate) const NIC_PORTS: LibraryCall = LibraryCall::new("hlml_get_mac_addr_info");
/// With the number of the port.
pub(crate) const NIC_LINK: LibraryCall = LibraryCall::new("hlml_nic_get_link");
pub(super) const EVENT_SET: LibraryCall = LibraryCall::new("hlml_event_set_create");
pub(crate) const REGISTER_EVENTS: LibraryCall = LibraryCall::new("hlml_device_register_events");
pub(super) const WAIT_EVENT: LibraryCall = LibraryCall::new("hlml_event_set_wait");
pub(crate) const STATUS: LibraryCall = LibraryCall::new("hlml_device_get_oper_status");
pub(crate) const THROTTLE: LibraryCall = LibraryCall::new("hlml_device_get_current_clocks_throttle_reasons");
pub(crate) const ROWS_PENDING: LibraryCall = LibraryCall::new("hlml_device_get_replaced_rows_pending_status");
/// `HLML_MEMORY_ERROR_TYPE_UNCORRECTED`, `HLML_AGGREGATE_ECC`.
pub(crate) const UNCORRECTED: LibraryCall =
    LibraryCall::selecting("hlml_device_get_total_ecc_errors", &[1, 1]);
const CORRECTED: LibraryCall = LibraryCall::selecting("hlml_device_get_total_ecc_errors", &[0, 1]);
const ROWS_CORRECTABLE: LibraryCall = LibraryCall::selecting("hlml_device_get_replaced_rows", &[0]);
const ROWS_UNCORRECTABLE: LibraryCall = LibraryCall::selecting("hlml_device_get_replaced_rows", &[1]);
pub(super) const UTILIZATION: LibraryCall = LibraryCall::new("hlml_device_get_utilization_rates");
pub(crate) const MEMORY: LibraryCall = LibraryCall::new("hlml_device_get_memory_info");
const POWER: LibraryCall = LibraryCall::new("hlml_device_get_power_usage");
const POWER_DEFAULT_LIMIT: LibraryCall = LibraryCall::new("hlml_device_get_power_management_default_limit");
const ENERGY: LibraryCall = LibraryCall::new("hlml_device_get_total_energy_consumption");
const REPLAYS: LibraryCall = LibraryCall::new("hlml_device_get_pcie_replay_counter");
const TEMPERATURE: &str = "hlml_device_get_temperature";
const THRESHOLD: &str = "hlml_device_get_temperature_threshold";
const PCIE: &str = "hlml_device_get_pcie_throughput";
/// The clock of the SOC domain.
const SOC_CLOCK: LibraryCall = LibraryCall::selecting("hlml_device_get_clock_info", &[0]);
const SOC_CLOCK_MAX: LibraryCall = LibraryCall::selecting("hlml_device_get_max_clock_info", &[0]);

/// Makes a call on a device.
pub(super) type HlmlQuery = fn(&HlmlApi, HlmlDevice, LibraryCall) -> HlmlResult;

type HlmlRow = LibraryRow<HlmlQuery>;

/// Calls whose values belong to the device or its firmware, and stay when a later call fails.
pub(super) const STATIC: [LibraryCall; 8] =
    [PCI_INFO, SERIAL, UUID, MODULE_ID, FIRMWARE, FIT_VERSION, SPI_VERSION, NIC_PORTS];

const MILLI: ValueScale = ValueScale::per(1000.0);
const MEGA: ValueScale = ValueScale::times(1e6);
const KILO: ValueScale = ValueScale::times(1e3);
/// Above this no sensor works; a library that fills in what it does not know exceeds it.
const CELSIUS: ValueScale = ValueScale::ONE.at_most(250.0);

/// The changing values.
pub(crate) const SAMPLED: &[HlmlRow] = &[
    structure(
        UTILIZATION,
        HlmlApi::utilization,
        "aip",
        Quantity::Utilization(Engine::Compute),
        ValueScale::PERCENT,
    ),
    structure(MEMORY, HlmlApi::memory, "used", Quantity::MemoryUsedBytes, ValueScale::ONE),
    number(POWER, Quantity::PowerWatts, MILLI),
    number(POWER_DEFAULT_LIMIT, own(GaudiQuantity::DefaultPowerLimitWatts), MILLI),
    wide(ENERGY, Quantity::EnergyJoules, MILLI),
    selecting(TEMPERATURE, &[0], Quantity::TemperatureCelsius(Sensor::Device), CELSIUS),
    selecting(TEMPERATURE, &[1], Quantity::TemperatureCelsius(Sensor::Board), CELSIUS),
    selecting(TEMPERATURE, &[3], Quantity::TemperatureCelsius(Sensor::Memory), CELSIUS),
    selecting(TEMPERATURE, &[4], Quantity::TemperatureCelsius(Sensor::Vrsoc), CELSIUS),
    threshold(&[0], Sensor::Device, TemperatureLimit::Shutdown),
    threshold(&[1], Sensor::Device, TemperatureLimit::Slowdown),
    threshold(&[2], Sensor::Memory, TemperatureLimit::Critical),
    threshold(&[3], Sensor::Device, TemperatureLimit::Critical),
    row(SOC_CLOCK, HlmlApi::selected, Quantity::ClockHertz(Clock::Soc), MEGA),
    row(SOC_CLOCK_MAX, HlmlApi::selected, Quantity::ClockMaxHertz(Clock::Soc), MEGA),
    row(
        CORRECTED,
        HlmlApi::ecc_errors,
        Quantity::Errors(ErrorKind::EccCorrectable, ErrorDetail::Device),
        ValueScale::ONE,
    ),
    row(
        UNCORRECTED,
        HlmlApi::ecc_errors,
        Quantity::Errors(ErrorKind::EccUncorrectable, ErrorDetail::Device),
        ValueScale::ONE,
    ),
    row(ROWS_CORRECTABLE, HlmlApi::replaced_rows, Quantity::RowsRemapped(Rows::Correctable), ValueScale::ONE),
    row(
        ROWS_UNCORRECTABLE,
        HlmlApi::replaced_rows,
        Quantity::RowsRemapped(Rows::Uncorrectable),
        ValueScale::ONE,
    ),
    number(ROWS_PENDING, Quantity::RowsRemapped(Rows::Pending), ValueScale::ONE.at_most(1.0)),
    number(REPLAYS, Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), ValueScale::ONE),
];

/// What takes long: each call measures for 10 ms.
pub(crate) const RARELY_SAMPLED: &[HlmlRow] = &[
    selecting(PCIE, &[0], Quantity::PcieBytesPerSecond(Direction::Transmit), KILO),
    selecting(PCIE, &[1], Quantity::PcieBytesPerSecond(Direction::Receive), KILO),
];

/// Evidence of faults, which is queried at each discovery as well.
pub(super) const EVIDENCE: [LibraryCall; 2] = [ROWS_PENDING, UNCORRECTED];

const fn own(quantity: GaudiQuantity) -> Quantity {
    Quantity::Vendor(afd_model::VendorQuantity::Gaudi(quantity))
}

const fn row(call: LibraryCall, source: HlmlQuery, quantity: Quantity, scale: ValueScale) -> HlmlRow {
    LibraryRow { call, source, field: None, quantity, scale }
}

const fn structure(
    call: LibraryCall,
    source: HlmlQuery,
    field: &'static str,
    quantity: Quantity,
    scale: ValueScale,
) -> HlmlRow {
    LibraryRow { call, source, field: Some(field), quantity, scale }
}

const fn number(call: LibraryCall, quantity: Quantity, scale: ValueScale) -> HlmlRow {
    row(call, HlmlApi::number, quantity, scale)
}

const fn wide(call: LibraryCall, quantity: Quantity, scale: ValueScale) -> HlmlRow {
    row(call, HlmlApi::wide_number, quantity, scale)
}

const fn selecting(
    symbol: &'static str,
    arguments: &'static [u32],
    quantity: Quantity,
    scale: ValueScale,
) -> HlmlRow {
    row(LibraryCall::selecting(symbol, arguments), HlmlApi::selected, quantity, scale)
}

const fn threshold(arguments: &'static [u32], sensor: Sensor, limit: TemperatureLimit) -> HlmlRow {
    selecting(THRESHOLD, arguments, Quantity::TemperatureLimitCelsius(sensor, limit), CELSIUS)
}

/// `hlml_return_t`, without `HLML_ERROR_`.
pub const STATUSES: &[StatusRow] = &[
    (1, "UNINITIALIZED", Missing::Unreadable),
    (2, "INVALID_ARGUMENT", Missing::Unrecognized),
    (3, "NOT_SUPPORTED", Missing::NotExposed),
    (5, "ALREADY_INITIALIZED", Missing::Unreadable),
    (6, "NOT_FOUND", Missing::NotAvailable),
    (7, "INSUFFICIENT_SIZE", Missing::Malformed),
    (9, "DRIVER_NOT_LOADED", Missing::DriverNotBound),
    (10, "TIMEOUT", Missing::Unreadable),
    (15, "AIP_IS_LOST", Missing::Unreadable),
    (20, "MEMORY", Missing::Unreadable),
    (21, "NO_DATA", Missing::NotAvailable),
    (49, "UNKNOWN", Missing::Unreadable),
];
