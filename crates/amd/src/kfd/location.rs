//! Which device a node of KFD belongs to.

use afd_model::PciAddress;

/// The place of a node, as KFD reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KfdLocation {
    /// Older kernels do not report it.
    pub(super) domain: Option<u64>,
    /// Bus, slot and function as PCI numbers them. Of a partition the kernel combines (or) the bits of the function with the number
    /// of the partition; AMD's build of the driver has the number in the highest four bits.
    pub(super) location_id: u64,
}

impl KfdLocation {
    /// The device, of those at these addresses, and the number of the partition. A node is of the function that it names, if that
    /// is a device: two virtual functions of a guest may be in one slot. Any other function is a partition of the device whose
    /// function has the same bits but those of the partition.
    pub(super) fn resolve(self, devices: &[PciAddress]) -> Option<(PciAddress, u32)> {
        let (bus, slot) = ((self.location_id >> 8) as u8, (self.location_id >> 3) as u8 & 0x1f);
        let function = self.location_id as u8 & 7;
        let is_in_slot = |device: &&PciAddress| {
            (device.bus, device.device) == (bus, slot)
                && self.domain.is_none_or(|domain| domain == u64::from(device.domain))
                && device.function & function == device.function
        };
        // A function with more of the bits is nearer.
        let device = devices.iter().filter(is_in_slot).max_by_key(|device| device.function)?;
        let in_slot = devices.iter().filter(is_in_slot);
        let is_one_domain = in_slot.clone().all(|other| other.domain == device.domain);
        let partition = u32::from(function ^ device.function) | (self.location_id >> 28) as u32 & 0xf;
        is_one_domain.then_some((*device, partition))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn devices(addresses: &[&str]) -> Vec<PciAddress> {
        addresses.iter().map(|text| text.parse().expect("it is an address")).collect()
    }

    fn resolved(domain: Option<u64>, location_id: u64, addresses: &[&str]) -> Option<(String, u32)> {
        let location = KfdLocation { domain, location_id };
        location.resolve(&devices(addresses)).map(|(device, number)| (device.to_string(), number))
    }

    fn at(bus: u64, slot: u64, function: u64) -> u64 {
        bus << 8 | slot << 3 | function
    }

    #[test]
    fn a_function_that_is_a_device_of_its_own_is_no_partition_of_its_neighbour() {
        let three = ["0000:00:07.0", "0000:00:07.1", "0000:00:07.2"];
        for function in 0..3 {
            let device = format!("0000:00:07.{function}");
            assert_eq!(resolved(Some(0), at(0, 7, function), &three), Some((device, 0)));
        }
        assert_eq!(
            resolved(Some(0), at(0, 7, 3), &three),
            Some(("0000:00:07.2".to_owned(), 1)),
            "the nearest one, not the first"
        );
        assert_eq!(
            resolved(Some(0), at(0x1b, 0, 6), &["0000:1b:00.0"]),
            Some(("0000:1b:00.0".to_owned(), 6))
        );
        assert_eq!(resolved(Some(0), at(0x1b, 0, 0), &["0000:1b:00.1"]), None, "a lower function is another");
        assert_eq!(
            resolved(Some(0), 5 << 28 | at(0x1b, 0, 1), &["0000:1b:00.1"]),
            Some(("0000:1b:00.1".to_owned(), 5))
        );
    }

    #[test]
    fn without_a_domain_the_device_must_be_the_only_one_of_its_slot() {
        let two = ["0000:02:00.0", "0003:02:00.0"];
        assert_eq!(resolved(Some(3), at(2, 0, 0), &two), Some(("0003:02:00.0".to_owned(), 0)));
        assert_eq!(resolved(None, at(2, 0, 0), &two), None);
        assert_eq!(resolved(None, at(2, 0, 0), &two[1..]), Some(("0003:02:00.0".to_owned(), 0)));
        assert_eq!(resolved(Some(1), at(2, 0, 0), &two), None);
    }

    proptest! {
        /// Whatever other functions of the slot are devices, a node whose function is one belongs to it.
        #[test]
        fn a_named_function_always_wins(mask in 0_u8..=255, function in 0_u8..8, domain in 0_u32..0x2_0000) {
            let address = |function| PciAddress { domain, bus: 0x43, device: 2, function };
            let devices: Vec<_> = (0..8).filter(|bit| mask >> bit & 1 == 1 || *bit == function).map(address).collect();
            let location_id = at(0x43, 2, u64::from(function));
            let found = KfdLocation { domain: Some(domain.into()), location_id }.resolve(&devices);
            prop_assert_eq!(found, Some((address(function), 0)));
        }

        #[test]
        fn no_number_panics(domain: Option<u64>, location_id: u64) {
            let _ = KfdLocation { domain, location_id }.resolve(&devices(&["0000:00:07.0", "0001:43:02.5"]));
        }
    }
}
