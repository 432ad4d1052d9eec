use afd_model::{PciAddress, Variant, Vendor};
use afd_probe::report::DeviceAnswers;
use serde_json::json;

use super::*;
use crate::levelzero::calls::PCI_PROPERTIES;

fn address(bus: u8) -> PciAddress {
    PciAddress { domain: 0, bus, device: 0, function: 0 }
}

/// Ports as (tile, tile at the other end by (fabric, tile), status).
fn reported(
    bus: u8,
    fabric: u32,
    ports: &[(u32, (u32, u32), u32)],
) -> DeviceAnswers<crate::levelzero::SysmanStatuses> {
    let mut answers = LevelZeroAnswers::default();
    let pci = json!({ "address": { "domain": 0, "bus": bus, "device": 0, "function": 0 } });
    answers.put(PCI_PROPERTIES, Ok(pci));
    answers.put(PORTS, Ok(json!(ports.len())));
    let speed = json!({ "bitRate": 50_000_000_000_u64, "width": 4 });
    let properties = ports.iter().map(|(tile, ..)| {
        Ok(json!({
            "onSubdevice": true, "subdeviceId": tile, "maxTxSpeed": speed,
            "portId": { "fabricId": fabric, "attachId": tile, "portNumber": 1 },
        }))
    });
    answers.put_components(PORT_PROPERTIES, properties);
    let states = ports.iter().map(|(_, (fabric, tile), status)| {
        let remote = json!({ "fabricId": fabric, "attachId": tile, "portNumber": 1 });
        Ok(json!({ "status": status, "remotePortId": remote }))
    });
    answers.put_components(PORT_STATE, states);
    DeviceAnswers { answers, ..DeviceAnswers::default() }
}

fn enriched(devices: Vec<DeviceAnswers<crate::levelzero::SysmanStatuses>>) -> Findings {
    let buses = [1, 2, 3];
    let mut findings = Findings {
        devices: buses.map(|bus| Device::bare(address(bus), Vendor::Intel, Variant::Xpu)).to_vec(),
        ..Findings::default()
    };
    enrich(&mut findings, &LevelZeroReport { devices, ..LevelZeroReport::default() });
    findings
}

#[test]
fn ports_link_the_devices_whose_tiles_they_name() {
    // Two ports from 1 to 2, one within 1, one that is down, one to a device that the library does not list.
    let first = [(0, (20, 0), 1), (1, (20, 1), 2), (0, (10, 1), 1), (0, (30, 0), 4), (0, (99, 0), 1)];
    let second = [(0, (10, 0), 1), (1, (10, 1), 1)];
    let findings = enriched(vec![reported(2, 20, &second), reported(1, 10, &first), reported(3, 30, &[])]);
    let links: Vec<_> = findings.links.iter().map(|link| (link.a.0.bus, link.b.0.bus, link.kind)).collect();
    assert_eq!(links, [(1, 2, LinkKind::Xelink)]);
    assert_eq!(findings.links[0].bandwidth_bytes_per_second, Known::Value(50_000_000_000));
    let interconnects: Vec<_> =
        findings.devices.iter().map(|device| device.interconnect.value().copied()).collect();
    assert_eq!(interconnects, [Some(LinkKind::Xelink), Some(LinkKind::Xelink), Some(LinkKind::Pcie)]);
    let ports = &findings.devices[0].intel().expect("it was reported").ports;
    let peers: Vec<_> =
        ports.iter().map(|port| (port.peer.value().map(|peer| peer.0.bus), port.peer_tile)).collect();
    assert_eq!(
        peers,
        [(Some(2), Some(0)), (Some(2), Some(1)), (Some(1), Some(1)), (None, None), (None, None)]
    );
}

#[test]
fn a_port_that_could_not_be_read_leaves_the_number_of_links_unknown() {
    let of = |state| {
        let mut first = reported(1, 10, &[(0, (20, 0), 1)]);
        first.answers.put_components(PORT_STATE, [state]);
        let others = [reported(2, 20, &[(0, (10, 0), 1)]), reported(3, 30, &[])];
        let findings = enriched([first].into_iter().chain(others).collect());
        let unread = findings.devices.iter().map(|device| device.linked_devices.missing());
        let unread: Vec<Option<Missing>> = unread.collect();
        assert_eq!(unread[2], Some(Missing::NotExposed), "it has no port");
        assert_eq!(findings.devices[2].interconnect, Known::Value(LinkKind::Pcie));
        if unread[0] == Some(Missing::Unreadable) {
            let interconnects = [0, 1].map(|index| findings.devices[index].interconnect.missing());
            assert_eq!(interconnects, [Some(Missing::Unreadable); 2], "it is not PCIe alone");
        }
        [unread[0], unread[1]]
    };
    assert_eq!(of(Ok(json!({ "status": 4 }))), [Some(Missing::NotExposed); 2], "links are counted later");
    let unknown = Err(crate::levelzero::SysmanStatus::named("UNKNOWN"));
    assert_eq!(of(unknown), [Some(Missing::Unreadable); 2]);
    assert_eq!(of(Ok(json!({ "status": 0 }))), [Some(Missing::Unreadable); 2], "it cannot be determined");
    let remote = json!({ "fabricId": 99, "attachId": 0, "portNumber": 1 });
    let elsewhere = json!({ "status": 1, "remotePortId": remote });
    assert_eq!(
        of(Ok(elsewhere)),
        [Some(Missing::Unreadable); 2],
        "it may lead to a device that was not examined"
    );
    let unlisted = enriched(vec![reported(1, 10, &[(0, (20, 0), 1)]), reported(2, 20, &[(0, (10, 0), 1)])]);
    assert_eq!(
        unlisted.devices[0].linked_devices.missing(),
        Some(Missing::Unreadable),
        "the third may have ports"
    );
}

