//! The structs, by the names of the header.
#![allow(missing_docs, reason = "each static has the name and the meaning of the header")]

use super::{
    FieldType::{self, Bool, F64, I32, I64, Struct, Text, U8, U32, U64, U64s},
    StructField, StructLayout,
};

const fn typed(name: &'static str, bytes: usize, stype: u32, fields: &'static [StructField]) -> StructLayout {
    StructLayout { name, bytes, stype: Some(stype), fields }
}

const fn untyped(name: &'static str, bytes: usize, fields: &'static [StructField]) -> StructLayout {
    StructLayout { name, bytes, stype: None, fields }
}

const fn field(name: &'static str, offset: usize, kind: FieldType) -> StructField {
    StructField(name, offset, kind)
}

/// `ze_device_properties_t` lies inside at 16, and has a type number of its own there.
pub static DEVICE_PROPERTIES: StructLayout = typed(
    "device_properties",
    776,
    0x1,
    &[
        field("type", CORE_PROPERTIES + 16, U32),
        field("deviceId", CORE_PROPERTIES + 24, U32),
        field("flags", CORE_PROPERTIES + 28, U32),
        field("numSubdevices", 384, U32),
        field("serialNumber", 388, Text(64)),
        field("boardNumber", 452, Text(64)),
        field("brandName", 516, Text(64)),
        field("modelName", 580, Text(64)),
        field("vendorName", 644, Text(64)),
        field("driverVersion", 708, Text(64)),
    ],
);
/// Where the struct of the core API is in [`DEVICE_PROPERTIES`], and its type number.
pub const CORE_PROPERTIES: usize = 16;
/// The type number of that struct.
pub const CORE_PROPERTIES_STYPE: u32 = 0x3;
pub static DEVICE_STATE: StructLayout =
    typed("device_state", 24, 0x15, &[field("reset", 16, U32), field("repaired", 20, U32)]);
/// Chained behind [`DEVICE_STATE`].
pub static DEVICE_EXT_STATE: StructLayout =
    typed("device_ext_state", 24, 0x20018, &[field("flags", 16, U32)]);
pub static ECC_PROPERTIES: StructLayout = typed(
    "device_ecc_properties",
    32,
    0x26,
    &[field("currentState", 16, U32), field("pendingState", 20, U32), field("pendingAction", 24, U32)],
);
pub static PCI_ADDRESS: StructLayout = untyped(
    "pci_address",
    16,
    &[field("domain", 0, U32), field("bus", 4, U32), field("device", 8, U32), field("function", 12, U32)],
);
pub static PCI_SPEED: StructLayout =
    untyped("pci_speed", 16, &[field("gen", 0, I32), field("width", 4, I32), field("maxBandwidth", 8, I64)]);
pub static PCI_PROPERTIES: StructLayout = typed(
    "pci_properties",
    56,
    0x2,
    &[
        field("address", 16, Struct(&PCI_ADDRESS)),
        field("maxSpeed", 32, Struct(&PCI_SPEED)),
        field("haveBandwidthCounters", 48, Bool),
        field("havePacketCounters", 49, Bool),
        field("haveReplayCounters", 50, Bool),
    ],
);
pub static PCI_STATE: StructLayout = typed(
    "pci_state",
    48,
    0x17,
    &[
        field("status", 16, U32),
        field("qualityIssues", 20, U32),
        field("stabilityIssues", 24, U32),
        field("speed", 32, Struct(&PCI_SPEED)),
    ],
);
pub static PCI_STATS: StructLayout = untyped(
    "pci_stats",
    56,
    &[
        field("timestamp", 0, U64),
        field("replayCounter", 8, U64),
        field("packetCounter", 16, U64),
        field("rxCounter", 24, U64),
        field("txCounter", 32, U64),
        field("speed", 40, Struct(&PCI_SPEED)),
    ],
);
pub static MEMORY_PROPERTIES: StructLayout = typed(
    "mem_properties",
    48,
    0xb,
    &[
        field("type", 16, U32),
        field("onSubdevice", 20, Bool),
        field("subdeviceId", 24, U32),
        field("location", 28, U32),
        field("physicalSize", 32, U64),
        field("busWidth", 40, I32),
        field("numChannels", 44, I32),
    ],
);
pub static MEMORY_STATE: StructLayout =
    typed("mem_state", 40, 0x1e, &[field("health", 16, U32), field("free", 24, U64), field("size", 32, U64)]);
