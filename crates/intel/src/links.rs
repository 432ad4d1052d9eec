//! The device at the other end of each port of Xe Link.

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Missing, XelinkPort};

/// Takes in the ports of a discovery.
///
/// The library reports the other end of a port that is up. That of a port that goes down stays known, as the wiring does not
/// change while both devices are there: the labels of its series must not change either.
pub(crate) fn update(ports: &mut BTreeMap<DeviceId, Vec<XelinkPort>>, devices: &[Device]) {
    let is_there = |id: &DeviceId| devices.iter().any(|device| device.id == *id);
    ports.retain(|id, _| is_there(id));
    for device in devices {
        let Some(facts) = device.intel() else { continue };
        let mut now = facts.ports.clone();
        for port in &mut now {
            let earlier = ports.get(&device.id).into_iter().flatten();
            let mut earlier =
                earlier.filter(|known| (known.tile, &known.number) == (port.tile, &port.number));
            port.peer.fill(|| earlier.next().map_or(Missing::NotAvailable.into(), |known| known.peer));
            if port.peer.value().is_some_and(|peer| !is_there(peer)) {
                port.peer = Missing::NotAvailable.into();
            }
        }
        ports.insert(device.id, now);
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{IntelFacts, Known, PciAddress, Variant, Vendor, VendorFacts};

    use super::*;

    fn id(bus: u8) -> DeviceId {
        PciAddress { domain: 0, bus, device: 0, function: 0 }.into()
    }

    fn device(bus: u8, peer: Known<DeviceId>) -> Device {
        let lanes = Missing::NotAvailable.into();
        let port = XelinkPort { number: Known::Value(1), tile: Some(0), peer, peer_tile: None, lanes };
        let facts = IntelFacts { ports: vec![port], ..IntelFacts::default() };
        let mut device = Device::bare(id(bus).0, Vendor::Intel, Variant::Gpu);
        device.vendor_facts = Some(VendorFacts::Intel(Box::new(facts)));
        device
    }

    #[test]
    fn the_other_end_of_a_port_stays_known_while_the_device_is_there() {
        let mut ports = BTreeMap::new();
        let down = || Known::from(Missing::NotAvailable);
        let peer = |ports: &BTreeMap<DeviceId, Vec<XelinkPort>>| ports[&id(1)][0].peer;
        update(&mut ports, &[device(1, Known::Value(id(2))), device(2, down())]);
        assert_eq!(peer(&ports), Known::Value(id(2)));
        update(&mut ports, &[device(1, down()), device(2, down())]);
        assert_eq!(peer(&ports), Known::Value(id(2)), "the port went down");
        update(&mut ports, &[device(1, down())]);
        assert_eq!(peer(&ports), down(), "the other device is gone");
        update(&mut ports, &[]);
        assert!(ports.is_empty());
    }
}
