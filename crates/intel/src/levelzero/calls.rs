//! Calls and statuses of Level Zero's Sysman, each written once, by the part of the device that they are about.

use afd_model::Missing;
use afd_probe::{answers::LibraryCall, status::StatusRow};

use super::layout::{self, StructLayout};

pub(crate) const INIT: LibraryCall = LibraryCall::new("zesInit");
/// The number of drivers.
pub(crate) const DRIVERS: LibraryCall = LibraryCall::new("zesDriverGet");
/// The number of devices of all drivers.
pub(crate) const DEVICES: LibraryCall = LibraryCall::new("zesDeviceGet");

/// The answer that identifies a device.
pub const PCI_PROPERTIES: LibraryCall = LibraryCall::new("zesDevicePciGetProperties");
pub(crate) const PROPERTIES: LibraryCall = LibraryCall::new("zesDeviceGetProperties");
pub(crate) const ECC: LibraryCall = LibraryCall::new("zesDeviceGetEccState");
/// `zes_device_state_t`, with the flags of `zes_device_ext_state_t`.
pub(crate) const STATE: LibraryCall = LibraryCall::new("zesDeviceGetState");
pub(crate) const PCI_STATE: LibraryCall = LibraryCall::new("zesDevicePciGetState");
pub(crate) const PCI_STATS: LibraryCall = LibraryCall::new("zesDevicePciGetStats");

/// The number of ports of Xe Link.
pub(crate) const PORTS: LibraryCall = LibraryCall::new("zesDeviceEnumFabricPorts");

pub(crate) const MEMORY_PROPERTIES: LibraryCall = LibraryCall::new("zesMemoryGetProperties");
pub(crate) const MEMORY_STATE: LibraryCall = LibraryCall::new("zesMemoryGetState");
pub(crate) const MEMORY_BANDWIDTH: LibraryCall = LibraryCall::new("zesMemoryGetBandwidth");
pub(crate) const ENGINE_PROPERTIES: LibraryCall = LibraryCall::new("zesEngineGetProperties");
pub(crate) const ENGINE_ACTIVITY: LibraryCall = LibraryCall::new("zesEngineGetActivity");
/// `zes_power_properties_t`, with the domain of `zes_power_ext_properties_t`.
pub(crate) const POWER_PROPERTIES: LibraryCall = LibraryCall::new("zesPowerGetProperties");
pub(crate) const POWER_ENERGY: LibraryCall = LibraryCall::new("zesPowerGetEnergyCounter");
pub(crate) const POWER_LIMITS: LibraryCall = LibraryCall::new("zesPowerGetLimitsExt");
pub(crate) const TEMPERATURE_PROPERTIES: LibraryCall = LibraryCall::new("zesTemperatureGetProperties");
pub(crate) const TEMPERATURE: LibraryCall = LibraryCall::new("zesTemperatureGetState");
pub(crate) const FREQUENCY_PROPERTIES: LibraryCall = LibraryCall::new("zesFrequencyGetProperties");
pub(crate) const FREQUENCY_RANGE: LibraryCall = LibraryCall::new("zesFrequencyGetRange");
pub(crate) const FREQUENCY_STATE: LibraryCall = LibraryCall::new("zesFrequencyGetState");
pub(crate) const THROTTLE_TIME: LibraryCall = LibraryCall::new("zesFrequencyGetThrottleTime");
pub(crate) const PORT_PROPERTIES: LibraryCall = LibraryCall::new("zesFabricPortGetProperties");
pub(crate) const PORT_STATE: LibraryCall = LibraryCall::new("zesFabricPortGetState");
pub(crate) const PORT_THROUGHPUT: LibraryCall = LibraryCall::new("zesFabricPortGetThroughput");
pub(crate) const PORT_ERRORS: LibraryCall = LibraryCall::new("zesFabricPortGetFabricErrorCounters");
pub(crate) const RAS_PROPERTIES: LibraryCall = LibraryCall::new("zesRasGetProperties");
pub(crate) const RAS_STATE: LibraryCall = LibraryCall::new("zesRasGetState");
pub(crate) const RAS_STATE_EXP: LibraryCall = LibraryCall::new("zesRasGetStateExp");
pub(crate) const FIRMWARE_PROPERTIES: LibraryCall = LibraryCall::new("zesFirmwareGetProperties");

