use afd_model::{
    Direction, Engine, ErrorDetail, ErrorKind, IntelQuantity, IntelValue, Known, LinkCounter, LinkEnd,
    LinkErrorKind, LinkValue, Missing, PciAddress, Sensor,
};
use serde_json::{Value, json};

use super::*;
use crate::levelzero::{
    LevelZeroAnswers, SysmanStatus,
    calls::{
        ENGINE_ACTIVITY, ENGINE_PROPERTIES, MEMORY_PROPERTIES, MEMORY_STATE, PORT_ERRORS, PORT_PROPERTIES,
        PORT_STATE, PORT_THROUGHPUT, POWER_ENERGY, POWER_LIMITS, POWER_PROPERTIES, RAS_PROPERTIES, RAS_STATE,
        RAS_STATE_EXP, TEMPERATURE, TEMPERATURE_PROPERTIES,
    },
};

const REFUSED: SysmanStatus = SysmanStatus::named("INSUFFICIENT_PERMISSIONS");

/// Answers of calls on components; null stands for a refusal.
fn answers(calls: &[(afd_probe::answers::LibraryCall, Vec<Value>)]) -> LevelZeroAnswers {
    let mut answers = LevelZeroAnswers::default();
    for (call, values) in calls {
        let result = |value: &Value| if value.is_null() { Err(REFUSED) } else { Ok(value.clone()) };
        answers.put_components(*call, values.iter().map(result));
    }
    answers
}

fn read(discovered: &LevelZeroAnswers, now: &LevelZeroAnswers, before: &LevelZeroAnswers) -> Vec<Reading> {
    let device = SampledDevice { discovered, now, before: Some(before) };
    let mut readings = device::readings(&device, KernelReadings::default());
    readings.extend(components::readings(&device));
    readings
}

fn value(readings: &[Reading], quantity: impl Into<Quantity>) -> Option<f64> {
    let quantity = quantity.into();
    let found: Vec<f64> =
        readings.iter().filter(|reading| reading.quantity == quantity).map(|reading| reading.value).collect();
    assert!(found.len() <= 1, "{quantity:?} is there twice");
    found.first().copied()
}

fn tile(kind: u32, tile: u32) -> Value {
    json!({ "type": kind, "onSubdevice": true, "subdeviceId": tile })
}

fn whole(kind: u32) -> Value {
    json!({ "type": kind, "onSubdevice": false, "subdeviceId": 0 })
}

fn busy(active: u64, timestamp: u64) -> Value {
    json!({ "activeTime": active, "timestamp": timestamp })
}

#[test]
fn the_utilization_of_a_device_is_that_of_its_group_else_the_mean_of_its_tiles() {
    let utilization = |groups: Vec<Value>, before: Vec<Value>, now: Vec<Value>| {
        let discovered = answers(&[(ENGINE_PROPERTIES, groups)]);
        let readings =
            read(&discovered, &answers(&[(ENGINE_ACTIVITY, now)]), &answers(&[(ENGINE_ACTIVITY, before)]));
        value(&readings, Quantity::Utilization(Engine::Compute))
    };
    let before = || vec![busy(0, 0), busy(100, 0)];
    let tiles = || vec![tile(1, 0), tile(1, 1)];
    assert_eq!(utilization(tiles(), before(), vec![busy(50, 100), busy(200, 100)]), Some(0.75));
    assert_eq!(
        utilization(vec![whole(1), tile(1, 0)], before(), vec![busy(25, 100), busy(200, 100)]),
        Some(0.25),
        "the group of the whole device counts"
    );
    let media_only = utilization(vec![tile(2, 0), tile(3, 0)], before(), vec![busy(50, 100), busy(200, 100)]);
    assert_eq!(media_only, None);
    assert_eq!(
        utilization(tiles(), before(), vec![busy(50, 100), Value::Null]),
        None,
        "one is not the mean of two"
    );
    let unread = vec![tile(1, 0), Value::Null];
    assert_eq!(
        utilization(unread, before(), vec![busy(50, 100), busy(200, 100)]),
        None,
        "the other may be a tile"
    );
    assert_eq!(utilization(tiles(), before(), vec![busy(0, 0), busy(100, 0)]), None, "no time has passed");
    assert_eq!(
        utilization(tiles(), before(), vec![busy(50, 100), busy(10, 100)]),
        None,
        "a counter started again"
    );
    assert_eq!(utilization(tiles(), before(), vec![busy(101, 100), busy(201, 100)]), Some(1.0));
    assert_eq!(utilization(tiles(), before(), vec![busy(900, 100), busy(200, 100)]), None, "no share at all");
}

