//! Which devices compute on this node: the bound driver decides. The driver of the console, of virtual machines or of another
//! kind says nothing of what the vendor's own reports, and no program can compute with it.

use std::borrow::Cow;

use afd_model::{Device, Fact, Health, HealthReason, HealthState, Known, Missing, OTHER_DRIVER};

use super::{VendorRecord, matches, of_device};

/// Whether a driver of the vendor is bound to the device. One that could not be read is taken for it: the device may compute.
pub(crate) fn is_driven(device: &Device) -> bool {
    has_compute_driver(device)
        || of_device(device).is_some_and(|record| is_one_of(device, record.host_drivers))
}

/// Whether a device can compute on this node as far as is known: it is more than a display card, and bound to a driver with which
/// it computes.
pub(crate) fn can_compute(device: &Device) -> bool {
    !device.display_only && has_compute_driver(device)
}

/// Whether a driver is bound to a device with which its vendor's devices compute, as far as is known.
pub(crate) fn has_compute_driver(device: &Device) -> bool {
    of_device(device).is_none_or(|record| {
        [record.compute_drivers, record.platform_drivers].iter().any(|drivers| may_be_one_of(device, drivers))
    })
}

/// Why no program can compute with a device, although it may work: the driver, or a setting.
pub(crate) fn obstacle(device: &Device) -> Option<Cow<'static, str>> {
    if device.display_only {
        return Some("the device only drives displays".into());
    }
    if has_compute_driver(device) {
        return (of_device(device)?.obstacle)(device).map(Cow::Borrowed);
    }
    driver_obstacle(device)
}

/// Why no program can compute with a device that is not bound to a driver with which it computes.
fn driver_obstacle(device: &Device) -> Option<Cow<'static, str>> {
    let record = of_device(device)?;
    let names = record.compute_drivers.iter().copied().filter(|driver| !driver.ends_with('*'));
    let needed = names.collect::<Vec<_>>().join(" or ");
    Some(match device.driver.value() {
        Some(driver) if record.is_passthrough(driver) => format!(
            "it is bound to {driver}, which gives it to virtual machines; for pods bind it to {needed}"
        )
        .into(),
        Some(driver) => {
            format!("it is bound to {driver}, with which it does not compute; load {needed}").into()
        }
        None => format!("no driver is bound to it; load {needed}").into(),
    })
}

/// Withdraws from a device what the driver that is bound to it cannot know: a version that is not that of the vendor's driver, and
/// a verdict. The health says instead which driver is bound.
pub fn withdraw_foreign_facts(device: &mut Device) {
    if !device.driver.is_known() || is_driven(device) {
        return;
    }
    let message = driver_obstacle(device).unwrap_or_default().replacen("it is", "the device is", 1);
    device.driver_version = Missing::NotExposed.into();
    device.health = Health {
        state: HealthState::Unknown,
        reasons: vec![HealthReason { code: OTHER_DRIVER.to_owned(), message }],
    };
}

impl VendorRecord {
    fn is_passthrough(&self, driver: &str) -> bool {
        self.host_drivers.iter().chain(self.passthrough_drivers).any(|own| *own == driver)
    }
}

fn is_one_of(device: &Device, drivers: &[&str]) -> bool {
    device.driver.value().is_some_and(|driver| drivers.iter().any(|pattern| matches(pattern, driver)))
}

fn may_be_one_of(device: &Device, drivers: &[&str]) -> bool {
    match &device.driver {
        Known::Value(_) => is_one_of(device, drivers),
        Known::Missing { missing } => *missing != Missing::DriverNotBound || driver_is_undecided(device),
    }
}

/// Whether no driver is known to be bound, and one may be in a moment, as while it is being replaced.
pub(crate) fn driver_is_undecided(device: &Device) -> bool {
    !device.driver.is_known() && device.undecided.contains(Fact::Driver)
}

#[cfg(test)]
mod tests {
    use afd_model::{Inventory, PciAddress, Variant};

