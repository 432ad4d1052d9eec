//! The annotation `failed-devices`: which devices of DRA drivers have a confirmed fault, by their names in the ResourceSlices.
//!
//! A bridge makes DeviceTaintRules of it. What has failed is decided by `afd-track`; here it is only named.

use std::collections::BTreeMap;

use afd_apiserver::slices::NodeSlices;
use afd_kubelet::{NamedDevice, UnitNames};
use afd_model::{Decision, DeviceId, FAILED_DEVICES_VERSION, FailedDevice, FailedDevices};

/// The longest annotation. Partitions of a device are devices of their own.
const MAX_BYTES: usize = 4 << 10;

/// The annotation for the devices that have failed; absent where none of them is published by a DRA driver, and undecided while it
/// is not known what these publish.
pub fn annotation(
    failed: &Decision<BTreeMap<DeviceId, String>>,
    slices: &NodeSlices,
    names: Option<&UnitNames>,
) -> Decision<String> {
    let failed = match failed {
        Decision::Absent => return Decision::Absent,
        Decision::Undecided => return Decision::Undecided,
        Decision::Decided(failed) => failed,
    };
    let (NodeSlices::Known(published), Some(names)) = (slices, names) else { return Decision::Undecided };
    if !published.incomplete.is_empty() {
        return Decision::Undecided;
    }
    let devices = published.devices.iter().filter_map(|device| {
        let unit = names.unit(NamedDevice::Dra { driver: &device.driver, device: &device.name })?;
        let reason = failed.get(&unit.device)?;
        Some(FailedDevice {
            driver: device.driver.clone(),
            pool: device.pool.clone(),
            generation: device.generation,
            device: device.name.clone(),
            reason: reason.clone(),
        })
    });
    let mut list = FailedDevices { v: FAILED_DEVICES_VERSION, devices: devices.collect() };
    list.devices.sort();
    loop {
        if list.devices.is_empty() {
            return Decision::Absent;
        }
        let text = serde_json::to_string(&list).expect("strings and numbers can always be encoded");
        if text.len() <= MAX_BYTES {
            return Decision::Decided(text);
        }
        list.devices.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use afd_apiserver::slices::{PublishedDevice, PublishedDevices};
    use afd_derive::vendors::VENDORS;
    use afd_model::{Device, Inventory};

    use super::*;

    const DRIVER: &str = "gpu.example.com";

    fn published(count: usize) -> PublishedDevices {
        let device = |number: usize| PublishedDevice {
            driver: DRIVER.to_owned(),
            pool: "n".to_owned(),
            generation: 3,
            name: format!("gpu-{number}"),
            attributes: Arc::new([("resource.kubernetes.io/pciBusID".to_owned(), address(number))].into()),
            allocatable: true,
        };
        PublishedDevices { devices: (0..count).map(device).collect(), ..PublishedDevices::default() }
    }

    fn address(number: usize) -> String {
        format!("0000:{number:02x}:00.0")
    }

    fn names(published: &PublishedDevices) -> UnitNames {
        let record = VENDORS[0];
        let address = |number| address(number).parse().expect("it is an address");
        let devices = (0..published.devices.len())
            .map(|number| Device::bare(address(number), record.vendor, record.variant));
        let inventory = Inventory { devices: devices.collect(), ..Inventory::default() };
        let attributes = published.devices.iter();
        let attributes =
            attributes.map(|device| ((device.driver.as_str(), device.name.as_str()), &*device.attributes));
        UnitNames::new(&inventory, &attributes.collect(), |_| None)
    }

    fn failed(numbers: impl IntoIterator<Item = usize>) -> Decision<BTreeMap<DeviceId, String>> {
        let device =
            |number| (DeviceId(address(number).parse().expect("it is an address")), "DeviceLost".to_owned());
        Decision::Decided(numbers.into_iter().map(device).collect())
    }

    #[test]
    fn a_failed_device_is_named_as_its_driver_publishes_it() {
        let slices = published(2);
        let names = names(&slices);
        let known = NodeSlices::Known(slices.clone());
        assert_eq!(
            annotation(&failed([1]), &known, Some(&names)),
            Decision::Decided(
                r#"{"v":1,"devices":[{"driver":"gpu.example.com","pool":"n","generation":3,"device":"gpu-1","reason":"DeviceLost"}]}"#
                    .to_owned()
            )
        );
        assert_eq!(
            annotation(&failed([7]), &known, Some(&names)),
            Decision::Absent,
            "no driver publishes it"
        );
        assert_eq!(annotation(&Decision::Absent, &known, Some(&names)), Decision::Absent);
        let incomplete = PublishedDevices { incomplete: [DRIVER.to_owned()].into(), ..slices };
        for slices in [NodeSlices::Pending, NodeSlices::Unavailable, NodeSlices::Known(incomplete)] {
            assert_eq!(annotation(&failed([1]), &slices, Some(&names)), Decision::Undecided);
        }
        assert_eq!(annotation(&Decision::Undecided, &known, Some(&names)), Decision::Undecided);
    }

    #[test]
    fn the_annotation_is_limited_in_size() {
        let slices = published(200);
        let names = names(&slices);
        match annotation(&failed(0..200), &NodeSlices::Known(slices), Some(&names)) {
            Decision::Decided(text) => {
                assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES / 2, "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
}
