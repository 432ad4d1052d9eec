//! The facts of a device by name, so that one table can declare which of them a label needs.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Device, Known, Missing};

/// A fact of a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// [`Device::product`].
    Product,
    /// [`Product::model`](crate::Product::model).
    Model,
    /// [`Product::architecture`](crate::Product::architecture).
    Architecture,
    /// [`Device::numa_node`].
    NumaNode,
    /// [`Device::driver`].
    Driver,
    /// [`Device::driver_version`].
    DriverVersion,
    /// [`Device::runtime_version`].
    RuntimeVersion,
    /// [`Device::firmware_version`].
    FirmwareVersion,
    /// [`Device::memory_bytes`] and its source.
    Memory,
    /// [`Device::compute`].
    Compute,
    /// [`Device::uuid`].
    Uuid,
    /// [`Device::serial`].
    Serial,
    /// [`Device::partitioning`], and the partitions.
    Partitioning,
    /// [`Device::logical_devices`].
    LogicalDevices,
    /// [`Device::interconnect`].
    Interconnect,
    /// [`Device::linked_devices`].
    LinkedDevices,
    /// [`Device::link_domain`].
    LinkDomain,
    /// [`Device::fabric_domain`].
    FabricDomain,
    /// [`Device::fabric_partition`].
    FabricPartition,
    /// [`Device::vendor_facts`], as a whole.
    VendorFacts,
    /// [`Device::health`].
    Health,
}

impl Fact {
    /// All facts.
    pub const ALL: [Fact; 21] = [
        Fact::Product,
        Fact::Model,
        Fact::Architecture,
        Fact::NumaNode,
        Fact::Driver,
        Fact::DriverVersion,
        Fact::RuntimeVersion,
        Fact::FirmwareVersion,
        Fact::Memory,
        Fact::Compute,
        Fact::Uuid,
        Fact::Serial,
        Fact::Partitioning,
        Fact::LogicalDevices,
        Fact::Interconnect,
        Fact::LinkedDevices,
        Fact::LinkDomain,
        Fact::FabricDomain,
        Fact::FabricPartition,
        Fact::VendorFacts,
        Fact::Health,
    ];
}

/// A set of facts. In JSON it is a sorted list.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FactSet(BTreeSet<Fact>);

impl FactSet {
    /// Whether the fact is in the set.
    pub fn contains(&self, fact: Fact) -> bool {
        self.0.contains(&fact)
    }

    /// Whether any of the facts is in the set.
    pub fn contains_any(&self, facts: &[Fact]) -> bool {
        facts.iter().any(|fact| self.contains(*fact))
    }

    /// Adds a fact.
    pub fn insert(&mut self, fact: Fact) {
        self.0.insert(fact);
    }

    /// Whether no fact is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Fact> for FactSet {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> FactSet {
        FactSet(facts.into_iter().collect())
    }
}

impl Device {
    /// Why a fact has no value; none where it has one. Health and vendor facts are never missing by a reason of their own.
    pub fn missing(&self, fact: Fact) -> Option<Missing> {
        fn of_product<T>(device: &Device, part: impl Fn(&crate::Product) -> Known<T>) -> Option<Missing> {
            device.product.as_ref().and_then(part).missing()
        }
        match fact {
            Fact::Product => self.product.missing(),
            Fact::Model => of_product(self, |product| product.model.clone()),
            Fact::Architecture => of_product(self, |product| product.architecture.clone()),
            Fact::NumaNode => self.numa_node.missing(),
            Fact::Driver => self.driver.missing(),
            Fact::DriverVersion => self.driver_version.missing(),
            Fact::RuntimeVersion => self.runtime_version.missing(),
            Fact::FirmwareVersion => self.firmware_version.missing(),
            Fact::Memory => self.memory_bytes.missing(),
            Fact::Compute => self.compute.missing(),
            Fact::Uuid => self.uuid.missing(),
            Fact::Serial => self.serial.missing(),
            Fact::Partitioning => self.partitioning.missing(),
            Fact::LogicalDevices => self.logical_devices.missing(),
            Fact::Interconnect => self.interconnect.missing(),
            Fact::LinkedDevices => self.linked_devices.missing(),
            Fact::LinkDomain => self.link_domain.missing(),
            Fact::FabricDomain => self.fabric_domain.missing(),
            Fact::FabricPartition => self.fabric_partition.missing(),
            Fact::VendorFacts | Fact::Health => None,
        }
    }

    /// Replaces a fact that has no value by the one that `known` has.
    pub fn fill(&mut self, fact: Fact, known: &Device) {
        match fact {
            Fact::Product => self.product.fill(|| known.product.clone()),
            Fact::Model | Fact::Architecture => {
                if let (Known::Value(own), Known::Value(known)) = (&mut self.product, &known.product) {
                    own.model.fill(|| known.model.clone());
                    own.architecture.fill(|| known.architecture.clone());
                }
            }
            Fact::NumaNode => self.numa_node.fill(|| known.numa_node),
            Fact::Driver => self.driver.fill(|| known.driver.clone()),
            Fact::DriverVersion => self.driver_version.fill(|| known.driver_version.clone()),
            Fact::RuntimeVersion => self.runtime_version.fill(|| known.runtime_version.clone()),
            Fact::FirmwareVersion => self.firmware_version.fill(|| known.firmware_version.clone()),
            Fact::Memory => {
                self.memory_bytes.fill(|| known.memory_bytes);
                self.memory_source.fill(|| known.memory_source);
            }
            Fact::Compute => self.compute.fill(|| known.compute.clone()),
            Fact::Uuid => self.uuid.fill(|| known.uuid.clone()),
            Fact::Serial => self.serial.fill(|| known.serial.clone()),
            Fact::Partitioning => {
                if self.partitioning.missing().is_some() {
                    self.partitions.clone_from(&known.partitions);
                }
                self.partitioning.fill(|| known.partitioning);
            }
            Fact::LogicalDevices => self.logical_devices.fill(|| known.logical_devices),
            Fact::Interconnect => self.interconnect.fill(|| known.interconnect),
            Fact::LinkedDevices => self.linked_devices.fill(|| known.linked_devices),
            Fact::LinkDomain => self.link_domain.fill(|| known.link_domain.clone()),
            Fact::FabricDomain => self.fabric_domain.fill(|| known.fabric_domain.clone()),
            Fact::FabricPartition => self.fabric_partition.fill(|| known.fabric_partition.clone()),
            Fact::VendorFacts => {
                if self.vendor_facts.is_none() {
                    self.vendor_facts.clone_from(&known.vendor_facts);
                }
            }
            Fact::Health => self.health.clone_from(&known.health),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PciAddress, Variant, Vendor};

    #[test]
    fn a_missing_fact_is_filled_and_a_known_one_stays() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let mut known = Device::bare(address, Vendor::Amd, Variant::Gpu);
        let mut device = known.clone();
        known.memory_bytes = Known::Value(1 << 30);
        known.compute = Known::Value("gfx942".to_owned());
        device.compute = Known::Value("gfx90a".to_owned());
        for fact in Fact::ALL {
            device.fill(fact, &known);
        }
        assert_eq!(device.memory_bytes, Known::Value(1 << 30));
        assert_eq!(device.compute, Known::Value("gfx90a".to_owned()));
        assert_eq!(device.missing(Fact::Serial), Some(Missing::NotExposed));
    }
}