    use super::*;
    use crate::{
        compat::{self, CompatOptions, CompatSwitches},
        labels::{self, LabelOptions},
        paths::{PathAnswer, PathRules},
        vendors::VENDORS,
    };

    /// Drivers of no vendor, by which devices are given away or display something, and none.
    const FOREIGN: [Option<&str>; 6] =
        [Some("nouveau"), Some("radeon"), Some("pciback"), Some("pci-stub"), Some("uio_pci_generic"), None];

    fn device(record: &VendorRecord, bus: u8, driver: Option<&str>) -> Device {
        let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
        let driver = driver.map(str::to_owned);
        let mut device = Device {
            driver: Known::from_option(driver, Missing::DriverNotBound),
            driver_version: Known::Value("6.8.0-60-generic".to_owned()),
            health: Health::healthy(),
            ..Device::bare(address, record.vendor, record.variant)
        };
        withdraw_foreign_facts(&mut device);
        device
    }

    fn label(devices: &[Device], key: &str) -> Option<String> {
        let inventory = Inventory { devices: devices.to_vec(), ..Inventory::default() };
        let labels = labels::labels(&inventory, &LabelOptions::default(), afd_model::Decision::Absent);
        labels.get(&format!("accelerator.llm-d.ai/{key}")).cloned()
    }

    #[test]
    fn a_device_of_any_vendor_on_another_driver_has_no_version_no_health_no_path_and_no_label_of_the_vendor()
    {
        let options =
            CompatOptions { switches: CompatSwitches::default().auto_on(), ..CompatOptions::default() };
        for record in VENDORS {
            let vfio = (record.variant != Variant::Tpu).then_some(Some("vfio-pci"));
            for driver in FOREIGN.into_iter().chain(vfio) {
                let devices = [1, 2, 3, 4, 5, 6, 7, 8].map(|bus| device(record, bus, driver));
                let name = record.probe;
                assert!(!can_compute(&devices[0]), "{name} {driver:?}");
                if driver.is_some() {
                    assert_eq!(label(&devices, "driver-version"), None, "{name} {driver:?}");
                    assert_eq!(label(&devices, "healthy"), None, "{name} {driver:?}");
                    assert_eq!(devices[0].health.reasons[0].code, "OtherDriver", "{name}");
                }
                assert_eq!(label(&devices, "count").as_deref(), Some("8"));
                let inventory = Inventory { devices: devices.to_vec(), ..Inventory::default() };
                let rules = PathRules::built_in();
                for verdict in rules.verdicts(&inventory, false) {
                    assert_eq!(
                        verdict.answer(),
                        PathAnswer::NotReady,
                        "{name} {driver:?} {}",
                        verdict.path.name
                    );
                    let missing = verdict.unmet().find(|unmet| unmet.requirement.reason == "DriverMissing");
                    let message = missing.map(|unmet| unmet.message.clone()).unwrap_or_default();
                    assert!(message.contains(driver.unwrap_or("no driver is bound")), "{name}: {message}");
                }
                let labels = compat::labels(&inventory, &LabelOptions::default(), &options);
                assert!(labels.is_empty(), "{name} {driver:?}: {labels:?}");
            }
        }
    }

    #[test]
    fn devices_on_another_driver_take_nothing_from_those_beside_them() {
        for record in VENDORS {
            let own = record.compute_drivers[0];
            let mut devices = vec![device(record, 1, Some(own)), device(record, 2, Some("pciback"))];
            devices[0].driver_version = Known::Value("1.2.3".to_owned());
            assert!(is_driven(&devices[0]) && obstacle(&devices[0]).is_none(), "{}", record.probe);
            assert_eq!(label(&devices, "driver-version").as_deref(), Some("1.2.3"));
            assert_eq!(label(&devices, "healthy").as_deref(), Some("1"));
        }
    }

    #[test]
    fn the_driver_of_the_host_of_virtual_machines_is_the_vendors_and_computes_nothing() {
        for record in VENDORS {
            for driver in record.host_drivers {
                let device = device(record, 1, Some(driver));
                assert!(is_driven(&device) && !can_compute(&device) && device.driver_version.is_known());
                assert!(obstacle(&device).is_some_and(|why| why.contains("virtual machines")));
            }
        }
    }

