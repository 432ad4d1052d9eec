//! The readings of each port of Xe Link.

use afd_model::{DeviceLink, LinkEnd, LinkErrorKind, LinkKind, LinkValue, Quantity, Reading, XelinkPort};

use super::{components::is_port_up, reading};
use crate::levelzero::{
    calls::{PORT_ERRORS, PORT_PROPERTIES, PORT_STATE, PORT_THROUGHPUT},
    parts::{BYTE_COUNTERS, SampledComponent, SampledDevice},
};

/// The counters of `zes_fabric_port_error_counters_t`.
pub(super) const ERROR_COUNTERS: [(LinkErrorKind, &str); 4] = [
    (LinkErrorKind::Failure, "linkFailureCount"),
    (LinkErrorKind::FirmwareCommunication, "fwCommErrorCount"),
    (LinkErrorKind::Firmware, "fwErrorCount"),
    (LinkErrorKind::Degradation, "linkDegradeCount"),
];

/// The readings of the ports of a device, which `ports` has in the order of the library; none of a port without a number.
pub(super) fn readings(device: &SampledDevice<'_>, ports: &[XelinkPort]) -> Vec<Reading> {
    let link = |component: &SampledComponent<'_>| {
        let port = ports.get(usize::from(component.index))?;
        let end = port.peer.value().map_or(LinkEnd::Unknown, |peer| LinkEnd::Device(*peer));
        Some(DeviceLink { kind: LinkKind::Xelink, tile: port.tile, number: *port.number.value()?, end })
    };
    let mut readings = Vec::new();
    let mut add = |component: &SampledComponent<'_>, value: LinkValue, number: Option<f64>| {
        let link = link(component).zip(number);
        readings.extend(link.map(|(link, number)| reading(Quantity::Link(link, value), number)));
    };
    for port in device.components(PORT_PROPERTIES, PORT_STATE) {
        add(&port, LinkValue::Up, is_port_up(&port));
    }
    for port in device.components(PORT_PROPERTIES, PORT_THROUGHPUT) {
        for (direction, field) in BYTE_COUNTERS {
            add(&port, LinkValue::Bytes(direction), port.number(field));
        }
    }
    for port in device.components(PORT_PROPERTIES, PORT_ERRORS) {
        for (kind, field) in ERROR_COUNTERS {
            add(&port, LinkValue::Errors(kind), port.number(field));
        }
    }
    readings
}
