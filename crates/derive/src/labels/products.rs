//! The products of a node, and which of them is the primary one.

use std::collections::BTreeMap;

use afd_model::{Device, Fact, Inventory, PciId, Variant, Vendor};

use crate::{
    decided::is_undecided,
    value::{MAX_LENGTH, label_value},
    vendors::can_compute,
};

/// The devices of one product.
pub(crate) struct ProductGroup<'a> {
    pub(super) vendor: Vendor,
    pub(super) variant: Variant,
    /// The name as a label value.
    pub(super) product: Option<String>,
    pub(super) devices: Vec<&'a Device>,
}

impl ProductGroup<'_> {
    /// How many of the devices can compute.
    fn computing(&self) -> usize {
        self.devices.iter().filter(|device| can_compute(device)).count()
    }

    /// What makes it the primary product: most devices, a name, most memory of a device.
    fn rank(&self, counted: usize) -> (usize, bool, Option<u64>) {
        let memory = self.devices.iter().filter_map(|device| device.memory_bytes.into_value()).max();
        (counted, self.product.is_some(), memory)
    }
}

/// The products of a node.
pub(super) struct Products<'a>(pub(super) Vec<ProductGroup<'a>>);

impl<'a> Products<'a> {
    /// The products of these devices. An id without a name is a product of its own.
    pub(super) fn of(devices: impl IntoIterator<Item = &'a Device>) -> Products<'a> {
        let mut groups: BTreeMap<_, ProductGroup<'_>> = BTreeMap::new();
        for device in devices {
            let product = device.product_name().and_then(|name| label_value(name, MAX_LENGTH));
            let id: Option<PciId> = device.pci.device_id.into_value().filter(|_| product.is_none());
            let (vendor, variant) = (device.vendor, device.variant);
            groups
                .entry((vendor.as_str(), product.clone(), variant, id))
                .or_insert(ProductGroup { vendor, variant, product, devices: Vec::new() })
                .devices
                .push(device);
        }
        Products(groups.into_values().collect())
    }

    /// The primary product: chosen among the devices that can compute, or among all where none can. Most devices decide, then a
    /// name, then most memory of a device, then vendor and product name.
    pub(super) fn primary(&self) -> Option<&ProductGroup<'a>> {
        self.0.iter().rev().max_by_key(|group| group.rank(self.counted(group)))
    }

    /// Whether at most one product can compute.
    pub(super) fn is_homogeneous(&self) -> bool {
        self.0.iter().filter(|group| group.computing() > 0).count() <= 1
    }

    /// Whether another product may be the primary one, because what decides it is not known of all devices.
    pub(super) fn primary_is_undecided(&self) -> bool {
        let devices = || self.0.iter().flat_map(|group| group.devices.iter().copied());
        let is_tie = || {
            let count = |group: &ProductGroup<'_>| (self.counted(group), group.product.is_some());
            let most = self.0.iter().map(count).max();
            self.0.iter().filter(|group| Some(count(group)) == most).count() > 1
        };
        is_undecided(devices(), &[Fact::Product])
            || self.0.len() > 1 && is_undecided(devices(), &[Fact::Driver])
            || self.0.len() > 1 && is_tie() && is_undecided(devices(), &[Fact::Memory])
    }

    /// How many devices of a product count.
    fn counted(&self, group: &ProductGroup<'_>) -> usize {
        match self.0.iter().any(|any| any.computing() > 0) {
            true => group.computing(),
            false => group.devices.len(),
        }
    }
}

/// The devices of the primary product, and whether there is no other product; `None` if there is no accelerator.
pub(crate) fn primary_product(
    inventory: &Inventory,
    include_integrated: bool,
) -> Option<(Vec<&Device>, bool)> {
    let products = of_inventory(inventory, include_integrated);
    Some((products.primary()?.devices.clone(), products.is_homogeneous()))
}

/// Those of some devices that are of their primary product.
pub(crate) fn primary_devices<'a>(devices: &[&'a Device]) -> Vec<&'a Device> {
    let products = Products::of(devices.iter().copied());
    products.primary().map(|primary| primary.devices.clone()).unwrap_or_default()
}