#[test]
fn memory_that_is_all_free_is_no_value() {
    let module =
        |location: u32| json!({ "type": 0, "onSubdevice": false, "subdeviceId": 0, "location": location });
    let state = |free: u64| json!({ "free": free, "size": 100 });
    let used = |states: Vec<Value>| {
        let discovered = answers(&[(MEMORY_PROPERTIES, vec![module(1), module(1)])]);
        let now = answers(&[(MEMORY_STATE, states)]);
        value(&read(&discovered, &now, &now), Quantity::MemoryUsedBytes)
    };
    assert_eq!(used(vec![state(40), state(100)]), Some(60.0));
    assert_eq!(used(vec![state(100), state(100)]), None);
    assert_eq!(used(vec![state(40), Value::Null]), None);
    assert_eq!(used(vec![state(140), state(100)]), None, "more is free than there is");
    let unread = answers(&[(MEMORY_PROPERTIES, vec![module(1), Value::Null])]);
    let now = answers(&[(MEMORY_STATE, vec![state(40), state(50)])]);
    assert_eq!(
        value(&read(&unread, &now, &now), Quantity::MemoryUsedBytes),
        None,
        "the other may be a module"
    );
    let hidden = |free: u64| {
        is_memory_hidden(&answers(&[(MEMORY_PROPERTIES, vec![module(1)]), (MEMORY_STATE, vec![state(free)])]))
    };
    assert!(hidden(100) && !hidden(99));
    let of_module = |states: Vec<Value>, component: u8| {
        let discovered = answers(&[(MEMORY_PROPERTIES, vec![module(1), module(1), module(0)])]);
        let now = answers(&[(MEMORY_STATE, states)]);
        let quantity = IntelQuantity { value: IntelValue::MemoryUsed, component };
        value(&read(&discovered, &now, &now), quantity)
    };
    let unused = of_module(vec![state(40), state(100), state(50)], 1);
    assert_eq!(unused, Some(0.0), "the driver shows the use of the other module");
    assert_eq!(
        of_module(vec![state(100), state(100), state(50)], 1),
        None,
        "the system's memory shows nothing"
    );
    let system = answers(&[(MEMORY_PROPERTIES, vec![module(0)]), (MEMORY_STATE, vec![state(100)])]);
    assert!(!is_memory_hidden(&system), "it is the system's memory");
}

#[test]
fn energy_and_limits_are_those_of_the_card() {
    let domain = |domain: u32, on: bool| json!({ "domain": domain, "onSubdevice": on, "subdeviceId": 0 });
    let discovered =
        answers(&[(POWER_PROPERTIES, vec![domain(2, true), domain(2, false), domain(1, false)])]);
    let energy = |microjoules: u64, timestamp: u64| json!({ "energy": microjoules, "timestamp": timestamp });
    let limit = |level: u32, milliwatts: i32| json!([{ "level": level, "source": 0, "limitUnit": 2, "enabled": true, "limit": milliwatts }]);
    let before = answers(&[(POWER_ENERGY, vec![energy(1, 0), energy(2, 0), energy(0, 0)])]);
    let now = answers(&[
        (POWER_ENERGY, vec![energy(9, 1), energy(9, 1), energy(300_000_000, 1_000_000)]),
        (POWER_LIMITS, vec![limit(1, 5000), Value::Null, limit(1, 600_000)]),
    ]);
    let readings = read(&discovered, &now, &before);
    assert_eq!(value(&readings, Quantity::EnergyJoules), Some(300.0));
    assert_eq!(value(&readings, Quantity::PowerWatts), Some(300.0));
    assert_eq!(value(&readings, Quantity::PowerLimitWatts), Some(600.0));
    let of_tile = IntelValue::PowerLimit { level: "sustained", source: "any" };
    assert_eq!(value(&readings, IntelQuantity { value: of_tile, component: 0 }), Some(5.0));
    let counted = device::readings(
        &SampledDevice { discovered: &discovered, now: &now, before: Some(&before) },
        KernelReadings { counts_energy: true, is_integrated: false },
    );
    assert_eq!(value(&counted, Quantity::EnergyJoules), None, "the kernel's counter is another one");
    let of_only = |kind: u32| {
        let discovered = answers(&[(POWER_PROPERTIES, vec![domain(kind, false)])]);
        let counter = |microjoules, time| answers(&[(POWER_ENERGY, vec![energy(microjoules, time)])]);
        let readings = read(&discovered, &counter(9_000_000, 1_000_000), &counter(1_000_000, 0));
        (value(&readings, Quantity::EnergyJoules), value(&readings, Quantity::PowerWatts))
    };
    assert_eq!(of_only(0), (Some(9.0), Some(8.0)), "a domain without a name is that of the device");
    for part in [3, 4, 5] {
        assert_eq!(of_only(part), (None, None), "domain {part} is a part of the device");
    }
}

