//! The sysfs attributes of a PCI function: address, ids, class, link and uevent.

#![no_main]

use afd_model::{PciAddress, PciClass, PciId};
use afd_probe::pci::{parse_link_speed, parse_link_width, parse_numa_node, uevent_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(address) = text.parse::<PciAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address), "an address can be read back");
    }
    if let Ok(id) = text.parse::<PciId>() {
        assert_eq!(id.to_string().parse(), Ok(id), "an id can be read back");
    }
    if let Ok(class) = text.parse::<PciClass>() {
        assert_eq!(class.to_string().parse(), Ok(class), "a class can be read back");
    }
    let _ = parse_link_speed(text);
    let _ = parse_link_width(text);
    let _ = parse_numa_node(text);
    let (key, text) = text.split_once(' ').unwrap_or(("PCI_ID", text));
    let _ = uevent_value(text, key);
});