#[test]
fn a_device_whose_ports_are_not_known_has_no_interconnect() {
    let mut unknown = reported(1, 10, &[]);
    unknown.answers.put(PORTS, Err(crate::levelzero::SysmanStatus::named("UNKNOWN")));
    let mut unsupported = reported(2, 10, &[]);
    unsupported.answers.put(PORTS, Err(crate::levelzero::SysmanStatus::named("UNSUPPORTED_FEATURE")));
    let findings = enriched(vec![unknown, unsupported]);
    let interconnects: Vec<_> =
        findings.devices.iter().map(|device| device.interconnect.value().copied()).collect();
    assert_eq!(interconnects, [None, Some(LinkKind::Pcie), None]);
}

#[test]
fn what_the_driver_does_not_know_is_no_fact() {
    let mut device = reported(1, 10, &[]);
    device.answers.put(PROPERTIES, Ok(json!({ "numSubdevices": 2, "serialNumber": "unknown" })));
    device.answers.put(ECC, Ok(json!({ "currentState": 0 })));
    let firmware =
        |name: &str, version: &str| Ok(json!({ "name": name, "version": version, "onSubdevice": false }));
    device.answers.put_components(
        FIRMWARE_PROPERTIES,
        [firmware("OptionROM", "1.0"), firmware("GSC", "unknown"), firmware("GFX", "PVC2_1")],
    );
    let module = |location: u32| Ok(json!({ "type": 23, "location": location, "onSubdevice": false }));
    device.answers.put_components(MEMORY_PROPERTIES, [module(1), module(1), module(0)]);
    let state = Ok(json!({ "size": 1_u64 << 30, "free": 0 }));
    device.answers.put_components(MEMORY_STATE, [state.clone(), state.clone(), state]);
    let findings = enriched(vec![device]);
    let device = &findings.devices[0];
    let facts = device.intel().expect("it was reported");
    assert_eq!(device.serial.missing(), Some(Missing::NotAvailable));
    assert_eq!(facts.ecc_enabled.missing(), Some(Missing::NotAvailable));
    assert_eq!(device.firmware_version, Known::Value("PVC2_1".to_owned()));
    assert_eq!(facts.firmware.len(), 2);
    assert_eq!(device.memory_bytes, Known::Value(2 << 30), "without that of the system");
    assert_eq!(device.memory_source, Known::Value(MemorySource::Library));
    assert_eq!(facts.memory_modules[0].kind, "hbm2e");
    let of_system: Vec<bool> = facts.memory_modules.iter().map(|module| module.is_of_system).collect();
    assert_eq!(of_system, [false, false, true]);
}

#[test]
fn numbers_too_great_to_be_summed_are_no_value() {
    let mut first = reported(1, 10, &[(0, (20, 0), 1), (0, (20, 0), 1)]);
    let module = || Ok(json!({ "type": 23, "location": 1, "onSubdevice": false }));
    first.answers.put_components(MEMORY_PROPERTIES, [module(), module()]);
    let state = || Ok(json!({ "size": u64::MAX, "free": 0 }));
    first.answers.put_components(MEMORY_STATE, [state(), state()]);
    let port = || {
        Ok(json!({
            "onSubdevice": false, "maxTxSpeed": { "bitRate": i64::MAX, "width": 2 },
            "portId": { "fabricId": 10, "attachId": 0, "portNumber": 1 },
        }))
    };
    let ports = [port(), port(), port(), port(), port(), port(), port(), port(), port()];
    first.answers.put_components(PORT_PROPERTIES, ports.clone());
    let remote = || Ok(json!({ "status": 1, "remotePortId": { "fabricId": 20, "attachId": 0 } }));
    first.answers.put_components(PORT_STATE, ports.map(|_| remote()));
    let findings = enriched(vec![first, reported(2, 20, &[(0, (10, 0), 1)])]);
    assert!(!findings.devices[0].memory_bytes.is_known());
    let bandwidth = &findings.links[0].bandwidth_bytes_per_second;
    assert_eq!(bandwidth.missing(), Some(Missing::NotAvailable));
}

#[test]
fn a_component_without_properties_is_not_guessed() {
    const FAILED: crate::levelzero::SysmanStatus = crate::levelzero::SysmanStatus::named("UNKNOWN");
    let mut device = reported(1, 10, &[(0, (20, 0), 1), (0, (20, 0), 1)]);
    let port = json!({ "onSubdevice": false, "portId": { "fabricId": 10, "attachId": 0, "portNumber": 4 } });
    device.answers.put_components(PORT_PROPERTIES, [Err(FAILED), Ok(port)]);
    let module = json!({ "type": 23, "location": 1, "onSubdevice": false });
    device.answers.put_components(MEMORY_PROPERTIES, [Ok(module), Err(FAILED)]);
    let state = || Ok(json!({ "size": 1_u64 << 30, "free": 0 }));
    device.answers.put_components(MEMORY_STATE, [state(), state()]);
    let findings = enriched(vec![device]);
    let ports = &findings.devices[0].intel().expect("it was reported").ports;
    let numbers: Vec<_> = ports.iter().map(|port| port.number.value().copied()).collect();
    assert_eq!(numbers, [None, Some(4)], "no port 0");
    assert!(!findings.devices[0].memory_bytes.is_known(), "one module is not the memory");
}