#[test]
fn a_counter_that_does_not_count_is_no_value_of_its_component() {
    let domain = json!({ "domain": 1, "onSubdevice": false, "subdeviceId": 0 });
    let discovered =
        answers(&[(POWER_PROPERTIES, vec![domain]), (TEMPERATURE_PROPERTIES, vec![whole(1), whole(2)])]);
    let at = |timestamp: u64| {
        let energy = json!({ "energy": 0, "timestamp": timestamp });
        answers(&[(POWER_ENERGY, vec![energy]), (TEMPERATURE, vec![json!(0.0), json!(41.0)])])
    };
    let readings = read(&discovered, &at(1), &at(0));
    let of_component =
        |of: IntelValue, component: u8| value(&readings, IntelQuantity { value: of, component });
    for of in [IntelValue::Energy, IntelValue::Power, IntelValue::Temperature] {
        assert_eq!(of_component(of, 0), None, "{of:?}");
    }
    assert_eq!(of_component(IntelValue::Temperature, 1), Some(41.0));
    assert_eq!(value(&readings, Quantity::PowerWatts), None);
}

#[test]
fn the_hottest_sensor_of_a_kind_counts() {
    let discovered = answers(&[(TEMPERATURE_PROPERTIES, vec![tile(1, 0), tile(1, 1), tile(2, 0), whole(8)])]);
    let now = answers(&[(TEMPERATURE, vec![json!(60.0), json!(64.5), json!(0.0), json!(41.0)])]);
    let readings = read(&discovered, &now, &now);
    assert_eq!(value(&readings, Quantity::TemperatureCelsius(Sensor::Gpu)), Some(64.5));
    assert_eq!(
        value(&readings, Quantity::TemperatureCelsius(Sensor::Memory)),
        None,
        "a sensor that is off reports 0"
    );
    assert_eq!(value(&readings, Quantity::TemperatureCelsius(Sensor::Regulator)), Some(41.0));
}

#[test]
fn errors_are_the_sums_of_complete_sets() {
    let discovered = answers(&[(RAS_PROPERTIES, vec![tile(0, 0), tile(0, 1), tile(1, 0)])]);
    let set = |cache: u64| json!({ "category": [0, 0, 0, 0, 0, cache, 0] });
    let more = json!([{ "category": 7, "errorCounter": 3 }, { "category": 99, "errorCounter": 3 }]);
    let correctable = |category| Quantity::Errors(ErrorKind::RasCorrectable, ErrorDetail::Block(category));
    let now = answers(&[
        (RAS_STATE, vec![set(1), set(2), set(5)]),
        (RAS_STATE_EXP, vec![more.clone(), more, Value::Null]),
    ]);
    let readings = read(&discovered, &now, &now);
    assert_eq!(value(&readings, correctable("cache")), Some(3.0));
    assert_eq!(value(&readings, correctable("memory")), Some(6.0));
    let uncorrectable = Quantity::Errors(ErrorKind::RasUncorrectable, ErrorDetail::Block("cache"));
    assert_eq!(value(&readings, uncorrectable), Some(5.0));
    let newer = |last: Value| {
        let of_set = |category: u32, count: u64| json!([{ "category": category, "errorCounter": count }]);
        let mut now = answers(&[(RAS_STATE_EXP, vec![of_set(7, 3), of_set(7, 4), last])]);
        now.put(RAS_STATE, Err(REFUSED));
        read(&discovered, &now, &now)
    };
    let only_newer = newer(json!([{ "category": 12, "errorCounter": 9 }]));
    assert_eq!(value(&only_newer, correctable("memory")), Some(7.0), "the older call was refused");
    let soc = Quantity::Errors(ErrorKind::RasUncorrectable, ErrorDetail::Block("soc_internal"));
    assert_eq!(value(&only_newer, soc), Some(9.0));
    assert_eq!(value(&newer(Value::Null), soc), None);
    let partial = answers(&[(RAS_STATE, vec![set(1), Value::Null, set(5)])]);
    let readings = read(&discovered, &partial, &partial);
    assert_eq!(value(&readings, correctable("cache")), None, "the sum would fall");
    assert_eq!(value(&readings, uncorrectable), Some(5.0));
}

