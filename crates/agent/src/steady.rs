//! What the Node is told of the devices: a look that lacks one is not believed at once.

use std::collections::BTreeSet;

use afd_model::{DeviceId, Inventory};

/// How often in a row a device must be seen gone before the Node says so.
const LOOKS_UNTIL_GONE: u32 = 3;

/// Holds an inventory back that lacks a device, until the device was missing several times in a row: a driver that is being
/// loaded, or a bus that is rescanned, must not take labels from a Node. So it is with the first looks of an agent, whose
/// Node still says what the one before has seen.
#[derive(Debug, Default)]
pub struct Steady {
    told: Option<Inventory>,
    missing: u32,
    looks: u64,
}

impl Steady {
    /// Takes note of a look. `before` is the devices that the Node told of before this agent, once it was read.
    pub fn look(&mut self, inventory: &Inventory, before: Option<&BTreeSet<DeviceId>>) {
        let is_gone = |id: DeviceId| !inventory.devices.iter().any(|device| device.id == id);
        let gone = match (&self.told, before) {
            (Some(told), _) => told.devices.iter().any(|device| is_gone(device.id)),
            (None, Some(before)) => before.iter().any(|id| is_gone(*id)),
            (None, None) => return,
        };
        self.missing = if gone { self.missing + 1 } else { 0 };
        if self.missing == 0 || self.missing >= LOOKS_UNTIL_GONE {
            self.missing = 0;
            self.looks += 1;
            self.told = Some(inventory.clone());
        }
    }

    /// What the Node may be told; nothing yet before the first look that is believed.
    pub fn inventory(&self) -> Option<&Inventory> {
        self.told.as_ref()
    }

    /// How many looks were believed.
    pub fn looks(&self) -> u64 {
        self.looks
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

    fn told(steady: &mut Steady, buses: &[u8], before: Option<&[u8]>) -> Option<usize> {
        let before = before.map(|buses| buses.iter().map(|bus| id(*bus)).collect());
        steady.look(&inventory(buses), before.as_ref());
        steady.inventory().map(|inventory| inventory.devices.len())
    }

    #[test]
    fn a_device_is_gone_when_it_was_missing_three_times_in_a_row() {
        let mut steady = Steady::default();
        let mut told = |buses: &[u8]| told(&mut steady, buses, Some(&[]));
        assert_eq!(told(&[1, 2]), Some(2));
        assert_eq!((told(&[1]), told(&[1])), (Some(2), Some(2)));
        assert_eq!(told(&[1, 2]), Some(2), "it was there after all");
        assert_eq!((told(&[]), told(&[1]), told(&[1])), (Some(2), Some(2), Some(1)));
        assert_eq!(told(&[1, 3]), Some(2), "a new device is told at once");
    }

    #[test]
    fn a_new_agent_does_not_take_what_the_one_before_has_told_at_its_first_look() {
        let mut steady = Steady::default();
        assert_eq!(told(&mut steady, &[], None), None, "the Node was not read yet");
        for expected in [None, None, Some(0)] {
            assert_eq!(told(&mut steady, &[], Some(&[1, 2])), expected);
        }
        let mut steady = Steady::default();
        assert_eq!(told(&mut steady, &[1, 2, 3], Some(&[1, 2])), Some(3));
    }
}
