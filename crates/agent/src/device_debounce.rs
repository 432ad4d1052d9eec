//! Debounces device removal: the Node is not updated at the first discovery that lacks a device.

use std::collections::BTreeSet;

use afd_model::{DeviceId, Inventory};

/// How many discoveries in a row must lack a device before it counts as removed.
const MISSES_BEFORE_REMOVAL: u32 = 3;

/// Holds an inventory back that lacks a device, until several discoveries in a row lacked one: a driver that is being loaded,
/// or a bus that is rescanned, must not remove labels from a Node. The same holds for the first discoveries of an agent whose
/// Node still has the labels of an earlier one.
#[derive(Debug, Default)]
pub struct DeviceDebounce {
    accepted: Option<Inventory>,
    misses: u32,
    revision: u64,
}

impl DeviceDebounce {
    /// Takes in the result of a discovery. `previous` is the devices on the Node when this agent started, once it was read.
    pub fn update(&mut self, inventory: &Inventory, previous: Option<&BTreeSet<DeviceId>>) {
        let is_missing = |id: DeviceId| !inventory.devices.iter().any(|device| device.id == id);
        let any_missing = match (&self.accepted, previous) {
            (Some(accepted), _) => accepted.devices.iter().any(|device| is_missing(device.id)),
            (None, Some(previous)) => previous.iter().any(|id| is_missing(*id)),
            (None, None) => return,
        };
        self.misses = if any_missing { self.misses + 1 } else { 0 };
        if self.misses == 0 || self.misses >= MISSES_BEFORE_REMOVAL {
            self.misses = 0;
            self.revision += 1;
            self.accepted = Some(inventory.clone());
        }
    }

    /// The inventory that the Node may show; none before the first accepted one.
    pub fn inventory(&self) -> Option<&Inventory> {
        self.accepted.as_ref()
    }

    /// How many inventories were accepted.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, PciAddress, Variant, Vendor};

    use super::*;

    fn id(bus: u8) -> DeviceId {
        PciAddress { domain: 0, bus, device: 0, function: 0 }.into()
    }

    fn inventory(buses: &[u8]) -> Inventory {
        let devices = buses.iter().map(|bus| Device::bare(id(*bus).0, Vendor::Amd, Variant::Gpu));
        Inventory { devices: devices.collect(), ..Inventory::default() }
    }

    fn update(debounce: &mut DeviceDebounce, buses: &[u8], previous: Option<&[u8]>) -> Option<usize> {
        let previous = previous.map(|buses| buses.iter().map(|bus| id(*bus)).collect());
        debounce.update(&inventory(buses), previous.as_ref());
        debounce.inventory().map(|inventory| inventory.devices.len())
    }

    #[test]
    fn a_device_is_removed_after_three_discoveries_without_it() {
        let mut debounce = DeviceDebounce::default();
        let mut devices = |buses: &[u8]| update(&mut debounce, buses, Some(&[]));
        assert_eq!(devices(&[1, 2]), Some(2));
        assert_eq!((devices(&[1]), devices(&[1])), (Some(2), Some(2)));
        assert_eq!(devices(&[1, 2]), Some(2), "it is back");
        assert_eq!((devices(&[]), devices(&[1]), devices(&[1])), (Some(2), Some(2), Some(1)));
        assert_eq!(devices(&[1, 3]), Some(2), "a new device is added at once");
    }

    #[test]
    fn a_new_agent_keeps_the_devices_on_the_node_as_long() {
        let mut debounce = DeviceDebounce::default();
        assert_eq!(update(&mut debounce, &[], None), None, "the Node was not read yet");
        for expected in [None, None, Some(0)] {
            assert_eq!(update(&mut debounce, &[], Some(&[1, 2])), expected);
        }
        let mut debounce = DeviceDebounce::default();
        assert_eq!(update(&mut debounce, &[1, 2, 3], Some(&[1, 2])), Some(3));
    }
}
