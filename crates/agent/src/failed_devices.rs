//! The annotation `failed-devices`: which devices of DRA drivers have a confirmed fault, by their names in the ResourceSlices.
//!
//! A bridge makes DeviceTaintRules of it. What has failed is decided by `afd-track`; here it is only named.

use std::collections::BTreeMap;

use afd_apiserver::slices::{NodeSlices, PublishedDevice};
use afd_derive::vendors;
use afd_kubelet::{NamedDevice, UnitNames};
use afd_model::{Decision, DeviceId, FAILED_DEVICES_VERSION, FailedDevice, FailedDevices, NodeFacts};

/// The longest annotation. Partitions of a device are devices of their own.
const MAX_BYTES: usize = 4 << 10;

/// The failed devices that a Node names under a key.
pub fn of_node(node: &NodeFacts, key: &str) -> Vec<FailedDevice> {
    let list = node.annotations.get(key).and_then(|text| serde_json::from_str::<FailedDevices>(text).ok());
    list.filter(|list| list.v == FAILED_DEVICES_VERSION).map(|list| list.devices).unwrap_or_default()
}

/// The annotation for the devices that have failed; absent where none of them is published by a DRA driver, and undecided while it
/// is not known what these publish. `earlier` are those that the Node names, if it was read.
///
/// The missing slices of an incomplete driver may publish any device: of its devices those stay that the Node names. While that is
/// not known, nothing is decided, unless the driver is one of other devices.
pub fn annotation(
    failed: &Decision<BTreeMap<DeviceId, String>>,
    slices: &NodeSlices,
    names: Option<&UnitNames>,
    earlier: Option<&[FailedDevice]>,
) -> Decision<String> {
    let failed = match failed {
        Decision::Absent => return Decision::Absent,
        Decision::Undecided => return Decision::Undecided,
        Decision::Decided(failed) => failed,
    };
    let (NodeSlices::Known(published), Some(names)) = (slices, names) else { return Decision::Undecided };
    let unit = |device: &PublishedDevice| {
        names.unit(NamedDevice::Dra { driver: &device.driver, device: &device.name })
    };
    let has_accelerators = |driver: &str| {
        let mut own = published.devices.iter().filter(|device| device.driver == driver);
        vendors::owner_of_driver(driver).is_some() || own.any(|device| unit(device).is_some())
    };
    let is_incomplete = |driver: &String| published.incomplete.contains(driver);
    if earlier.is_none() && published.incomplete.iter().any(|driver| has_accelerators(driver)) {
        return Decision::Undecided;
    }
    let kept = earlier.unwrap_or_default().iter().filter(|device| is_incomplete(&device.driver)).cloned();
    let complete = published.devices.iter().filter(|device| !is_incomplete(&device.driver));
    let named = complete.filter_map(|device| {
        let reason = failed.get(&unit(device)?.device)?;
        Some(FailedDevice {
            driver: device.driver.clone(),
            pool: device.pool.clone(),
            generation: device.generation,
            device: device.name.clone(),
            reason: reason.clone(),
        })
    });
    let mut list = FailedDevices { v: FAILED_DEVICES_VERSION, devices: kept.chain(named).collect() };
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
            annotation(&failed([1]), &known, Some(&names), None),
            Decision::Decided(
                r#"{"v":1,"devices":[{"driver":"gpu.example.com","pool":"n","generation":3,"device":"gpu-1","reason":"DeviceLost"}]}"#
                    .to_owned()
            )
        );
        assert_eq!(
            annotation(&failed([7]), &known, Some(&names), None),
            Decision::Absent,
            "no driver publishes it"
        );
        assert_eq!(annotation(&Decision::Absent, &known, Some(&names), None), Decision::Absent);
        let incomplete = PublishedDevices { incomplete: [DRIVER.to_owned()].into(), ..slices };
        for slices in [NodeSlices::Pending, NodeSlices::Unavailable, NodeSlices::Known(incomplete)] {
            assert_eq!(annotation(&failed([1]), &slices, Some(&names), None), Decision::Undecided);
        }
        assert_eq!(annotation(&Decision::Undecided, &known, Some(&names), None), Decision::Undecided);
    }

    #[test]
    fn an_incomplete_driver_keeps_what_the_node_names_of_it_and_holds_up_no_other() {
        let names_of = |decision: Decision<String>| match decision {
            Decision::Decided(text) => {
                let list: FailedDevices = serde_json::from_str(&text).expect("it is the annotation");
                list.devices
                    .into_iter()
                    .map(|device| format!("{}/{}", device.driver, device.device))
                    .collect()
            }
            Decision::Absent => Vec::new(),
            Decision::Undecided => vec!["undecided".to_owned()],
        };
        let slices = published(2);
        let names = names(&slices);
        let of = |incomplete: &str, number, earlier: Option<&[FailedDevice]>| -> Vec<String> {
            let slices = PublishedDevices { incomplete: [incomplete.to_owned()].into(), ..slices.clone() };
            names_of(annotation(&failed([number]), &NodeSlices::Known(slices), Some(&names), earlier))
        };
        let own = "gpu.example.com/gpu-1";
        assert_eq!(of("nic.example.com", 1, None), [own], "a driver of other devices holds nothing up");
        assert_eq!(of("nic.example.com", 7, None), [""; 0], "a device that has recovered is not named");
        let vendors_driver = VENDORS[0].offers.dra_driver;
        assert_eq!(of(vendors_driver, 1, None), ["undecided"], "the Node was not read");
        assert_eq!(of(vendors_driver, 1, Some(&[])), [own]);
        assert_eq!(of(DRIVER, 1, Some(&[])), [""; 0], "a device of an incomplete driver is not added");
        let device = |driver: &str| FailedDevice {
            driver: driver.to_owned(),
            pool: "n".to_owned(),
            generation: 2,
            device: "gpu-0".to_owned(),
            reason: "DeviceLost".to_owned(),
        };
        let list =
            FailedDevices { v: FAILED_DEVICES_VERSION, devices: [DRIVER, vendors_driver].map(device).into() };
        let text = serde_json::to_string(&list).expect("it can be encoded");
        let node = NodeFacts { annotations: [("key".to_owned(), text)].into(), ..NodeFacts::default() };
        let earlier = of_node(&node, "key");
        assert_eq!(of_node(&node, "other"), []);
        assert_eq!(of(DRIVER, 1, Some(&earlier)), ["gpu.example.com/gpu-0"]);
        let kept = format!("{vendors_driver}/gpu-0");
        assert_eq!(of(vendors_driver, 1, Some(&earlier)), [own, &kept]);
        assert_eq!(
            of("nic.example.com", 1, Some(&earlier)),
            [own],
            "what a complete driver does not publish ends"
        );
    }

    #[test]
    fn the_annotation_is_limited_in_size() {
        let slices = published(200);
        let names = names(&slices);
        match annotation(&failed(0..200), &NodeSlices::Known(slices), Some(&names), None) {
            Decision::Decided(text) => {
                assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES / 2, "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
}