    /// The reasons of a path, and their messages.
    fn unmet(devices: Vec<Device>) -> Vec<(String, String)> {
        let inventory = Inventory { devices, ..Inventory::default() };
        let rules = PathRules::built_in();
        let verdicts = rules.verdicts(&inventory, false);
        let unmet = verdicts[0].unmet();
        unmet.map(|unmet| (unmet.requirement.reason.clone(), unmet.message.clone())).collect()
    }

    #[test]
    fn a_display_card_on_its_driver_lacks_no_driver() {
        for record in VENDORS {
            let own = record.compute_drivers[0];
            let display = Device { display_only: true, ..device(record, 1, Some(own)) };
            let unmet = unmet(vec![display]);
            assert!(unmet.iter().all(|(reason, _)| reason != "DriverMissing"), "{unmet:?}");
            let prohibited = unmet.iter().find(|(reason, _)| reason == "ComputeProhibited");
            assert!(prohibited.is_some_and(|(_, message)| message.contains("drives displays")), "{unmet:?}");
        }
    }

    #[test]
    fn the_message_of_another_driver_is_of_the_driver() {
        let record = VENDORS.iter().find(|record| record.probe == "amd").expect("it is a vendor");
        let mut display = device(record, 1, Some("amdgpu"));
        (display.display_only, display.driver) = (true, Known::Value("radeon".to_owned()));
        withdraw_foreign_facts(&mut display);
        assert!(display.health.reasons[0].message.starts_with("the device is bound to radeon"));
    }

    #[test]
    fn a_device_whose_driver_could_not_be_read_hides_no_other() {
        for record in VENDORS {
            let mut unread = device(record, 1, None);
            unread.undecided.insert(Fact::Driver);
            let is_of_driver = |(reason, _): &(String, String)| {
                ["DriverMissing", "ComputeProhibited"].contains(&reason.as_str())
            };
            let with = |other: Device| {
                let inventory = Inventory { devices: vec![unread.clone(), other], ..Inventory::default() };
                let rules = PathRules::built_in();
                let verdicts = rules.verdicts(&inventory, false);
                let missing = verdicts[0].missing();
                missing.iter().filter(|name| name.contains("driven") || name.contains("computing")).count()
            };
            assert_eq!(with(device(record, 2, Some(record.compute_drivers[0]))), 0, "{}", record.probe);
            assert!(with(device(record, 2, Some("pciback"))) > 0, "{}", record.probe);
            assert!(!unmet(vec![unread.clone()]).iter().any(is_of_driver));
        }
    }

    #[test]
    fn a_driver_that_could_not_be_read_decides_nothing() {
        for reason in [Missing::NotPermitted, Missing::NotExposed, Missing::Pending] {
            let unread = Device { driver: reason.into(), ..crate::vendors::bare_device(1) };
            assert!(can_compute(&unread) && is_driven(&unread) && obstacle(&unread).is_none());
        }
    }

    #[test]
    fn a_driver_that_is_being_replaced_decides_no_path_and_no_label() {
        let options =
            CompatOptions { switches: CompatSwitches::default().auto_on(), ..CompatOptions::default() };
        for record in VENDORS {
            let mut device = device(record, 1, None);
            device.undecided.insert(Fact::Driver);
            let inventory = Inventory { devices: vec![device], ..Inventory::default() };
            let rules = PathRules::built_in();
            for verdict in rules.verdicts(&inventory, false) {
                let unmet = verdict.unmet().any(|unmet| unmet.requirement.reason == "DriverMissing");
                assert!(!unmet && verdict.answer() != PathAnswer::Ready, "{}", verdict.path.name);
            }
            let decided = compat::decided_labels(&inventory, &LabelOptions::default(), &options);
            assert!(decided.values.is_empty() && !decided.undecided.is_empty(), "{}", record.probe);
        }
    }
}