/// How a call on a handle answers.
#[derive(Clone, Copy, Debug)]
pub enum SysmanSource {
    /// It fills a struct.
    Struct(&'static StructLayout),
    /// It fills a struct that has the second one chained behind it; the value has the fields of both.
    Chain(&'static StructLayout, &'static StructLayout),
    /// It fills an array of structs, of which it returns the number.
    List(&'static StructLayout),
    /// It fills a struct if the counters are not to be cleared, which the caller states before it.
    Uncleared(&'static StructLayout),
    /// It fills a `double`.
    Double,
}

use SysmanSource::{Chain, Double, List, Struct, Uncleared};

/// A call on a handle, and how it answers.
pub type SysmanRow = (LibraryCall, SysmanSource);

/// Components of one kind: engines, sensors, ports.
#[derive(Debug)]
pub struct ComponentKind {
    /// The call that enumerates them on a device. Its answer in a report is their number.
    pub enumerate: LibraryCall,
    /// What does not change.
    pub constant: &'static [SysmanRow],
    /// What changes.
    pub changing: &'static [SysmanRow],
}

/// What does not change of a device.
pub const DEVICE_CONSTANT: &[SysmanRow] =
    &[(PROPERTIES, Struct(&layout::DEVICE_PROPERTIES)), (ECC, Struct(&layout::ECC_PROPERTIES))];
/// What changes of a device.
pub const DEVICE_CHANGING: &[SysmanRow] = &[
    (STATE, Chain(&layout::DEVICE_STATE, &layout::DEVICE_EXT_STATE)),
    (PCI_STATE, Struct(&layout::PCI_STATE)),
    (PCI_STATS, Struct(&layout::PCI_STATS)),
];

/// The components of a device, or of its sub-devices: Sysman enumerates all of them on the device.
pub const COMPONENTS: &[ComponentKind] = &[
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumMemoryModules"),
        constant: &[(MEMORY_PROPERTIES, Struct(&layout::MEMORY_PROPERTIES))],
        changing: &[
            (MEMORY_STATE, Struct(&layout::MEMORY_STATE)),
            (MEMORY_BANDWIDTH, Struct(&layout::MEMORY_BANDWIDTH)),
        ],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumEngineGroups"),
        constant: &[(ENGINE_PROPERTIES, Struct(&layout::ENGINE_PROPERTIES))],
        changing: &[(ENGINE_ACTIVITY, Struct(&layout::ENGINE_STATS))],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumPowerDomains"),
        constant: &[(POWER_PROPERTIES, Chain(&layout::POWER_PROPERTIES, &layout::POWER_EXT_PROPERTIES))],
        changing: &[
            (POWER_ENERGY, Struct(&layout::POWER_ENERGY)),
            (POWER_LIMITS, List(&layout::POWER_LIMIT)),
        ],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumTemperatureSensors"),
        constant: &[(TEMPERATURE_PROPERTIES, Struct(&layout::TEMPERATURE_PROPERTIES))],
        changing: &[(TEMPERATURE, Double)],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumFrequencyDomains"),
        constant: &[(FREQUENCY_PROPERTIES, Struct(&layout::FREQUENCY_PROPERTIES))],
        changing: &[
            (FREQUENCY_RANGE, Struct(&layout::FREQUENCY_RANGE)),
            (FREQUENCY_STATE, Struct(&layout::FREQUENCY_STATE)),
            (THROTTLE_TIME, Struct(&layout::THROTTLE_TIME)),
        ],
    },
    ComponentKind {
        enumerate: PORTS,
        constant: &[(PORT_PROPERTIES, Struct(&layout::PORT_PROPERTIES))],
        changing: &[
            (PORT_STATE, Struct(&layout::PORT_STATE)),
            (PORT_THROUGHPUT, Struct(&layout::PORT_THROUGHPUT)),
            (PORT_ERRORS, Struct(&layout::PORT_ERRORS)),
        ],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumRasErrorSets"),
        constant: &[(RAS_PROPERTIES, Struct(&layout::RAS_PROPERTIES))],
        changing: &[
            (RAS_STATE, Uncleared(&layout::RAS_STATE)),
            (RAS_STATE_EXP, List(&layout::RAS_STATE_EXP)),
        ],
    },
    ComponentKind {
        enumerate: LibraryCall::new("zesDeviceEnumFirmwares"),
        constant: &[(FIRMWARE_PROPERTIES, Struct(&layout::FIRMWARE_PROPERTIES))],
        changing: &[],
    },
];

/// Whether the answer of a call belongs to the device, and stays when a later call fails.
pub(crate) fn is_constant(call: &str) -> bool {
    let of_components =
        COMPONENTS.iter().any(|kind| kind.constant.iter().any(|(known, _)| known.symbol == call));
    of_components
        || call == PCI_PROPERTIES.symbol
        || DEVICE_CONSTANT.iter().any(|(known, _)| known.symbol == call)
}

/// `ze_result_t`, without `ZE_RESULT_` and `ERROR_`.
pub const STATUSES: &[StatusRow] = &[
    (0x1, "NOT_READY", Missing::NotAvailable),
    (0x7000_0001, "DEVICE_LOST", Missing::Unreadable),
    (0x7000_0006, "DEVICE_REQUIRES_RESET", Missing::Unreadable),
    (0x7000_0007, "DEVICE_IN_LOW_POWER_STATE", Missing::NotAvailable),
    (0x7001_0000, "INSUFFICIENT_PERMISSIONS", Missing::NotPermitted),
    (0x7001_0001, "NOT_AVAILABLE", Missing::NotAvailable),
    (0x7002_0000, "DEPENDENCY_UNAVAILABLE", Missing::Unreadable),
    (0x7800_0001, "UNINITIALIZED", Missing::Unreadable),
    (0x7800_0002, "UNSUPPORTED_VERSION", Missing::Unreadable),
    (0x7800_0003, "UNSUPPORTED_FEATURE", Missing::NotAvailable),
    (0x7800_0004, "INVALID_ARGUMENT", Missing::Unreadable),
    (0x7800_0005, "INVALID_NULL_HANDLE", Missing::Unreadable),
    (0x7800_0007, "INVALID_NULL_POINTER", Missing::Unreadable),
    (0x7800_0008, "INVALID_SIZE", Missing::Unreadable),
    (0x7800_0020, "SURVIVABILITY_MODE_DETECTED", Missing::Unreadable),
    (0x7fff_fffe, "UNKNOWN", Missing::Unreadable),
];
