//! What a node's accelerators are, as plain data.
//!
//! Probes fill these types, `Inventory::assemble` merges them, `afd-derive` turns them into labels and metric families.
//! Nothing here opens a file, parses a vendor's format or keeps time.
//! The JSON of `afd show --output json` is the serialised [`Inventory`]; its schema is generated from these types.

mod allocation;
mod condition;
mod device;
mod device_link;
mod fact;
mod failed_device;
mod health;
mod host;
mod incident;
mod inventory;
mod known;
mod library;
mod link;
mod maintenance;
mod missing;
mod nic;
mod node;
mod offer;
mod partition;
mod pci;
mod peering;
mod plausible;
mod pod;
mod port_counters;
mod problem;
pub mod reason;
mod sample;
mod vendor;
mod vendors;

pub use allocation::{Allocation, AllocationMechanism};
pub use condition::{Condition, ConditionStatus, Decision};
pub use device::{Device, Handle, HandleKind, MemorySource, Product};
pub use device_link::{DeviceLink, LinkEnd, LinkErrorKind, LinkValue};
pub use fact::{Fact, FactSet};
pub use failed_device::{FAILED_DEVICES, FAILED_DEVICES_VERSION, FailedDevice, FailedDevices};
pub use health::{EVIDENCE_UNREADABLE, Health, HealthReason, HealthState, OTHER_DRIVER};
pub use host::{HostFacts, OsRelease};
pub use incident::{DriverLoad, ErrorCountRecord, IncidentRecord};
pub use inventory::{Findings, Inventory, NumaNode, Scanned};
pub use known::{Known, Missing};
pub use library::LibraryStatus;
pub use link::{Link, LinkKind};
pub use maintenance::MaintenanceKind;
pub use missing::{ExpectedDevices, MissingDevice};
pub use nic::{LinkLayer, Nic, NicPort, NicProtocol, PortState};
pub use node::NodeFacts;
pub use offer::{OfferVerdict, OfferedUnit, Offers, PublishedOffers, ResourceCount};
pub use partition::{
    Partition, PartitionFunction, PartitionId, PartitionName, PartitionNameError, Partitioning, UnitId,
    XcpComputeMode, XcpMemoryMode,
};
pub use pci::{DeviceId, Pci, PciAddress, PciAddressError, PciClass, PciId, PcieLink};
pub use peering::PeerFacts;
pub use plausible::possible_memory;
pub use pod::{PodName, PodNetwork, PodNetworks};
pub use port_counters::{PortCount, PortCounters};
pub use problem::Problem;
pub use sample::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, LinkCounter, PageState, Quantity, Reading, Rows,
    Sample, Sampling, Sensor, TemperatureLimit, ThrottleCause, Which,
};
pub use vendor::{Variant, Vendor};
pub use vendors::*;
