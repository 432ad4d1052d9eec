//! The products of a node, and which of them is the primary one.

use std::collections::BTreeMap;

use afd_model::{Device, Fact, Inventory, Variant, Vendor};

use crate::{
    decided::is_undecided,
    value::{MAX_LENGTH, label_value},
};

/// The devices of one product.
pub(super) struct ProductGroup<'a> {
    pub(super) vendor: Vendor,
    pub(super) variant: Variant,
    /// The name as a label value.
    pub(super) product: Option<String>,
    pub(super) devices: Vec<&'a Device>,
}

/// The devices of the primary product, and whether there is no other product; `None` if there is no accelerator.
pub(crate) fn primary_product(
    inventory: &Inventory,
    include_integrated: bool,
) -> Option<(Vec<&Device>, bool)> {
    let groups = groups(inventory, include_integrated);
    primary(&groups).map(|primary| (primary.devices.clone(), groups.len() == 1))
}

/// Whether another product may be the primary one, because a product is undecided and not all devices are of one.
pub(crate) fn primary_product_is_undecided(inventory: &Inventory, include_integrated: bool) -> bool {
    let groups = groups(inventory, include_integrated);
    let counted = groups.iter().flat_map(|group| group.devices.iter().copied());
    groups.len() > 1 && is_undecided(counted, &[Fact::Product])
}

/// The devices that count, by product.
pub(super) fn groups(inventory: &Inventory, include_integrated: bool) -> Vec<ProductGroup<'_>> {
    let mut groups: BTreeMap<_, ProductGroup<'_>> = BTreeMap::new();
    for device in inventory.devices.iter().filter(|device| include_integrated || !device.integrated) {
        let product = device.product_name().and_then(|name| label_value(name, MAX_LENGTH));
        let (vendor, variant) = (device.vendor, device.variant);
        groups
            .entry((vendor.as_str(), product.clone(), variant))
            .or_insert(ProductGroup { vendor, variant, product, devices: Vec::new() })
            .devices
            .push(device);
    }
    groups.into_values().collect()
}

/// The product with most devices; of equal ones the first by vendor, then by product name.
pub(super) fn primary<'g, 'a>(groups: &'g [ProductGroup<'a>]) -> Option<&'g ProductGroup<'a>> {
    groups.iter().rev().max_by_key(|group| group.devices.len())
}