#[test]
fn the_bytes_of_all_ports_are_summed_if_all_are_known() {
    let discovered = answers(&[(PORT_PROPERTIES, vec![tile(0, 0), tile(0, 1)])]);
    let port = |bytes: u64| json!({ "rxCounter": bytes, "txCounter": 2 * bytes, "timestamp": 1 });
    let sent = |ports: Vec<Value>| {
        let now = answers(&[(PORT_THROUGHPUT, ports)]);
        value(&read(&discovered, &now, &now), Quantity::LinkBytes(LinkCounter::Xelink, Direction::Transmit))
    };
    assert_eq!(sent(vec![port(10), port(5)]), Some(30.0));
    assert_eq!(sent(vec![port(10), Value::Null]), None);
}

#[test]
fn each_port_has_the_values_that_are_reported_of_it() {
    let discovered = answers(&[(PORT_PROPERTIES, vec![tile(0, 0), tile(0, 1), tile(0, 1)])]);
    let now = answers(&[
        (PORT_STATE, vec![json!({ "status": 2 }), json!({ "status": 3 }), json!({ "status": 1 })]),
        (PORT_THROUGHPUT, vec![json!({ "rxCounter": 7 }), Value::Null, Value::Null]),
        (PORT_ERRORS, vec![Value::Null, json!({ "linkDegradeCount": 4 }), Value::Null]),
    ]);
    let peer: DeviceId = PciAddress { domain: 0, bus: 0x29, device: 0, function: 0 }.into();
    let port = |number: Known<u32>, tile: u32| XelinkPort {
        number,
        tile: Some(tile),
        peer: if tile == 0 { Known::Value(peer) } else { Missing::NotAvailable.into() },
        peer_tile: None,
        lanes: Missing::NotAvailable.into(),
    };
    let ports = [port(Known::Value(1), 0), port(Known::Value(2), 1), port(Missing::Unreadable.into(), 1)];
    let sampled = SampledDevice { discovered: &discovered, now: &now, before: None };
    let readings = links::readings(&sampled, &ports).into_iter().map(|reading| match reading.quantity {
        Quantity::Link(link, value) => (link.label(), link.end, value, reading.value),
        other => panic!("{other:?}"),
    });
    let (first, second) = ("0.1".to_owned(), "1.2".to_owned());
    let degradations = LinkValue::Errors(LinkErrorKind::Degradation);
    assert_eq!(
        readings.collect::<Vec<_>>(),
        [
            (first.clone(), LinkEnd::Device(peer), LinkValue::Up, 1.0),
            (second.clone(), LinkEnd::Unknown, LinkValue::Up, 0.0),
            (first, LinkEnd::Device(peer), LinkValue::Bytes(Direction::Receive), 7.0),
            (second, LinkEnd::Unknown, degradations, 4.0),
        ]
    );
}

#[test]
fn the_readings_of_the_kernel_stay() {
    let address = PciAddress { domain: 0, bus: 0x29, device: 0, function: 0 };
    let quantity = Quantity::TemperatureCelsius(Sensor::Gpu);
    let kernel = Sample { unit: address.into(), readings: vec![reading(quantity, 50.0)] };
    let mut sampling = Sampling { samples: vec![kernel], ..Sampling::default() };
    let mut report = LevelZeroReport::default();
    let mut answers = answers(&[(TEMPERATURE_PROPERTIES, vec![whole(1)]), (TEMPERATURE, vec![json!(70.0)])]);
    let pci = json!({ "address": { "domain": 0, "bus": 0x29, "device": 0, "function": 0 } });
    answers.put(crate::levelzero::calls::PCI_PROPERTIES, Ok(pci));
    report.devices.push(afd_probe::report::DeviceAnswers { answers, ..Default::default() });
    let added = AddedReadings {
        discovered: &report,
        sampled: &report,
        before: &report,
        ports: None,
        with_components: false,
    };
    added.add(&mut sampling, &[(address, address.into(), KernelReadings::default())]);
    assert_eq!(value(&sampling.samples[0].readings, quantity), Some(50.0));
    let other = PciAddress { bus: 0x30, ..address };
    let mut sampling = Sampling::default();
    added.add(&mut sampling, &[(other, other.into(), KernelReadings::default())]);
    assert!(sampling.samples.is_empty(), "another device than the library's");
}