/// Whether another product may be the primary one, and not all devices are of one.
pub(crate) fn primary_product_is_undecided(inventory: &Inventory, include_integrated: bool) -> bool {
    let products = of_inventory(inventory, include_integrated);
    products.0.len() > 1 && products.primary_is_undecided()
}

/// The products of the devices that count.
pub(super) fn of_inventory(inventory: &Inventory, include_integrated: bool) -> Products<'_> {
    Products::of(inventory.devices.iter().filter(|device| include_integrated || !device.integrated))
}

#[cfg(test)]
mod tests {
    use afd_model::{Known, Missing, Product};

    use super::*;
    use crate::vendors::bare_device;

    fn named(bus: u8, name: &str) -> Device {
        let (model, architecture) = (Known::default(), Known::default());
        Device {
            product: Known::Value(Product { name: name.to_owned(), model, architecture }),
            ..bare_device(bus)
        }
    }

    fn primary(devices: &[Device]) -> (Option<String>, usize, bool) {
        let products = Products::of(devices);
        let primary = products.primary().expect("there is a device");
        (primary.product.clone(), primary.devices.len(), products.is_homogeneous())
    }

    fn bound(driver: &str, device: Device) -> Device {
        Device { driver: Known::Value(driver.to_owned()), ..device }
    }

    #[test]
    fn devices_that_cannot_compute_are_not_the_primary_product_beside_one_that_can() {
        for other in ["nouveau", "vfio-pci", "pciback", "radeon"] {
            let many = [1, 2, 3].map(|bus| bound(other, named(bus, "Console")));
            let one = bound("nvidia", named(4, "Worker"));
            let mut devices = many.to_vec();
            assert_eq!(primary(&devices), (Some("Console".to_owned()), 3, true), "none can compute");
            devices.push(one);
            assert_eq!(primary(&devices), (Some("Worker".to_owned()), 1, true), "{other}");
        }
        let unbound = Device { driver: Missing::DriverNotBound.into(), ..named(1, "A") };
        assert_eq!(primary(&[unbound, bound("nvidia", named(2, "B"))]).0.as_deref(), Some("B"));
        let given = [bound("vfio-pci", named(1, "A")), bound("vfio-pci", named(2, "B"))];
        assert_eq!(primary(&given), (Some("A".to_owned()), 1, true), "none of several products can compute");
        let display = Device { display_only: true, ..bound("nvidia", named(1, "A")) };
        assert_eq!(primary(&[display, bound("nvidia", named(2, "B"))]), (Some("B".to_owned()), 1, true));
    }

    #[test]
    fn of_equal_numbers_a_name_decides_and_then_the_memory() {
        let sized = |bus, name, bytes| Device { memory_bytes: Known::Value(bytes), ..named(bus, name) };
        let unnamed = Device { memory_bytes: Known::Value(1 << 40), ..bare_device(1) };
        assert_eq!(primary(&[unnamed.clone(), named(2, "Z")]), (Some("Z".to_owned()), 1, false));
        assert_eq!(primary(&[sized(1, "A", 1), sized(2, "B", 2)]).0.as_deref(), Some("B"));
        assert_eq!(primary(&[sized(1, "B", 1), sized(2, "A", 1)]).0.as_deref(), Some("A"));
        assert_eq!(
            primary(&[unnamed.clone(), bare_device(3), named(2, "Z")]).1,
            2,
            "more devices decide first"
        );
    }

    #[test]
    fn ids_without_a_name_are_products_of_their_own() {
        let of_id = |bus, id| {
            let mut device = bare_device(bus);
            device.pci.device_id = Known::Value(PciId(id));
            device
        };
        assert_eq!(primary(&[of_id(1, 1), of_id(2, 2), of_id(3, 2)]), (None, 2, false));
    }

    #[test]
    fn an_unknown_memory_leaves_only_a_tie_undecided() {
        let unread = |device: Device| Device { undecided: [Fact::Memory].into_iter().collect(), ..device };
        let (a, b) = (unread(named(1, "A")), named(2, "B"));
        assert!(Products::of([&a, &b]).primary_is_undecided());
        assert!(!Products::of([&a, &b, &named(3, "B")]).primary_is_undecided());
        assert!(!Products::of([&a]).primary_is_undecided());
    }
}
