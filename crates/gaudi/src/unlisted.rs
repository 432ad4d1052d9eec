//! Devices of the driver that HLML does not list, or whose handle it refuses: they cannot take work.

use afd_model::{Device, DeviceId, Known};

use crate::hlml::{
    HlmlReport, LIBRARY, LOST,
    calls::{COUNT, HANDLE, PCI_INFO},
    unit_of,
};

/// Such devices, by a report that HLML has just given. A report of the driver's ioctl lists every device.
///
/// What stays of an earlier report is behind the devices that HLML counted, and does not make a device a listed one.
pub(crate) fn unlisted(devices: &[Device], report: &HlmlReport) -> Vec<DeviceId> {
    let Some(count) = report.system.known::<usize>(COUNT).into_value() else { return Vec::new() };
    let counted = || report.devices.iter().take(count).map(|reported| &reported.answers);
    let is_anonymous = |answers: &&_| unit_of(answers).is_none();
    // One that answers and does not say which one it is may be any of those that are not listed.
    if counted()
        .filter(is_anonymous)
        .any(|answers| answers.error(HANDLE).is_none() && answers.error(PCI_INFO) != Some(LOST))
    {
        return Vec::new();
    }
    let is_listed = |device: &&Device| counted().filter_map(unit_of).any(|unit| unit.is_device(device.id.0));
    let is_of_driver = |device: &&Device| matches!(&device.driver, Known::Value(driver) if LIBRARY.drivers.contains(&driver.as_str()));
    devices.iter().filter(is_of_driver).filter(|device| !is_listed(device)).map(|device| device.id).collect()
}

#[cfg(test)]
mod tests {
    use afd_model::{PciAddress, Variant, Vendor};
    use serde_json::{Value, json};

    use super::*;

    /// The buses of four devices that are not listed by a report that counts as many as it has, or fewer.
    fn buses(count: usize, reported: &[Value]) -> Vec<u8> {
        let devices: Vec<Value> = reported.iter().map(|answers| json!({ "answers": answers })).collect();
        let system = json!({ "hlml_device_get_count": { "value": count } });
        let report = json!({ "system": system, "devices": devices });
        let report: HlmlReport = serde_json::from_value(report).expect("it is a report");
        let devices: Vec<Device> = (0..4)
            .map(|bus| {
                let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
                let mut device = Device::bare(address, Vendor::Intel, Variant::Hpu);
                device.driver = Known::Value("habanalabs".to_owned());
                device
            })
            .collect();
        unlisted(&devices, &report).into_iter().map(|device| device.0.bus).collect()
    }

    fn listed(bus: u8) -> Value {
        json!({ "hlml_device_get_pci_info": { "value": { "bus_id": format!("0000:{bus:02x}:00.0") } } })
    }

    #[test]
    fn a_device_without_a_handle_or_beyond_the_count_is_not_listed() {
        let refused = json!({ "hlml_device_get_handle_by_index": { "error": "AIP_IS_LOST" } });
        let all: Vec<Value> = (0..4).map(listed).collect();
        assert!(buses(4, &all).is_empty());
        assert_eq!(
            buses(4, &[listed(0), refused, listed(2), listed(3), listed(1)]),
            [1],
            "the last one stayed"
        );
        assert_eq!(buses(3, &all), [3]);
        let lost = json!({ "hlml_device_get_pci_info": { "error": "AIP_IS_LOST" } });
        assert_eq!(buses(4, &[listed(0), listed(1), listed(2), lost]), [3]);
    }

    #[test]
    fn no_device_is_missed_while_one_does_not_say_which_it_is() {
        let anonymous = json!({ "hlml_device_get_pci_info": { "error": "UNEXPECTED_DATA" } });
        assert!(buses(4, &[listed(0), listed(1), listed(2), anonymous]).is_empty());
    }

    #[test]
    fn the_driver_lists_every_device() {
        let report: HlmlReport =
            serde_json::from_value(json!({ "system": {}, "devices": [] })).expect("it is one");
        let address = PciAddress { domain: 0, bus: 0, device: 0, function: 0 };
        let mut device = Device::bare(address, Vendor::Intel, Variant::Hpu);
        device.driver = Known::Value("habanalabs".to_owned());
        assert_eq!(unlisted(&[device], &report), []);
    }
}