pub static MEMORY_BANDWIDTH: StructLayout = untyped(
    "mem_bandwidth",
    32,
    &[
        field("readCounter", 0, U64),
        field("writeCounter", 8, U64),
        field("maxBandwidth", 16, U64),
        field("timestamp", 24, U64),
    ],
);
pub static ENGINE_PROPERTIES: StructLayout = typed(
    "engine_properties",
    32,
    0x5,
    &[field("type", 16, U32), field("onSubdevice", 20, Bool), field("subdeviceId", 24, U32)],
);
pub static ENGINE_STATS: StructLayout =
    untyped("engine_stats", 16, &[field("activeTime", 0, U64), field("timestamp", 8, U64)]);
pub static POWER_PROPERTIES: StructLayout = typed(
    "power_properties",
    40,
    0xd,
    &[
        field("onSubdevice", 16, Bool),
        field("subdeviceId", 20, U32),
        field("canControl", 24, Bool),
        field("isEnergyThresholdSupported", 25, Bool),
        field("defaultLimit", 28, I32),
        field("minLimit", 32, I32),
        field("maxLimit", 36, I32),
    ],
);
/// Chained behind [`POWER_PROPERTIES`]; at 24 it points at a [`POWER_LIMIT`].
pub static POWER_EXT_PROPERTIES: StructLayout =
    typed("power_ext_properties", 32, 0x28, &[field("domain", 16, U32)]);
/// Where [`POWER_EXT_PROPERTIES`] points at the default limit.
pub const DEFAULT_LIMIT: usize = 24;
pub static POWER_ENERGY: StructLayout =
    untyped("power_energy_counter", 16, &[field("energy", 0, U64), field("timestamp", 8, U64)]);
pub static POWER_LIMIT: StructLayout = typed(
    "power_limit_ext_desc",
    48,
    0x27,
    &[
        field("level", 16, U32),
        field("source", 20, U32),
        field("limitUnit", 24, U32),
        field("enabledStateLocked", 28, Bool),
        field("enabled", 29, Bool),
        field("intervalValueLocked", 30, Bool),
        field("interval", 32, I32),
        field("limitValueLocked", 36, Bool),
        field("limit", 40, I32),
    ],
);
pub static TEMPERATURE_PROPERTIES: StructLayout = typed(
    "temp_properties",
    48,
    0x14,
    &[
        field("type", 16, U32),
        field("onSubdevice", 20, Bool),
        field("subdeviceId", 24, U32),
        field("maxTemperature", 32, F64),
        field("isCriticalTempSupported", 40, Bool),
        field("isThreshold1Supported", 41, Bool),
        field("isThreshold2Supported", 42, Bool),
    ],
);
pub static FREQUENCY_PROPERTIES: StructLayout = typed(
    "freq_properties",
    48,
    0x9,
    &[
        field("type", 16, U32),
        field("onSubdevice", 20, Bool),
        field("subdeviceId", 24, U32),
        field("canControl", 28, Bool),
        field("isThrottleEventSupported", 29, Bool),
        field("min", 32, F64),
        field("max", 40, F64),
    ],
);
pub static FREQUENCY_RANGE: StructLayout =
    untyped("freq_range", 16, &[field("min", 0, F64), field("max", 8, F64)]);
pub static FREQUENCY_STATE: StructLayout = typed(
    "freq_state",
    64,
    0x1b,
    &[
        field("currentVoltage", 16, F64),
        field("request", 24, F64),
        field("tdp", 32, F64),
        field("efficient", 40, F64),
        field("actual", 48, F64),
        field("throttleReasons", 56, U32),
    ],
);
pub static THROTTLE_TIME: StructLayout =
    untyped("freq_throttle_time", 16, &[field("throttleTime", 0, U64), field("timestamp", 8, U64)]);
