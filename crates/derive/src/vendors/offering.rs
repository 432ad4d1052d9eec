//! How a vendor's device plugin and DRA driver offer devices to pods.

use afd_model::Device;

use super::matches;

/// The device plugin and the DRA driver of one vendor's kind of device, under the names that they have by default.
#[derive(Debug)]
pub struct Offering {
    /// The DRA driver.
    pub dra_driver: &'static str,
    /// How it says whether a device is healthy; none if it does not.
    pub dra_health: Option<HealthAttribute>,
    /// The extended resources of the device plugin; a name that ends in `*` stands for all that begin so.
    pub resources: &'static [&'static str],
    /// How many units an extended resource stands for.
    pub unit_counts: fn(&ResourceQuery<'_>) -> Vec<u64>,
}

/// The question how many units of some devices an extended resource stands for.
#[derive(Clone, Copy, Debug)]
pub struct ResourceQuery<'q> {
    /// The resource.
    pub resource: &'q str,
    /// The devices.
    pub devices: &'q [&'q Device],
    /// All extended resources of the plugin that the Node has.
    pub resources_of_node: &'q [&'q str],
}

/// An attribute of the devices in ResourceSlices by which a DRA driver says whether they are healthy.
#[derive(Clone, Copy, Debug)]
pub struct HealthAttribute {
    /// Its name.
    pub name: &'static str,
    /// Its value of a healthy device.
    pub healthy: &'static str,
    /// Its value of a device that is not.
    pub unhealthy: &'static str,
}

impl HealthAttribute {
    /// Whether a value is that of a healthy device; none of a value that says neither.
    pub fn is_healthy(&self, value: &str) -> Option<bool> {
        if value == self.healthy { Some(true) } else { (value == self.unhealthy).then_some(false) }
    }
}

impl Offering {
    /// Whether an extended resource is of the device plugin.
    pub fn makes(&self, resource: &str) -> bool {
        self.resources.iter().any(|pattern| matches(pattern, resource))
    }
}

impl ResourceQuery<'_> {
    /// The sum of a number of each device.
    pub(super) fn sum(&self, units: impl Fn(&Device) -> usize) -> u64 {
        self.devices.iter().map(|device| units(device) as u64).sum()
    }
}

/// Every device is offered once.
pub(super) fn whole_devices(query: &ResourceQuery<'_>) -> Vec<u64> {
    vec![query.devices.len() as u64]
}

/// How many units a device is offered as: its partitions, or itself.
pub(crate) fn units(device: &Device) -> usize {
    device.partitions.len().max(1)
}
