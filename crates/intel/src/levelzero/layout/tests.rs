//! The layouts against the C rules for structs whose fields are in the order of `zes_api.h`, and against the sizes of the header.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    mem::{offset_of, size_of},
};

use proptest::prelude::*;

use super::*;

/// The structs of the header: name, size in bytes, and fields in their order.
macro_rules! header {
    ($($name:ident, $bytes:literal, { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            #[repr(C)]
            #[allow(non_camel_case_types, non_snake_case, dead_code, reason = "the names are those of the header")]
            struct $name { $($field: $kind),* }
        )*
        /// Name, size by the header, size by the rules of C, offset of each field.
        fn header() -> BTreeMap<&'static str, (usize, usize, BTreeMap<&'static str, usize>)> {
            BTreeMap::from([$((
                stringify!($name),
                ($bytes, size_of::<$name>(), BTreeMap::from([$((stringify!($field), offset_of!($name, $field))),*])),
            )),*])
        }
    };
}

header! {
    ze_device_properties, 368, {
        stype: u32, pNext: *const c_void, r#type: u32, vendorId: u32, deviceId: u32, flags: u32, subdeviceId: u32,
        coreClockRate: u32, maxMemAllocSize: u64, maxHardwareContexts: u32, maxCommandQueuePriority: u32,
        numThreadsPerEU: u32, physicalEUSimdWidth: u32, numEUsPerSubslice: u32, numSubslicesPerSlice: u32, numSlices: u32,
        timerResolution: u64, timestampValidBits: u32, kernelTimestampValidBits: u32, uuid: [u8; 16], name: [u8; 256],
    }
    device_properties, 776, {
        stype: u32, pNext: *const c_void, core: ze_device_properties, numSubdevices: u32, serialNumber: [u8; 64],
        boardNumber: [u8; 64], brandName: [u8; 64], modelName: [u8; 64], vendorName: [u8; 64], driverVersion: [u8; 64],
    }
    device_state, 24, { stype: u32, pNext: *const c_void, reset: u32, repaired: u32 }
    device_ext_state, 24, { stype: u32, pNext: *const c_void, flags: u32 }
    device_ecc_properties, 32, {
        stype: u32, pNext: *const c_void, currentState: u32, pendingState: u32, pendingAction: u32,
    }
    pci_address, 16, { domain: u32, bus: u32, device: u32, function: u32 }
    pci_speed, 16, { r#gen: i32, width: i32, maxBandwidth: i64 }
    pci_properties, 56, {
        stype: u32, pNext: *const c_void, address: pci_address, maxSpeed: pci_speed, haveBandwidthCounters: u8,
        havePacketCounters: u8, haveReplayCounters: u8,
    }
    pci_state, 48, {
        stype: u32, pNext: *const c_void, status: u32, qualityIssues: u32, stabilityIssues: u32, speed: pci_speed,
    }
    pci_stats, 56, {
        timestamp: u64, replayCounter: u64, packetCounter: u64, rxCounter: u64, txCounter: u64, speed: pci_speed,
    }
    mem_properties, 48, {
        stype: u32, pNext: *const c_void, r#type: u32, onSubdevice: u8, subdeviceId: u32, location: u32, physicalSize: u64,
        busWidth: i32, numChannels: i32,
    }
    mem_state, 40, { stype: u32, pNext: *const c_void, health: u32, free: u64, size: u64 }
    mem_bandwidth, 32, { readCounter: u64, writeCounter: u64, maxBandwidth: u64, timestamp: u64 }
    engine_properties, 32, { stype: u32, pNext: *const c_void, r#type: u32, onSubdevice: u8, subdeviceId: u32 }
    engine_stats, 16, { activeTime: u64, timestamp: u64 }
    power_properties, 40, {
        stype: u32, pNext: *const c_void, onSubdevice: u8, subdeviceId: u32, canControl: u8,
        isEnergyThresholdSupported: u8, defaultLimit: i32, minLimit: i32, maxLimit: i32,
    }
    power_ext_properties, 32, { stype: u32, pNext: *const c_void, domain: u32, defaultLimit: *const c_void }
    power_energy_counter, 16, { energy: u64, timestamp: u64 }
    power_limit_ext_desc, 48, {
        stype: u32, pNext: *const c_void, level: u32, source: u32, limitUnit: u32, enabledStateLocked: u8, enabled: u8,
        intervalValueLocked: u8, interval: i32, limitValueLocked: u8, limit: i32,
    }
    temp_properties, 48, {
        stype: u32, pNext: *const c_void, r#type: u32, onSubdevice: u8, subdeviceId: u32, maxTemperature: f64,
        isCriticalTempSupported: u8, isThreshold1Supported: u8, isThreshold2Supported: u8,
    }
    freq_properties, 48, {
        stype: u32, pNext: *const c_void, r#type: u32, onSubdevice: u8, subdeviceId: u32, canControl: u8,
        isThrottleEventSupported: u8, min: f64, max: f64,
    }
    freq_range, 16, { min: f64, max: f64 }
    freq_state, 64, {
        stype: u32, pNext: *const c_void, currentVoltage: f64, request: f64, tdp: f64, efficient: f64, actual: f64,
        throttleReasons: u32,
    }
    freq_throttle_time, 16, { throttleTime: u64, timestamp: u64 }
    fabric_port_id, 12, { fabricId: u32, attachId: u32, portNumber: u8 }
    fabric_port_speed, 16, { bitRate: i64, width: i32 }
    fabric_port_properties, 328, {
        stype: u32, pNext: *const c_void, model: [u8; 256], onSubdevice: u8, subdeviceId: u32, portId: fabric_port_id,
        maxRxSpeed: fabric_port_speed, maxTxSpeed: fabric_port_speed,
    }
    fabric_port_state, 72, {
        stype: u32, pNext: *const c_void, status: u32, qualityIssues: u32, failureReasons: u32,
        remotePortId: fabric_port_id, rxSpeed: fabric_port_speed, txSpeed: fabric_port_speed,
    }
    fabric_port_throughput, 24, { timestamp: u64, rxCounter: u64, txCounter: u64 }
    fabric_port_error_counters, 48, {
        stype: u32, pNext: *const c_void, linkFailureCount: u64, fwCommErrorCount: u64, fwErrorCount: u64,
        linkDegradeCount: u64,
    }
    ras_properties, 32, { stype: u32, pNext: *const c_void, r#type: u32, onSubdevice: u8, subdeviceId: u32 }
    ras_state, 72, { stype: u32, pNext: *const c_void, category: [u64; 7] }
    ras_state_exp, 16, { category: u32, errorCounter: u64 }
    firmware_properties, 160, {
        stype: u32, pNext: *const c_void, onSubdevice: u8, subdeviceId: u32, canControl: u8, name: [u8; 64],
        version: [u8; 64],
    }
}

#[test]
fn every_struct_has_the_size_and_the_offsets_of_the_header() {
    let header = header();
    let unprefixed = |name: &'static str| name.strip_prefix("r#").unwrap_or(name);
    for (name, (bytes, by_rules, _)) in &header {
        assert_eq!(bytes, by_rules, "{name}");
    }
    let core = &header["ze_device_properties"].2;
    assert_eq!(header["device_properties"].2["core"], CORE_PROPERTIES);
    assert_eq!(header["power_ext_properties"].2["defaultLimit"], DEFAULT_LIMIT);
    for layout in ALL {
        let (bytes, _, offsets) = &header[layout.name];
        assert_eq!(layout.bytes, *bytes, "{}", layout.name);
        assert_eq!(layout.stype.is_some(), offsets.contains_key("pNext"), "{}", layout.name);
        assert!(layout.stype.is_none() || offsets["pNext"] == NEXT);
        for StructField(field, offset, kind) in layout.fields {
            let own = offsets.iter().find(|(name, _)| unprefixed(name) == *field).map(|(_, offset)| *offset);
            let in_core = || core.iter().find(|(name, _)| unprefixed(name) == *field);
            let expected = own.or_else(|| in_core().map(|(_, offset)| CORE_PROPERTIES + offset));
            assert_eq!(Some(*offset), expected, "{}.{field}", layout.name);
            assert!(offset + kind.bytes() <= layout.bytes, "{}.{field}", layout.name);
        }
    }
    assert_eq!(ALL.len() + 1, header.len(), "each struct of the header above is in the table, one as a part");
}

#[test]
fn type_numbers_are_those_of_the_header() {
    let numbers: BTreeMap<u32, &str> =
        ALL.iter().filter_map(|layout| Some((layout.stype?, layout.name))).collect();
    let expected = [
        (0x1, "device_properties"),
        (0x2, "pci_properties"),
        (0x5, "engine_properties"),
        (0x6, "fabric_port_properties"),
        (0x8, "firmware_properties"),
        (0x9, "freq_properties"),
        (0xb, "mem_properties"),
        (0xd, "power_properties"),
        (0xf, "ras_properties"),
        (0x14, "temp_properties"),
        (0x15, "device_state"),
        (0x17, "pci_state"),
        (0x19, "fabric_port_state"),
        (0x1b, "freq_state"),
        (0x1e, "mem_state"),
        (0x22, "ras_state"),
        (0x26, "device_ecc_properties"),
        (0x27, "power_limit_ext_desc"),
        (0x28, "power_ext_properties"),
        (0x2a, "fabric_port_error_counters"),
        (0x20018, "device_ext_state"),
    ];
    assert_eq!(numbers, BTreeMap::from(expected));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        for layout in ALL {
            let value = layout.read(&bytes);
            prop_assert!(bytes.len() < layout.bytes || value.is_some());
        }
    }
}

#[test]
fn a_list_has_no_struct_that_was_not_written() {
    let mut bytes = vec![0_u8; 4 * RAS_STATE_EXP.bytes];
    // Two counters of category 5 and 7; behind them is what the caller left there.
    for (index, category) in [5_u32, 7].into_iter().enumerate() {
        let start = index * RAS_STATE_EXP.bytes;
        bytes[start..start + 4].copy_from_slice(&category.to_ne_bytes());
    }
    let categories = |passed: u32, reported: u32| -> Vec<u64> {
        let list = RAS_STATE_EXP.read_list(&bytes, passed, reported).expect("the bytes are there");
        let list = list.as_array().expect("it is a list");
        list.iter().filter_map(|counter| counter["category"].as_u64()).collect()
    };
    assert_eq!(categories(2, 2), [5, 7]);
    assert_eq!(categories(2, 1), [5], "one has gone");
    assert_eq!(categories(2, 3), [5, 7], "a third has come, and was not written");
}