pub static PORT_ID: StructLayout = untyped(
    "fabric_port_id",
    12,
    &[field("fabricId", 0, U32), field("attachId", 4, U32), field("portNumber", 8, U8)],
);
pub static PORT_SPEED: StructLayout =
    untyped("fabric_port_speed", 16, &[field("bitRate", 0, I64), field("width", 8, I32)]);
pub static PORT_PROPERTIES: StructLayout = typed(
    "fabric_port_properties",
    328,
    0x6,
    &[
        field("model", 16, Text(256)),
        field("onSubdevice", 272, Bool),
        field("subdeviceId", 276, U32),
        field("portId", 280, Struct(&PORT_ID)),
        field("maxRxSpeed", 296, Struct(&PORT_SPEED)),
        field("maxTxSpeed", 312, Struct(&PORT_SPEED)),
    ],
);
pub static PORT_STATE: StructLayout = typed(
    "fabric_port_state",
    72,
    0x19,
    &[
        field("status", 16, U32),
        field("qualityIssues", 20, U32),
        field("failureReasons", 24, U32),
        field("remotePortId", 28, Struct(&PORT_ID)),
        field("rxSpeed", 40, Struct(&PORT_SPEED)),
        field("txSpeed", 56, Struct(&PORT_SPEED)),
    ],
);
pub static PORT_THROUGHPUT: StructLayout = untyped(
    "fabric_port_throughput",
    24,
    &[field("timestamp", 0, U64), field("rxCounter", 8, U64), field("txCounter", 16, U64)],
);
pub static PORT_ERRORS: StructLayout = typed(
    "fabric_port_error_counters",
    48,
    0x2a,
    &[
        field("linkFailureCount", 16, U64),
        field("fwCommErrorCount", 24, U64),
        field("fwErrorCount", 32, U64),
        field("linkDegradeCount", 40, U64),
    ],
);
pub static RAS_PROPERTIES: StructLayout = typed(
    "ras_properties",
    32,
    0xf,
    &[field("type", 16, U32), field("onSubdevice", 20, Bool), field("subdeviceId", 24, U32)],
);
pub static RAS_STATE: StructLayout = typed("ras_state", 72, 0x22, &[field("category", 16, U64s(7))]);
pub static RAS_STATE_EXP: StructLayout =
    untyped("ras_state_exp", 16, &[field("category", 0, U32), field("errorCounter", 8, U64)]);
pub static FIRMWARE_PROPERTIES: StructLayout = typed(
    "firmware_properties",
    160,
    0x8,
    &[
        field("onSubdevice", 16, Bool),
        field("subdeviceId", 20, U32),
        field("canControl", 24, Bool),
        field("name", 25, Text(64)),
        field("version", 89, Text(64)),
    ],
);

/// All structs.
pub static ALL: [&StructLayout; 33] = [
    &DEVICE_PROPERTIES,
    &DEVICE_STATE,
    &DEVICE_EXT_STATE,
    &ECC_PROPERTIES,
    &PCI_ADDRESS,
    &PCI_SPEED,
    &PCI_PROPERTIES,
    &PCI_STATE,
    &PCI_STATS,
    &MEMORY_PROPERTIES,
    &MEMORY_STATE,
    &MEMORY_BANDWIDTH,
    &ENGINE_PROPERTIES,
    &ENGINE_STATS,
    &POWER_PROPERTIES,
    &POWER_EXT_PROPERTIES,
    &POWER_ENERGY,
    &POWER_LIMIT,
    &TEMPERATURE_PROPERTIES,
    &FREQUENCY_PROPERTIES,
    &FREQUENCY_RANGE,
    &FREQUENCY_STATE,
    &THROTTLE_TIME,
    &PORT_ID,
    &PORT_SPEED,
    &PORT_PROPERTIES,
    &PORT_STATE,
    &PORT_THROUGHPUT,
    &PORT_ERRORS,
    &RAS_PROPERTIES,
    &RAS_STATE,
    &RAS_STATE_EXP,
    &FIRMWARE_PROPERTIES,
];
